"""Ablations and patterns, where the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfiltfilt

from phosphene.analysis import space
from phosphene.analysis.patterns import decoder_patterns, haufe_patterns, pattern_strength
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, LeakError
from phosphene.methods.ridge import Ridge
from phosphene.testing import tiny_bank, tiny_problem
from phosphene.testing._data import tiny_stimuli, tiny_vectors


def planted(
    channel: int | None = 2, *, frequency: float | None = None, snr: float = 2.0
) -> tuple[Recording, Recording]:
    """Tiny stimuli whose vectors show in one channel only, or in one frequency only."""
    rng = np.random.default_rng(0)
    stimuli = tiny_stimuli()
    rows = np.repeat(np.arange(len(stimuli)), 3)
    vectors = tiny_vectors()[rows]
    signals = rng.normal(size=(len(rows), 4, 100))
    if frequency is None:
        signals[:, channel] += snr * vectors @ rng.normal(size=(24, 100)) / np.sqrt(24)
    else:
        wave = 2 * np.pi * frequency * np.arange(100) / 100
        for c in range(4):
            parts = vectors @ rng.normal(size=(24, 2)) / np.sqrt(24)
            signals[:, c] += snr * (parts @ np.stack([np.sin(wave), np.cos(wave)]))
    trials = stimuli.iloc[rows].reset_index(drop=True)
    trials["repetition"] = trials.groupby("stimulus").cumcount()
    recording = Recording.from_arrays(
        signals, trials, sfreq=100, channel_names=["Fz", "Cz", "Oz", "O1"]
    )
    return recording.select(split="train"), recording.select(split="test")


@pytest.mark.parametrize("how", ["refit", "test"])
def test_the_channel_that_holds_the_signal_is_found(how: Any) -> None:
    train, test = planted()
    dropped = space.ablate_sensors(train, test, tiny_bank(), how=how, metric="two_way")
    dropped = dropped.set_index("part")
    assert dropped.index.tolist() == ["everything", "Fz", "Cz", "Oz", "O1"]
    assert dropped.loc["everything", "value"] > 0.95
    assert dropped.loc["Oz", "value"] < 0.7
    assert dropped.loc["Oz", "loss_low"] > 0.15
    assert dropped.loc[["Fz", "Cz", "O1"], "loss"].abs().max() < 0.05
    kept = space.ablate_sensors(
        train, test, tiny_bank(), how=how, mode="keep", metric="two_way"
    ).set_index("part")
    assert kept.loc["Oz", "value"] > 0.9
    assert kept.loc[["Fz", "Cz", "O1"], "value"].max() < 0.75
    assert kept["n"].tolist() == [4, 1, 1, 1, 1]


def test_refit_equals_a_decoder_without_the_channels() -> None:
    tiny = tiny_problem(snr=0.2)
    left = tiny.train.channel_names[4:]
    found = space.ablate_sensors(tiny.train, tiny.test, tiny.bank, {"front": range(4)})
    expected = (
        Ridge().fit(tiny.train.pick(left), tiny.bank).evaluate(tiny.test.pick(left), tiny.bank)
    )
    assert found["value"].iloc[1] == pytest.approx(expected.top1)
    whole = Ridge().fit(tiny.train, tiny.bank).evaluate(tiny.test, tiny.bank)
    assert found["value"].iloc[0] == pytest.approx(whole.top1)
    assert found["loss"].iloc[1] == pytest.approx(whole.top1 - expected.top1)


def test_what_is_missing_at_test_has_no_weight_in_the_score() -> None:
    """The mean of training in a channel is the same as a weight of zero there."""
    tiny = tiny_problem(snr=0.2)
    found = space.ablate_sensors(
        tiny.train, tiny.test, tiny.bank, {"front": range(9)}, how="test", metric="mrr"
    )
    decoder = Ridge().fit(tiny.train, tiny.bank)
    averages = tiny.test.average()
    weights = decoder.coef_.reshape(17, 80, -1).copy()
    weights[:9] = 0.0
    scaled = decoder.scaler_.apply(averages.signals)
    shift = decoder.scaler_.apply(tiny.train.average().signals).mean(axis=0)
    answer = (scaled - shift).reshape(len(scaled), -1) @ weights.reshape(17 * 80, -1)
    gallery = tiny.bank.vectors("original", None, averages.stimuli) - decoder.target_mean_
    matrix = answer @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    rank = 1 + (matrix > np.diagonal(matrix)[:, None]).sum(axis=1)
    assert found["value"].iloc[1] == pytest.approx((1 / rank).mean(), abs=1e-3)


@pytest.mark.parametrize("how", ["refit", "test"])
def test_the_band_that_holds_the_signal_is_found(how: Any) -> None:
    train, test = planted(frequency=10.0, snr=3.0)
    bands = {"theta": (4, 7), "alpha": (8, 13), "beta": (20, 40)}
    kept = space.ablate_bands(
        train, test, tiny_bank(), bands, mode="keep", how=how, metric="two_way"
    ).set_index("part")
    dropped = space.ablate_bands(train, test, tiny_bank(), bands, how=how, metric="two_way")
    dropped = dropped.set_index("part")
    assert kept.loc["alpha", "value"] > kept.loc["everything", "value"] - 0.1
    assert kept.loc["beta", "value"] < kept.loc["alpha", "value"] - 0.1
    assert dropped["loss"].idxmax() == "alpha"
    assert dropped.loc["beta", "loss"] < 0.05


def test_filters_are_butterworth_forwards_and_backwards() -> None:
    tiny = tiny_problem()
    for mode, kind in (("keep", "bandpass"), ("drop", "bandstop")):
        done = space._filtered((8.0, 13.0), mode)(tiny.test).signals  # type: ignore[arg-type]
        sos = butter(4, (8.0, 13.0), kind, fs=100.0, output="sos")
        expected = sosfiltfilt(sos, tiny.test.signals.astype(float), axis=-1)
        middle = slice(20, 60)  # the two pad the ends in different ways
        error = np.abs(done - expected)[..., middle].max()
        assert error < 0.1 * np.abs(expected).max(), kind


def test_bands_that_a_recording_can_tell_apart() -> None:
    tiny = tiny_problem()  # 0.8 s at 100 Hz
    assert list(space.usable_bands(tiny.train)) == list(space.BANDS)
    assert list(space.usable_bands(tiny.train.crop(0, 0.19))) == [
        "alpha 8-13 Hz", "beta 13-30 Hz", "gamma above 30 Hz"]  # fmt: skip
    for band, message in (
        ((30, 60), "half the sampling rate"),
        ((0.5, 4), "no period"),
        ((8, 4), "not rising"),
        ((None, None), "no edge"),
    ):
        with pytest.raises(DataError, match=message):
            space.ablate_bands(tiny.train, tiny.test, tiny.bank, {"x": band})
    flat = tiny.train.with_signals(tiny.train.signals[:, :, 0])
    with pytest.raises(DataError, match="time axis"):
        space.usable_bands(flat)


def test_regions_of_voxels() -> None:
    train, test = planted(1)
    voxels = pd.DataFrame(
        {"roi_V1": [1, 1, 0, 0], "roi_V2": [0, 1, 1, 0]}, index=["a", "b", "c", "d"]
    )
    sensors = Sensors.fmri(voxels)

    def as_voxels(recording: Recording) -> Recording:
        parts = [recording.signals[:, i % 4, :100].mean(axis=1) for i in range(4)]
        return recording.with_signals(np.stack(parts, axis=1), sensors=sensors)

    flat, tested = as_voxels(train), as_voxels(test)
    assert space.roi_groups(flat) == {"V1": [0, 1], "V2": [1, 2]}
    found = space.ablate_sensors(flat, tested, tiny_bank())
    assert found["part"].tolist() == ["everything", "V1", "V2"]
    assert found["n"].tolist() == [4, 2, 2]
    with pytest.raises(DataError, match="has no regions"):
        space.roi_groups(train)


def test_folds_are_pooled_and_misuse_is_refused() -> None:
    tiny = tiny_problem(snr=0.2, subjects=2)
    people = ("01", "02")
    trains, tests = ([r.select(subject=s) for s in people] for r in (tiny.train, tiny.test))
    groups = {"front": range(8)}
    found = space.ablate_sensors(trains, tests, tiny.bank, groups)
    whole = space.ablate_sensors(tiny.train, tiny.test, tiny.bank, groups)
    pd.testing.assert_frame_equal(found, whole)
    with pytest.raises(DataError, match="every fold has training and test data"):
        space.ablate_sensors(trains, tests[:1], tiny.bank, groups)
    with pytest.raises(DataError, match="no channels are left"):
        space.ablate_sensors(tiny.train, tiny.test, tiny.bank, {"all": range(17)})
    with pytest.raises(DataError, match="there are no channels named 'Iz'"):
        space.ablate_sensors(tiny.train, tiny.test, tiny.bank, {"x": ["Iz"]})
    with pytest.raises(LeakError):
        space.ablate_sensors(tiny.test, tiny.test, tiny.bank, groups)


def forward_model(n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals of two sources in noise that channels share, and the true patterns."""
    rng = np.random.default_rng(1)
    pattern = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    sources = rng.normal(size=(n, 2))
    shared = rng.normal(size=(n, 1)) * np.array([2.0, 2.0, 2.0, 2.0, 0.0])
    return sources @ pattern.T + shared + 0.1 * rng.normal(size=(n, 5)), sources, pattern


