"""Voxels worth decoding from: chosen by how well they repeat, by noise ceiling or by region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from phosphene._registry import did_you_mean
from phosphene.data.preprocess._base import Transform
from phosphene.data.preprocess._reliability import noise_ceiling, stability, table_of
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

__all__ = ["VoxelSelect", "noise_ceiling", "stability"]

By = Literal["stability", "noise_ceiling", "published_noise_ceiling", "roi"]


class VoxelSelect(Transform):
    """Keep the voxels that repeat best, decided on training trials.

    Parameters
    ----------
    by : {"stability", "noise_ceiling", "published_noise_ceiling", "roi"}
        "stability": mean correlation, over pairs of repetitions, of a voxel's responses to the
        stimuli (Mitchell et al. 2008). "noise_ceiling": share of a single trial's variance that
        the stimulus explains, estimated from repetitions (analysis of variance).
        "published_noise_ceiling": the voxel table's column ``noise_ceiling``; such ceilings are
        often computed from the test images' repetitions, and the history says that this was the
        choice. "roi": all voxels of the regions.
    k : int, optional
        Keep the best k (at most all; ties in order of the voxels).
    threshold : float, optional
        Keep what is at least this good. One of ``k`` and ``threshold`` is needed, except for
        "roi"; with both, a voxel must satisfy both.
    roi : str or sequence of str, optional
        Only voxels in any of these regions are candidates.
    repetitions : int, optional
        Use the first so many repetitions of each stimulus; by default as many as keep most trials.

    Attributes
    ----------
    scores_ : ndarray, shape (voxels,)
        Of all voxels of the training recording; NaN where a voxel does not vary or is no candidate.
    selected_ : list of str
        Names of the voxels kept, in the recording's order.

    Notes
    -----
    A single-trial training set without repetitions allows only "roi" and
    "published_noise_ceiling". Selection against targets, such as by a decoder's correlations,
    belongs to decoding.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.tile(rng.normal(size=(20, 1)), (2, 3)) * [2, 0, 1]
    >>> trials = {"stimulus": [f"s{i}" for i in range(20)] * 2}
    >>> x = signal + rng.normal(size=(40, 3))
    >>> recording = Recording.from_arrays(x, trials, modality="fmri")
    >>> VoxelSelect(k=2).fit_transform(recording).channel_names
    ['voxel_0', 'voxel_2']
    """

    step = "voxel_select"

    def __init__(
        self,
        by: By = "stability",
        *,
        k: int | None = None,
        threshold: float | None = None,
        roi: str | Sequence[str] | None = None,
        repetitions: int | None = None,
    ) -> None:
        self.by = by
        self.k = k
        self.threshold = threshold
        self.roi = roi
        self.repetitions = repetitions

    def _fit(self, recording: Recording) -> None:
        self._check_parameters()
        candidate = np.ones(recording.shape[1], dtype=bool)
        if self.roi is not None:
            candidate = recording.sensors.roi(self.roi)
            if not candidate.any():
                raise DataError(f"no voxel lies in {self.roi!r}")
        scores = self._scores(recording)
        scores[~candidate] = np.nan
        kept = self._best(scores)
        if not len(kept):
            raise DataError(
                f"no voxel has a {self.by.replace('_', ' ')} of {self.threshold} or more",
                found=f"at most {np.nanmax(scores):.3g}" if np.isfinite(scores).any() else "none",
                fix="lower the threshold, or give k",
            )
        self.scores_ = scores
        self.selected_ = [recording.sensors.names[i] for i in kept]

    def _check_parameters(self) -> None:
        if self.by not in get_args(By):
            raise DataError(
                f"voxels are not chosen by {self.by!r}",
                expected="one of " + ", ".join(get_args(By)),
                fix=did_you_mean(str(self.by), get_args(By)),
            )
        if self.by == "roi":
            if self.roi is None:
                raise DataError('by="roi" needs roi')
            if self.k is not None or self.threshold is not None:
                raise DataError('by="roi" takes all voxels of the regions', fix="drop k, threshold")
        elif self.k is None and self.threshold is None:
            raise DataError("how many voxels to keep is not said", fix="give k or threshold")
        if self.k is not None and self.k < 1:
            raise DataError("k is 1 or more", found=self.k)

    def _scores(self, recording: Recording) -> NDArray[np.float64]:
        if self.by == "stability":
            return stability(recording, self.repetitions)
        if self.by == "noise_ceiling":
            return noise_ceiling(recording, repetitions=self.repetitions)
        if self.by == "roi":
            return np.ones(recording.shape[1])
        table = table_of(recording)
        if "noise_ceiling" not in table:
            raise DataError(
                "the voxel table has no column 'noise_ceiling'",
                found=listing(table.columns, 12),
                fix='by="noise_ceiling" estimates it from repetitions',
            )
        return table["noise_ceiling"].to_numpy(dtype=np.float64, copy=True)

    def _best(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        good = np.isfinite(scores)
        if self.threshold is not None:
            good &= np.where(good, scores, -np.inf) >= self.threshold
        order = np.argsort(-np.where(good, scores, -np.inf), kind="stable")
        kept = order[: int(good.sum())]
        return np.sort(kept if self.k is None else kept[: self.k])

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        picked = recording.pick(self.selected_)
        return picked.with_history(op | {"n": len(self.selected_)})
