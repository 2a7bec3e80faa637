"""Noise normalisation against scikit-learn's covariances in a loop, and against simulated truth."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf, oas, shrunk_covariance
from sklearn.preprocessing import StandardScaler

from phosphene.data.preprocess._threads import ordered_map
from phosphene.data.preprocess.reference import CommonAverageReference
from phosphene.data.preprocess.whitening import MVNN
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, NotFittedError

Estimator = Callable[[Any], Any]
RULES: dict[Any, Estimator] = {
    "ledoit_wolf": lambda x: ledoit_wolf(x)[0],
    "oas": lambda x: oas(x)[0],
    0.3: lambda x: shrunk_covariance(np.cov(x.T, bias=True), 0.3),
}


def mixing(channels: int, seed: int = 0) -> Any:
    """Channels that share sources, with amplitudes over two orders of magnitude, in volts."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((channels, channels))
    return 1e-5 * np.logspace(0, -2, channels)[:, None] * shared


def make(
    repetitions: Any = (3, 2, 2, 5, 1), channels: int = 6, times: int = 20, seed: int = 0
) -> Recording:
    """Two sessions with different noise; stimuli with different numbers of repetitions, mixed."""
    rng = np.random.default_rng(seed)
    stimuli = rng.permutation(np.repeat([f"s{i}" for i in range(len(repetitions))], repetitions))
    n = len(stimuli)
    sessions = np.repeat(["1", "2"], n)
    x = rng.standard_normal((2 * n, channels, times)) + rng.standard_normal((1, channels, 1))
    noise = np.concatenate([mixing(channels, 1) @ x[:n], mixing(channels, 2) @ x[n:]])
    order = rng.permutation(2 * n)
    trials = {"stimulus": np.tile(stimuli, 2)[order], "session": sessions[order]}
    return Recording.from_arrays(noise[order], trials, sfreq=100.0)


def literal(
    recording: Recording, session: str, rule: Estimator, *, estimate: str, scaled: bool
) -> Any:
    """The procedure as published: one covariance after the other, means of means."""

    def covariance(x: Any) -> Any:
        if not scaled:
            return rule(x)
        scaler = StandardScaler()
        found = rule(scaler.fit_transform(x))
        return scaler.scale_[:, None] * found * scaler.scale_[None]

    part = recording.select(session=session)
    x = part.signals.astype(np.float64)
    means = []
    for stimulus in part.stimuli:
        mine = x[(part.trials["stimulus"] == stimulus).to_numpy()]
        if estimate == "epoch":
            means.append(np.mean([covariance(epoch.T) for epoch in mine], axis=0))
        elif len(mine) > 1:
            means.append(np.mean([covariance(mine[:, :, t]) for t in range(x.shape[2])], axis=0))
    return np.mean(means, axis=0)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize(
    ("estimate", "times", "repetitions"),
    [
        ("epoch", 20, (3, 2, 2, 5, 1)),
        ("epoch", 4, (3, 2, 2, 5, 1)),  # fewer samples than channels
        ("time", 7, (3, 2, 2, 5, 1)),
        ("time", 3, (9, 2, 12)),  # also more trials than channels
    ],
)
def test_equals_the_loop_over_scikit_learn(
    estimate: Any, times: int, repetitions: Any, rule: Any, scaled: bool
) -> None:
    recording = make(repetitions, times=times)
    mvnn = MVNN(shrinkage=rule, estimate=estimate, scaled=scaled).fit(recording)
    done = mvnn.transform(recording)
    for session in ("1", "2"):
        expected = literal(recording, session, RULES[rule], estimate=estimate, scaled=scaled)
        found = mvnn.covariances_[("01", session)]
        scale = np.sqrt(np.diag(expected))
        np.testing.assert_allclose(
            found / np.outer(scale, scale), expected / np.outer(scale, scale), rtol=0, atol=1e-10
        )
        root = fractional_matrix_power(expected, -0.5)
        part = recording.select(session=session)
        white = root @ part.signals.astype(np.float64)
        np.testing.assert_allclose(
            done.select(session=session).signals, white, rtol=1e-6, atol=1e-6 * white.std()
        )
    assert done.signals.dtype == np.float32


def test_published_size_of_an_epoch_equals_the_loop() -> None:
    rng = np.random.default_rng(3)
    x = mixing(63) @ rng.standard_normal((24, 63, 250))
    recording = Recording.from_arrays(x, {"stimulus": np.repeat(range(12), 2)}, sfreq=250.0)
    done = MVNN().fit_transform(recording)
    expected = literal(recording, "1", RULES["ledoit_wolf"], estimate="epoch", scaled=True)
    white = fractional_matrix_power(expected, -0.5) @ recording.signals.astype(np.float64)
    assert np.abs(done.signals - white).max() < 1e-6 * np.abs(white).max()


