"""Standardisation per channel with the statistics of training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

Floats = npt.NDArray[np.float32]
_CHUNK_BYTES = 8 << 20


def chunks(n_rows: int, row_bytes: int) -> list[slice]:
    """Slices of rows of about 8 MB, so that no operation needs a second copy of the data."""
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def read_rows(signals: Any, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Some trials of a recording or an array, without loading the rest."""
    return signals.take(rows) if isinstance(signals, Recording) else np.asarray(signals[rows])


@dataclass(frozen=True, eq=False)
class ChannelScaler:
    """``(x - mean) / scale`` per channel (or voxel).

    Parameters
    ----------
    mean, scale : ndarray, shape (channels,)
        Mean and standard deviation over trials and times.

    Examples
    --------
    >>> scaler = ChannelScaler.fit(np.array([[[0.0, 2.0]], [[4.0, 6.0]]], dtype=np.float32))
    >>> float(scaler.mean[0]), round(float(scaler.scale[0]), 3)
    (3.0, 2.236)
    """

    mean: Floats
    scale: Floats

    @classmethod
    def fit(
        cls,
        signals: Any,
        rows: npt.NDArray[np.int64] | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> Self:
        """Measure mean and deviation in float64, piece by piece.

        Parameters
        ----------
        signals : Recording or array, shape (trials, channels, times) or (trials, voxels)
            May be a memory map.
        rows : ndarray of int, optional
            Trials to measure; all by default.
        names : sequence of str, optional
            Channel names for the error message.

        Raises
        ------
        DataError
            If a channel does not vary.
        """
        shape = tuple(signals.shape)
        n = shape[0] if rows is None else len(rows)
        total = np.zeros(shape[1])
        squares = np.zeros(shape[1])
        centre: npt.NDArray[np.float64] | None = None
        for part in chunks(n, int(np.prod(shape[1:])) * 4):
            block = read_rows(signals, part if rows is None else rows[part])
            x = torch.from_numpy(np.array(block, dtype=np.float64))
            x = x.reshape(len(x), shape[1], -1)
            if centre is None:  # sums around a nearby value keep the digits of the variance
                centre = x.mean((0, 2)).numpy()
            x -= torch.from_numpy(centre)[:, None]
            total += x.sum((0, 2)).numpy()
            squares += x.square().sum((0, 2)).numpy()
        if centre is None:
            raise DataError("there are no trials to standardise with")
        count = n * int(np.prod(shape[2:]))
        shift = total / count
        deviation = np.sqrt(np.maximum(squares / count - shift**2, 0.0))
        label = list(names or (f"channel {i}" for i in range(shape[1])))
        for bad, what in ((~np.isfinite(deviation), "hold NaN"), (deviation == 0, "do not vary")):
            if bad.any():
                found = [name for name, hit in zip(label, bad, strict=True) if hit]
                raise DataError(
                    f"channels {what} in the training data: {listing(found)}",
                    fix="drop them with recording.pick, or interpolate them",
                )
        return cls((centre + shift).astype(np.float32), deviation.astype(np.float32))

    @classmethod
    def identity(cls, n_chans: int) -> Self:
        """The scaler that changes nothing."""
        return cls(np.zeros(n_chans, np.float32), np.ones(n_chans, np.float32))

    def apply(self, signals: Any) -> Floats:
        """Standardised float32 copy of (trials, channels[, times])."""
        copy = np.array(signals, dtype=np.float32)
        self.apply_(torch.from_numpy(copy))
        return copy

    def apply_(self, x: torch.Tensor) -> torch.Tensor:
        """Standardise a float32 tensor in place."""
        shape = (-1,) + (1,) * (x.ndim - 2)
        mean = torch.from_numpy(np.asarray(self.mean)).to(x.device).view(shape)
        scale = torch.from_numpy(np.asarray(self.scale)).to(x.device).view(shape)
        return x.sub_(mean).div_(scale)
