"""Figures of the quality page show what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError
from phosphene.reports import quality
from phosphene.reports._quality_sums import noise_eigenvalues, occipital, pooled, session_means

NAMES = ["Fz", "Cz", "PO3", "O1", "Oz", "O2"]


def eeg(split: str = "train", seed: int = 0, sessions: int = 2, **more: Any) -> Recording:
    rng = np.random.default_rng(seed)
    n = 20 * sessions
    times = np.arange(-10, 40) / 100
    x = rng.standard_normal((n, len(NAMES), len(times)))
    x[:, 3:] += 4 * np.exp(-(((times - 0.15) / 0.04) ** 2))
    trials = pd.DataFrame(
        {
            "stimulus": [f"c{i % 10}/1.png" for i in range(n)],
            "session": [str(i // 20 + 1) for i in range(n)],
            "split": split,
        }
    )
    sensors = Sensors.eeg(NAMES, sfreq=100.0)
    return Recording.from_arrays(1e-6 * x, trials, times=times, sensors=sensors, **more)


def fmri(repetitions: int = 3, seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    signal = np.tile(rng.standard_normal((12, 30)), (repetitions, 1))
    signal[:, 20:] = 0
    trials = {
        "stimulus": [f"c{i % 12}/1.png" for i in range(12 * repetitions)],
        "run": [str(i // 12 + 1) for i in range(12 * repetitions)],
        "split": ["train"] * 12 * repetitions,
    }
    noise = rng.standard_normal(signal.shape)
    return Recording.from_arrays(signal + 0.5 * noise, trials, modality="fmri")


def test_means_equal_those_of_numpy_over_sessions() -> None:
    recording = eeg()
    means = session_means({"train": recording})
    assert [(m.session, m.n) for m in means] == [("1", 20), ("2", 20)]
    x = recording.signals.astype(np.float64)
    np.testing.assert_allclose(means[1].mean, x[20:].mean(axis=0), atol=1e-12)
    mean, error = pooled(means, "train")
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(error, x.std(axis=0) / np.sqrt(40), rtol=1e-5)


def test_the_spectrum_is_that_of_the_noise() -> None:
    recording = eeg(sessions=1)
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((6, 6))
    x = np.einsum("cd,idt->ict", mixing, rng.standard_normal((400, 6, 50)))
    trials = pd.DataFrame({"stimulus": [f"a/{i}.png" for i in range(400)]})
    noise = Recording.from_arrays(
        x + 100.0, trials, times=recording.times, sensors=recording.sensors
    )
    (values,) = noise_eigenvalues(noise).values()
    expected = np.linalg.eigvalsh(mixing @ mixing.T)[::-1]
    np.testing.assert_allclose(values, expected, rtol=0.06)


def test_the_back_of_the_head() -> None:
    assert [NAMES[i] for i in occipital(eeg())] == ["PO3", "O1", "Oz", "O2"]
    rng = np.random.default_rng(0)
    trials = {"stimulus": ["a/1.png", "b/1.png"]}
    other = Recording.from_arrays(rng.standard_normal((2, 5, 9)), trials, sfreq=100,
                                  channel_names=["Fp1", "E1", "OFC1", "Iz", "x"])  # fmt: skip
    assert occipital(other) == [3]
    plain = other.pick([0, 1, 2])
    assert occipital(plain) == [0, 1, 2]


def test_the_evoked_response_peaks_where_it_was_planted() -> None:
    figure = quality.evoked_response({"train": eeg(), "test": eeg("test", 1)})
    (axes,) = figure.axes
    assert axes.get_ylabel() == "mean of 4 posterior channels (µV)"
    line = axes.lines[0]
    x, y = line.get_xdata(), line.get_ydata()
    assert x[int(np.argmax(y))] == pytest.approx(0.15, abs=0.02)
    assert 2 < y.max() < 4
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["train (40 trials)", "test (40 trials)"]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_field_power_of_few_and_of_many_sessions() -> None:
    (axes,) = quality.global_field_power({"train": eeg()}).axes
    first = axes.lines[0]
    x, y = np.asarray(first.get_xdata()), np.asarray(first.get_ydata())
    assert x[int(np.argmax(y))] == pytest.approx(0.15, abs=0.03)
    (axes,) = quality.global_field_power({"train": eeg(sessions=9)}).axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["all 9 sessions"]


def test_whitened_signals_have_no_unit() -> None:
    white = eeg().with_history({"op": "whitening"})
    (axes,) = quality.evoked_response({"train": white}).axes
    assert axes.get_ylabel().endswith("(s.d.)")
    (axes,) = quality.noise_spectrum({"train": white}).axes
    assert axes.get_xlabel() == "component"
    flat = white.with_signals(white.signals - white.signals.mean(axis=1, keepdims=True))
    (axes,) = quality.noise_spectrum({"train": flat}).axes
    assert axes.get_xlabel() == "component (5 of 6 above rounding)"


def test_trials_of_each_session_and_run() -> None:
    parts = {"train": eeg(), "test": eeg("test").select(session="2")}
    (axes,) = quality.trials_per_block(parts).axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert heights == [[20, 20], [0, 20]]
    (axes,) = quality.trials_per_block({"train": eeg(sessions=26)}).axes
    assert axes.get_ylabel() == "sessions (26 in all)"
    averaged = eeg().average(("subject", "session", "stimulus"))
    (axes,) = quality.trials_per_block({"train": averaged}).axes
    assert [bar.get_height() for bar in axes.containers[0]] == [20, 20]


def test_reliability_tells_voxels_with_signal_from_those_without() -> None:
    for measure in ("stability", "noise_ceiling"):
        (axes,) = quality.reliability({"train": fmri()}, measure).axes
        counts = sum(patch.get_height() for patch in axes.patches)
        assert counts == 30
        assert "train images" in axes.get_xlabel()
    with pytest.raises(DataError, match="repetitions"):
        quality.reliability({"train": fmri(repetitions=1)})


def test_all_figures_that_fit() -> None:
    assert set(quality.quality_figures({"train": eeg()})) == {
        "evoked", "field_power", "noise", "trials_per_session",
    }  # fmt: skip
    assert set(quality.quality_figures({"train": fmri()})) == {
        "stability", "noise_ceiling", "trials_per_session", "trials_per_run",
    }  # fmt: skip
    assert set(quality.quality_figures({"train": fmri(1)})) == {
        "trials_per_session", "trials_per_run",
    }  # fmt: skip
    with pytest.raises(DataError, match="responses over time"):
        quality.evoked_response({"train": fmri()})
