"""Intervals and chance: how far a score can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene.errors import DataError, listing
from phosphene.evaluation import _bootstrap as bootstrap
from phosphene.evaluation._bootstrap import Interval, Statistic
from phosphene.evaluation._checks import Ints
from phosphene.evaluation.retrieval import (
    above_and_tied_of_all,
    expected_hit,
    expected_reciprocal,
    expected_two_way,
)
from phosphene.evaluation.similarity import Similarity

N_RESAMPLES = 2000


def bootstrap_interval(
    values: npt.ArrayLike,
    stimuli: npt.ArrayLike | None = None,
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    n: int = N_RESAMPLES,
    random_state: int = 0,
    bounds: Interval | None = None,
) -> Interval:
    """Percentile bootstrap interval over the stimuli of one subject.

    Parameters
    ----------
    values : array, shape (queries,)
        Score of every query.
    stimuli : array of str, shape (queries,), optional
        Stimulus of every query; queries of one stimulus are drawn together. By default every query
        is a stimulus of its own.
    statistic : {"mean", "median"}
        What is estimated.
    level : float
        Coverage aimed at.
    n : int
        Number of resamples.
    random_state : int
        Seed.
    bounds : (low, high), optional
        Range of a score. If all values lie on one bound, a bootstrap has no spread; the exact
        binomial bound for that many stimuli is given instead.

    Returns
    -------
    (low, high) : tuple of float
        NaN if there are fewer than two stimuli.

    Examples
    --------
    >>> low, high = bootstrap_interval(np.arange(100) % 2)
    >>> round(low, 1), round(high, 1)
    (0.4, 0.6)
    """
    scores = bootstrap.finite(values)
    names = np.arange(len(scores)) if stimuli is None else np.asarray(stimuli, dtype=str)
    group = np.unique(names, return_inverse=True)[1]
    n_stimuli = int(group.max()) + 1
    if n_stimuli < 2:
        return (np.nan, np.nan)
    tail = (1 - level) / 2
    if bounds is not None and (scores == scores[0]).all() and scores[0] in bounds:
        return bootstrap.exact_bound(scores[0], bounds, n_stimuli, tail)
    replicates = bootstrap.within_subjects(
        scores, np.zeros(len(scores), dtype=np.int64), group, statistic=statistic, n=n,
        random_state=random_state, stream="bootstrap over stimuli",
    )  # fmt: skip
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def group_interval(
    table: pd.DataFrame,
    value: str,
    *,
    subject: str = "subject",
    stimulus: str = "stimulus",
    statistic: Statistic = "mean",
    level: float = 0.95,
    n: int = N_RESAMPLES,
    random_state: int = 0,
    bounds: Interval | None = None,
) -> Interval:
    r"""Interval of a group mean by a bootstrap crossed over subjects and stimuli.

    Subjects and stimuli are both samples, so both are resampled. The plain percentile interval of
    such a bootstrap is wrong in two ways: with few subjects it is too short, and it counts the
    noise of single responses three times (Owen 2007, The pigeonhole bootstrap). So the parts of the
    variance are taken apart: :math:`s^2/S` of the subjects' values, which is what resampling
    subjects gives once multiplied by S / (S - 1), and the covariance between subjects when the
    stimuli that they share are resampled, times I / (I - 1). The interval is the mean plus or minus
    Student's quantile times the root of their sum, with Satterthwaite's degrees of freedom for a
    sum of variances with S - 1 and I - 1; symmetric on the logit scale where ``bounds`` are finite.
    It is never shorter than half the interval over stimuli for these very subjects, nor, with two
    or three subjects, than the whole of that.

    Parameters
    ----------
    table : DataFrame
        One row per query.
    value, subject, stimulus : str
        Columns.
    statistic : {"mean", "median"}
        Statistic within a subject; the group's value is its mean over subjects.
    level, n, random_state, bounds
        As for :func:`bootstrap_interval`; the interval stays within ``bounds``.

    Returns
    -------
    (low, high) : tuple of float
        For a single subject that of :func:`bootstrap_interval`; NaN for fewer than two stimuli.
    """
    people, who = np.unique(table[subject].astype(str), return_inverse=True)
    scores = bootstrap.finite(table[value])
    if len(people) < 2:
        return bootstrap_interval(
            scores,
            table[stimulus].to_numpy(),
            statistic=statistic,
            level=level,
            n=n,
            random_state=random_state,
            bounds=bounds,
        )
    group = np.unique(table[stimulus].astype(str), return_inverse=True)[1]
    n_stimuli = int(group.max()) + 1
    if n_stimuli < 2:
        return (np.nan, np.nan)
    tail = (1 - level) / 2
    if bounds is not None and (scores == scores[0]).all() and scores[0] in bounds:
        return bootstrap.exact_bound(scores[0], bounds, n_stimuli, tail)
    within = bootstrap.within_subjects(
        scores, who, group, statistic=statistic, n=n, random_state=random_state,
        stream="crossed bootstrap",
    )  # fmt: skip
    variances = bootstrap.stimulus_variance(within, n_stimuli)
    observed = _by_subject(scores, who, statistic)
    low, high = bootstrap.mean_interval(observed, variances, n_stimuli, level, bounds)
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class PairedDifference:
    """How much one set of scores is above another on the same subjects and stimuli.

    Attributes
    ----------
    value : float
        Mean over subjects of the difference.
    low, high : float
        Its interval.
    by_subject : Series
        Difference of every subject.
    by_stimulus : Series
        Difference of the mean scores of every stimulus, subjects and repetitions pooled.
    """

    value: float
    low: float
    high: float
    by_subject: pd.Series[float]
    by_stimulus: pd.Series[float]


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    value: str,
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    n: int = N_RESAMPLES,
    random_state: int = 0,
    bounds: Interval | None = None,
) -> PairedDifference:
    """Difference of two sets of scores of the same subjects and stimuli, with its interval.

    Both are resampled with the same weights, so that what makes a stimulus easy for both cancels.

    Parameters
    ----------
    first, second : DataFrame
        One row per query, with ``subject`` and ``stimulus``. Several queries of a stimulus
        (trials, seeds of the training) are pooled.
    value : str
        Column of the scores; the difference is ``first`` less ``second``.
    statistic, level, n, random_state
        As for :func:`group_interval`.
    bounds : (low, high), optional
        Range of a score; the difference lies between low - high and high - low.

    Returns
    -------
    PairedDifference

    Raises
    ------
    DataError
        If subjects or stimuli are not the same.
    """
    _require_same_pairs(first, second)
    people, stimuli = (np.unique(first[name].astype(str)) for name in ("subject", "stimulus"))
    observed, resamples = [], []
    for table in (first, second):
        scores = bootstrap.finite(table[value])
        who = np.searchsorted(people, table["subject"].astype(str))
        group = np.searchsorted(stimuli, table["stimulus"].astype(str))
        observed.append(_by_subject(scores, who, statistic))
        resamples.append(
            bootstrap.within_subjects(
                scores,
                who,
                group,
                statistic=statistic,
                n=n,
                random_state=random_state,
                stream="paired bootstrap",
            )
        )
    gain, within = observed[0] - observed[1], resamples[0] - resamples[1]
    ends = (np.nan, np.nan)
    if len(stimuli) >= 2 and len(people) >= 2:
        variances = bootstrap.stimulus_variance(within, len(stimuli))
        limits = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
        ends = tuple(bootstrap.mean_interval(gain, variances, len(stimuli), level, limits))
    elif len(stimuli) >= 2:
        ends = tuple(np.quantile(within, [(1 - level) / 2, (1 + level) / 2]))
    means = [table.groupby("stimulus")[value].mean() for table in (first, second)]
    return PairedDifference(
        float(gain.mean()),
        float(ends[0]),
        float(ends[1]),
        pd.Series(gain, index=people, name="difference"),
        (means[0] - means[1]).rename("difference"),
    )


@dataclass(frozen=True, eq=False)
class Chance:
    """What a score would be if brain responses and stimuli were paired at random.

    Attributes
    ----------
    observed : float
        The score with the true pairing.
    null : ndarray, shape (permutations,)
        The score for every random pairing.
    """

    observed: float
    null: npt.NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean of the null distribution."""
        return float(self.null.mean())

    @property
    def p_value(self) -> float:
        """Share of pairings that score at least as high, the true one counted."""
        return float((1 + (self.null >= self.observed - 1e-12).sum()) / (1 + len(self.null)))

    def upper(self, level: float = 0.95) -> float:
        """The score that a share ``level`` of the random pairings stays under or at."""
        return float(np.quantile(self.null, level))


