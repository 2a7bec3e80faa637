"""Tests that count every query as independent, as papers report them, and one that does not.

Queries of one person share a brain, and those of one stimulus share a picture. Pooled tests (ANOVA
with Tukey's comparisons, Student's t, Wilcoxon's signed ranks over all queries) take them for
independent, and so find differences too easily. `crossed_test` holds for new people and stimuli.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from phosphene.errors import DataError
from phosphene.evaluation import _bootstrap as bootstrap
from phosphene.evaluation.group import sign_flip_test
from phosphene.evaluation.statistics import N_RESAMPLES, group_interval


@dataclass(frozen=True)
class PooledTest:
    """A test over pooled queries.

    Attributes
    ----------
    name : str
        Which test.
    statistic : float
        F, t, or the smaller sum of ranks.
    df : tuple of float
        Degrees of freedom; none for ranks.
    p_value : float
        Two-sided where the test has sides.
    n : int
        Values, or pairs for ranks.
    """

    name: str
    statistic: float
    df: tuple[float, ...]
    p_value: float
    n: int


@dataclass(frozen=True)
class CrossedTest:
    """A mean with interval and p-value for new people and new stimuli.

    Attributes
    ----------
    mean, low, high : float
        Mean over people, and its interval as of `phosphene.evaluation.statistics.group_interval`.
    p_value : float
        1 less the level of the interval that ends at zero.
    subjects, stimuli : int
        How many.
    """

    mean: float
    low: float
    high: float
    p_value: float
    subjects: int
    stimuli: int


def anova(groups: Mapping[str, npt.ArrayLike]) -> PooledTest:
    """One-way analysis of variance.

    Examples
    --------
    >>> found = anova({"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0]})  # between 1.5, within 1
    >>> round(found.statistic, 6), found.df
    (1.5, (1.0, 4.0))
    """
    values = _groups(groups)
    found = stats.f_oneway(*values)
    n = sum(map(len, values))
    df = (float(len(values) - 1), float(n - len(values)))
    return PooledTest("one-way ANOVA", float(found.statistic), df, float(found.pvalue), n)


def tukey(groups: Mapping[str, npt.ArrayLike], *, level: float = 0.95) -> pd.DataFrame:
    """Tukey's honestly significant differences of all pairs of groups.

    Returns
    -------
    DataFrame
        ``first``, ``second``, ``difference`` (first less second), ``low``, ``high``, ``p_value``;
        corrected for the number of pairs.
    """
    names, values = list(groups), _groups(groups)
    found = stats.tukey_hsd(*values)
    ends = found.confidence_interval(level)
    lines = [
        {
            "first": names[i],
            "second": names[j],
            "difference": float(found.statistic[i, j]),
            "low": float(ends.low[i, j]),
            "high": float(ends.high[i, j]),
            "p_value": float(found.pvalue[i, j]),
        }
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    return pd.DataFrame(lines)


def t_test(first: npt.ArrayLike, second: npt.ArrayLike) -> PooledTest:
    """Student's t-test of two samples of one variance."""
    a, b = _groups({"first": first, "second": second})
    found = stats.ttest_ind(a, b)
    n = len(a) + len(b)
    return PooledTest("t-test", float(found.statistic), (float(n - 2),), float(found.pvalue), n)


def signed_ranks(first: npt.ArrayLike, second: npt.ArrayLike) -> PooledTest:
    """Wilcoxon's signed-rank test of pairs; pairs that are equal are left out.

    If all are, the p-value is 1.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError("pairs have two values each", found=f"shapes {a.shape} and {b.shape}")
    gaps = bootstrap.finite(a - b)
    gaps = gaps[gaps != 0]
    if not len(gaps):
        return PooledTest("Wilcoxon signed-rank", 0.0, (), 1.0, 0)
    found = stats.wilcoxon(gaps)
    return PooledTest(
        "Wilcoxon signed-rank", float(found.statistic), (), float(found.pvalue), len(gaps)
    )


def crossed_test(
    gaps: pd.DataFrame,
    value: str,
    *,
    level: float = 0.95,
    n: int = N_RESAMPLES,
    random_state: int = 0,
) -> CrossedTest:
    """Whether a mean over people and stimuli is other than zero.

    Parameters
    ----------
    gaps : DataFrame
        One row per query, such as a difference of two scores, with ``subject`` and ``stimulus``.
    value : str
        Column.
    level, n, random_state
        As for `phosphene.evaluation.statistics.group_interval`.

    Returns
    -------
    CrossedTest
        For one person the interval is over stimuli and the p-value of a sign-flip test over them;
        for one stimulus both are NaN.

    Examples
    --------
    >>> gaps = pd.DataFrame({"subject": list("aabb"), "stimulus": list("xyxy"),
    ...                      "gap": [1.0, 2.0, -1.0, -2.0]})
    >>> crossed_test(gaps, "gap").mean
    0.0
    """
    scores = bootstrap.finite(gaps[value])
    people, who = np.unique(gaps["subject"].astype(str), return_inverse=True)
    stimuli, group = np.unique(gaps["stimulus"].astype(str), return_inverse=True)
    by_subject = pd.Series(scores).groupby(who).mean().to_numpy()
    mean, facts = float(by_subject.mean()), (len(people), len(stimuli))
    if len(stimuli) < 2:
        return CrossedTest(mean, np.nan, np.nan, np.nan, *facts)
    if len(people) < 2:
        low, high = group_interval(gaps, value, level=level, n=n, random_state=random_state)
        of_stimuli = pd.Series(scores).groupby(group).mean().to_numpy()
        p = sign_flip_test(of_stimuli, random_state=random_state).p_value
        return CrossedTest(mean, float(low), float(high), p, *facts)
    within = bootstrap.within_subjects(
        scores, who, group, statistic="mean", n=n, random_state=random_state,
        stream="crossed bootstrap",
    )  # fmt: skip
    variances = bootstrap.stimulus_variance(within, len(stimuli))

    def ends_at(coverage: float) -> npt.NDArray[np.float64]:
        return bootstrap.mean_interval(by_subject, variances, len(stimuli), coverage)

    def nearest_to_zero(p_value: float) -> float:
        low, high = ends_at(1 - p_value)
        return float(low if mean > 0 else -high)

    low, high = map(float, ends_at(level))
    smallest = 1e-9
    if high - low <= 1e-12 * abs(mean):  # all the same
        p = 1.0 if mean == 0 else smallest
    elif nearest_to_zero(smallest) > 0:
        p = smallest
    elif nearest_to_zero(1.0) <= 0:
        p = 1.0
    else:
        p = float(brentq(nearest_to_zero, smallest, 1.0, xtol=1e-10))
    return CrossedTest(mean, low, high, p, *facts)


def _groups(groups: Mapping[str, npt.ArrayLike]) -> list[npt.NDArray[np.float64]]:
    values = [bootstrap.finite(group) for group in groups.values()]
    if len(values) < 2 or min(map(len, values)) < 2:
        raise DataError(
            "groups are compared, two or more with two or more values each",
            found=", ".join(f"{name}: {len(v)}" for name, v in zip(groups, values, strict=True)),
        )
    return values
