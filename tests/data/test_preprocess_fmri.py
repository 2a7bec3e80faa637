"""Voxel selection, noise ceilings, z-scores and averages of betas, against literal forms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.data.preprocess.averaging import AverageBetas
from phosphene.data.preprocess.betas import ZScore
from phosphene.data.preprocess.selection import VoxelSelect, noise_ceiling, stability
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, LeakError, NotFittedError


def betas(
    signal: Any = (1.0,) * 8,
    *,
    stimuli: int = 40,
    repetitions: int = 3,
    seed: int = 0,
    **columns: Any,
) -> Recording:
    """Betas with unit noise and a signal of the given standard deviation per voxel."""
    rng = np.random.default_rng(seed)
    scale = np.asarray(signal, dtype=float)
    truth = rng.standard_normal((stimuli, len(scale))) * scale
    rows = np.tile(np.arange(stimuli), repetitions)
    x = truth[rows] + rng.standard_normal((len(rows), len(scale)))
    trials = {
        "stimulus": [f"s{i:03d}" for i in rows],
        "session": np.repeat(np.arange(repetitions) + 1, stimuli),
        **columns,
    }
    table = pd.DataFrame(
        {f"roi_{name}": np.arange(len(scale)) % 2 == k for k, name in enumerate(("A", "B"))}
    )
    return Recording.from_arrays(
        x.astype(np.float32), trials, sensors=Sensors.fmri(table), name="betas"
    )


def literal_stability(recording: Recording, repetitions: int) -> list[float]:
    """Correlate every pair of repetitions, voxel by voxel."""
    trials = recording.trials
    groups = [
        rows for _, rows in trials.groupby("stimulus").indices.items() if len(rows) >= repetitions
    ]
    out = []
    for voxel in range(recording.shape[1]):
        series = [
            [recording.signals[rows[r], voxel] for rows in groups] for r in range(repetitions)
        ]
        pairs = itertools.combinations(series, 2)
        out.append(float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])))
    return out


@pytest.mark.parametrize("repetitions", [2, 3, 4])
def test_stability_equals_the_mean_of_all_pairs(repetitions: int) -> None:
    recording = betas([0, 0.5, 1, 3], repetitions=4)
    np.testing.assert_allclose(
        stability(recording, repetitions), literal_stability(recording, repetitions), atol=1e-6
    )


def test_stability_of_unequal_repetitions() -> None:
    recording = betas([1.0, 0.2], stimuli=12)
    # Ten stimuli keep three repetitions, one has two and one has one: three keep most trials.
    kept = np.setdiff1d(np.arange(36), [24, 13, 25])
    some = recording.select(kept)
    np.testing.assert_allclose(stability(some), literal_stability(some, 3), atol=1e-6)
    np.testing.assert_allclose(stability(some, 2), literal_stability(some, 2), atol=1e-6)
    with pytest.raises(DataError, match=r"(?s)0 stimuli have 5 repetitions.*up to 3"):
        stability(some, 5)
    with pytest.raises(DataError, match="0 stimuli have 2 repetitions"):
        stability(recording.select(session="1"))


def test_noise_ceiling_by_hand() -> None:
    x = np.array([[1.0], [3.0], [7.0], [9.0]])
    trials = {"stimulus": ["a", "a", "b", "b"]}
    recording = Recording.from_arrays(x, trials, modality="fmri")
    # Within: ((1 + 1) + (1 + 1)) / 2 = 2; between: 2 (9 + 9) / 1 = 36; signal (36 - 2) / 2 = 17.
    assert noise_ceiling(recording)[0] == pytest.approx(17 / 19)
    assert noise_ceiling(recording, n_averaged=3)[0] == pytest.approx(17 / (17 + 2 / 3))


@pytest.mark.parametrize("seed", range(3))
def test_noise_ceiling_is_near_the_truth(seed: int) -> None:
    signal = np.repeat([0.0, 0.5, 1.0, 2.0], 50)
    recording = betas(signal, stimuli=300, seed=seed)
    found = noise_ceiling(recording).reshape(4, 50).mean(axis=1)
    truth = np.array([0.0, 0.25 / 1.25, 0.5, 4 / 5])
    assert np.abs(found - truth).max() < 0.03
    three = noise_ceiling(recording, n_averaged=3).reshape(4, 50).mean(axis=1)
    assert abs(three[2] - 1 / (1 + 1 / 3)) < 0.03
    # Stability estimates the same share by another way.
    assert np.abs(stability(recording).reshape(4, 50).mean(axis=1) - truth).max() < 0.03


@pytest.mark.parametrize("by", ["stability", "noise_ceiling"])
@pytest.mark.parametrize("seed", range(3))
def test_planted_voxels_are_found(by: Any, seed: int) -> None:
    planted = np.random.default_rng(seed).permutation(200)[:20]
    signal = np.zeros(200)
    signal[planted] = 0.8
    recording = betas(signal, stimuli=60, seed=seed)
    step = VoxelSelect(by, k=20).fit(recording)
    found = {int(name.removeprefix("voxel_")) for name in step.selected_}
    assert len(found & set(planted.tolist())) >= 19
    by_threshold = VoxelSelect(by, threshold=0.2).fit(recording)
    assert len(set(step.selected_) & set(by_threshold.selected_)) >= 15
    picked = step.transform(recording)
    assert picked.channel_names == [n for n in recording.channel_names if n in step.selected_]


def test_selection_is_fitted_on_training_trials_and_remembers_them() -> None:
    recording = betas([0, 2, 0, 2, 0, 2, 1, 0], split=["train"] * 80 + ["test"] * 40)
    with pytest.raises(LeakError, match=r"VoxelSelect\.fit"):
        VoxelSelect(k=2).fit(recording)
    train, test = recording.select(split="train"), recording.select(split="test")
    step = VoxelSelect(k=3).fit(train)
    done = step.transform(test)
    assert done.channel_names == ["voxel_1", "voxel_3", "voxel_5"]
    assert done.history[-1]["fitted_on"] == train.fingerprint
    assert done.history[-1]["by"] == "stability"
    assert done.history[-1]["n"] == 3
    # Test trials decide nothing.
    noise = np.random.default_rng(0).standard_normal(train.shape).astype(np.float32)
    assert VoxelSelect(k=3).fit(train).selected_ == step.selected_
    assert VoxelSelect(k=3).fit(train.with_signals(noise)).selected_ != step.selected_
    with pytest.raises(NotFittedError):
        VoxelSelect(k=3).transform(test)
    with pytest.raises(DataError, match="voxel_5"):
        step.transform(test.pick([0, 1, 2, 3]))


def test_regions_and_published_ceilings() -> None:
    recording = betas([2, 1, 2, 1, 0, 3])
    assert VoxelSelect("roi", roi="A").fit(recording).selected_ == [
        "voxel_0",
        "voxel_2",
        "voxel_4",
    ]
    best = VoxelSelect(k=1, roi="B").fit(recording)
    assert best.selected_ == ["voxel_5"]
    assert np.isnan(best.scores_[0])
    with pytest.raises(DataError, match=r"(?s)'C'.*A, B"):
        VoxelSelect("roi", roi="C").fit(recording)
    with pytest.raises(DataError, match="no column 'noise_ceiling'"):
        VoxelSelect("published_noise_ceiling", k=1).fit(recording)
    table = pd.DataFrame({"noise_ceiling": [0.1, 0.5, np.nan, 0.5, 0.3, 0.2]})
    known = Recording.from_arrays(
        recording.signals, recording.trials, sensors=Sensors.fmri(table), name="known"
    )
    step = VoxelSelect("published_noise_ceiling", k=3).fit(known)
    assert step.selected_ == ["voxel_1", "voxel_3", "voxel_4"]
    assert step.transform(known).history[-1]["by"] == "published_noise_ceiling"
    # The published table is not changed by choosing from it.
    assert known.sensors.voxels["noise_ceiling"].iloc[0] == 0.1  # type: ignore[index]


def test_voxels_that_do_not_vary_are_never_chosen() -> None:
    recording = betas([1, 1, 1])
    signals = recording.signals.copy()
    signals[:, 1] = 4
    flat = recording.with_signals(signals, check=False)
    for by in ("stability", "noise_ceiling"):
        step = VoxelSelect(by, k=3).fit(flat)  # type: ignore[arg-type]
        assert step.selected_ == ["voxel_0", "voxel_2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "how many voxels"),
        ({"by": "snr", "k": 1}, "not chosen by 'snr'"),
        ({"by": "roi"}, "needs roi"),
        ({"by": "roi", "roi": "A", "k": 2}, "takes all voxels"),
        ({"k": 0}, "k is 1 or more"),
        ({"threshold": 0.99}, r"(?s)no voxel has a stability of 0\.99.*at most 0\.\d"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        VoxelSelect(**options).fit(betas([0.5, 0.2]))


def test_zscore_by_session_equals_the_literal_form() -> None:
    split = np.where(np.arange(120) % 4 == 3, "test", "train")
    recording = betas([1, 2, 3, 4], split=split)
    drift = np.repeat([0.0, 5.0, -3.0], 40)[:, None] * [1, 2, 3, 4]
    recording = recording.with_signals((recording.signals + drift).astype(np.float32))
    with pytest.raises(LeakError, match=r"ZScore\.fit"):
        ZScore().fit(recording)
    train = recording.select(split="train")
    step = ZScore().fit(train)
    done = step.transform(recording).signals
    for session in ("1", "2", "3"):
        rows = (recording.trials["session"] == session).to_numpy()
        kept = rows & (split == "train")
        x = recording.signals.astype(float)
        expected = (x[rows] - x[kept].mean(axis=0)) / x[kept].std(axis=0)
        np.testing.assert_allclose(done[rows], expected, atol=1e-5)
    assert step.groups_ == [("01", "1"), ("01", "2"), ("01", "3")]
    assert step.n_trials_ == [30, 30, 30]
    assert step.transform(recording).history[-1]["fitted_on"] == train.fingerprint


def test_the_test_trials_of_a_session_decide_nothing() -> None:
    split = np.where(np.arange(120) % 4 == 3, "test", "train")
    recording = betas(split=split)
    train = recording.select(split="train")
    other = recording.signals.copy()
    other[split == "test"] *= 50
    step = ZScore().fit(train)
    a = step.transform(recording).signals
    b = step.transform(recording.with_signals(other)).signals
    np.testing.assert_array_equal(a[split == "train"], b[split == "train"])
    assert not np.allclose(a[split == "test"], b[split == "test"])


def test_sessions_without_training_trials() -> None:
    recording = betas([1, 2])
    train, test = recording.select(session=["1", "2"]), recording.select(session="3")
    with pytest.raises(DataError, match=r"(?s)no training trials.*01/3.*fitted on 01/1, 01/2"):
        ZScore().fit(train).transform(test)
    step = ZScore(unseen="pooled").fit(train)
    x = train.signals.astype(float)
    expected = (test.signals - x.mean(axis=0)) / x.std(axis=0)
    done = step.transform(test)
    np.testing.assert_allclose(done.signals, expected, atol=1e-5)
    assert done.history[-1]["unseen_groups"] == ["01/3"]
    whole = ZScore(by=()).fit(train).transform(test)
    np.testing.assert_allclose(whole.signals, expected, atol=1e-5)
    with pytest.raises(DataError, match=r"01/1 \(1\)"):
        ZScore().fit(train.select(np.r_[0, 40:80]))
    with pytest.raises(DataError, match="'error' or 'pooled'"):
        ZScore(unseen="own").fit(train)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not the voxels"):
        step.transform(test.pick([1, 0]))


def test_a_voxel_that_is_constant_in_training_becomes_zero(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording = betas([1, 2, 3])
    signals = recording.signals.copy()
    signals[:40, 1] = 7
    flat = recording.with_signals(signals)
    done = ZScore().fit(flat).transform(flat)
    assert (done.signals[:40, 1] == 0).all()
    assert np.isfinite(done.signals).all()
    assert "voxel_1" in caplog.text


def test_pieces_of_trials_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from phosphene.data.preprocess import betas as module

    recording = betas([1, 2, 3])
    whole = ZScore().fit_transform(recording).signals
    monkeypatch.setattr(module, "CHUNK", 8 * 3 * 7)
    np.testing.assert_allclose(ZScore().fit_transform(recording).signals, whole, atol=1e-6)


def test_averages_of_betas() -> None:
    recording = betas([1, 2], split=["train"] * 120)
    kept = recording.select(np.setdiff1d(np.arange(120), [0, 40, 1]))
    averaged = AverageBetas(min_repetitions=2).transform(kept)
    # Stimulus 0 was seen once, stimulus 1 twice.
    assert averaged.n_trials == 39
    assert averaged.trials["n_averaged"].value_counts().to_dict() == {3: 38, 2: 1}
    assert averaged.history[-1]["left_out"] == 1
    row = averaged.trials["stimulus"].tolist().index("s005")
    expected = recording.signals[[5, 45, 85]].mean(axis=0)
    np.testing.assert_allclose(averaged.signals[row], expected, rtol=1e-5)
    first = AverageBetas(max_repetitions=2).transform(recording)
    np.testing.assert_allclose(first.signals[5], recording.signals[[5, 45]].mean(axis=0), rtol=1e-5)
    with pytest.raises(DataError, match=r"(?s)seen 4 times.*at most 3"):
        AverageBetas(min_repetitions=4).transform(recording)
    with pytest.raises(DataError, match="not above max_repetitions"):
        AverageBetas(max_repetitions=1, min_repetitions=2).transform(recording)
    mixed = recording.with_trials(recording.trials.assign(split=["train"] * 60 + ["test"] * 60))
    with pytest.raises(LeakError, match="mix test trials"):
        AverageBetas().transform(mixed)


def test_steps_are_for_voxels_not_time_courses() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    epochs = Recording.from_arrays(x, {"stimulus": list("abab")}, sfreq=100)
    for step in (ZScore(), VoxelSelect(k=1)):
        with pytest.raises(DataError, match=r"(?s)one value per trial.*\(4, 3, 5\)"):
            step.fit(epochs)
