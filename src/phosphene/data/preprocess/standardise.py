"""Standardisation with the mean and deviation of training trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene.data import _store
from phosphene.data.preprocess import _groups
from phosphene.data.preprocess._base import Transform
from phosphene.data.preprocess._trialwise import apply_rows, pieces
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

# A deviation this small next to the mean is float32 rounding.
FLAT = 1e-6


class Standardise(Transform):
    """``(x - mean) / sd`` per channel or per channel and sample, learned from training trials.

    Parameters
    ----------
    per : {"channel", "channel_time"}
        One mean and deviation per channel (over trials and samples), or per channel and sample
        (over trials). Voxels have one each in either case.
    by : sequence of str
        Trial columns; each group has its own statistics. Empty: all trials together.

    Attributes
    ----------
    means_, deviations_ : dict of tuple to ndarray, shape (channels, 1) or (channels, times)
        By the values of ``by``; deviations have the divisor n. Voxels: shape (voxels,).

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(loc=5.0, scale=3.0, size=(20, 2, 10))
    >>> recording = Recording.from_arrays(x, {"stimulus": list(range(20))}, sfreq=100)
    >>> z = Standardise().fit_transform(recording).signals
    >>> np.abs(z.mean(axis=(0, 2))).max() < 1e-6, np.abs(z.std(axis=(0, 2)) - 1).max() < 1e-6
    (np.True_, np.True_)
    """

    step = "standardise"

    def __init__(
        self,
        *,
        per: Literal["channel", "channel_time"] = "channel",
        by: Sequence[str] = ("subject", "session"),
    ) -> None:
        self.per = per
        self.by = by

    def _fit(self, recording: Recording) -> None:
        if self.per not in ("channel", "channel_time"):
            raise DataError(
                f"there is no standardisation per {self.per!r}",
                expected='"channel" or "channel_time"',
            )
        by = _groups.columns(self.by)
        means: dict[_groups.Key, NDArray[np.float64]] = {}
        deviations: dict[_groups.Key, NDArray[np.float64]] = {}
        for key, rows in _groups.group_rows(recording.trials, by).items():
            mean, deviation = _moments(recording, rows, over_times=self.per == "channel")
            bad = ~(deviation > FLAT * np.abs(mean)) | ~np.isfinite(deviation)
            if bad.any():
                which = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
                names = [recording.sensors.names[i] for i in which.tolist()]
                raise DataError(
                    f"{recording.sensors.unit_name} that are constant or not finite in "
                    f"{_groups.name_of(by, key)}: {listing(names)}",
                    found=f"{len(rows)} training trials",
                    fix="drop or interpolate them, or choose fewer columns in by",
                )
            means[key], deviations[key] = mean, deviation
        self.means_, self.deviations_ = means, deviations
        self.channels_ = recording.sensors.names
        self.shape_ = recording.shape[1:]

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        if recording.sensors.names != self.channels_:
            raise DataError(
                f"Standardise was fitted on other {recording.sensors.unit_name}",
                found=listing(recording.sensors.names, 8),
                expected=listing(self.channels_, 8),
                fix="bring them into the same order with match_channels before fit and transform",
            )
        times_matter = self.per == "channel_time" or len(recording.shape) != len(self.shape_) + 1
        if times_matter and recording.shape[1:] != self.shape_:
            raise DataError(
                "Standardise was fitted on another number of samples",
                found=f"trials of shape {recording.shape[1:]}",
                expected=f"{self.shape_}",
            )
        known = list(self.means_)
        codes = _groups.group_codes(
            recording.trials, _groups.columns(self.by), known, "Standardise"
        )
        means = np.stack(list(self.means_.values()))
        deviations = np.stack(list(self.deviations_.values()))

        def scale(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            out = block.astype(np.float64)
            for code in np.unique(codes[positions]).tolist():
                mine = codes[positions] == code
                out[mine] = (out[mine] - means[code]) / deviations[code]
            return out

        return apply_rows(recording, scale, op)


def _moments(
    recording: Recording, rows: NDArray[np.int64], *, over_times: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation over trials (and samples), piece by piece.

    The moments of the pieces are combined by the formula of Chan, Golub and LeVeque (1983), which
    keeps the digits that sums of squares would lose when the mean is large.
    """
    axes = (0, 2) if over_times and len(recording.shape) == 3 else (0,)
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for part in pieces(len(rows), recording.shape[1:]):
        block = _store.gather(recording.store, recording.rows[rows[part]]).astype(np.float64)
        n = int(np.prod([block.shape[axis] for axis in axes]))
        m = block.mean(axis=axes, keepdims=True)
        block -= m
        difference, m2 = m[0] - mean, np.square(block).sum(axis=axes, keepdims=True)[0]
        squares = squares + m2 + difference**2 * (count * n / (count + n))
        mean = mean + difference * (n / (count + n))
        count += n
    deviation: NDArray[np.float64] = np.sqrt(squares / count)
    return mean, deviation
