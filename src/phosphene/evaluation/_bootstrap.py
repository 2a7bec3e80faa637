"""Resampling by weights, and the interval of a mean over subjects.

Stimuli are resampled by weights (how often each is drawn), so that a resample of a mean is a
product of matrices; all trials of a stimulus go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri, stdtrit

from phosphene import _random
from phosphene.errors import DataError
from phosphene.evaluation._checks import Floats, Ints

Statistic = Literal["mean", "median"]
Interval = tuple[float, float]
_CHUNK = 1 << 22  # weights held at a time
_ENOUGH = 4  # subjects from which their own spread alone says how far the mean can be trusted


def within_subjects(
    scores: Floats,
    who: Ints,
    group: Ints,
    *,
    statistic: Statistic,
    n: int,
    random_state: int,
    stream: str,
) -> npt.NDArray[np.float64]:
    """Statistic of every subject in every resample of the stimuli, which subjects share.

    Parameters
    ----------
    scores : ndarray, shape (queries,)
        Scores.
    who, group : ndarray of int, shape (queries,)
        Subject and stimulus of every query, from 0 and without gaps.
    statistic, n, random_state
        As in `statistics.group_interval`.
    stream : str
        Name of the random stream; the weights depend on it, the seed and the number of stimuli.

    Returns
    -------
    ndarray, shape (resamples, subjects)
        NaN where none of a subject's stimuli were drawn.
    """
    n_stimuli, n_people = int(group.max()) + 1, int(who.max()) + 1
    draws = _random.generator(random_state, stream)
    own = [np.flatnonzero(who == i) for i in range(n_people)]
    blocks = [
        np.stack([resampled(scores[rows], group[rows], weights, statistic) for rows in own], axis=1)
        for weights in weights_of(draws, n_stimuli, n, max(n_stimuli, len(scores)))
    ]
    return np.concatenate(blocks)


def stimulus_variance(
    within: npt.NDArray[Any], n_stimuli: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Variance of a mean over subjects that the stimuli cause.

    The part that subjects share is the mean covariance between two of them over the resamples of
    :func:`within_subjects`; with the mean of variances D and the variance of means A it is
    (S A - D) / (S - 1), and never negative. Both are multiplied by I / (I - 1).

    Parameters
    ----------
    within : ndarray, shape (..., resamples, subjects)
        Statistic of every subject in every resample.
    n_stimuli : int
        Number of stimuli.

    Returns
    -------
    shared, whole : ndarray, shape (...)
        What subjects share, and A: all that resampling the stimuli does to the mean of these very
        subjects, noise of single responses included.
    """
    people = within.shape[-1]
    there = np.isfinite(within)
    if there.all():
        deviation = within - within.mean(axis=-2, keepdims=True)
    else:  # a subject that has no value in a resample does not deviate in it
        count = np.maximum(there.sum(axis=-2, keepdims=True), 1)
        middle = np.where(there, within, 0.0).sum(axis=-2, keepdims=True) / count
        deviation = np.where(there, within - middle, 0.0)
    resamples = within.shape[-2]
    single = np.einsum("...ns,...ns->...", deviation, deviation) / (resamples * people)
    means = deviation.mean(axis=-1)
    joint = np.einsum("...n,...n->...", means, means) / resamples
    correction = n_stimuli / (n_stimuli - 1)
    covariance = np.maximum((people * joint - single) / (people - 1), 0.0)
    return covariance * correction, joint * correction


def mean_interval(
    observed: npt.ArrayLike,
    stimuli: tuple[npt.ArrayLike, npt.ArrayLike],
    n_stimuli: int,
    level: float,
    bounds: Interval | None = None,
) -> npt.NDArray[np.float64]:
    """Interval of a mean over subjects and stimuli from its two parts of variance.

    Parameters
    ----------
    observed : array, shape (..., subjects)
        Value of every subject; at least two subjects.
    stimuli : pair of arrays, shape (...)
        Variance that the stimuli cause, see `stimulus_variance`.
    n_stimuli : int
        Number of stimuli.
    level : float
        Coverage aimed at.
    bounds : (low, high), optional
        Range of a value. If it is finite, the interval is symmetric on the logit scale.

    Returns
    -------
    ndarray, shape (..., 2)
    """
    values = np.asarray(observed, dtype=np.float64)
    shared, alone = (np.asarray(part, dtype=np.float64) for part in stimuli)
    people = values.shape[-1]
    centre = values.mean(axis=-1)
    between = values.var(axis=-1, ddof=1) / people
    variance = between + shared
    # Satterthwaite's degrees of freedom. A variance of few subjects that is too small by chance
    # would make them too many, so it enters enlarged by (S + 1) / (S - 1).
    wide = between * (people + 1) / (people - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = (wide + shared) ** 2 / (wide**2 / (people - 1) + shared**2 / (n_stimuli - 1))
    reach = stdtrit(np.where(variance > 0, df, 1.0), (1 + level) / 2) * np.sqrt(variance)
    # Subjects may agree by chance, two or three easily, and hits of few stimuli exactly. The
    # interval is then no shorter than that over stimuli (half of it, where subjects are enough).
    least = 1.0 if people < _ENOUGH else 0.5
    reach = np.maximum(reach, least * ndtri((1 + level) / 2) * np.sqrt(alone))
    ends = np.stack([centre - reach, centre + reach], axis=-1)
    if bounds is None:
        return ends
    low, high = bounds
    if np.isfinite(bounds).all():
        share = (centre - low) / (high - low)
        inside = (share > 0) & (share < 1)
        safe = np.where(inside, share, 0.5)
        margin = reach / ((high - low) * safe * (1 - safe))
        curved = np.stack([logit(safe) - margin, logit(safe) + margin], axis=-1)
        ends = np.where(inside[..., None], low + (high - low) * expit(curved), ends)
    clipped: npt.NDArray[np.float64] = np.clip(ends, low, high)
    return clipped


def weights_of(draws: np.random.Generator, size: int, n: int, width: int) -> Iterator[Ints]:
    """How often each of ``size`` things is drawn, in blocks of resamples that fit in memory."""
    step = max(1, _CHUNK // width)
    for start in range(0, n, step):
        count = min(step, n - start)
        yield counts(draws, count, size)


def counts(draws: np.random.Generator, n: int, size: int) -> Ints:
    """Counts of ``size`` draws with replacement from ``size`` things, ``n`` times."""
    # Counting uniform draws is about five times as fast as numpy's multinomial for many things.
    cells = draws.integers(0, size, size=(n, size)) + size * np.arange(n)[:, None]
    return np.bincount(cells.ravel(), minlength=n * size).reshape(n, size)


def resampled(
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


def plain(scores: Floats, statistic: Statistic) -> float:
    """The statistic of all scores."""
    return float(np.mean(scores) if statistic == "mean" else np.median(scores))


def exact_bound(value: float, bounds: Interval, n: int, tail: float) -> Interval:
    """Binomial interval where all of ``n`` stimuli lie on one bound."""
    low, high = bounds
    margin = (high - low) * (1 - tail ** (1 / n))
    if value == high:
        return float(high - margin), float(high)
    return float(low), float(low + margin)


def finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The scores as a vector, or an error that counts what is missing."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise DataError("an interval needs one score per query", found=f"shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError(
            "scores hold NaN or infinity", found=f"{(~np.isfinite(scores)).sum()} of {len(scores)}"
        )
    return scores
