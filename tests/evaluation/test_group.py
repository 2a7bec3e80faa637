"""Paired tests, Holm's correction and effect sizes against enumeration, scipy and integrals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from phosphene.errors import DataError
from phosphene.evaluation.group import effect_size, holm, sign_flip_test, wilcoxon_test

ALTERNATIVES = ("two-sided", "greater", "less")


def draw(n: int, shift: float = 0.4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n) + shift


def by_enumeration(values: np.ndarray, alternative: str) -> float:
    sums = np.array([np.dot(signs, values) for signs in product((-1, 1), repeat=len(values))])
    reached = {
        "two-sided": np.abs(sums) >= abs(values.sum()) - 1e-9,
        "greater": sums >= values.sum() - 1e-9,
        "less": sums <= values.sum() + 1e-9,
    }
    return float(reached[alternative].mean())


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [1, 4, 9])
def test_sign_flips_are_enumerated(n: int, alternative: str) -> None:
    values = draw(n, seed=n)
    found = sign_flip_test(values, alternative=alternative)  # type: ignore[arg-type]
    assert found.p_value == pytest.approx(by_enumeration(values, alternative))
    assert (found.exact, found.n, found.name) == (True, n, "sign-flip")
    assert found.statistic == pytest.approx(values.mean())


def test_sign_flips_against_scipys_permutation_test() -> None:
    values = draw(10, seed=1)
    oracle = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip_test(values).p_value == pytest.approx(oracle.pvalue)


def test_more_flips_than_asked_for_are_sampled() -> None:
    values = draw(12, 0.5)
    exact, sampled = sign_flip_test(values), sign_flip_test(values, n=4000)
    assert (exact.exact, sampled.exact) == (True, False)
    assert sampled.p_value == pytest.approx(exact.p_value, abs=0.02)
    assert sampled == sign_flip_test(values, n=4000)
    assert sampled != sign_flip_test(values, n=4000, random_state=1)
    # A sampled p-value is never zero, as the observed pattern counts.
    assert sign_flip_test(np.ones(80), n=99).p_value == pytest.approx(1 / 100)


def test_five_subjects_cannot_reach_the_usual_level() -> None:
    assert sign_flip_test([1, 2, 3, 4, 5]).p_value == 2 / 32
    assert wilcoxon_test([1, 2, 3, 4, 5]).p_value == 2 / 32
    assert sign_flip_test([1, 2, 3, 4, 5, 6]).p_value == 2 / 64


def test_sign_flips_keep_the_level() -> None:
    rng = np.random.default_rng(2)
    p = np.array([sign_flip_test(rng.standard_t(3, size=8)).p_value for _ in range(400)])
    assert 0.02 < (p <= 0.05).mean() < 0.08


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [5, 12, 30])
def test_wilcoxon_against_scipy(n: int, alternative: str) -> None:
    values = draw(n, 0.3, seed=n)
    found = wilcoxon_test(values, alternative=alternative)  # type: ignore[arg-type]
    oracle = stats.wilcoxon(values, alternative=alternative, method="exact")
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert found.exact
    ranks = stats.rankdata(np.abs(values))
    assert found.statistic == ranks[values > 0].sum()


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_wilcoxon_with_ties_and_zeros_is_enumerated(alternative: str) -> None:
    values = np.array([0.0, 1, 1, -1, 2, 2, 3, 0, -2, 4])
    found = wilcoxon_test(values, alternative=alternative)  # type: ignore[arg-type]
    some = values[values != 0]
    signed = stats.rankdata(np.abs(some)) * np.sign(some)
    assert found.p_value == pytest.approx(by_enumeration(signed, alternative))
    assert (found.n, found.exact) == (8, True)


def test_many_pairs_agree_with_the_normal_approximation() -> None:
    values = draw(120, 0.15, seed=3)
    oracle = stats.wilcoxon(values, method="approx")
    assert wilcoxon_test(values).p_value == pytest.approx(oracle.pvalue, abs=0.02)


def test_no_difference_is_no_evidence() -> None:
    assert wilcoxon_test(np.zeros(6)).p_value == 1.0
    assert sign_flip_test(np.zeros(6)).p_value == 1.0


def test_holm_worked_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04; the last may not fall below .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []
    with_gap = holm([0.01, np.nan, 0.02])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02])
    assert np.isnan(with_gap[1])
    with pytest.raises(DataError, match="between 0 and 1"):
        holm([0.5, 1.5])


def test_holm_keeps_the_familywise_level() -> None:
    rng = np.random.default_rng(4)
    p = rng.random((4000, 5))
    wrong = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert 0.035 < wrong < 0.062
    assert np.mean((p <= 0.05).any(axis=1)) > 0.2


def noncentral(t: float, df: int, shift: float) -> float:
    """Distribution of noncentral t by integrating over the chi-square in its denominator."""

    def part(w: float) -> float:
        return float(stats.norm.cdf(t * np.sqrt(w / df) - shift) * stats.chi2.pdf(w, df))

    return float(quad(part, 0, df + 60 * np.sqrt(df) + 60, points=[df], limit=300)[0])


@pytest.mark.parametrize(("n", "shift"), [(4, 0.1), (5, 2.0), (10, -1.5), (30, 0.3)])
def test_effect_size_against_its_definition(n: int, shift: float) -> None:
    values = draw(n, shift, seed=n)
    found = effect_size(values)
    t = float(stats.ttest_1samp(values, 0).statistic)
    assert found.d == pytest.approx(t / np.sqrt(n))
    assert found.g == pytest.approx(found.d * (1 - 3 / (4 * (n - 1) - 1)), rel=0.01)
    correction = found.g / found.d
    for end, share in ((found.low, 0.975), (found.high, 0.025)):
        assert noncentral(t, n - 1, end * np.sqrt(n) / correction) == pytest.approx(share, abs=1e-4)
    mirrored = effect_size(-values)
    assert (mirrored.low, mirrored.high) == (
        pytest.approx(-found.high), pytest.approx(-found.low)
    )  # fmt: skip


def test_hedges_correction_takes_the_bias_away() -> None:
    rng = np.random.default_rng(5)
    sizes = [effect_size(rng.normal(0.8, 1, size=5)) for _ in range(3000)]
    assert np.mean([size.g for size in sizes]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([size.d for size in sizes]) > 0.93
    covered = np.mean([size.low <= 0.8 * size.g / size.d <= size.high for size in sizes])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_what_does_not_vary_has_no_effect_size() -> None:
    for values in ([0.1, 0.1, 0.1], [1.0, 2.0], [0.0, 0.0, 0.0]):
        assert np.isnan(effect_size(values).g)


def test_missing_and_odd_input_is_refused() -> None:
    for function in (sign_flip_test, wilcoxon_test, effect_size):
        with pytest.raises(DataError, match="NaN"):
            function([1.0, np.nan])
        with pytest.raises(DataError, match="one difference per pair"):
            function([])
    with pytest.raises(DataError, match="alternative"):
        sign_flip_test([1.0, 2.0], alternative="both")  # type: ignore[arg-type]
