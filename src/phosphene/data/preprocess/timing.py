"""Fewer or smoother samples: decimation and moving averages."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from phosphene.data.preprocess._trialwise import (
    PerTrial,
    apply_rows,
    at_rate,
    require_times,
)
from phosphene.data.recording import Recording
from phosphene.errors import DataError


class Decimate(PerTrial):
    """Keep every n-th sample after removing what would alias.

    ``antialias="mean"`` averages each n consecutive samples, which stand at the middle of their
    times afterwards; what is left over at the end is dropped. ``antialias="fir"`` is MNE's
    polyphase resampling: a zero-phase low-pass at the new Nyquist frequency, then samples 0, n, 2n
    and so on; it is sharper, but reaches over ten new samples to each side.

    Parameters
    ----------
    factor : int
        How many samples become one.
    antialias : {"mean", "fir"}
        What precedes the picking.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> x = np.arange(12.0).reshape(1, 2, 6)
    >>> epochs = Recording.from_arrays(x, {"stimulus": ["a"]}, sfreq=100)
    >>> half = Decimate(2).transform(epochs)
    >>> half.signals[0, 0].tolist(), half.times.round(3).tolist(), half.sfreq
    ([0.5, 2.5, 4.5], [0.005, 0.025, 0.045], 50.0)
    """

    step = "decimate"

    def __init__(self, factor: int = 2, *, antialias: Literal["mean", "fir"] = "mean") -> None:
        self.factor = factor
        self.antialias = antialias

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        sfreq = require_times(recording, "Decimate")
        n_channels, n_times = recording.shape[1:]
        k = _whole(self.factor, "factor", 1, n_times)
        if self.antialias not in ("mean", "fir"):
            raise DataError(
                "there is no such antialias", found=repr(self.antialias), expected='"mean", "fir"'
            )
        times: NDArray[np.float64] = np.asarray(recording.times)
        if self.antialias == "mean":
            n = n_times // k
            times = times[: n * k].reshape(n, k).mean(axis=1)
            op = {**op, "samples_dropped_at_the_end": n_times - n * k}
        else:
            times = times[::k][: _resampled(np.zeros(n_times), k).shape[-1]]

        def reduce(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            x = block.astype(np.float64)
            if self.antialias == "fir":
                return _resampled(x, k)
            return np.asarray(x[..., : len(times) * k].reshape(*x.shape[:2], -1, k).mean(axis=3))

        sensors = at_rate(recording.sensors, sfreq / k)
        shape = (n_channels, len(times))
        return apply_rows(recording, reduce, op, shape=shape, sensors=sensors, times=times)


class Smooth(PerTrial):
    """Centred moving average; near the ends, the average of the samples that there are.

    A sample then holds up to half a window of what came after it.

    Parameters
    ----------
    samples : int
        Width of the window, odd.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> x = np.array([[[0.0, 3.0, 0.0, 0.0]]])
    >>> epochs = Recording.from_arrays(x, {"stimulus": ["a"]}, sfreq=100)
    >>> Smooth(3).transform(epochs).signals.tolist()
    [[[1.5, 1.0, 1.0, 0.0]]]
    """

    step = "smooth"

    def __init__(self, samples: int = 5) -> None:
        self.samples = samples

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        require_times(recording, "Smooth")
        n_times = recording.shape[2]
        width = _whole(self.samples, "samples", 1, n_times)
        if width % 2 == 0:
            raise DataError("a centred window is odd", found=f"samples={width}")
        inside = uniform_filter1d(np.ones(n_times), width, mode="constant")

        def smooth(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            x = uniform_filter1d(block.astype(np.float64), width, axis=2, mode="constant")
            return np.asarray(x / inside)

        return apply_rows(recording, smooth, op)


def _resampled(x: NDArray[np.float64], factor: int) -> NDArray[Any]:
    """Every ``factor``-th sample after a low-pass; the last one may be missing."""
    if factor == 1:
        return x
    import mne

    out = mne.filter.resample(x, down=factor, method="polyphase", pad="reflect", verbose="error")
    return np.asarray(out)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise DataError(
            f"{name} cannot be {value!r}",
            expected=f"a whole number from {low} to {high} (the samples of a trial)",
        )
    return int(value)
