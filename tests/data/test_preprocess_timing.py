"""Decimation, moving averages and sliding windows against literal forms and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly
from sklearn.base import clone

from phosphene.data.preprocess.timing import Decimate, Smooth
from phosphene.data.preprocess.windows import SlidingWindows
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError

SFREQ = 200.0


def make(n_times: int = 53, n: int = 4, tmin: float = -0.1, seed: int = 0) -> Recording:
    x = np.random.default_rng(seed).normal(size=(n, 3, n_times))
    return Recording.from_arrays(
        x,
        {"stimulus": np.arange(n), "split": ["train", "test"] * (n // 2)},
        times=tmin + np.arange(n_times) / SFREQ,
        sensors=Sensors.eeg(["O1", "Oz", "O2"], SFREQ),
    )


@pytest.mark.parametrize("factor", [1, 2, 4, 53])
def test_decimation_by_means_equals_the_loop(factor: int) -> None:
    recording = make()
    done = Decimate(factor).transform(recording)
    for k in range(53 // factor):
        part = slice(k * factor, (k + 1) * factor)
        np.testing.assert_allclose(
            done.signals[..., k], recording.signals[..., part].mean(axis=2), rtol=1e-5, atol=1e-6
        )
        assert done.times is not None
        assert recording.times is not None
        assert done.times[k] == pytest.approx(recording.times[part].mean())
    assert done.shape[2] == 53 // factor
    assert done.sfreq == pytest.approx(SFREQ / factor)
    assert done.history[-1]["samples_dropped_at_the_end"] == 53 % factor
    assert done.sensors.info is not None
    assert done.sensors.info["sfreq"] == pytest.approx(SFREQ / factor)
    assert done.sensors.info["lowpass"] <= SFREQ / factor / 2 + 1e-9
    assert recording.sensors.info is not None
    assert recording.sensors.info["sfreq"] == SFREQ


def test_decimation_by_fir_equals_scipy_inside_and_removes_what_would_alias() -> None:
    recording = make(400)
    done = Decimate(4, antialias="fir").transform(recording)
    expected = resample_poly(recording.signals.astype(float), 1, 4, axis=2, padtype="reflect")
    np.testing.assert_allclose(done.signals[..., 15:-15], expected[..., 15:-15], atol=1e-5)
    assert recording.times is not None
    np.testing.assert_allclose(done.times, recording.times[::4])
    t = np.arange(400) / SFREQ
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (5.0, 40.0)])[None]
    two = Recording.from_arrays(tones, {"stimulus": ["a"]}, sfreq=SFREQ)
    fir = Decimate(4, antialias="fir").transform(two).signals[0, :, 15:-15]
    assert fir[0] == pytest.approx(np.sin(2 * np.pi * 5 * t[::4][15:-15]), abs=0.01)
    assert np.abs(fir[1]).max() < 0.01  # 40 Hz would have become 10 Hz
    assert np.abs(tones[0, 1, ::4]).max() > 0.9
    np.testing.assert_array_equal(
        Decimate(1, antialias="fir").transform(recording).signals, recording.signals
    )


@pytest.mark.parametrize("width", [1, 5, 53])
def test_smoothing_equals_the_loop(width: int) -> None:
    recording = make()
    done = Smooth(width).transform(recording)
    half = width // 2
    for t in range(53):
        part = recording.signals[..., max(0, t - half) : t + half + 1]
        np.testing.assert_allclose(done.signals[..., t], part.mean(axis=2), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(done.times, recording.times)


def test_windows_share_the_signals_and_lie_where_they_say() -> None:
    recording = make()
    windows = dict(SlidingWindows(width=0.05, stride=0.03).split(recording))
    assert len(windows) == (53 - 10) // 6 + 1
    for k, (centre, part) in enumerate(windows.items()):
        assert np.shares_memory(part.signals, recording.signals)
        np.testing.assert_array_equal(part.signals, recording.signals[..., 6 * k : 6 * k + 10])
        assert part.times is not None
        assert centre == pytest.approx(part.times.mean())
        assert centre == pytest.approx(-0.1 + (6 * k + 4.5) / SFREQ)
        assert part.history[-1]["op"] == "window"
    done = SlidingWindows(0.05, 0.03).transform(recording)
    for k, part in enumerate(windows.values()):
        np.testing.assert_allclose(
            done.signals[..., k], part.signals.mean(axis=2), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(done.times, list(windows))
    assert done.sfreq == pytest.approx(SFREQ / 6)
    single = SlidingWindows(53 / SFREQ, 1.0).transform(recording)
    assert single.shape == (4, 3, 1)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Decimate(0), "factor cannot be 0"),
        (Decimate(54), "factor cannot be 54"),
        (Decimate(2.0), "factor cannot be 2.0"),  # type: ignore[arg-type]
        (Decimate(2, antialias="none"), "no such antialias"),  # type: ignore[arg-type]
        (Smooth(4), "is odd"),
        (Smooth(55), "samples cannot be 55"),
        (SlidingWindows(0.5, 0.1), "cannot cut such windows"),
        (SlidingWindows(np.nan, 0.1), "cannot cut such windows"),
        (SlidingWindows(0.05, 0.001), "cannot cut such windows"),
    ],
)
def test_what_cannot_be_done_is_refused(step: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        step.transform(make())


@pytest.mark.parametrize(
    "step", [Decimate(2), Decimate(2, antialias="fir"), Smooth(3), SlidingWindows(0.05, 0.02)]
)
def test_steps_are_per_trial_documented_and_leave_the_original(step: Any) -> None:
    recording = make()
    before = recording.signals.copy()
    done = step.transform(recording)  # without fit, with test trials
    np.testing.assert_array_equal(recording.signals, before)
    for i in range(recording.n_trials):
        np.testing.assert_allclose(
            step.transform(recording.select([i])).signals[0], done.signals[i], atol=1e-6
        )
    assert done.history[-1]["op"] == step.step
    assert "nothing" in done.history[-1]["fitted_on"]
    assert done.signals.dtype == np.float32
    assert clone(step).get_params() == step.get_params()
    assert step.fit(recording) is step
    voxels = Recording.from_arrays(np.eye(3), {"stimulus": range(3)}, modality="fmri")
    with pytest.raises(DataError, match="time axis"):
        step.transform(voxels)
