"""Sliding windows and generalisation over time, against the truth and against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from phosphene.analysis._problem import problems, query_scores
from phosphene.analysis._windows import WindowRidge, Windows
from phosphene.analysis.clusters import cluster_test
from phosphene.analysis.time import (
    TimeCurve,
    pool_curves,
    pool_generalisation,
    sliding_window,
    temporal_generalisation,
)
from phosphene.data.recording import Recording
from phosphene.decoding.ridge import RidgeLOO
from phosphene.errors import DataError, LeakError
from phosphene.methods.ridge import Ridge
from phosphene.testing import tiny_problem

HOW: dict[str, Any] = {"window": 0.048, "step": 0.032, "metric": "two_way"}


@pytest.fixture(scope="module")
def curve(timed: Any) -> TimeCurve:
    return sliding_window(timed.train, timed.test, timed.bank, **HOW)


def test_curve_peaks_where_the_generator_put_the_signal(timed: Any, curve: TimeCurve) -> None:
    times = timed.train.times
    loud = times[timed.course.argmax()]
    assert abs(curve.peak - loud) < 0.08
    # The generator's sources peak between 150 and 400 ms.
    assert 0.15 < curve.peak < 0.4
    course = np.interp(curve.times, times, timed.course)
    assert (
        spearmanr(course[curve.times > 0], curve.by_subject.mean(axis=0)[curve.times > 0])[0] > 0.8
    )
    assert curve.by_subject.mean(axis=0).max() > 0.85


def test_curve_is_at_chance_before_onset(timed: Any, curve: TimeCurve) -> None:
    before = curve.times + curve.window / 2 < 0
    assert before.sum() >= 6
    values = curve.by_subject[:, before]
    # Two-way scores of 30 queries have a standard deviation of about .29 / sqrt(30).
    spread = 0.29 / np.sqrt(30)
    assert abs(values.mean() - 0.5) < 3 * spread / np.sqrt(values.size)
    assert np.abs(values.mean(axis=0) - 0.5).max() < 4 * spread / np.sqrt(len(values))
    table = curve.table()
    assert ((table["low"] < 0.5) & (table["high"] > 0.5))[before].mean() > 0.7
    loud = np.abs(table["time"] - 0.3) < 0.05
    assert (table["low"][loud] > 0.8).all()


def test_clusters_are_found_with_signal_and_none_without(
    timed: Any, curve: TimeCurve, silent: Any
) -> None:
    test = cluster_test(curve.by_subject, curve.chance)
    on = curve.times[test.significant]
    assert 0.05 < on.min() < 0.2
    assert 0.38 < on.max() < 0.56
    found = test.table(curve.times)
    assert found["p_value"].iloc[0] == pytest.approx(2 / 2**6)
    assert found["start"].iloc[0] == on.min()
    quiet = sliding_window(silent.train, silent.test, silent.bank, **HOW)
    none = cluster_test(quiet.by_subject, quiet.chance)
    assert not none.significant.any()
    square = temporal_generalisation(
        silent.train, silent.test, silent.bank, window=0.064, metric="two_way"
    )
    assert not cluster_test(square.by_subject, square.chance).significant.any()


def test_generalisation_is_diagonal_in_windows_and_chance_before_onset(timed: Any) -> None:
    found = temporal_generalisation(
        timed.train, timed.test, timed.bank, window=0.048, metric="two_way"
    )
    curve = sliding_window(timed.train, timed.test, timed.bank, window=0.048, metric="two_way")
    np.testing.assert_allclose(
        np.diagonal(found.by_subject, axis1=1, axis2=2), curve.by_subject, atol=1e-12
    )
    mean = found.by_subject.mean(axis=0)
    late = np.flatnonzero((found.times > 0.15) & (found.times < 0.4))
    assert mean[late, late].mean() > mean[late[0], late[-1]] + 0.1
    before = found.times < -0.05
    assert abs(mean[before][:, ~before].mean() - 0.5) < 0.03
    assert abs(mean[~before][:, before].mean() - 0.5) < 0.03
    assert len(found.table()) == mean.size


def test_window_ridge_equals_one_ridge_per_window() -> None:
    """Penalty and ranks of the shared algebra are those of `RidgeLOO` fitted window by window."""
    tiny = tiny_problem(snr=0.3)
    (part,) = problems(tiny.train, tiny.test, tiny.bank)
    windows = Windows.of(part.train, 0.05, 0.03)  # overlapping, neither touching nor equal
    alphas = tuple(float(a) for a in np.logspace(2, 3, 25))
    ridge = WindowRidge(part, windows, alphas)
    mean, scale = (getattr(part.train.signals, name)(axis=(0, 2)) for name in ("mean", "std"))
    x, q = ((r.signals - mean[:, None]) / scale[:, None] for r in (part.train, part.test))
    centre = part.targets.mean(axis=0)
    gallery = part.candidates - centre
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    chosen = set()
    for w, start in enumerate(windows.starts):
        cut = slice(start, start + windows.width)
        model = RidgeLOO(alphas, alpha_per_target=False, dtype="float64", progress=False)
        model.fit(x[:, :, cut].reshape(len(x), -1), part.targets)
        assert ridge.alpha_[w] == model.alpha_
        chosen.add(model.alpha_)
        answer = model.predict(q[:, :, cut].reshape(len(q), -1)) - centre
        # Scores differ by one factor per query; here the factor is the length of the answer.
        np.testing.assert_allclose(ridge.scores(w), answer @ gallery.T, rtol=1e-3, atol=1e-4)
        expected = query_scores(answer @ gallery.T, part.true, "mrr")
        np.testing.assert_allclose(query_scores(ridge.scores(w), part.true, "mrr"), expected)
        np.testing.assert_allclose(ridge.generalised(w)[w], ridge.scores(w))
    assert len(chosen) > 1


def test_a_decoder_of_ones_own_is_fitted_in_every_window() -> None:
    tiny = tiny_problem(snr=0.4)
    how: dict[str, Any] = {"window": 0.2, "metric": "two_way"}
    plain = sliding_window(tiny.train, tiny.test, tiny.bank, **how)
    own = sliding_window(tiny.train, tiny.test, tiny.bank, decoder=Ridge, **how)
    fitted = Ridge().fit(tiny.train.crop(0.2, 0.39), tiny.bank)
    expected = fitted.evaluate(tiny.test.crop(0.2, 0.39), tiny.bank).table["two_way"]
    np.testing.assert_allclose(own.scores[1], expected)
    assert np.abs(plain.by_subject - own.by_subject).max() < 0.1
    square = temporal_generalisation(tiny.train, tiny.test, tiny.bank, decoder=Ridge, **how)
    np.testing.assert_allclose(np.diagonal(square.by_subject[0]), own.by_subject[0], atol=1e-3)
    # Every sample of the tiny problem has a mixing of its own: nothing generalises.
    assert np.triu(square.by_subject[0], 1).sum() / 6 < 0.7


def test_classes_without_a_bank() -> None:
    rng = np.random.default_rng(0)
    kinds = np.tile(["cat", "dog", "car"], 20)
    signals = rng.normal(size=(60, 4, 30))
    signals[kinds == "cat", 0, 10:20] += 3.0
    signals[kinds == "dog", 1, 10:20] += 3.0
    trials = {"stimulus": [f"{k}/{i}" for i, k in enumerate(kinds)], "concept": kinds,
              "split": ["train"] * 42 + ["test"] * 18}  # fmt: skip
    recording = Recording.from_arrays(signals, trials, sfreq=100)
    train, test = recording.select(split="train"), recording.select(split="test")
    curve = sliding_window(train, test, window=0.1)
    assert curve.chance == pytest.approx(1 / 3)
    values = curve.by_subject[0]
    assert values[1] > 0.9
    assert max(values[0], values[2]) < 0.7
    with pytest.raises(DataError, match="there is no class"):
        sliding_window(train.select(concept=["cat", "car"]), test, window=0.1)
    with pytest.raises(DataError, match="needs a feature bank"):
        sliding_window(train, test, window=0.1, decoder=Ridge)


def test_pooled_folds_are_all_their_queries() -> None:
    tiny = tiny_problem(snr=0.4, subjects=2)
    whole = sliding_window(tiny.train, tiny.test, tiny.bank, window=0.1)
    halves = [
        sliding_window(
            tiny.train.select(subject=s), tiny.test.select(subject=s), tiny.bank, window=0.1
        )
        for s in ("01", "02")
    ]
    pooled = pool_curves(halves)
    assert pooled.subjects == ["01", "02"]
    np.testing.assert_allclose(pooled.scores, whole.scores)
    square = [
        temporal_generalisation(
            tiny.train.select(subject=s),
            tiny.test.select(subject=s),
            tiny.bank,
            window=0.1,
            step=0.4,
        )
        for s in ("01", "02")
    ]
    assert pool_generalisation(square).by_subject.shape == (2, 2, 2)
    twice = pool_generalisation([square[0], square[0]])
    np.testing.assert_allclose(twice.by_subject, square[0].by_subject)
    assert twice.n_queries == (40,)
    other = sliding_window(tiny.train, tiny.test, tiny.bank, window=0.1, step=0.4)
    with pytest.raises(DataError, match="cannot be pooled"):
        pool_curves([whole, other])


def test_leaks_and_misfits_are_refused() -> None:
    tiny = tiny_problem()
    with pytest.raises(LeakError):
        sliding_window(tiny.test, tiny.test, tiny.bank)
    relabelled = tiny.test.with_trials(tiny.test.trials.assign(split="train"))
    with pytest.raises(LeakError, match="test stimuli are in the training data"):
        sliding_window(relabelled, tiny.test, tiny.bank)
    with pytest.raises(LeakError, match="signals"):
        sliding_window(relabelled, tiny.test, tiny.bank, zero_shot=False)
    with pytest.raises(DataError, match="tested but not trained on: 02"):
        sliding_window(
            tiny.train, tiny.test.with_trials(tiny.test.trials.assign(subject="02")), tiny.bank
        )
    with pytest.raises(DataError, match="different time axes"):
        sliding_window(tiny.train.crop(0, 0.3), tiny.test, tiny.bank)
    with pytest.raises(DataError, match="differ in their channels"):
        sliding_window(tiny.train.pick([0, 1]), tiny.test, tiny.bank)
    flat = tiny.train.with_signals(tiny.train.signals[:, :, 0])
    with pytest.raises(DataError, match="no time axis"):
        sliding_window(flat, tiny.test, tiny.bank)
    with pytest.raises(DataError, match="penalties"):
        sliding_window(tiny.train, tiny.test, tiny.bank, alphas=(0.0,))


def test_cluster_test_needs_people_and_finite_scores() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="5 people cannot reach"):
        cluster_test(rng.normal(size=(5, 10)), 0.0)
    with pytest.raises(DataError, match="finite"):
        cluster_test(np.full((8, 10), np.nan), 0.0)
    everyone = cluster_test(np.full((8, 10), 0.05), 0.05)
    assert not everyone.significant.any()
    assert everyone.table(np.arange(10)).empty


@pytest.mark.slow
def test_cluster_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    hits = [
        cluster_test(rng.normal(size=(8, 30)), 0.0, n_permutations=200).significant.any()
        for _ in range(300)
    ]
    assert 0.02 < np.mean(hits) < 0.08


@pytest.mark.slow
def test_no_cluster_without_signal_in_several_worlds(timed_of: Any) -> None:
    found = []
    for subjects in (6, 7, 8):
        data = timed_of(0.0, subjects)
        curve = sliding_window(data.train, data.test, data.bank, **HOW)
        found.append(cluster_test(curve.by_subject, curve.chance).significant.any())
    assert not any(found)
