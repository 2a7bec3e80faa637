"""How far confidence can be believed: calibration, Brier score, risk against coverage.

All take the confidence of the answers that were given, in [0, 1], and whether each was correct (0
or 1; where candidates tie, the expected share). Answers of equal confidence count as their mean, so
that the order of the queries plays no part.

Guo et al. 2017, On Calibration of Modern Neural Networks; Nixon et al. 2019, Measuring Calibration
in Deep Learning (equal-mass bins); Brier 1950; El-Yaniv & Wiener 2010 (risk and coverage).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.errors import DataError

Floats = npt.NDArray[np.float64]


def reliability_curve(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 10
) -> pd.DataFrame:
    """Accuracy against confidence in bins that hold the same number of answers.

    Parameters
    ----------
    confidence, correct : array, shape (answers,)
    bins : int
        Fewer where there are fewer answers.

    Returns
    -------
    DataFrame
        One row per bin, from low to high: mean ``confidence``, ``accuracy`` with its 95 % interval
        ``low`` to ``high`` (Wilson's, as if answers were independent), and ``n``.

    Raises
    ------
    DataError
        If the two differ in length, are empty, or lie outside [0, 1].

    Examples
    --------
    >>> reliability_curve([0.2, 0.4, 0.7, 0.9], [0, 1, 0, 1], bins=2)[["confidence", "accuracy"]]
       confidence  accuracy
    0         0.3       0.5
    1         0.8       0.5
    """
    given, right = _ordered(confidence, correct)
    if bins < 1:
        raise DataError("bins counts bins", found=bins, expected="at least 1")
    parts = np.array_split(np.arange(len(given)), min(bins, len(given)))
    n = np.array([len(part) for part in parts])
    accuracy = np.array([right[part].mean() for part in parts])
    low, high = _wilson(accuracy, n)
    table = {
        "confidence": [given[part].mean() for part in parts],
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "n": n,
    }
    return pd.DataFrame(table)


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 10
) -> float:
    """Mean distance of confidence and accuracy over bins of equal mass.

    It is above zero for confidences that are exactly right too, by the chance in each bin: compare
    it with `calibration_error_by_chance`.

    Examples
    --------
    >>> round(expected_calibration_error([0.2, 0.4, 0.7, 0.9], [0, 1, 0, 1], bins=2), 3)
    0.25
    """
    curve = reliability_curve(confidence, correct, bins=bins)
    gap = (curve["accuracy"] - curve["confidence"]).abs()
    return float(np.average(gap, weights=curve["n"]))


def calibration_error_by_chance(
    confidence: npt.ArrayLike, *, bins: int = 10, n_draws: int = 200, random_state: int = 0
) -> float:
    """The expected calibration error that these confidences would have if they were exactly right.

    Answers are drawn as correct with their confidence as probability.

    Examples
    --------
    >>> 0.02 < calibration_error_by_chance([0.5] * 400) < 0.08
    True
    """
    given = _unit("confidence", confidence)
    draws = np.random.default_rng(random_state).random((n_draws, len(given))) < given
    found = [expected_calibration_error(given, draw, bins=bins) for draw in draws]
    return float(np.mean(found))


def brier_score(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean squared distance between confidence and what happened; lower is better.

    Examples
    --------
    >>> round(brier_score([0.9, 0.2], [1, 0]), 3)
    0.025
    """
    given, right = _pair(confidence, correct)
    # A correct answer counts with its probability where `correct` is a share.
    return float((right * (1 - given) ** 2 + (1 - right) * given**2).mean())


def risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> pd.DataFrame:
    """Share of wrong answers among those that are given, if the least confident are withheld.

    Returns
    -------
    DataFrame
        One row per distinct confidence, from the highest: ``threshold`` (answers of at least this
        confidence are given), ``coverage`` (share of the queries that get one) and ``risk``.

    Examples
    --------
    >>> risk_coverage([0.9, 0.6, 0.6, 0.2], [1, 1, 0, 0]).round(3)
       threshold  coverage   risk
    0        0.9      0.25  0.000
    1        0.6      0.75  0.333
    2        0.2      1.00  0.500
    """
    given, right = (values[::-1] for values in _ordered(confidence, correct))
    last = np.flatnonzero(np.r_[given[1:] != given[:-1], True])
    risk = 1 - np.cumsum(right)[last] / (last + 1)
    table = {"threshold": given[last], "coverage": (last + 1) / len(given), "risk": risk}
    return pd.DataFrame(table)


def area_under_risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean risk over all coverages (AURC); lower is better, the overall risk for no information.

    Examples
    --------
    >>> area_under_risk_coverage([0.9, 0.1], [1, 0])
    0.25
    """
    right = _ordered(confidence, correct)[1][::-1]
    return float((1 - np.cumsum(right) / np.arange(1, len(right) + 1)).mean())


def threshold_for_risk(confidence: npt.ArrayLike, correct: npt.ArrayLike, risk: float) -> float:
    """Lowest confidence to demand of answers so that at most ``risk`` of those given are wrong.

    To be chosen on training data, as everything that is fitted; infinite if no answer may be given.

    Examples
    --------
    >>> threshold_for_risk([0.9, 0.6, 0.6, 0.2], [1, 1, 0, 0], 0.4)
    0.6
    """
    if not 0 <= risk <= 1:
        raise DataError("the risk is a share of answers", found=risk, expected="0 to 1")
    curve = risk_coverage(confidence, correct)
    allowed = curve.loc[curve["risk"] <= risk + 1e-12, "threshold"]
    return float(allowed.min()) if len(allowed) else float("inf")


def _unit(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(
            f"{name} is a number per answer", found=f"shape {array.shape}", expected="(answers,)"
        )
    if not ((array >= 0) & (array <= 1 + 1e-9)).all():  # NaN fails too
        raise DataError(
            f"{name} lies outside 0 to 1, or is not known",
            found=f"{array.min():.3g} to {array.max():.3g}",
        )
    return array


def _pair(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Floats]:
    given, right = _unit("confidence", confidence), _unit("correct", correct)
    if len(given) != len(right):
        raise DataError(
            "confidence and correct differ in length",
            found=f"{len(given)} and {len(right)}",
            expected="one of each per answer",
        )
    return given, right


def _ordered(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both in ascending order of confidence; equal confidences share their mean correctness."""
    given, right = _pair(confidence, correct)
    values, group, n = np.unique(given, return_inverse=True, return_counts=True)
    mean = np.bincount(group, weights=right) / n
    return np.repeat(values, n), np.repeat(mean, n)


def _wilson(share: Floats, n: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Wilson's 95 % interval of a share of ``n``."""
    z = 1.959963984540054
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)
