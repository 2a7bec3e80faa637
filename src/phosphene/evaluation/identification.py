"""Identification of aligned vectors: how often the truth is nearer than a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phosphene import _random
from phosphene.errors import DataError, listing
from phosphene.evaluation._checks import Floats


def identification(
    predicted: Floats,
    true: Floats,
    candidates: Floats | None = None,
    *,
    ids: Sequence[str] | None = None,
) -> npt.NDArray[np.float64]:
    r"""Share of the candidates that correlate less with the prediction than the truth does.

    For query i with prediction p, truth t and candidates c the score is
    :math:`\frac{1}{m} \sum_j [r(p, c_j) < r(p, t)] + \frac12 [r(p, c_j) = r(p, t)]` with Pearson's
    r over the dimensions; chance is .5.

    Parameters
    ----------
    predicted, true : ndarray, shape (queries, dimensions)
        Decoded vectors and what they should have been.
    candidates : ndarray, shape (candidates, dimensions), optional
        Wrong answers. By default the true vectors of the other queries.
    ids : sequence of str, optional
        Stimulus of every query; true vectors of the same stimulus are not wrong answers.

    Returns
    -------
    ndarray, shape (queries,)
        Between 0 and 1.

    Raises
    ------
    DataError
        If shapes disagree, a vector is constant or not finite, or a query has no wrong answer.

    Examples
    --------
    >>> true = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 1.0]])
    >>> identification(true, true)
    array([1., 1., 1.])
    >>> identification(true[[1, 0, 2]], true)
    array([0., 0., 1.])
    """
    scores, allowed = _all_pairings(predicted, true, candidates, ids)
    own = np.arange(len(scores))
    if not allowed.all():
        empty = np.flatnonzero(~allowed)
        raise DataError(f"queries without a wrong answer to compare with: {listing(empty)}")
    return scores[own, own]


@dataclass(frozen=True, eq=False)
class IdentificationTest:
    """Mean identification with the scores that shuffled true vectors give.

    Attributes
    ----------
    scores : ndarray, shape (queries,)
        Score of every query.
    null : ndarray, shape (draws,)
        Mean score for every shuffling.
    """

    scores: npt.NDArray[np.float64]
    null: npt.NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean score over the queries."""
        return float(self.scores.mean())

    @property
    def p_value(self) -> float:
        """Share of shufflings that score at least as high, the observed one counted."""
        return float((1 + (self.null >= self.mean - 1e-12).sum()) / (1 + len(self.null)))


def identification_test(
    predicted: Floats,
    true: Floats,
    candidates: Floats | None = None,
    *,
    ids: Sequence[str] | None = None,
    n: int = 1000,
    random_state: int = 0,
) -> IdentificationTest:
    """Identification with a null distribution from shuffling the true vectors.

    Parameters
    ----------
    predicted, true, candidates, ids
        As for :func:`identification`.
    n : int
        Number of shufflings.
    random_state : int
        Seed of the shufflings.

    Returns
    -------
    IdentificationTest
    """
    scores = identification(predicted, true, candidates, ids=ids)
    table, _ = _all_pairings(predicted, true, candidates, ids)
    draws = _random.generator(random_state, "identification null")
    orders = draws.permuted(np.tile(np.arange(len(scores)), (n, 1)), axis=1)
    return IdentificationTest(scores, table[np.arange(len(scores)), orders].mean(axis=1))


def _all_pairings(
    predicted: Floats, true: Floats, candidates: Floats | None, ids: Sequence[str] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Score of query i if row j of ``true`` were its truth, for all i and j."""
    p, t = _standardised(predicted, "predicted"), _standardised(true, "true")
    if p.shape != t.shape:
        raise DataError("predictions and truths disagree", found=t.shape, expected=p.shape)
    n = len(t)
    against = p @ t.T
    if candidates is not None:
        others = _standardised(candidates, "candidate")
        if others.shape[1] != p.shape[1]:
            raise DataError(
                "candidates differ in dimension", found=others.shape[1], expected=p.shape[1]
            )
        wrong = p @ others.T
        less, level = _counts(against, wrong)
        return (less + level / 2) / len(others), np.ones(n, dtype=bool)
    group = np.arange(n)
    if ids is not None:
        if len(ids) != n:
            raise DataError("one id per query is needed", found=len(ids), expected=n)
        group = np.unique(np.asarray(ids, dtype=str), return_inverse=True)[1]
    # Rows of one stimulus hold the same true vector, so they tie with the truth: their half
    # points are taken off again, and they do not count as wrong answers.
    less, level = _counts(against, against)
    size = np.bincount(group)[group]
    _require_equal_within(t, group)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = (less + (level - size[None, :]) / 2) / (n - size)[None, :]
    return scores, size < n


def _counts(
    against: Floats, wrong: Floats
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """For every row and every value of ``against``: values of ``wrong`` below it and equal."""
    # Correlations are rounded, so that equal vectors tie although their sums may round apart.
    against, wrong = np.round(against, 12), np.round(np.sort(wrong, axis=1), 12)
    low = np.empty(against.shape)
    high = np.empty(against.shape)
    for i, (values, row) in enumerate(zip(against, wrong, strict=True)):
        low[i] = np.searchsorted(row, values, side="left")
        high[i] = np.searchsorted(row, values, side="right")
    return low, high - low


def _require_equal_within(true: Floats, group: npt.NDArray[np.int64]) -> None:
    first = np.unique(group, return_index=True)[1][group]
    if not np.allclose(true, true[first], atol=1e-9):
        raise DataError("queries of one stimulus have different true vectors")


def _standardised(vectors: Floats, what: str) -> npt.NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    if wide.ndim != 2:
        raise DataError(f"{what} vectors must be a matrix", found=f"shape {wide.shape}")
    if not np.isfinite(wide).all():
        bad = np.flatnonzero(~np.isfinite(wide).all(axis=1))
        raise DataError(f"{what} vectors hold NaN or infinity: rows {listing(bad)}")
    centred = wide - wide.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("nd,nd->n", centred, centred))
    flat = norm <= 1e-12 * np.maximum(np.abs(wide).max(axis=1), 1e-300)
    if flat.any():
        raise DataError(
            f"{what} vectors are constant, so that no correlation exists: rows "
            f"{listing(np.flatnonzero(flat))}"
        )
    scaled: npt.NDArray[np.float64] = centred / norm[:, None]
    return scaled
