"""Tests and effect sizes of paired differences, such as those of two methods over subjects.

Wilcoxon 1945, Individual comparisons by ranking methods. Holm 1979, A simple sequentially rejective
multiple test procedure. Hedges 1981, Distribution theory for Glass's estimator of effect size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import gammaln, nctdtrinc

from phosphene import _random
from phosphene.errors import DataError

Alternative = Literal["two-sided", "greater", "less"]
N_FLIPS = 10_000
_CHUNK = 1 << 22  # signs held at a time


@dataclass(frozen=True)
class PairedTest:
    """Result of a test of paired differences.

    Attributes
    ----------
    name : str
        Which test.
    statistic : float
        Mean difference (sign-flip) or the sum of the ranks of positive differences (Wilcoxon).
    p_value : float
        Probability of a statistic at least as extreme if there were no difference.
    n : int
        Number of pairs.
    exact : bool
        Whether all sign patterns were counted, or a sample of them was drawn.
    """

    name: str
    statistic: float
    p_value: float
    n: int
    exact: bool


def sign_flip_test(
    differences: npt.ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    n: int = N_FLIPS,
    random_state: int = 0,
) -> PairedTest:
    """Permutation test of a mean difference: without an effect every sign is as likely as not.

    With S pairs no two-sided p-value lies below 2 / 2^S: five subjects cannot reach .05.

    Parameters
    ----------
    differences : array, shape (pairs,)
        One per subject, say.
    alternative : {"two-sided", "greater", "less"}
        What is looked for.
    n : int
        Sign patterns. If there are no more than that in all, each is counted once; otherwise so
        many are drawn, and the observed one is counted too.
    random_state : int
        Seed of the draws.

    Returns
    -------
    PairedTest

    Examples
    --------
    >>> sign_flip_test([1.0, 2.0, 3.0]).p_value  # two of eight sign patterns reach a sum of six
    0.25
    """
    values = _differences(differences)
    p_value, exact = _flipped(values, alternative, n, random_state)
    return PairedTest("sign-flip", float(values.mean()), p_value, len(values), exact)


def wilcoxon_test(
    differences: npt.ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    n: int = N_FLIPS,
    random_state: int = 0,
) -> PairedTest:
    """Wilcoxon's signed-rank test.

    Differences of zero are left out. The p-value is scipy's exact one for up to 50 pairs without
    ties; with ties, or more pairs, the signs of the midranks are flipped as in
    :func:`sign_flip_test`, so that no normal approximation is needed.

    Parameters
    ----------
    differences, alternative, n, random_state
        As for :func:`sign_flip_test`.

    Returns
    -------
    PairedTest
        ``n`` counts the pairs that differ. If none does, the p-value is 1.

    Examples
    --------
    >>> wilcoxon_test([1.0, 2.0, -3.0, 4.0, 5.0]).p_value
    0.3125
    """
    values = _differences(differences)
    values = values[values != 0]
    if not len(values):
        return PairedTest("Wilcoxon signed-rank", 0.0, 1.0, 0, True)
    size = np.abs(values)
    ranks = stats.rankdata(size)
    statistic = float(ranks[values > 0].sum())
    if len(np.unique(size)) == len(size) and len(size) <= 50:
        found = stats.wilcoxon(values, alternative=alternative, method="exact")
        p_value, exact = float(found.pvalue), True
    else:
        p_value, exact = _flipped(ranks * np.sign(values), alternative, n, random_state)
    return PairedTest("Wilcoxon signed-rank", statistic, p_value, len(values), exact)


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P-values corrected for their number by Holm's step-down procedure.

    The smallest is multiplied by m, the next by m - 1 and so on; none becomes smaller than the one
    before it, and none larger than 1. NaN (no test) stays NaN and does not count.

    Parameters
    ----------
    p_values : array, shape (tests,)
        In any order.

    Returns
    -------
    ndarray, shape (tests,)

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise DataError("p-values lie between 0 and 1", found=p[known].tolist())
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected = p.copy()
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


@dataclass(frozen=True)
class EffectSize:
    """Size of a paired difference in units of its standard deviation.

    Attributes
    ----------
    d : float
        Cohen's d of paired data: mean over standard deviation of the differences.
    g : float
        The same, corrected for the bias of small samples (Hedges).
    low, high : float
        Interval of g.
    """

    d: float
    g: float
    low: float
    high: float


def effect_size(differences: npt.ArrayLike, *, level: float = 0.95) -> EffectSize:
    r"""Cohen's d of paired differences with Hedges' correction and its interval.

    :math:`g = J d` with :math:`J = \Gamma(\nu/2) / (\sqrt{\nu/2}\; \Gamma((\nu-1)/2))` and
    :math:`\nu = n - 1`. The interval is that of the noncentrality of t, :math:`d \sqrt n`, and
    exact for normal differences.

    Parameters
    ----------
    differences : array, shape (pairs,)
        One per subject, say.
    level : float
        Coverage of the interval.

    Returns
    -------
    EffectSize
        NaN for fewer than three pairs and where the differences do not vary.

    Examples
    --------
    >>> found = effect_size([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> round(found.d, 3), round(found.g, 3)
    (1.897, 1.514)
    """
    values = _differences(differences)
    n = len(values)
    spread = values.std(ddof=1) if n > 2 else 0.0
    # Equal differences have a standard deviation of rounding error.
    if spread <= 1e-12 * np.abs(values).max(initial=0.0):
        return EffectSize(np.nan, np.nan, np.nan, np.nan)
    df = n - 1
    d = float(values.mean() / spread)
    J = float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2))
    tail = (1 - level) / 2
    low, high = (_noncentrality(df, p, d * np.sqrt(n)) for p in (1 - tail, tail))
    per_pair = J / float(np.sqrt(n))
    return EffectSize(d, J * d, per_pair * low, per_pair * high)


def _noncentrality(df: int, p: float, t: float) -> float:
    """Noncentrality of the t distribution whose share ``p`` lies below ``t``."""
    # The function is made for t >= 0; the distribution for -t is the mirror image.
    return float(nctdtrinc(df, p, t) if t >= 0 else -nctdtrinc(df, 1 - p, -t))


def _flipped(
    values: npt.NDArray[np.float64], alternative: Alternative, n: int, random_state: int
) -> tuple[float, bool]:
    """P-value of the sum under flips of the signs, and whether all flips were counted."""
    if alternative not in ("two-sided", "greater", "less"):
        raise DataError(
            f"there is no alternative {alternative!r}", expected="two-sided, greater or less"
        )
    pairs = len(values)
    exact = pairs < 63 and 2**pairs <= n
    observed = values.sum()
    slack = 1e-12 * np.abs(values).sum()  # sums that are equal may round apart
    draws = _random.generator(random_state, "sign flips")
    total, reached = 2**pairs if exact else n, 0
    step = max(1, _CHUNK // pairs)
    for start in range(0, total, step):
        count = min(step, total - start)
        if exact:
            flips = (np.arange(start, start + count)[:, None] >> np.arange(pairs)) & 1
        else:
            flips = draws.integers(0, 2, size=(count, pairs), dtype=np.int8)
        sums = values.sum() - 2 * (flips @ values)
        if alternative == "two-sided":
            reached += int((np.abs(sums) >= abs(observed) - slack).sum())
        elif alternative == "greater":
            reached += int((sums >= observed - slack).sum())
        else:
            reached += int((sums <= observed + slack).sum())
    return (reached / total if exact else (1 + reached) / (1 + total)), exact


def _differences(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise DataError("a test needs one difference per pair", found=f"shape {found.shape}")
    if not np.isfinite(found).all():
        raise DataError(
            "differences hold NaN or infinity",
            found=f"{(~np.isfinite(found)).sum()} of {len(found)}",
        )
    return found
