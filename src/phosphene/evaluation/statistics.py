"""Intervals and chance: how far a score can be trusted.

Stimuli are resampled by weights (how often each is drawn), so that a resample of a mean is a
product of matrices; all trials of a stimulus go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri, stdtrit

from phosphene import _random
from phosphene.errors import DataError
from phosphene.evaluation._checks import Floats, Ints
from phosphene.evaluation.retrieval import (
    above_and_tied_of_all,
    expected_hit,
    expected_reciprocal,
    expected_two_way,
)
from phosphene.evaluation.similarity import Similarity

Statistic = Literal["mean", "median"]
Interval = tuple[float, float]
N_RESAMPLES = 2000
_CHUNK = 1 << 22  # weights held at a time


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
    scores = _finite(values)
    names = np.arange(len(scores)) if stimuli is None else np.asarray(stimuli, dtype=str)
    group = np.unique(names, return_inverse=True)[1]
    n_stimuli = int(group.max()) + 1
    if n_stimuli < 2:
        return (np.nan, np.nan)
    tail = (1 - level) / 2
    if bounds is not None and (scores == scores[0]).all() and scores[0] in bounds:
        return _exact_bound(scores[0], bounds, n_stimuli, tail)
    draws = _random.generator(random_state, "bootstrap over stimuli")
    replicates = np.concatenate(
        [
            _resampled(scores, group, weights, statistic)
            for weights in _weights(draws, n_stimuli, n, max(n_stimuli, len(scores)))
        ]
    )
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

    Every replicate draws subjects and stimuli independently; subjects that saw the same stimulus
    get the same weight for it. Few subjects make the plain percentile interval too short, so the
    deviations of the replicates are stretched by
    :math:`\sqrt{S/(S-1)}\; t_{\nu}/z`, where the Satterthwaite degrees of freedom :math:`\nu`
    weigh the variance between subjects (S - 1) and that between stimuli (I - 1).

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
        For a single subject that of :func:`bootstrap_interval`.
    """
    people, who = np.unique(table[subject].astype(str), return_inverse=True)
    scores = _finite(table[value])
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
    n_stimuli, n_people = int(group.max()) + 1, len(people)
    tail = (1 - level) / 2
    if bounds is not None and (scores == scores[0]).all() and scores[0] in bounds:
        return _exact_bound(scores[0], bounds, n_stimuli, tail)
    draws = _random.generator(random_state, "crossed bootstrap")
    means = []
    for weights in _weights(draws, n_stimuli, n, max(n_stimuli, len(scores))):
        means.append(
            np.stack(
                [
                    _resampled(scores[who == i], group[who == i], weights, statistic)
                    for i in range(n_people)
                ],
                axis=1,
            )
        )
    within = np.concatenate(means)  # resamples x subjects
    drawn = _counts(draws, n, n_people)
    # A subject none of whose stimuli were drawn has no mean in that replicate.
    there = np.isfinite(within)
    values = np.where(there, within, 0.0)
    some = (drawn * there).sum(axis=1) > 0
    drawn, there, values = drawn[some], there[some], values[some]
    replicates = (drawn * values).sum(axis=1) / (drawn * there).sum(axis=1)
    observed = np.array(
        [_plain(scores[who == i], statistic) for i in range(n_people)], dtype=np.float64
    )
    centre = float(observed.mean())
    between = float(observed.var(ddof=1) / n_people)
    over_stimuli = float((values.sum(axis=1) / there.sum(axis=1)).var())
    df = _satterthwaite(between, n_people - 1, over_stimuli, n_stimuli - 1)
    stretch = np.sqrt(n_people / (n_people - 1)) * stdtrit(df, 1 - tail) / ndtri(1 - tail)
    low, high = centre + stretch * (np.quantile(replicates, [tail, 1 - tail]) - centre)
    if bounds is not None:
        low, high = np.clip([low, high], *bounds)
    return float(low), float(high)


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


def _weights(draws: np.random.Generator, size: int, n: int, width: int) -> Iterator[Ints]:
    """How often each of ``size`` things is drawn, in blocks of resamples that fit in memory."""
    step = max(1, _CHUNK // width)
    for start in range(0, n, step):
        count = min(step, n - start)
        yield _counts(draws, count, size)


def _counts(draws: np.random.Generator, n: int, size: int) -> Ints:
    """Counts of ``size`` draws with replacement from ``size`` things, ``n`` times."""
    # Counting uniform draws is about five times as fast as numpy's multinomial for many things.
    cells = draws.integers(0, size, size=(n, size)) + size * np.arange(n)[:, None]
    return np.bincount(cells.ravel(), minlength=n * size).reshape(n, size)


def _resampled(
    scores: Floats, group: Ints, weights: Ints, statistic: Statistic
) -> npt.NDArray[np.float64]:
    """Statistic of every resample; NaN where no stimulus of these scores was drawn."""
    size = weights.shape[1]
    if statistic == "mean":
        total = weights @ np.bincount(group, scores, minlength=size)
        count = weights @ np.bincount(group, minlength=size)
        with np.errstate(invalid="ignore"):
            means: npt.NDArray[np.float64] = total / count
        return means
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    summed = weights[:, group[order]].cumsum(axis=1)
    whole = summed[:, -1:]
    # The middle of the sample: the values at which half of the weight is reached from either side.
    low = ranked[np.argmax(2 * summed >= whole, axis=1)]
    high = ranked[np.argmax(2 * summed > whole, axis=1)]
    return np.where(whole[:, 0] > 0, (low + high) / 2, np.nan)


def _plain(scores: Floats, statistic: Statistic) -> float:
    return float(np.mean(scores) if statistic == "mean" else np.median(scores))


def _exact_bound(value: float, bounds: Interval, n: int, tail: float) -> Interval:
    low, high = bounds
    margin = (high - low) * (1 - tail ** (1 / n))
    if value == high:
        return float(high - margin), float(high)
    return float(low), float(low + margin)


def _satterthwaite(first: float, df_first: int, second: float, df_second: int) -> float:
    total = first + second
    if total == 0:
        return float(df_first)
    return total**2 / (first**2 / max(df_first, 1) + second**2 / max(df_second, 1))


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise DataError("an interval needs one score per query", found=f"shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError(
            "scores hold NaN or infinity", found=f"{(~np.isfinite(scores)).sum()} of {len(scores)}"
        )
    return scores
