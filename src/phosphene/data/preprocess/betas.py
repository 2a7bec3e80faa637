"""Betas standardised per session, with means and deviations of training trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._validation import require_columns
from phosphene.data.preprocess._base import Transform
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

# A voxel whose deviation is this small next to its values is constant up to rounding.
FLAT = 1e-6
CHUNK = 64 * 2**20


class ZScore(Transform):
    """Subtract each voxel's mean and divide by its standard deviation, session by session.

    For a trial x of session s: ``(x - m_s) / d_s``, with m_s and d_s (divisor n) over the training
    trials of that session. This is the usual convention for the Natural Scenes Dataset, whose
    betas drift between sessions, with one difference: many released pipelines take m_s and d_s over
    all trials of a session, test trials among them; here the test decides nothing. A voxel that is
    constant over a session's training trials becomes 0 there.

    Parameters
    ----------
    by : sequence of str
        Trial columns that make a group; ``()`` for one group of all trials.
    unseen : {"error", "pooled"}
        What to do with a session without training trials: refuse it, or use the mean and deviation
        over all training trials.

    Attributes
    ----------
    groups_ : list of tuple of str
        Groups seen in training, in order.
    mean_, deviation_ : ndarray, shape (groups, voxels)
        Of the training trials, float64.
    n_trials_ : list of int
        Training trials of each group.

    Examples
    --------
    >>> trials = {"stimulus": list("abab"), "session": [1, 1, 2, 2]}
    >>> x = np.array([[1.0], [3.0], [10.0], [30.0]])
    >>> recording = Recording.from_arrays(x, trials, modality="fmri")
    >>> ZScore().fit_transform(recording).signals[:, 0].tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    step = "zscore"

    def __init__(
        self,
        by: Sequence[str] = ("subject", "session"),
        *,
        unseen: Literal["error", "pooled"] = "error",
    ) -> None:
        self.by = by
        self.unseen = unseen

    def _fit(self, recording: Recording) -> None:
        if self.unseen not in ("error", "pooled"):
            raise DataError("unseen is 'error' or 'pooled'", found=self.unseen)
        self.names_ = recording.sensors.names
        groups = _groups(recording, self.by)
        few = [f"{'/'.join(key)} ({len(rows)})" for key, rows in groups.items() if len(rows) < 2]
        if few:
            raise DataError(
                "too few training trials to standardise by",
                found=listing(few),
                expected="2 or more in every group",
                fix='group by fewer columns, e.g. by=("subject",)',
            )
        self.groups_ = list(groups)
        self.n_trials_ = [len(rows) for rows in groups.values()]
        moments = [_moments(recording, rows) for rows in groups.values()]
        self.mean_ = np.stack([mean for mean, _ in moments])
        self.deviation_ = np.stack([deviation for _, deviation in moments])
        if self.unseen == "pooled":
            self.pooled_ = _moments(recording, np.arange(recording.n_trials))
        flat = (self.deviation_ <= FLAT * np.abs(self.mean_)).any(axis=0)
        if flat.any():
            names = [recording.sensors.names[i] for i in np.flatnonzero(flat)]
            logger.warning("constant in training, set to 0: voxels %s", listing(names))

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        if recording.sensors.names != self.names_:
            raise DataError(
                "these are not the voxels that ZScore was fitted on",
                found=listing(recording.sensors.names),
                expected=listing(self.names_),
                fix="pick the same voxels before fit and transform",
            )
        groups = _groups(recording, self.by)
        known = {key: i for i, key in enumerate(self.groups_)}
        unseen = [key for key in groups if key not in known]
        if unseen and self.unseen == "error":
            raise DataError(
                f"no training trials of {' / '.join(self.by)} "
                f"{listing('/'.join(key) for key in unseen)}",
                found=f"fitted on {listing('/'.join(key) for key in self.groups_)}",
                fix='ZScore(unseen="pooled") takes the mean over all training trials instead',
            )
        out = np.empty(recording.shape, dtype=np.float32)
        for key, rows in groups.items():
            mean, deviation = (
                (self.mean_[known[key]], self.deviation_[known[key]])
                if key in known
                else self.pooled_
            )
            flat = deviation <= FLAT * np.abs(mean)
            scale = np.where(flat, 0.0, 1 / np.where(flat, 1.0, deviation))
            for part in _parts(rows, recording):
                out[part] = (recording.take(part).astype(np.float64) - mean) * scale
        done = op | {"unseen_groups": ["/".join(key) for key in unseen]}
        return recording.with_signals(out, op=done, check=False)


def _groups(recording: Recording, by: Sequence[str]) -> dict[tuple[str, ...], NDArray[np.int64]]:
    if len(recording.shape) != 2:
        raise DataError(
            "this step is for one value per trial and voxel",
            found=f"signals of shape {recording.shape}",
            expected="(trials, voxels)",
        )
    by = [by] if isinstance(by, str) else list(by)
    trials = recording.trials
    if not by:
        return {(): np.arange(len(trials))}
    require_columns(trials, by, "the trial table")
    found = trials.groupby(by, sort=False).indices
    return {
        tuple(map(str, key if isinstance(key, tuple) else (key,))): np.sort(rows)
        for key, rows in found.items()
    }


def _parts(rows: NDArray[np.int64], recording: Recording) -> list[NDArray[np.int64]]:
    step = max(1, CHUNK // (8 * recording.shape[1]))
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _moments(
    recording: Recording, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation in two passes, some trials at a time."""
    parts = _parts(rows, recording)
    mean = np.zeros(recording.shape[1])
    for part in parts:
        mean += recording.take(part).sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    square = np.zeros(recording.shape[1])
    for part in parts:
        square += ((recording.take(part).astype(np.float64) - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(square / len(rows))