def chance_by_permutation(
    similarity: Similarity,
    metric: Literal["top1", "top5", "reciprocal_rank", "two_way"] = "top1",
    *,
    n: int = 1000,
    random_state: int = 0,
) -> Chance:
    """Chance level of a retrieval score: the pairing is permuted within every subject.

    Parameters
    ----------
    similarity : Similarity
        Scores of all queries.
    metric : {"top1", "top5", "reciprocal_rank", "two_way"}
        The score is the mean of this over the queries.
    n : int
        Number of permutations.
    random_state : int
        Seed.

    Returns
    -------
    Chance
    """
    columns = similarity.true_columns
    rows = np.arange(similarity.n_queries)
    subjects = similarity.queries.get("subject", pd.Series("", index=rows)).astype(str)
    draws = _random.generator(random_state, "permuted pairing")
    orders = np.tile(columns, (n, 1))
    for own in subjects.groupby(subjects).indices.values():
        orders[:, own] = draws.permuted(orders[:, own], axis=1)
    above, tied = above_and_tied_of_all(similarity.matrix)
    if metric == "reciprocal_rank":
        table = expected_reciprocal(above, tied)
    elif metric == "two_way":
        table = expected_two_way(above, tied, similarity.n_gallery)
    elif metric in ("top1", "top5"):
        table = expected_hit(above, tied, int(metric[3:]))
    else:
        raise DataError(
            f"there is no chance level for {metric!r}",
            expected="top1, top5, reciprocal_rank or two_way",
        )
    null = np.array([table[rows, order].mean() for order in orders])
    return Chance(float(table[rows, columns].mean()), null)


def _by_subject(
    scores: npt.NDArray[np.float64], who: Ints, statistic: Statistic
) -> npt.NDArray[np.float64]:
    """Statistic of every subject."""
    people = int(who.max()) + 1
    return np.array([bootstrap.plain(scores[who == i], statistic) for i in range(people)])


def _require_same_pairs(first: pd.DataFrame, second: pd.DataFrame) -> None:
    keys = ["subject", "stimulus"]
    here, there = (
        set(table[keys].astype(str).itertuples(index=False, name=None)) for table in (first, second)
    )
    if here != there:
        odd = sorted(here ^ there)
        raise DataError(
            "the two sets of scores are not of the same subjects and stimuli",
            found=f"{len(odd)} without a partner: "
            + listing(f"subject {who}, {what}" for who, what in odd),
            expected="every subject and stimulus in both",
        )
