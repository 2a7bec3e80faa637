"""RDMs and their comparison against scipy, plain loops and known truths."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from phosphene.analysis import rsa as analysis
from phosphene.analysis.rdm import check_rdm, compare_rdms, pairs, rdm, tau_a
from phosphene.analysis.rsa import brain_rdm, decoded_rdm, noise_ceiling, rsa
from phosphene.errors import DataError
from phosphene.methods.ridge import Ridge
from phosphene.testing import tiny_problem


def points(n: int = 12, p: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p))


@pytest.mark.parametrize(
    ("metric", "scipys", "scale"),
    [("cosine", "cosine", 1.0), ("correlation", "correlation", 1.0),
     ("euclidean", "sqeuclidean", 6.0)],
)  # fmt: skip
def test_distances_are_scipys(metric: Any, scipys: Any, scale: float) -> None:
    x = points()
    np.testing.assert_allclose(rdm(x, metric), squareform(pdist(x, scipys)) / scale, atol=1e-12)


def test_crossnobis_is_the_mean_over_pairs_of_measurements() -> None:
    x = np.stack([points(5, 4, seed) for seed in range(3)])
    noise = points(40, 4, 9)
    sigma = np.cov(noise.T)
    inverse = np.linalg.inv(sigma)
    for covariance, weight in ((None, np.eye(4)), (sigma, inverse)):
        expected = np.zeros((5, 5))
        for i, j in itertools.product(range(5), repeat=2):
            terms = [
                (x[a, i] - x[a, j]) @ weight @ (x[b, i] - x[b, j]) / 4
                for a, b in itertools.permutations(range(3), 2)
            ]
            expected[i, j] = np.mean(terms)
        found = rdm(x, "crossnobis", noise_covariance=covariance)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_crossnobis_of_noise_is_zero_on_average_where_euclidean_is_not() -> None:
    rng = np.random.default_rng(0)
    cross, plain = [], []
    for _ in range(60):
        x = rng.normal(size=(2, 10, 20))
        cross.append(pairs(rdm(x, "crossnobis")).mean())
        plain.append(pairs(rdm(x.mean(axis=0), "euclidean")).mean())
    assert abs(np.mean(cross)) < 4 * np.std(cross) / np.sqrt(60)
    assert np.mean(plain) == pytest.approx(1.0, abs=0.1)  # twice the noise variance, halved


def test_comparisons_are_scipys() -> None:
    a, b, c = (rdm(points(9, 5, seed), "euclidean") for seed in (0, 1, 2))
    x, y, z = pairs(a), pairs(b), pairs(c)
    assert compare_rdms(a, b) == pytest.approx(spearmanr(x, y)[0])
    assert compare_rdms(a, b, method="pearson") == pytest.approx(pearsonr(x, y)[0])
    assert compare_rdms(a, b, method="kendall") == pytest.approx(kendalltau(x, y)[0])
    # Partial correlation by residuals, and by the formula of three correlations.
    ranks = [rankdata(v) for v in (x, y, z)]
    r = np.corrcoef(ranks)
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert compare_rdms(a, b, given=c) == pytest.approx(expected)
    assert compare_rdms(a, b, given=[c, a * 0 + c]) == pytest.approx(expected)
    with pytest.raises(DataError, match="leave nothing"):
        compare_rdms(a, b, given=b)
    with pytest.raises(DataError, match="no partial form"):
        compare_rdms(a, b, given=c, method="kendall")


def test_tau_a_counts_pairs_of_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 14)).astype(float)
    signs = [
        np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in itertools.combinations(range(14), 2)
    ]
    assert tau_a(x, y) == pytest.approx(np.mean(signs))


def test_rdms_that_say_nothing_are_refused() -> None:
    good = rdm(points())
    for bad, message in (
        (good[:, :3], "not square"),
        (good[:3, :3], "not square, of four"),
        (good + np.eye(12), "diagonal that is not zero"),
        (good + np.triu(np.ones((12, 12)), 1), "not symmetric"),
        (1 - np.eye(12), "constant"),
        (np.where(good > 0, np.nan, good), "NaN"),
    ):
        with pytest.raises(DataError, match=message):
            check_rdm(bad)
    with pytest.raises(DataError, match="of other things"):
        compare_rdms(good, rdm(points(11)))
    with pytest.raises(DataError, match="independent measurements"):
        rdm(points(), "crossnobis")
    with pytest.raises(DataError, match="of one measurement"):
        rdm(points()[None], "euclidean")
    with pytest.raises(DataError, match="positive definite"):
        rdm(np.stack([points()] * 2), "crossnobis", noise_covariance=-np.eye(6))
    with pytest.raises(DataError, match="has no part in"):
        rdm(points(), "cosine", noise_covariance=np.eye(6))


def people(n: int = 5, things: int = 20, noise: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(things, 6))
    brains = {
        str(i): rdm(true + noise * rng.normal(size=(things, 6)), "euclidean") for i in range(n)
    }
    return true, brains


def test_the_true_model_wins_and_lies_under_the_ceiling() -> None:
    true, brains = people()
    models = {"true": rdm(true, "euclidean"), "other": rdm(points(20, 6, 99), "euclidean")}
    found = rsa(brains, models, n_permutations=200, n_resamples=200).set_index("model")
    expected = np.mean([compare_rdms(b, models["true"]) for b in brains.values()])
    assert found.loc["true", "value"] == pytest.approx(expected)
    assert found.loc["true", "p_value"] == pytest.approx(1 / 201)
    assert found.loc["other", "p_value"] > 0.05
    assert found.loc["true", "low"] > 0.2
    assert found.loc["other", "low"] < 0 < found.loc["other", "high"]
    low, high = noise_ceiling(brains)
    assert (found["ceiling_low"] == low).all()
    assert low < high
    assert low - 0.05 < found.loc["true", "value"] < high


def test_partial_comparison_takes_away_what_a_rival_explains() -> None:
    true, brains = people(noise=0.5)
    rng = np.random.default_rng(7)
    near = rdm(true + 0.7 * rng.normal(size=true.shape), "euclidean")
    models = {"true": rdm(true, "euclidean"), "near": near}
    whole, alone = (
        rsa(brains, models, partial=p, n_permutations=50, n_resamples=50).set_index("model")
        for p in (False, True)
    )
    expected = np.mean([compare_rdms(b, near, given=models["true"]) for b in brains.values()])
    assert alone.loc["near", "value"] == pytest.approx(expected)
    assert whole.loc["near", "value"] > 0.4
    assert abs(alone.loc["near", "value"]) < 0.2
    assert alone.loc["true", "value"] > 0.4
    assert alone.loc["true", "low"] <= alone.loc["true", "value"] <= alone.loc["true", "high"]


def test_ceiling_by_hand() -> None:
    _, brains = people(4)
    ranks = np.stack([rankdata(pairs(b)) for b in brains.values()])
    low = [spearmanr(r, np.delete(ranks, i, 0).mean(axis=0))[0] for i, r in enumerate(ranks)]
    high = [spearmanr(r, ranks.mean(axis=0))[0] for r in ranks]
    assert noise_ceiling(brains) == pytest.approx((np.mean(low), np.mean(high)))
    assert np.isnan(noise_ceiling({"1": brains["0"]})).all()


@pytest.mark.parametrize("size", [2, 3])
def test_weighted_correlations_are_those_of_the_resampled_pairs(size: int) -> None:
    tables = [rdm(points(8, 4, seed), "euclidean") for seed in range(size)]
    rng = np.random.default_rng(0)
    weights = np.stack([np.bincount(rng.integers(0, 8, 8), minlength=8) for _ in range(5)])
    found = analysis._weighted_partial(tables, weights.astype(float))
    for value, counts in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(8), counts)
        i, j = np.triu_indices(8, 1)
        kept = rows[i] != rows[j]
        values = [t[rows[i], rows[j]][kept] for t in tables]
        r = np.corrcoef(values)
        expected = r[0, 1]
        if size == 3:
            both = np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
            expected = (r[0, 1] - r[0, 2] * r[1, 2]) / both
        assert value == pytest.approx(expected)


def test_kendall_and_one_person() -> None:
    true, brains = people(1)
    models = {"true": rdm(true, "euclidean")}
    found = rsa(brains, models, method="kendall", n_permutations=20, n_resamples=20).iloc[0]
    expected = kendalltau(pairs(brains["0"]), pairs(models["true"]))[0]
    assert found["value"] == pytest.approx(expected)
    assert found["low"] < found["value"] < found["high"]
    assert np.isnan(found["ceiling_low"])
    with pytest.raises(DataError, match="holds other models constant"):
        rsa(brains, models, partial=True)
    with pytest.raises(DataError, match="at least one brain"):
        rsa({}, models)


def test_brain_and_decoded_spaces_have_the_geometry_of_the_stimuli() -> None:
    tiny = tiny_problem()
    ids = tiny.test.stimuli
    model = rdm(tiny.bank.vectors("original", None, ids), "correlation")
    decoded = decoded_rdm(Ridge().fit(tiny.train, tiny.bank), tiny.test, ids)
    assert compare_rdms(decoded, model) > 0.5
    for metric in ("correlation", "euclidean", "crossnobis"):
        assert compare_rdms(brain_rdm(tiny.test, ids, metric), model) > 0.5  # type: ignore[arg-type]
    # Rows follow the ids, whatever the order of the trials.
    turned = brain_rdm(tiny.test, ids[::-1])
    np.testing.assert_allclose(turned[::-1, ::-1], brain_rdm(tiny.test, ids), atol=1e-12)
    with pytest.raises(DataError, match="needs repetitions"):
        brain_rdm(tiny.test.average(), ids, "crossnobis")
    with pytest.raises(DataError, match="of one person"):
        brain_rdm(tiny_problem(subjects=2).test, ids)


@pytest.mark.slow
def test_permutation_p_values_are_uniform_without_agreement() -> None:
    p = []
    for seed in range(200):
        _, brains = people(3, 10, seed=seed)
        model = {"other": rdm(points(10, 6, 1000 + seed), "euclidean")}
        p.append(rsa(brains, model, n_permutations=99, n_resamples=20)["p_value"].iloc[0])
    assert 0.02 < np.mean(np.asarray(p) <= 0.05) < 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)