def test_patterns_are_the_truth_where_filters_are_not() -> None:
    X, sources, pattern = forward_model()
    W = np.linalg.lstsq(X, sources, rcond=None)[0]
    # The filter needs the channel of pure noise, and weights it as much as one with signal.
    assert np.abs(W[3]).max() > 0.4 * np.abs(W).max()
    found = haufe_patterns(X, X @ W)
    np.testing.assert_allclose(found, pattern, atol=0.12)
    assert np.abs(found[3:]).max() < 0.05
    cosine = [
        abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in ((found[:, 0], pattern[:, 0]), (W[:, 0], pattern[:, 0]))
    ]
    assert cosine[0] > 0.99 > 0.8 > cosine[1]


def test_patterns_equal_the_formula_and_strength_does_not_depend_on_axes() -> None:
    X, sources, pattern = forward_model(500)
    W = np.linalg.lstsq(X, sources, rcond=None)[0]
    answer = X @ W
    formula = np.cov(X.T) @ W @ np.linalg.inv(np.cov(answer.T))
    np.testing.assert_allclose(haufe_patterns(X, answer), formula, rtol=1e-9, atol=1e-12)
    strength = pattern_strength(X, answer)
    explained = formula @ np.cov(answer.T) @ formula.T
    np.testing.assert_allclose(strength, np.sqrt(np.diag(explained)), rtol=1e-9)
    turned = answer @ np.array([[2.0, 1.0], [0.5, -3.0]])
    np.testing.assert_allclose(pattern_strength(X, turned), strength, rtol=1e-9)
    np.testing.assert_allclose(
        pattern_strength(*forward_model()[:2]), np.linalg.norm(pattern, axis=1), atol=0.04
    )
    # Outputs that depend on one another have a pseudo-inverse.
    twice = np.concatenate([answer, answer], axis=1)
    np.testing.assert_allclose(haufe_patterns(X, twice)[:, :2] * 2, formula, rtol=1e-6, atol=1e-9)


def test_patterns_of_a_decoder_lie_where_the_signal_is() -> None:
    train, _ = planted(snr=1.0)
    decoder = Ridge().fit(train, tiny_bank())
    pattern = decoder_patterns(decoder, train)
    assert pattern.shape == (4, 100)
    strength = pattern.mean(axis=1)
    assert strength.argmax() == 2
    assert strength[2] > 2 * np.delete(strength, 2).max()
    with pytest.raises(DataError, match="too few trials"):
        decoder_patterns(decoder, train.select(np.arange(99)))
    with pytest.raises(DataError, match="do not vary"):
        haufe_patterns(np.random.default_rng(0).normal(size=(9, 2)), np.ones((9, 1)))
    with pytest.raises(DataError, match="same trials"):
        haufe_patterns(np.zeros((9, 2)), np.zeros((8, 1)))
