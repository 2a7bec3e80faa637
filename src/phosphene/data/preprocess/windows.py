"""Sliding windows along time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data import _store
from phosphene.data.preprocess._trialwise import (
    OfRows,
    PerTrial,
    apply_rows,
    at_rate,
    require_times,
)
from phosphene.data.recording import Recording
from phosphene.errors import DataError

Bounds = list[tuple[int, int]]


class SlidingWindows(PerTrial):
    """Windows of equal width along time, as recordings of their own or averaged.

    `split` gives each window as a recording that shares the signals, for decoding along time;
    `transform` averages the samples of each window, so that a window becomes a sample at its
    centre. Windows that would reach beyond the end are left out.

    Parameters
    ----------
    width : float
        Seconds, rounded to whole samples.
    stride : float
        Seconds from one window to the next, rounded to whole samples.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> x = np.arange(10.0).reshape(1, 1, 10)
    >>> epochs = Recording.from_arrays(x, {"stimulus": ["a"]}, sfreq=100)
    >>> windows = SlidingWindows(width=0.04, stride=0.03)
    >>> [(round(centre, 3), part.shape) for centre, part in windows.split(epochs)]
    [(0.015, (1, 1, 4)), (0.045, (1, 1, 4)), (0.075, (1, 1, 4))]
    >>> windows.transform(epochs).signals.tolist()
    [[[1.5, 4.5, 7.5]]]
    """

    step = "sliding_windows"

    def __init__(self, width: float = 0.1, stride: float = 0.05) -> None:
        self.width = width
        self.stride = stride

    def split(self, recording: Recording) -> Iterator[tuple[float, Recording]]:
        """Centre in seconds and recording of each window; nothing is copied.

        Raises
        ------
        DataError
            If there is no time axis, or a trial is shorter than a window.
        """
        for start, stop in bounds(recording, self.width, self.stride, "SlidingWindows"):
            window = slice(start, stop)
            times = np.asarray(recording.times)[window]
            op = {"op": "window", "tmin": float(times[0]), "tmax": float(times[-1])}
            part = replace(
                recording,
                store=_store.cut(recording.store, slice(None), window),
                times=times,
                history=(*recording.history, op),
            )
            yield float(times.mean()), part

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        windows = bounds(recording, self.width, self.stride, "SlidingWindows")

        def average(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            means = [block[..., a:b].mean(axis=2, dtype=np.float64) for a, b in windows]
            return np.stack(means, axis=2)

        return over_windows(recording, average, op, windows)


def bounds(recording: Recording, width: float, stride: float, who: str) -> Bounds:
    """First and past-the-last sample of each window.

    Raises
    ------
    DataError
        If there is no time axis, or a trial is shorter than a window.
    """
    sfreq = require_times(recording, who)
    if not np.isfinite([width, stride]).all():
        raise DataError(f"{who} cannot cut such windows", found=f"width {width}, stride {stride} s")
    n, hop = round(width * sfreq), round(stride * sfreq)
    n_times = recording.shape[2]
    if not (1 <= n <= n_times and hop >= 1):
        raise DataError(
            f"{who} cannot cut such windows",
            found=f"width {width} s and stride {stride} s at {sfreq:g} Hz: {n} and {hop} samples",
            expected=f"1 to {n_times} samples (a trial), and 1 or more",
        )
    return [(start, start + n) for start in range(0, n_times - n + 1, hop)]


def over_windows(
    recording: Recording, function: OfRows, op: dict[str, Any], windows: Bounds
) -> Recording:
    """Apply a function that makes one value per channel and window."""
    times = np.array([np.asarray(recording.times)[a:b].mean() for a, b in windows])
    sensors = recording.sensors
    if len(windows) > 1:
        sensors = at_rate(sensors, float(recording.sfreq or 1) / (windows[1][0] - windows[0][0]))
    shape = (recording.shape[1], len(windows))
    return apply_rows(recording, function, op, shape=shape, sensors=sensors, times=times)
