"""Representational similarity matrices against numpy, scipy and literal loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from phosphene.errors import DataError
from phosphene.evaluation.rsm import (
    average,
    check_rsm,
    reliability,
    rsm_correlation,
    shares,
    similarity_matrix,
    upper,
)

RNG = np.random.default_rng(0)


def test_cosine_and_correlation() -> None:
    x = RNG.normal(1.0, 1.0, (6, 9))
    np.testing.assert_allclose(similarity_matrix(x, "correlation"), np.corrcoef(x), atol=1e-12)
    literal = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in x] for a in x]
    np.testing.assert_allclose(similarity_matrix(x), literal, atol=1e-12)


def test_crossnobis_is_the_loop_over_pairs_of_measurements() -> None:
    x = RNG.normal(size=(3, 5, 8)) + 3 * RNG.normal(size=(5, 8))
    gram = np.zeros((5, 5))
    for a, b in itertools.permutations(range(3), 2):
        first, second = (x[i] - x[i].mean(axis=0) for i in (a, b))
        gram += first @ second.T / (8 * 6)
    found = similarity_matrix(x, "crossnobis")
    np.testing.assert_allclose(found, gram / np.diag(gram).mean(), atol=1e-12)
    assert np.diag(found).mean() == pytest.approx(1)


def test_noise_lengthens_plain_distances_but_not_cross_validated_ones() -> None:
    truth = np.repeat(RNG.normal(size=(2, 400)), 3, axis=0)  # two groups of equal things
    noisy = truth + 2 * RNG.normal(size=(40, 6, 400))
    s = similarity_matrix(noisy, "crossnobis")
    within = [s[i, i] + s[j, j] - 2 * s[i, j] for i, j in ((0, 1), (1, 2), (3, 4))]
    assert np.abs(within).max() < 0.1
    assert s[0, 0] + s[3, 3] - 2 * s[0, 3] > 1


def test_agreement_is_scipys() -> None:
    a, b = (similarity_matrix(RNG.normal(size=(8, 5))) for _ in range(2))
    for method, reference in (("spearman", scipy.stats.spearmanr), ("pearson", scipy.stats.pearsonr)):  # fmt: skip  # noqa: E501
        expected = reference(upper(a), upper(b))[0]
        assert rsm_correlation(a, b, method=method) == pytest.approx(expected)  # type: ignore[arg-type]


def test_reliable_rsms_weigh_more() -> None:
    truth = RNG.normal(size=(20, 10))
    levels = {"good": 0.2, "also good": 0.2, "fair": 1.0, "poor": 4.0}
    rsms = {k: similarity_matrix(truth + sd * RNG.normal(size=truth.shape))
            for k, sd in levels.items()}  # fmt: skip
    weights = shares(rsms, "reliability")
    assert weights["good"] > 1.05 * weights["fair"] > 1.1 * weights["poor"] >= 0
    assert sum(weights.values()) == pytest.approx(1)
    others = (rsms["also good"] + rsms["fair"] + rsms["poor"]) / 3
    expected = np.corrcoef(upper(rsms["good"]), upper(others))[0, 1]
    assert reliability(rsms)["good"] == pytest.approx(expected)
    mean = average(rsms, shares(rsms, "equal"))
    np.testing.assert_allclose(mean, np.mean(list(rsms.values()), axis=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[:-1], "square"),
        (lambda r: r[:5, :5], "another size"),
        (lambda r: r + np.triu(np.full_like(r, 0.1), 1), "not symmetric"),
        (lambda r: np.where(np.eye(6) > 0, np.nan, r), "NaN"),
        (lambda r: np.ones_like(r), "constant"),
        (lambda r: 1 - r, "distances"),
    ],
)
def test_what_is_no_rsm_is_refused(change: object, message: str) -> None:
    rsm = similarity_matrix(RNG.random((6, 4)))
    check_rsm(rsm, 6)
    with pytest.raises(DataError, match=message):
        check_rsm(change(rsm), 6)  # type: ignore[operator]


def test_what_has_no_similarity_is_refused() -> None:
    with pytest.raises(DataError, match="rows 1"):
        similarity_matrix([[1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(DataError, match="rows 0"):
        similarity_matrix([[2.0, 2.0], [0.0, 1.0]], "correlation")
    with pytest.raises(DataError, match="independent measurements"):
        similarity_matrix(RNG.random((4, 5)), "crossnobis")
    opposite = RNG.normal(size=(4, 5))
    with pytest.raises(DataError, match="no variance in common"):
        similarity_matrix(np.stack([opposite, -opposite]), "crossnobis")