def test_whitened_noise_has_identity_covariance_also_in_trials_not_seen() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = mixing(8, seed) @ rng.standard_normal((600, 8, 60))
        trials = {"stimulus": range(600), "split": ["train"] * 400 + ["test"] * 200}
        recording = Recording.from_arrays(x, trials, sfreq=100.0)
        mvnn = MVNN(shrinkage=0.0).fit(recording.select(split="train"))
        test = mvnn.transform(recording.select(split="test"))
        covariance = np.cov(np.hstack(list(test.signals)))
        # Entries over 12,000 samples deviate by .009; each epoch's mean costs 1 of 60 samples.
        np.testing.assert_allclose(covariance, np.eye(8) * 60 / 59, atol=0.05)


def test_whitening_raises_the_signal_over_the_noise_where_noise_is_shared() -> None:
    """Two classes differ in one channel; a strong noise source is common to all channels."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        label = np.arange(200) % 2
        x = 0.3 * rng.standard_normal((200, 6, 40)) + 3 * rng.standard_normal((200, 1, 40))
        x[label == 1, 0] += 0.4
        recording = Recording.from_arrays(x, {"stimulus": label}, sfreq=100.0)
        white = MVNN().fit_transform(recording).signals

        def separation(signals: Any, label: Any = label) -> float:
            """Best ratio over channels of the difference of classes to the spread of trials."""
            means = [signals[label == c].mean(axis=(0, 2)) for c in (0, 1)]
            spread = [signals[label == c].mean(axis=2).std(axis=0) for c in (0, 1)]
            return float(np.max(np.abs(means[1] - means[0]) / np.mean(spread, axis=0)))

        assert separation(white) > 3 * separation(recording.signals)


def test_fit_refuses_test_trials_and_transform_unknown_sessions_and_channels() -> None:
    recording = make()
    half = ["train"] * (recording.n_trials - 3) + ["test"] * 3
    with pytest.raises(LeakError, match=r"MVNN\.fit was given 3 test trials"):
        MVNN().fit(recording.with_trials(recording.trials.assign(split=half)))
    with pytest.raises(NotFittedError):
        MVNN().transform(recording)
    fitted = MVNN().fit(recording.select(session="1"))
    with pytest.raises(DataError, match="not fitted on subject 01, session 2") as error:
        fitted.transform(recording)
    assert "subject 01, session 1" in str(error.value)
    with pytest.raises(DataError, match="other channels"):
        fitted.transform(recording.select(session="1").pick([1, 0, 2, 3, 4, 5]))
    alone = MVNN(by=()).fit(recording.select(session="1"))
    assert alone.transform(recording).n_trials == recording.n_trials
    assert list(alone.covariances_) == [()]
    assert list(MVNN(by="session").fit(recording).covariances_) == [
        (s,) for s in recording.trials["session"].unique()
    ]


def test_history_parameters_and_the_original() -> None:
    recording = make()
    before = recording.signals.copy()
    mvnn = MVNN(shrinkage="oas")
    done = mvnn.fit_transform(recording)
    np.testing.assert_array_equal(recording.signals, before)
    entry = done.history[-1]
    assert entry["op"] == "whitening"
    assert (entry["shrinkage"], entry["by"]) == ("oas", ["subject", "session"])
    assert entry["fitted_on"] == recording.fingerprint
    assert clone(mvnn).get_params() == mvnn.get_params()
    assert not hasattr(clone(mvnn), "covariances_")


def test_all_trials_as_one_condition_and_conditions_of_one_trial() -> None:
    recording = make((40,), channels=4, times=5)
    pooled = MVNN(estimate="time", condition=None, by=(), scaled=False).fit(recording)
    x = recording.signals.astype(np.float64)
    expected = np.mean([ledoit_wolf(x[:, :, t])[0] for t in range(5)], axis=0)
    np.testing.assert_allclose(pooled.covariances_[()], expected, rtol=1e-9)
    single = make((1, 1, 1))
    with pytest.raises(DataError, match=r"no condition of subject 01, session \d has two trials"):
        MVNN(estimate="time").fit(single)


def test_rank_deficient_channels_are_shrunk_or_named() -> None:
    x = np.random.default_rng(0).standard_normal((30, 6, 50))
    names = ["Fz", "Cz", "Pz", "O1", "Oz", "O2"]
    recording = Recording.from_arrays(x, {"stimulus": range(30)}, sfreq=100.0, channel_names=names)
    referenced = CommonAverageReference().transform(recording)
    white = MVNN().fit_transform(referenced).signals
    assert np.isfinite(white).all()
    with pytest.raises(DataError, match="has no inverse") as error:
        MVNN(shrinkage=0.0).fit(referenced)
    assert "rank 5 of 6" in str(error.value)
    assert "ledoit_wolf" in str(error.value)
    copied = x.copy()
    copied[:, 4] = copied[:, 3] * 2
    twins = recording.with_signals(copied)
    with pytest.raises(DataError, match="combination of O1, Oz"):
        MVNN(shrinkage=0.0).fit(twins)
    assert np.isfinite(MVNN(shrinkage="oas").fit_transform(twins).signals).all()


def test_bad_values_and_settings_are_named() -> None:
    recording = make()
    broken = recording.signals.copy()
    broken[2, 3, 1] = np.nan
    session = recording.trials["session"][2]
    with pytest.raises(DataError, match=f"session {session} is not finite") as error:
        MVNN().fit(recording.with_signals(broken, check=False))
    assert "in 1 trials, channels ch3\n" in str(error.value)
    for scaled in (True, False):
        flat = recording.signals.copy()
        flat[:, 2] = 1.5e-5
        with pytest.raises(DataError, match="do not vary: ch2"):
            MVNN(shrinkage=0.0, scaled=scaled).fit(recording.with_signals(flat, check=False))
    for wrong in ("ledoit", 1.5, True):
        with pytest.raises(DataError, match="no such shrinkage"):
            MVNN(shrinkage=wrong).fit(recording)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such estimate"):
        MVNN(estimate="epochs").fit(recording)  # type: ignore[arg-type]
    voxels = Recording.from_arrays(np.eye(4), {"stimulus": range(4)}, modality="fmri")
    with pytest.raises(DataError, match="time axis"):
        MVNN().fit(voxels)
    with pytest.raises(DataError, match="too few samples"):
        MVNN().fit(recording.crop(0, 0))


def test_one_channel_one_trial_and_float16() -> None:
    one = MVNN().fit_transform(make().pick([2]))
    for session in ("1", "2"):
        x = one.select(session=session)
        weights = 1 / x.trials.groupby("stimulus")["stimulus"].transform("count").to_numpy()
        assert np.average(x.signals[:, 0].var(axis=1), weights=weights) == pytest.approx(
            1, rel=1e-5
        )
    single = make((1,), channels=4)
    assert np.isfinite(MVNN().fit_transform(single).signals).all()
    half = (1e5 * make().signals).astype(np.float16)
    in_half = make().with_signals(half)
    assert in_half.signals.dtype == np.float16
    expected = MVNN().fit_transform(make().with_signals(half.astype(np.float32))).signals
    np.testing.assert_array_equal(MVNN().fit_transform(in_half).signals, expected)


def test_recordings_in_files_stay_there(tmp_path: Path) -> None:
    recording = make((4, 4, 4))
    recording.save(tmp_path / "raw")
    there = Recording.load(tmp_path / "raw")
    mvnn = MVNN().fit(there)
    done = mvnn.transform(there)
    assert not done.in_memory
    expected = mvnn.transform(recording)
    assert expected.in_memory
    np.testing.assert_array_equal(done.take([5, 1, 1]), expected.signals[[5, 1, 1]])
    some = done.select(session="2").pick([0, 3]).crop(0.05, 0.1)
    np.testing.assert_array_equal(
        some.signals, expected.select(session="2").pick([0, 3]).crop(0.05, 0.1).signals
    )
    done.average().save(tmp_path / "average")
    np.testing.assert_allclose(
        Recording.load(tmp_path / "average").signals, expected.average().signals, rtol=1e-6
    )
    done.save(tmp_path / "white")
    again = Recording.load(tmp_path / "white")
    assert again.fingerprint == expected.fingerprint
    assert [entry["op"] for entry in again.history] == ["whitening"]
    np.testing.assert_array_equal(
        Recording.concat([done.select([0, 1]), done.select([7])]).signals,
        expected.signals[[0, 1, 7]],
    )


def test_memory_stays_bounded(tmp_path: Path) -> None:
    n, channels, times = 3000, 8, 250  # 24 MB in float32, 48 in float64
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, times), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    trials = {"stimulus": np.repeat(np.arange(n // 2), 2)}
    recording = Recording.from_arrays(mapped, trials, sfreq=250.0)
    recording.fingerprint  # noqa: B018
    small = recording.select(np.arange(20))
    MVNN().fit_transform(small).average()
    tracemalloc.start()
    MVNN().fit(recording).transform(recording).select(np.arange(1000)).average()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45e6


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_ordered_map_keeps_the_order_and_takes_few_ahead(two_threads: None) -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(50):
            taken.append(i)
            yield i

    mapped = ordered_map(lambda i: i * i, items())
    assert next(mapped) == 0
    assert len(taken) < 15
    assert [next(mapped) for _ in range(49)] == [i * i for i in range(1, 50)]
    assert torch.get_num_threads() == 2

    def broken(i: int) -> int:
        if i == 3:
            raise DataError("three")
        return torch.get_num_threads()

    assert list(ordered_map(broken, [0, 1, 2])) == [1, 1, 1]
    with pytest.raises(DataError, match="three"):
        list(ordered_map(broken, range(5)))
    assert torch.get_num_threads() == 2


def test_threads_and_blocks_change_no_bit(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make((30, 30))
    monkeypatch.setattr("phosphene.data.preprocess.whitening.BLOCK", 4000)
    monkeypatch.setattr("phosphene.data.preprocess._trialwise.PIECE", 8 * 120 * 7)
    for estimate in ("epoch", "time"):
        torch.set_num_threads(2)
        several = MVNN(estimate=estimate).fit(recording)  # type: ignore[arg-type]
        torch.set_num_threads(1)
        one = MVNN(estimate=estimate).fit(recording)  # type: ignore[arg-type]
        for key, covariance in one.covariances_.items():
            np.testing.assert_array_equal(several.covariances_[key], covariance)
        np.testing.assert_array_equal(
            several.transform(recording).signals, one.transform(recording).signals
        )
