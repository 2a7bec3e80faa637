"""The noise ceiling of real recordings: how well repetitions of a stimulus agree.

Spearman 1910, Correlation calculated from faulty data; Brown 1910, Some experimental results in the
correlation of mental abilities (the step from half to full length).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phosphene import _random
from phosphene.errors import DataError


@dataclass(frozen=True, eq=False)
class SplitHalf:
    """Agreement of repetitions.

    Attributes
    ----------
    half : ndarray, shape (...)
        Mean correlation between averages of two halves of the repetitions, over stimuli.
    reliability : ndarray, shape (...)
        The same for averages of all repetitions, after Spearman and Brown; negative values stay.
    ceiling : ndarray, shape (...)
        Highest correlation that a prediction can be expected to reach with the average of all
        repetitions: the root of the reliability, 0 where that is negative.
    """

    half: npt.NDArray[np.float64]
    reliability: npt.NDArray[np.float64]
    ceiling: npt.NDArray[np.float64]


def spearman_brown(r: npt.ArrayLike, factor: float = 2.0) -> npt.NDArray[np.float64]:
    r"""Reliability of ``factor`` times as many repetitions: :math:`f r / (1 + (f - 1) r)`.

    Parameters
    ----------
    r : array
        Reliability, at most 1.
    factor : float
        Repetitions there are over repetitions behind ``r``.

    Examples
    --------
    >>> spearman_brown([0.0, 0.5, 1.0]).round(3)
    array([0.   , 0.667, 1.   ])
    """
    found = np.asarray(r, dtype=np.float64)
    if factor <= 0:
        raise DataError("the number of repetitions is positive", found=f"factor={factor}")
    if (found > 1).any() or (1 + (factor - 1) * found <= 0).any():
        raise DataError(
            "no reliability that could be stepped up",
            found=f"{found.min():.3g} to {found.max():.3g}",
        )
    stepped: npt.NDArray[np.float64] = factor * found / (1 + (factor - 1) * found)
    return stepped


def split_half(
    responses: npt.ArrayLike, *, n_splits: int = 100, random_state: int = 0
) -> SplitHalf:
    """Reliability of responses from random halves of their repetitions.

    Parameters
    ----------
    responses : array, shape (repetitions, stimuli, ...)
        At least two repetitions of at least three stimuli; further axes (channels, times, voxels)
        are treated one by one.
    n_splits : int
        Random splits; with an odd number of repetitions one is left out of each.
    random_state : int
        Seed of the splits.

    Returns
    -------
    SplitHalf
        NaN where the responses to all stimuli are the same.

    Raises
    ------
    DataError
        If there are too few repetitions or stimuli, or values that are not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.normal(size=2000), rng.normal(size=(4, 2000))
    >>> round(float(split_half(signal + noise).reliability), 1)  # 1 / (1 + 1 / 4)
    0.8
    """
    values = np.asarray(responses, dtype=np.float64)
    if values.ndim < 2 or values.shape[0] < 2 or values.shape[1] < 3 or n_splits < 1:
        raise DataError(
            "too little to split into halves",
            found=f"shape {values.shape}, {n_splits} splits",
            expected="two repetitions of three stimuli, (repetitions, stimuli, ...)",
        )
    if not np.isfinite(values).all():
        raise DataError("responses hold NaN or infinity", found=f"{(~np.isfinite(values)).sum()}")
    repetitions, half = len(values), len(values) // 2
    draws = _random.generator(random_state, "split halves")
    total = np.zeros(values.shape[2:])
    for _ in range(n_splits):
        order = draws.permutation(repetitions)
        total += _correlation(
            values[order[:half]].mean(axis=0), values[order[half : 2 * half]].mean(axis=0)
        )
    mean = np.asarray(total / n_splits)
    # Halves that disagree say that there is no signal; the step is made for agreement only, as the
    # formula has its pole among negative values.
    stepped = spearman_brown(np.clip(np.nan_to_num(mean), 0.0, 1.0), repetitions / half)
    reliability = np.where(mean >= 0, stepped, mean)  # NaN stays too
    return SplitHalf(mean, reliability, np.sqrt(np.maximum(reliability, 0.0)))


def _correlation(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Pearson's r over the first axis; NaN where one does not vary."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    level = np.abs(first).max(axis=0) * np.abs(second).max(axis=0)
    flat = scale <= 1e-20 * np.maximum(level, 1e-300)
    r: npt.NDArray[np.float64] = np.where(
        flat, np.nan, (a * b).sum(axis=0) / np.where(flat, 1.0, scale)
    )
    return r
