"""High-gamma power of intracranial recordings."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene.data.preprocess._trialwise import PerTrial, apply_rows, require_times
from phosphene.data.preprocess.windows import bounds, over_windows
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing


class HighGamma(PerTrial):
    """Power of each electrode in a band of frequencies: the spectral density summed over the band.

    ``P = sum_f S(f) df`` over fmin <= f <= fmax, in the squared unit of the signals. A sine of
    amplitude A inside the band has the power A^2 / 2.

    Parameters
    ----------
    fmin, fmax : float
        The band in Hz.
    method : {"multitaper", "welch"}
        How MNE estimates the spectral density.
    tmin, tmax : float, optional
        Seconds from stimulus onset, both ends included; default: the whole trial.
    width, stride : float, optional
        Seconds. With them the power of sliding windows between ``tmin`` and ``tmax``; without, one
        value per electrode.
    log : bool
        Natural logarithm of the power.
    n_fft : int
        Welch: samples of a segment (Hann window, half overlapping, mean removed). Shorter windows
        are one segment, filled up with zeros to this length.
    bandwidth : float, optional
        Multitaper: full width of smoothing in Hz; MNE's default is 8 divided by the duration.

    References
    ----------
    Welch (1967), doi 10.1109/TAU.1967.1161901; Thomson (1982), doi 10.1109/PROC.1982.12433.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> t = np.arange(1000) / 1000
    >>> x = np.stack([4 * np.sin(2 * np.pi * 100 * t), 4 * np.sin(2 * np.pi * 30 * t)])[None]
    >>> ecog = Recording.from_arrays(x, {"stimulus": ["a"]}, sfreq=1000, modality="ecog")
    >>> power = HighGamma(log=False).transform(ecog)
    >>> power.signals.round(2).tolist(), power.times is None
    ([[8.0, 0.0]], True)
    """

    step = "high_gamma"

    def __init__(
        self,
        fmin: float = 80.0,
        fmax: float = 150.0,
        *,
        method: Literal["multitaper", "welch"] = "multitaper",
        tmin: float | None = None,
        tmax: float | None = None,
        width: float | None = None,
        stride: float | None = None,
        log: bool = True,
        n_fft: int = 1024,
        bandwidth: float | None = None,
    ) -> None:
        self.fmin = fmin
        self.fmax = fmax
        self.method = method
        self.tmin = tmin
        self.tmax = tmax
        self.width = width
        self.stride = stride
        self.log = log
        self.n_fft = n_fft
        self.bandwidth = bandwidth

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        sfreq = require_times(recording, "HighGamma")
        self._check(sfreq)
        cut = recording
        if self.tmin is not None or self.tmax is not None:
            cut = recording.crop(self.tmin, self.tmax)
        names = recording.sensors.names
        if self.width is None:
            self._check_resolution(sfreq, cut.shape[2])

            def power(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
                return self._power(block, sfreq, names)

            return apply_rows(cut, power, op, shape=(len(names),))
        windows = bounds(
            cut, self.width, self.stride if self.stride is not None else self.width, "HighGamma"
        )
        self._check_resolution(sfreq, windows[0][1])

        def powers(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            return np.stack([self._power(block[..., a:b], sfreq, names) for a, b in windows], 2)

        return over_windows(cut, powers, op, windows)

    def _check(self, sfreq: float) -> None:
        if self.method not in ("multitaper", "welch"):
            raise DataError(
                "there is no such method",
                found=repr(self.method),
                expected='"multitaper" or "welch"',
            )
        if not 0 <= self.fmin < self.fmax:
            raise DataError("this is no band", found=f"{self.fmin} to {self.fmax} Hz")
        if self.fmax > sfreq / 2:
            raise DataError(
                "the sampling rate is too low for the band",
                found=f"{sfreq:g} Hz, so nothing above {sfreq / 2:g} Hz",
                expected=f"{2 * self.fmax:g} Hz or more for {self.fmin:g} to {self.fmax:g} Hz",
                fix="start from signals with a higher rate, or lower fmax",
            )
        if isinstance(self.n_fft, bool) or not isinstance(self.n_fft, int) or self.n_fft < 3:
            raise DataError(
                "n_fft is no length of a segment", found=self.n_fft, expected="3 or more"
            )
        if self.stride is not None and self.width is None:
            raise DataError("stride needs a width", found=f"stride={self.stride}, width=None")

    def _check_resolution(self, sfreq: float, n: int) -> None:
        """Raise where the window is so short that no frequency lies in the band."""
        n_fft = max(n, self.n_fft) if self.method == "welch" else n
        grid = np.fft.rfftfreq(n_fft, 1 / sfreq)
        if n < 3 or not ((grid >= self.fmin) & (grid <= self.fmax)).any():
            raise DataError(
                "the window is too short for the band",
                found=f"{n} samples at {sfreq:g} Hz, frequencies {sfreq / n_fft:g} Hz apart",
                expected=f"a frequency from {self.fmin:g} to {self.fmax:g} Hz",
                fix="take a longer window",
            )
        if self.method == "multitaper":
            # MNE's own bounds: at least one taper, and fewer of them than samples.
            half = 4.0 if self.bandwidth is None else self.bandwidth * n / (2 * sfreq)
            if not 0.5 <= half < n / 2:
                raise DataError(
                    "the window is too short for this smoothing over frequencies",
                    found=f"{n} samples at {sfreq:g} Hz, bandwidth {2 * half * sfreq / n:g} Hz",
                    expected=f"a bandwidth from {sfreq / n:g} to {sfreq:g} Hz",
                    fix="take a longer window or another bandwidth",
                )

    def _power(
        self, block: NDArray[Any], sfreq: float, names: tuple[str, ...]
    ) -> NDArray[np.float64]:
        from mne.time_frequency import psd_array_multitaper, psd_array_welch

        x = block.astype(np.float64)
        band = {"fmin": self.fmin, "fmax": self.fmax, "verbose": "error"}
        if self.method == "welch":
            n = min(x.shape[-1], self.n_fft)
            n_fft = self.n_fft
            density, _ = psd_array_welch(
                x, sfreq, n_fft=n_fft, n_per_seg=n, n_overlap=n // 2, window="hann", **band
            )
        else:
            n_fft = x.shape[-1]
            density, _ = psd_array_multitaper(
                x, sfreq, bandwidth=self.bandwidth, normalization="full", **band
            )
        power: NDArray[np.float64] = density.sum(axis=-1) * (sfreq / n_fft)
        if not self.log:
            return power
        if not (power > 0).all():
            silent = np.flatnonzero(~(power > 0).all(axis=0)).tolist()
            raise DataError(
                "there is no logarithm of no power",
                found="electrodes constant or not finite in some trial: "
                f"{listing(names[i] for i in silent)}",
                fix="drop these electrodes or trials, or use log=False",
            )
        return np.log(power)
