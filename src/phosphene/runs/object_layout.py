"""Where the object is in a picture and how large: read from pictures whose layout is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from phosphene.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phosphene.data.stimuli import StimulusSet
    from phosphene.decoding.ridge import RidgeLOO

COLUMNS = ("x", "y", "extent")
SIZE, GRID = 64, 16
LAYOUT: Mapping[str, Any] = MappingProxyType(
    {
        "better": "lower", "chance": np.nan, "measure": "layout", "network": "", "layer": "",
        "weights": "", "version": 1,
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LayoutReader:
    """Reads position and size of the object off a picture.

    Ridge regression from colours, edges, saturation and the contrast with the picture's border,
    each averaged over a grid, to what is known of simulated pictures. No network is asked, so that
    a method which optimises a network's features is not judged by them. It is fitted on real
    pictures, never on generated ones, and is a ruler: the same for every row of a table.

    Attributes
    ----------
    r2 : ndarray, shape (3,)
        Leave-one-out R2 of x, y and size on the pictures that it was fitted on.
    """

    model: RidgeLOO

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
        from phosphene.decoding.ridge import RidgeLOO
        from phosphene.evaluation._pictures import resized, shown

        if missing := [name for name in COLUMNS if name not in stimuli.table]:
            raise DataError(
                "the layout of these pictures is not known",
                found=f"no column {', '.join(missing)}",
                expected="pictures of phosphene.simulation",
            )
        small = [resized(shown(stimuli.image(id)[None]), SIZE) for id in ids]
        truth = stimuli.table.loc[list(ids), list(COLUMNS)].to_numpy(float)
        return cls(RidgeLOO(progress=False).fit(layout_features(np.concatenate(small)), truth))

    @property
    def r2(self) -> NDArray[np.float64]:
        """Leave-one-out R2 of x, y and size."""
        return np.asarray(self.model.loo_r2_)

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
