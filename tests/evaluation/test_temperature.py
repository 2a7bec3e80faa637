"""Temperatures that are known come back; rankings and confidences against literal values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax as reference_softmax
from sklearn.metrics import log_loss

from phosphene.errors import DataError
from phosphene.evaluation.calibration import (
    calibration_error_by_chance,
    expected_calibration_error,
)
from phosphene.evaluation.ranking import rank_scores
from phosphene.evaluation.similarity import Similarity
from phosphene.evaluation.temperature import (
    Calibration,
    calibration_curves,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


def calibrated(n: int, candidates: int, seed: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax at the temperature ``scale`` is the probability of the answer."""
    rng = np.random.default_rng(seed)
    evidence = 1.5 * rng.normal(size=(n, candidates))
    seen = (evidence + rng.gumbel(size=evidence.shape)).argmax(axis=1)
    return scale * evidence, seen


@pytest.mark.parametrize("scale", [0.02, 1.0, 300.0])
def test_a_known_temperature_comes_back(scale: float) -> None:
    found = [fit_temperature(*calibrated(3000, 30, seed, scale)) for seed in range(4)]
    np.testing.assert_allclose(found, scale, rtol=0.08)
    assert np.mean(found) == pytest.approx(scale, rel=0.03)


def test_it_minimises_the_negative_log_likelihood() -> None:
    scores, seen = calibrated(2000, 12, 5, 0.05)
    best = minimize_scalar(
        lambda a: negative_log_likelihood(scores, seen, a), bounds=(0.1, 200), method="bounded"
    )
    assert 1 / fit_temperature(scores, seen) == pytest.approx(best.x, rel=3e-3)
    reference = log_loss(seen, reference_softmax(scores * best.x, axis=1), labels=range(12))
    assert negative_log_likelihood(scores, seen, best.x) == pytest.approx(reference)


def test_confidence_is_right_after_the_fit() -> None:
    temperature = fit_temperature(*calibrated(3000, 20, 1, 0.1))
    scores, seen = calibrated(3000, 20, 2, 0.1)
    correct = scores.argmax(axis=1) == seen
    for inverse, right in ((1 / temperature, True), (2.5 / temperature, False)):
        confidence = softmax(scores, inverse).max(axis=1)
        excess = expected_calibration_error(confidence, correct) / calibration_error_by_chance(
            confidence
        )
        assert (excess < 2) == right


def test_scores_without_information_have_no_confidence() -> None:
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 10, 200)
    assert fit_temperature(np.zeros((200, 10)), seen) == np.inf
    against = np.zeros((200, 10))
    against[np.arange(200), seen] = -1  # the seen one always scores least
    assert fit_temperature(against, seen) == np.inf


def test_perfect_answers_are_not_certain() -> None:
    """Platt: 1 - 1 / (n + 2) on average."""
    rng = np.random.default_rng(0)
    for n in (20, 200):
        seen = rng.integers(0, 10, n)
        scores = np.eye(10)[seen]
        found = softmax(scores, 1 / fit_temperature(scores, seen)).max(axis=1)
        # One wrong answer in n + 2 is any of the ten.
        assert found == pytest.approx(1 - 0.9 / (n + 2), rel=1e-4)


def test_smaller_galleries_are_made_of_the_candidates() -> None:
    """Noise with heavy tails: the temperature of 10 candidates differs from that of 100."""
    rng = np.random.default_rng(3)
    seen = rng.integers(0, 100, 2000)
    level = rng.gamma(1.5, 1 / 1.5, (2000, 1))
    scores = rng.normal(size=(2000, 100))
    scores[np.arange(2000), seen] += 2.5 * level[:, 0]
    small = fit_temperature(scores, seen, n_candidates=10)
    whole = fit_temperature(scores, seen)
    # By hand: galleries of the seen one and the first nine others.
    others = np.array([np.delete(np.arange(100), s)[:9] for s in seen])
    columns = np.concatenate([seen[:, None], others], axis=1)
    by_hand = fit_temperature(np.take_along_axis(scores, columns, 1), np.zeros(2000, int))
    assert small == pytest.approx(by_hand, rel=0.06)
    assert abs(small / whole - 1) > 0.1


def test_candidates_of_the_same_concept_can_be_left_out() -> None:
    scores, seen = calibrated(1000, 20, 4, 1.0)
    kin = np.arange(20)[None, :] // 2 == seen[:, None] // 2
    spoilt = np.where(kin & (np.arange(20) != seen[:, None]), 50.0, scores)
    with_kin = fit_temperature(spoilt, seen)
    without = fit_temperature(spoilt, seen, skip=kin)
    assert without == pytest.approx(1.0, rel=0.15)
    assert with_kin > 5 * without


def test_curves_meet_single_fits_and_go_on_along_their_trend() -> None:
    rng = np.random.default_rng(1)
    seen = rng.integers(0, 64, 1500)
    scores = rng.normal(size=(1500, 64))
    scores[np.arange(1500), seen] += rng.gamma(2.0, 1.2, 1500)
    concepts = [f"c{i // 2}" for i in range(64)]
    sizes, curves = calibration_curves(scores, seen, concepts)
    assert sizes == [2, 7, 8, 32, 63, 1 << 20]
    kin = np.arange(64)[None, :] // 2 == seen[:, None] // 2
    for name, skip in (("distinct", kin), ("repeated", None)):
        for size, inverse in zip(sizes[:-1], curves[name], strict=False):
            single = 1 / fit_temperature(scores, seen, n_candidates=size, skip=skip)
            assert inverse == pytest.approx(single, rel=1e-4)
    found = Calibration(
        sizes, [1], {k: [v] for k, v in curves.items()}, 63, 1500, 32, "training concepts"
    )
    values = [found.inverse_temperature(n) for n in (7, 63, 567)]  # equal steps of log N
    assert values[2] - values[1] == pytest.approx(values[1] - values[0])
    assert found.notes(567, 1)
    assert not found.notes(63, 1)


