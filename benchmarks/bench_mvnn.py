"""Noise normalisation: phosphene against a loop of scikit-learn's covariance per epoch.

One session of THINGS-EEG2's training set: 4,135 images shown twice, 63 channels, 250 samples. The
published procedure takes the covariance of one epoch after the other with scikit-learn's ``_cov``
(standardise, Ledoit-Wolf, scale back), averages over repetitions and images, and multiplies with
the inverse square root. Ratios are of the time of the whole loop to that of ``MVNN.fit``, the least
disturbed of several runs each; the fingerprint of the recording is computed before, once, and its
time is given beside.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _table import Table, best_seconds, parse_arguments
from scipy.linalg import fractional_matrix_power
from sklearn.covariance import ledoit_wolf, oas
from sklearn.preprocessing import StandardScaler

from phosphene.data.preprocess.whitening import MVNN
from phosphene.data.recording import Recording

CHANNELS, TIMES, SFREQ = 63, 250, 250.0
KEY = ("01", "1")


def session(images: int) -> Recording:
    """Noise whose channels are mixed, in volts, with amplitudes over one order of magnitude."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((CHANNELS, CHANNELS)) * np.logspace(-5, -6, CHANNELS)[:, None]
    signals = np.empty((2 * images, CHANNELS, TIMES), dtype=np.float32)
    for i in range(len(signals)):
        signals[i] = mixing @ rng.standard_normal((CHANNELS, TIMES))
    trials = {"stimulus": np.repeat([f"image{i:05d}" for i in range(images)], 2)}
    return Recording.from_arrays(signals, trials, sfreq=SFREQ, check=False)


def published(x: Any) -> Any:
    """scikit-learn's ``discriminant_analysis._cov`` with ``shrinkage="auto"``."""
    scaler = StandardScaler()
    found = ledoit_wolf(scaler.fit_transform(x))[0]
    return scaler.scale_[:, None] * found * scaler.scale_[None]


def loop(
    signals: Any, covariance: Callable[[Any], Any], parts: int, along: str = "epoch"
) -> tuple[Any, float]:
    """Mean covariance over images of two repetitions, and the seconds that it takes.

    The loop is run in parts, and the quickest one stands for all.
    """
    total, seconds = 0.0, []
    pairs = np.array_split(signals.reshape(-1, 2, *signals.shape[1:]), parts)
    for part in pairs:
        start = time.perf_counter()
        for pair in part:
            x = pair.astype(np.float64)
            samples = [epoch.T for epoch in x] if along == "epoch" else list(np.moveaxis(x, 2, 0))
            total = total + np.mean([covariance(sample) for sample in samples], axis=0)
        seconds.append((time.perf_counter() - start) / len(part))
    n = len(signals) // 2
    return total / n, min(seconds) * n


def status(field: str) -> float:
    """Memory of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status")


def reset_peak() -> float:
    """Start a new peak, and return what is in use, in MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], "mvnn.json")
    images = 500 if arguments.quick else 4135
    recording = session(images)
    signals = recording.signals
    table = Table(f"MVNN, one session of 2 x {images} epochs of {CHANNELS} x {TIMES}")
    start = time.perf_counter()
    recording.fingerprint  # noqa: B018
    fingerprint = time.perf_counter() - start
    cases: list[tuple[str, MVNN, Callable[[Any], Any], float | None]] = [
        ("published procedure (standardise, ledoit_wolf)", MVNN(), published, 20.0),
        ("ledoit_wolf", MVNN(scaled=False), lambda x: ledoit_wolf(x)[0], None),
        ("oas", MVNN(scaled=False, shrinkage="oas"), lambda x: oas(x)[0], None),
    ]
    for name, mvnn, covariance, target in cases:
        ours = best_seconds(lambda mvnn=mvnn: mvnn.fit(recording), repeats=5)  # type: ignore[misc]
        expected, theirs = loop(signals, covariance, parts=4)
        table.add(
            f"fit, {name}: times faster than a loop",
            theirs / ours,
            target,
            s=ours,
            loop_s=theirs,
            fingerprint_s=fingerprint,
        )
        some = signals[:200].astype(np.float64)
        white = fractional_matrix_power(expected, -0.5) @ some
        found = mvnn.transform(recording.select(np.arange(200))).signals
        error = np.abs(found - white).max() / np.abs(white).max()
        table.add(f"{name}: largest difference, in 1e-6", error * 1e6, 1.0, better="lower")
    mvnn = MVNN().fit(recording)
    seconds = best_seconds(lambda: mvnn.transform(recording), repeats=3)
    root = mvnn.whiteners_[KEY]

    def literal() -> Any:
        return (signals.swapaxes(1, 2) @ root).swapaxes(1, 2).astype(np.float32)

    table.add(
        "apply: times faster than one product in float64",
        best_seconds(literal, repeats=3) / seconds,
        s=seconds,
    )
    by_time = MVNN(estimate="time")
    ours = best_seconds(lambda: by_time.fit(recording), repeats=3)
    few = 2 * max(8, images // 200)
    _, theirs = loop(signals[:few], published, parts=4, along="time")
    table.add(
        "fit, estimate by time: times faster than a loop",
        theirs * len(signals) / few / ours,
        s=ours,
        loop_s_from_a_part=theirs * len(signals) / few,
    )
    before = reset_peak()
    MVNN().fit(recording)
    peak = status("VmHWM") - before
    size = signals.nbytes / 2**20
    table.add(
        "fit: peak of further memory, over that of the signals",
        peak / size,
        better="lower",
        MB=peak,
        signals_MB=size,
    )
    table.show()
    table.write(arguments.out)


if __name__ == "__main__":
    main()
