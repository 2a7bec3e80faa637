"""High-gamma power and references against closed forms, scipy and MNE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from scipy.signal import welch
from sklearn.base import clone

from phosphene.data.preprocess.high_gamma import HighGamma
from phosphene.data.preprocess.reference import CommonAverageReference
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError

SFREQ = 1000.0
NAMES = ["LA1", "LA2", "LA3", "RB 1", "RB 2", "RB 3"]


def make(n_times: int = 1500, n: int = 4, bads: Any = (), seed: int = 0) -> Recording:
    x = np.random.default_rng(seed).normal(size=(n, 6, n_times))
    info = mne.create_info(NAMES, SFREQ, "ecog")
    info["bads"] = list(bads)
    trials = {"stimulus": np.arange(n), "split": ["train", "test"] * (n // 2)}
    return Recording.from_arrays(
        x,
        trials,
        times=-0.5 + np.arange(n_times) / SFREQ,
        sensors=Sensors("ecog", tuple(NAMES), info),
    )


def tones(amplitudes: Any, frequencies: Any, n_times: int = 1000) -> Recording:
    t = np.arange(n_times) / SFREQ
    x = np.stack(
        [a * np.sin(2 * np.pi * f * t) for a, f in zip(amplitudes, frequencies, strict=True)]
    )
    return Recording.from_arrays(x[None], {"stimulus": ["a"]}, sfreq=SFREQ, modality="ecog")


@pytest.mark.parametrize("method", ["multitaper", "welch"])
def test_a_sine_in_the_band_has_half_its_squared_amplitude(method: Any) -> None:
    recording = tones([2.0, 5.0, 3.0, 3.0], [100.0, 130.0, 40.0, 250.0])
    power = HighGamma(method=method, log=False).transform(recording)
    assert power.shape == (1, 4)
    np.testing.assert_allclose(power.signals[0, :2], [2.0, 12.5], rtol=0.01)
    assert power.signals[0, 2:].max() < 1e-2 * 4.5
    logs = HighGamma(method=method).transform(recording).signals
    np.testing.assert_allclose(logs, np.log(power.signals), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_fft", [256, 1024, 4096])
def test_welch_equals_scipy(n_fft: int) -> None:
    recording = make()
    done = HighGamma(
        70, 140, method="welch", n_fft=n_fft, tmin=0.0, tmax=0.499, log=False
    ).transform(recording)
    x = recording.crop(0.0, 0.499).signals.astype(float)
    assert x.shape[2] == 500
    f, density = welch(x, SFREQ, nperseg=min(500, n_fft), nfft=n_fft)
    band = (f >= 70) & (f <= 140)
    expected = density[..., band].sum(axis=2) * (f[1] - f[0])
    np.testing.assert_allclose(done.signals, expected, rtol=1e-5)


def test_white_noise_has_the_share_of_its_variance_that_the_band_is_wide() -> None:
    recording = make(4000, n=40)
    for method in ("multitaper", "welch"):
        power = HighGamma(method=method, log=False).transform(recording)  # type: ignore[arg-type]
        # 240 means of about 280 independent values each deviate by 6 % one by one, .4 % together.
        assert power.signals.mean() == pytest.approx(70 / 500, rel=0.03)


@pytest.mark.parametrize("method", ["multitaper", "welch"])
def test_windows_equal_one_call_per_window(method: Any) -> None:
    recording = make()
    settings: dict[str, Any] = {"method": method, "n_fft": 256}
    done = HighGamma(tmin=0.0, tmax=0.6, width=0.2, stride=0.1, **settings).transform(recording)
    assert done.shape == (4, 6, 5)
    assert done.times is not None
    np.testing.assert_allclose(done.times, 0.0995 + 0.1 * np.arange(5))
    assert done.sfreq == pytest.approx(10.0)
    for k in range(5):
        start = 0.1 * k
        one = HighGamma(tmin=start, tmax=start + 0.199, **settings).transform(recording)
        np.testing.assert_allclose(done.signals[..., k], one.signals, rtol=1e-4, atol=1e-5)
    assert [entry["op"] for entry in done.history] == ["crop", "high_gamma"]


def test_power_of_a_burst_is_found_in_its_window_only() -> None:
    t = np.arange(1000) / SFREQ
    burst = np.sin(2 * np.pi * 110 * t) * ((t >= 0.4) & (t < 0.6))
    noise = 1e-3 * np.random.default_rng(0).standard_normal((1, 2, 1000))
    x = noise + np.stack([burst, 0 * burst])[None]
    recording = Recording.from_arrays(x, {"stimulus": ["a"]}, sfreq=SFREQ, modality="ecog")
    power = HighGamma(width=0.2, log=False).transform(recording).signals[0]
    assert power[0].argmax() == 2
    assert power[0, 2] == pytest.approx(0.5, rel=0.02)
    assert power[0, [0, 1, 3, 4]].max() < 1e-3
    assert power[1].max() < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fmax": 501}, "sampling rate is too low"),
        ({"fmin": 150, "fmax": 80}, "no band"),
        ({"method": "fft"}, "no such method"),
        ({"tmin": 0.0, "tmax": 0.004}, "too short for the band"),
        ({"stride": 0.1}, "stride needs a width"),
        ({"width": 3.0}, "cannot cut such windows"),
        ({"width": 0.2, "stride": 0.0}, "cannot cut such windows"),
        ({"fmin": 0, "fmax": 400, "tmin": 0.0, "tmax": 0.006}, "too short for this smoothing"),
        ({"bandwidth": 0.1}, r"(?s)too short for this smoothing.*from 0\.666667 to 1000 Hz"),
        ({"method": "welch", "n_fft": 0}, "n_fft is no length"),
        ({"tmin": 2.0, "tmax": 3.0}, "no sample lies between"),
    ],
)
def test_bands_and_windows_that_cannot_be(settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        HighGamma(**settings).transform(make())


def test_silence_has_no_logarithm_and_is_named() -> None:
    recording = make()
    x = recording.signals.copy()
    x[1, 4] = 0.5
    quiet = recording.with_signals(x)
    with pytest.raises(DataError, match="no logarithm") as error:
        HighGamma(method="welch").transform(quiet)
    assert "RB 2" in str(error.value)
    x = x.copy()
    x[1, 4, 3] = np.nan
    with pytest.raises(DataError, match="not finite in some trial: RB 2\n"):
        HighGamma().transform(recording.with_signals(x, check=False))
    assert HighGamma(method="welch", log=False).transform(quiet).signals[1, 4] == 0


def test_reference_equals_mne_with_bad_electrodes_left_out() -> None:
    recording = make(bads=["LA2"])
    done = CommonAverageReference().transform(recording)
    epochs = recording.to_epochs()
    epochs.set_eeg_reference("average", ch_type="ecog", verbose="error")
    epochs.apply_proj(verbose="error")
    good = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(
        done.signals[:, good], epochs.get_data()[:, good].astype(np.float32), atol=1e-6
    )
    np.testing.assert_allclose(done.signals[:, good].sum(axis=1), 0, atol=1e-5)
    mean = recording.signals[:, good].mean(axis=1)
    np.testing.assert_allclose(done.signals[:, 1], recording.signals[:, 1] - mean, atol=1e-6)
    assert done.sensors.info is not None
    assert done.sensors.info["custom_ref_applied"] == 1
    assert done.history[-1]["exclude"] == ["LA2"]
    assert recording.sensors.info is not None
    assert recording.sensors.info["custom_ref_applied"] == 0


@pytest.mark.parametrize(
    "groups", ["prefix", {"left": ["LA1", "LA2", "LA3"], "right": ["RB 1", "RB 2", "RB 3"]}]
)
def test_groups_have_references_of_their_own(groups: Any) -> None:
    recording = make()
    done = CommonAverageReference(groups, exclude=["RB 3"]).transform(recording)
    x = recording.signals
    np.testing.assert_allclose(
        done.signals[:, :3], x[:, :3] - x[:, :3].mean(axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(
        done.signals[:, 3:], x[:, 3:] - x[:, 3:5].mean(axis=1, keepdims=True), atol=1e-6
    )


def test_electrodes_of_no_group_stay_as_they_are() -> None:
    recording = make()
    done = CommonAverageReference({"left": ["LA1", "LA2"]}).transform(recording)
    np.testing.assert_array_equal(done.signals[:, 2:], recording.signals[:, 2:])
    assert done.history[-1]["groups"] == {"left": ["LA1", "LA2"]}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (CommonAverageReference("prefix", exclude=["LA1", "LA2"]), "group 'LA' has no two good"),
        (CommonAverageReference("shaft"), "no grouping 'shaft'"),  # type: ignore[arg-type]
        (CommonAverageReference({"a": NAMES[:2], "b": NAMES[1:4]}), "in several groups"),
        (CommonAverageReference(exclude=["LA9"]), "LA9"),
        (CommonAverageReference(exclude="LA1"), "no list of names"),
    ],
)
def test_references_that_cannot_be(step: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        step.transform(make())


@pytest.mark.parametrize("step", [HighGamma(method="welch"), CommonAverageReference("prefix")])
def test_each_trial_is_treated_by_itself_in_memory_or_not(step: Any, tmp_path: Path) -> None:
    recording = make()
    before = recording.signals.copy()
    done = step.transform(recording)
    np.testing.assert_array_equal(recording.signals, before)
    assert clone(step).get_params() == step.get_params()
    assert "nothing" in done.history[-1]["fitted_on"]
    recording.save(tmp_path / "raw")
    lazy = step.transform(Recording.load(tmp_path / "raw"))
    assert not lazy.in_memory
    np.testing.assert_allclose(lazy.take([2, 0]), done.signals[[2, 0]], rtol=1e-6)
    lazy.save(tmp_path / "done")
    assert Recording.load(tmp_path / "done").history == done.history
