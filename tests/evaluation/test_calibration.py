"""Calibration against hand-worked values, scikit-learn and confidences whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from phosphene.errors import DataError
from phosphene.evaluation.calibration import (
    area_under_risk_coverage,
    brier_score,
    calibration_error_by_chance,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
    threshold_for_risk,
)


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """2000 answers whose confidence is too high by a power."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.05, 0.99, 2000)
    return confidence, (rng.random(2000) < confidence**2).astype(int)


def test_calibration_error_worked_by_hand() -> None:
    confidence = [0.95, 0.85, 0.75, 0.6, 0.5, 0.3]
    correct = [1, 1, 0, 1, 0, 0]
    # Three bins of two: .4/0, .675/.5, .9/1.
    expected = (abs(0.4 - 0) + abs(0.675 - 0.5) + abs(0.9 - 1)) / 3
    assert expected_calibration_error(confidence, correct, bins=3) == pytest.approx(expected)
    # Bins of unequal number count by their answers: .3+.5+.6 | .75+.85 | .95 alone is no split;
    # five answers in two bins are three and two.
    found = expected_calibration_error(confidence[:5], correct[:5], bins=2)
    low = abs(np.mean([0.5, 0.6, 0.75]) - 1 / 3)
    assert found == pytest.approx((3 * low + 2 * abs(0.9 - 1)) / 5)


def test_the_curve_is_that_of_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = answers
    curve = reliability_curve(confidence, correct, bins=10)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(curve["accuracy"], accuracy, atol=1e-12)
    np.testing.assert_allclose(curve["confidence"], mean, atol=1e-12)
    assert curve["n"].tolist() == [200] * 10
    assert (curve["low"] <= curve["accuracy"]).all()
    assert (curve["accuracy"] < curve["high"]).all()


def test_intervals_are_those_of_wilson() -> None:
    from scipy.stats import binomtest

    curve = reliability_curve(np.full(20, 0.5), [1] * 7 + [0] * 13, bins=1)
    exact = binomtest(7, 20).proportion_ci(method="wilson")
    assert curve.loc[0, ["low", "high"]].tolist() == pytest.approx([exact.low, exact.high])


def test_brier_score_is_that_of_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = answers
    assert brier_score(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence))
    # A share of correctness counts as its expectation over both outcomes.
    both = (brier_score([0.7], [1]) + brier_score([0.7], [0])) / 2
    assert brier_score([0.7], [0.5]) == pytest.approx(both)


def test_right_confidence_has_the_error_of_chance(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, too_high = answers
    by_chance = calibration_error_by_chance(confidence)
    rng = np.random.default_rng(1)
    right = [rng.random(2000) < confidence for _ in range(20)]
    assert np.mean([expected_calibration_error(confidence, r) for r in right]) == pytest.approx(
        by_chance, rel=0.15
    )
    assert expected_calibration_error(confidence, too_high) > 4 * by_chance


def test_the_order_of_answers_plays_no_part() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.choice([0.2, 0.5, 0.8], 60)  # many ties
    correct = rng.integers(0, 2, 60)
    turned = rng.permutation(60)
    for measure in (expected_calibration_error, area_under_risk_coverage, brier_score):
        found = measure(confidence[turned], correct[turned])
        assert found == pytest.approx(measure(confidence, correct), abs=1e-12)
    first, second = (risk_coverage(confidence[o], correct[o]) for o in (slice(None), turned))
    np.testing.assert_allclose(first, second)
    assert len(first) == 3


def test_risk_and_coverage_by_a_loop(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = answers[0][:300], answers[1][:300]
    curve = risk_coverage(confidence, correct)
    for row in curve.iloc[::37].itertuples():
        given = confidence >= row.threshold
        assert row.coverage == pytest.approx(given.mean())
        assert row.risk == pytest.approx(1 - correct[given].mean())
    assert curve["coverage"].iloc[-1] == 1
    order = np.argsort(-confidence)
    risks = [1 - correct[order[: k + 1]].mean() for k in range(300)]
    assert area_under_risk_coverage(confidence, correct) == pytest.approx(np.mean(risks))
    # Confidence that tells nothing leaves the overall risk.
    assert area_under_risk_coverage(np.full(300, 0.5), correct) == pytest.approx(1 - correct.mean())


def test_a_threshold_keeps_the_risk(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = answers
    threshold = threshold_for_risk(confidence, correct, 0.2)
    given = confidence >= threshold
    assert 1 - correct[given].mean() <= 0.2
    lower = np.sort(confidence[confidence < threshold])[::-1]
    assert all(1 - correct[confidence >= t].mean() > 0.2 for t in lower[:50])
    assert threshold_for_risk([0.9, 0.5], [0, 0], 0.5) == np.inf
    assert threshold_for_risk([0.9, 0.5], [0, 1], 0.5) == 0.5


@pytest.mark.parametrize(
    ("confidence", "correct", "said"),
    [
        ([0.5, 0.6], [1], "differ in length"),
        ([], [], "a number per answer"),
        ([0.5, 1.2], [1, 0], "outside 0 to 1"),
        ([0.5, np.nan], [1, 0], "not known"),
        ([0.5, 0.6], [1, -1], "correct lies outside"),
    ],
)
def test_what_is_no_confidence_is_refused(confidence: list, correct: list, said: str) -> None:
    for measure in (expected_calibration_error, brier_score, risk_coverage):
        with pytest.raises(DataError, match=said):
            measure(confidence, correct)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="bins counts"):
        reliability_curve([0.5], [1], bins=0)
    with pytest.raises(DataError, match="share of answers"):
        threshold_for_risk([0.5], [1], 1.5)
