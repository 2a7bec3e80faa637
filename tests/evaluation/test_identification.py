from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from phosphene.errors import DataError
from phosphene.evaluation.identification import (
    discriminability,
    fisher_pairings,
    identification,
    identification_test,
)


def by_loops(predicted: np.ndarray, true: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    scores = []
    for p, t in zip(predicted, true, strict=True):
        r = np.corrcoef(p, t)[0, 1]
        others = [np.corrcoef(p, c)[0, 1] for c in candidates]
        scores.append(
            np.mean([1.0 if o < r - 1e-9 else 0.5 if abs(o - r) < 1e-9 else 0 for o in others])
        )
    return np.array(scores)


def test_against_loops_over_numpys_correlation() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(8, 12))
    predicted = true + 2 * rng.normal(size=(8, 12))
    candidates = rng.normal(size=(11, 12))
    np.testing.assert_allclose(
        identification(predicted, true, candidates), by_loops(predicted, true, candidates)
    )
    expected = [
        by_loops(predicted[[i]], true[[i]], np.delete(true, i, axis=0))[0] for i in range(8)
    ]
    np.testing.assert_allclose(identification(predicted, true), expected)


def test_ties_count_half() -> None:
    true = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [4.0, 1.0, 0.0]])
    np.testing.assert_allclose(identification(true, true), [0.75, 0.75, 1.0])
    candidates = np.array([[2.0, 4.0, 8.0], [0.0, 1.0, 0.0]])  # the first correlates perfectly
    np.testing.assert_allclose(identification(true[:1], true[:1], candidates), [0.75])


def test_same_answer_for_the_same_prediction_is_chance() -> None:
    true = np.random.default_rng(1).normal(size=(20, 6))
    predicted = np.tile([[1.0, 0.0, 2.0, 0.0, 1.0, 3.0]], (20, 1))
    assert identification(predicted, true).mean() == pytest.approx(0.5)


def test_trials_of_one_stimulus_are_no_wrong_answers() -> None:
    true = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [4.0, 1.0, 0.0]])
    np.testing.assert_allclose(identification(true, true, ids=["a", "a", "b"]), [1.0, 1.0, 1.0])
    with pytest.raises(DataError, match="different true vectors"):
        identification(true, true, ids=["a", "b", "b"])
    with pytest.raises(DataError, match="without a wrong answer"):
        identification(true[:2], true[:2], ids=["a", "a"])


def test_scale_and_offset_play_no_part() -> None:
    rng = np.random.default_rng(2)
    predicted, true = rng.normal(size=(2, 9, 5))
    np.testing.assert_allclose(
        identification(predicted, true), identification(3 * predicted - 7, 0.1 * true + 2)
    )


def test_null_of_shuffled_truth() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(size=(30, 20))
    good = identification_test(true + rng.normal(size=true.shape), true, n=400)
    assert good.mean > 0.9
    assert good.p_value == pytest.approx(1 / 401)
    assert good.null.mean() == pytest.approx(0.5, abs=0.02)
    bad = identification_test(rng.normal(size=true.shape), true, n=400)
    assert bad.p_value > 0.01
    again = identification_test(rng.normal(size=true.shape), true, n=5, random_state=1)
    assert len(again.null) == 5


def test_constant_and_missing_vectors_are_named() -> None:
    true = np.eye(3)
    with pytest.raises(DataError, match=r"predicted vectors are constant.*rows 1"):
        identification(np.array([[1.0, 2, 3], [4, 4, 4], [3, 1, 2]]), true)
    with pytest.raises(DataError, match=r"true vectors hold NaN or infinity: rows 0"):
        identification(true, np.array([[np.nan, 2, 3], [4, 4, 5], [3, 1, 2]]))
    with pytest.raises(DataError, match="disagree"):
        identification(true, true[:2])


def test_discriminability_squared_is_the_f_of_the_truth_against_the_candidates() -> None:
    rng = np.random.default_rng(5)
    predicted, true, wrong = (rng.standard_normal((n, 8)) for n in (6, 6, 15))
    found = discriminability(predicted, true, wrong)
    for p, t, value in zip(predicted, true, found, strict=True):
        own = np.arctanh(np.corrcoef(p, t)[0, 1])
        others = [np.arctanh(np.corrcoef(p, c)[0, 1]) for c in wrong]
        assert value**2 == pytest.approx(stats.f_oneway([own], others).statistic)
        assert np.sign(value) == np.sign(own - np.mean(others))
    alone = discriminability(predicted, true)
    others = [np.arctanh(np.corrcoef(predicted[2], true[j])[0, 1]) for j in (0, 1, 3, 4, 5)]
    own = np.arctanh(np.corrcoef(predicted[2], true[2])[0, 1])
    assert alone[2] ** 2 == pytest.approx(stats.f_oneway([own], others).statistic)
    with pytest.raises(DataError, match="spread"):
        discriminability(predicted, true, wrong[:1])
    with pytest.raises(DataError, match="shape"):
        discriminability(predicted, true[:, :7], wrong)


def test_pairings_hold_every_correlation() -> None:
    rng = np.random.default_rng(6)
    predicted, true = rng.standard_normal((2, 4, 7))
    z = fisher_pairings(predicted, true)
    expected = [[np.arctanh(np.corrcoef(p, t)[0, 1]) for t in true] for p in predicted]
    np.testing.assert_allclose(z, expected)
    assert np.isfinite(fisher_pairings(true, true)).all()


def test_constant_vectors_correlate_nothing_where_they_are_allowed() -> None:
    rng = np.random.default_rng(7)
    predicted, true, wrong = (rng.standard_normal((n, 6)) for n in (3, 3, 4))
    true[1], wrong[2] = 0.0, 2.0
    with pytest.raises(DataError, match="constant"):
        identification(predicted, true, wrong)
    found = identification(predicted, true, wrong, refuse_constant=False)
    r = [np.corrcoef(predicted[1], wrong[j])[0, 1] for j in (0, 1, 3)]
    assert found[1] == pytest.approx((np.sum(np.array(r) < 0) + 0.5) / 4)
    assert fisher_pairings(predicted, true, refuse_constant=False)[0, 1] == 0.0