def test_the_trend_leads_to_the_temperature_of_a_larger_gallery() -> None:
    """From cosines with 100 candidates to 1000: closer than the temperature of 100."""
    trend, constant = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(1000, 64))

        def scores(candidates: np.ndarray, seen: np.ndarray) -> np.ndarray:
            queries = 0.8 * candidates[seen] + rng.normal(size=(len(seen), 64))  # noqa: B023
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            return queries @ (candidates / np.linalg.norm(candidates, axis=1, keepdims=True)).T

        seen = rng.integers(0, 1000, 800)
        right = 1 / fit_temperature(scores(vectors, seen), seen)
        few = rng.integers(0, 100, 800)
        sizes, curves = calibration_curves(
            scores(vectors[:100], few), few, [f"c{i}" for i in range(100)]
        )
        rows = {kind: [values] for kind, values in curves.items()}
        found = Calibration(sizes, [1], rows, 100, 800, 100, "training concepts")
        trend.append(found.inverse_temperature(1000) / right)
        constant.append(found.inverse_temperature(100) / right)
    assert np.mean(trend) == pytest.approx(1, abs=0.12)
    assert np.mean(constant) < 0.8


def test_temperatures_between_fitted_numbers() -> None:
    rows = [[1.0, 3.0], [5.0, 9.0]]
    found = Calibration([4, 16], [1, 4], {"distinct": rows, "repeated": [[0.0, 0.0]] * 2},
                        16, 100, 10, "x")  # fmt: skip
    assert found.inverse_temperature(8) == pytest.approx(2.0)
    assert found.inverse_temperature(8, 2) == pytest.approx((2.0 + 7.0) / 2)
    assert found.inverse_temperature(2, 64) == pytest.approx(5.0)  # outside: the nearest
    assert found.temperature(16, 4) == pytest.approx(1 / 9)
    assert found.temperature(16, repeated=True) == np.inf
    assert "is that of 4" in found.notes(8, 64)[0]


def test_rankings_are_sorted_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 7)).astype(np.float32)
    scores[2] = 0.0  # all tied
    ids = [f"s{i}" for i in range(7)]
    inverse = np.array([1.0, 0.5, 2.0, 0.0, 4.0])
    found = rank_scores(scores, ids, None, inverse_temperature=inverse, top=None)
    reference = reference_softmax(scores * inverse[:, None].astype(np.float64), axis=1)
    for row in range(5):
        order = np.argsort(-scores[row], kind="stable")
        assert found.ids[row].tolist() == [ids[i] for i in order]
        np.testing.assert_allclose(found.confidence[row], reference[row, order], rtol=1e-6)
    assert found.confidence[3] == pytest.approx(1 / 7)
    assert found.temperature.tolist() == [1.0, 2.0, 0.5, np.inf, 0.25]
    top = Similarity(scores, pd.DataFrame({"stimulus": ["s1"] * 5}), ids).top(7)
    assert found.table()["stimulus"].tolist() == top["item"].tolist()
    assert found.correct(["s1"] * 5).tolist() == [name == "s1" for name in found.ids[:, 0]]


def test_answers_are_withheld_below_the_threshold() -> None:
    scores = np.log([[0.5, 0.3, 0.2], [0.45, 0.35, 0.2]])
    for threshold, withheld in ((0.47, [False, True]), (0.51, [True, True]), (0.0, [False] * 2)):
        found = rank_scores(scores, list("abc"), list("xyz"), inverse_temperature=np.ones(2),
                            top=2, abstain_below=threshold)  # fmt: skip
        assert found.withheld.tolist() == withheld
        assert [answer is None for answer in found.answers] == withheld
        assert found.table()["withheld"].tolist() == np.repeat(withheld, 2).tolist()
        assert found.correct(["a", "b"]).tolist() == [True, False]
    plain = rank_scores(scores, list("abc"), None)
    assert plain.confidence is None
    assert plain.table()["confidence"].isna().all()


def test_wrong_scores_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        fit_temperature(np.zeros((3, 4)), [0, 1])
    with pytest.raises(DataError, match="NaN"):
        fit_temperature([[0.0, np.nan]], [0])
    with pytest.raises(DataError, match="no candidate beside its own"):
        fit_temperature(np.zeros((2, 3)), [0, 1], skip=np.ones((2, 3), bool))
    with pytest.raises(DataError, match="no gallery of this size"):
        fit_temperature(np.zeros((2, 3)), [0, 1], n_candidates=4)
    with pytest.raises(DataError, match="NaN or infinite"):
        rank_scores([[np.inf, 0.0]], ["a", "b"], None)
    with pytest.raises(DataError, match="one stimulus per trial"):
        rank_scores([[1.0, 0.0]], ["a", "b"], None).correct(["a", "b"])
