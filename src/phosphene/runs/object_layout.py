"""Where the object is in a picture and how large: read from pictures whose layout is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from phosphene import _random
from phosphene.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phosphene.data.stimuli import StimulusSet
    from phosphene.decoding.ridge_kfold import RidgeKFold

COLUMNS = ("x", "y", "extent")
SIZE, GRID = 64, 16
# Strongest blur (pixels of 64) and least contrast of the copies that the reader learns from too.
BLUR, PALEST = 4.0, 0.4
LAYOUT: Mapping[str, Any] = MappingProxyType(
    {
        "better": "lower", "chance": np.nan, "measure": "layout", "network": "", "layer": "",
        "weights": "", "version": 2,
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LayoutReader:
    """Reads position and size of the object off a picture.

    Ridge regression from colours, edges, saturation and the contrast with the picture's border,
    each averaged over a grid, to what is known of simulated pictures. No network is asked, so that
    a method which optimises a network's features is not judged by them. It is fitted on real
    pictures, never on generated ones, and is a ruler: the same for every row of a table. Every
    picture counts twice, the second time blurred and paler, because decoded pictures are: a reader
    that knows sharp edges only takes a blurred object for a small one.

    Attributes
    ----------
    r2 : ndarray, shape (3,)
        R2 of x, y and size in five-fold cross-validation on the pictures and their faded copies.
    """

    model: RidgeKFold

    @classmethod
    def fit(cls, stimuli: StimulusSet, ids: Sequence[str]) -> Self:
        """Learn from pictures whose table holds ``x``, ``y`` and ``extent``.

        Parameters
        ----------
        stimuli : StimulusSet
            Simulated pictures.
        ids : sequence of str
            Which of them, the training pictures.

        Raises
        ------
        DataError
            If the layout of these pictures is not known.
        """
        from phosphene.decoding.ridge_kfold import RidgeKFold
        from phosphene.evaluation._pictures import resized, shown

        if missing := [name for name in COLUMNS if name not in stimuli.table]:
            raise DataError(
                "the layout of these pictures is not known",
                found=f"no column {', '.join(missing)}",
                expected="pictures of phosphene.simulation",
            )
        small = np.concatenate([resized(shown(stimuli.image(id)[None]), SIZE) for id in ids])
        both = np.concatenate([small, faded(small)])
        truth = np.tile(stimuli.table.loc[list(ids), list(COLUMNS)].to_numpy(float), (2, 1))
        # A picture and its copy share a fold: the penalty is chosen for pictures not seen.
        pairs = np.tile(np.arange(len(small)), 2)
        model = RidgeKFold(cv=5, progress=False)
        return cls(model.fit(layout_features(both), truth, groups=pairs))

    @property
    def r2(self) -> NDArray[np.float64]:
        """R2 of x, y and size in five-fold cross-validation."""
        return np.asarray(self.model.cv_r2_)

    def read(self, pictures: NDArray[Any]) -> NDArray[np.float64]:
        """x, y and size (n, 3), in shares of the frame, of pictures (n, H, W, 3) in [0, 1]."""
        from phosphene.evaluation._pictures import resized

        small = resized(np.asarray(pictures, np.float32), SIZE)
        return np.asarray(self.model.predict(layout_features(small)), float)

    def errors(
        self, pictures: NDArray[Any], stimuli: StimulusSet, ids: Sequence[str]
    ) -> dict[str, NDArray[np.float64]]:
        """How far position and size are off, in shares of the frame, mean over samples.

        Parameters
        ----------
        pictures : ndarray, shape (queries, samples, H, W, 3)
            In [0, 1].
        stimuli : StimulusSet
            With the truth.
        ids : sequence of str
            What was seen.
        """
        truth = stimuli.table.loc[list(ids), list(COLUMNS)].to_numpy(float)
        n, samples = pictures.shape[:2]
        read = self.read(pictures.reshape(n * samples, *pictures.shape[2:])).reshape(n, samples, 3)
        off = read - truth[:, None]
        return {
            "position error": np.hypot(off[..., 0], off[..., 1]).mean(axis=1),
            "size error": np.abs(off[..., 2]).mean(axis=1),
        }


def faded(pictures: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Blurred copies of less contrast, each by its own amounts."""
    from scipy.ndimage import gaussian_filter

    rng = _random.generator(seed, "layout", "faded")
    copies = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        sigma, contrast = rng.uniform(0, BLUR), rng.uniform(PALEST, 1)
        blurred = gaussian_filter(picture, (sigma, sigma, 0))
        mean = blurred.mean(axis=(0, 1))
        copies[row] = mean + contrast * (blurred - mean)
    return copies


def layout_features(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, 2752) of pictures (n, 64, 64, 3) in [0, 1]."""
    border = np.concatenate(
        [pictures[:, 0], pictures[:, -1], pictures[:, :, 0], pictures[:, :, -1]], axis=1
    )
    contrast = np.abs(pictures - border.mean(axis=1)[:, None, None])
    down = np.abs(np.diff(pictures, axis=1, prepend=pictures[:, :1]))
    across = np.abs(np.diff(pictures, axis=2, prepend=pictures[:, :, :1]))
    saturation = np.ptp(pictures, axis=3, keepdims=True)
    maps = np.concatenate([down, across, saturation, contrast], axis=3)
    return np.concatenate([_cells(pictures, GRID // 2), _cells(maps, GRID)], axis=1)


def _cells(maps: NDArray[np.float32], grid: int) -> NDArray[np.float32]:
    n, side, _, channels = maps.shape
    cell = side // grid
    means = maps.reshape(n, grid, cell, grid, cell, channels).mean(axis=(2, 4))
    return np.asarray(means.reshape(n, -1), np.float32)
