"""Identification of aligned vectors: how often the truth is nearer than a wrong answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phosphene import _random
from phosphene.errors import DataError, listing
from phosphene.evaluation._checks import Floats

_ALMOST_ONE = 1 - 1e-9


def identification(
    predicted: Floats,
    true: Floats,
    candidates: Floats | None = None,
    *,
    ids: Sequence[str] | None = None,
    refuse_constant: bool = True,
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
    refuse_constant : bool
        Refuse constant vectors; else they correlate 0 with all, as latents that a rectifier has
        set to zero.

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
    scores, allowed = _all_pairings(predicted, true, candidates, ids, refuse_constant)
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


def discriminability(
    predicted: Floats,
    true: Floats,
    candidates: Floats | None = None,
    *,
    refuse_constant: bool = True,
) -> npt.NDArray[np.float64]:
    r"""How far the truth stands out among the candidates: t of one value against many.

    Correlations of the prediction with the candidates are compared with that with the truth, all
    in Fisher's z. With m candidates of mean :math:`\bar z` and standard deviation s,

    .. math::
        t = \frac{z_\mathrm{truth} - \bar z}{s \sqrt{1 + 1/m}}

    whose square is the F of a one-way analysis of variance with the truth as one group and the
    candidates as the other. It does not depend on the width of the space, as distances do.

    Parameters
    ----------
    predicted, true, candidates, refuse_constant
        As for :func:`identification`.

    Returns
    -------
    ndarray, shape (queries,)
        Positive where the truth correlates more than the candidates do on average.

    Raises
    ------
    DataError
        As in :func:`identification`, and for fewer than two candidates.
    """
    own, wrong = _fisher(predicted, true, candidates, refuse_constant)
    m = wrong.shape[1]
    if m < 2:
        raise DataError("candidates have no spread", found=f"{m} candidates", expected="2 or more")
    spread = wrong.std(axis=1, ddof=1) * np.sqrt(1 + 1 / m)
    found: npt.NDArray[np.float64] = (own - wrong.mean(axis=1)) / np.maximum(spread, 1e-12)
    return found


def fisher_pairings(
    predicted: Floats, true: Floats, *, refuse_constant: bool = True
) -> npt.NDArray[np.float64]:
    """Fisher's z of the correlation of every prediction with every truth, (queries, queries).

    What stands beside the diagonal is what shuffled truths give.
    """
    own, wrong = _fisher(predicted, true, None, refuse_constant)
    n = len(own)
    whole = np.empty((n, n))
    whole[np.eye(n, dtype=bool)] = own
    whole[~np.eye(n, dtype=bool)] = wrong.ravel()
    return whole


def _fisher(
    predicted: Floats, true: Floats, candidates: Floats | None, refuse: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fisher's z of the correlations with the truth (n,) and with wrong answers (n, m)."""
    p, t = _standardised(predicted, "predicted", refuse), _standardised(true, "true", refuse)
    others = t if candidates is None else _standardised(candidates, "candidate", refuse)
    if p.shape != t.shape or others.shape[1] != p.shape[1]:
        raise DataError(
            "predictions, truths and candidates differ in shape",
            found=f"{p.shape}, {t.shape}, {others.shape}",
        )
    # A perfect prediction has an infinite z.
    wrong = np.arctanh(np.clip(p @ others.T, -_ALMOST_ONE, _ALMOST_ONE))
    n = len(p)
    if candidates is None:
        own = wrong[np.arange(n), np.arange(n)]
        return own, wrong[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    r = np.clip(np.einsum("nd,nd->n", p, t), -_ALMOST_ONE, _ALMOST_ONE)
    return np.arctanh(r), wrong


def _all_pairings(
    predicted: Floats,
    true: Floats,
    candidates: Floats | None,
    ids: Sequence[str] | None,
    refuse: bool = True,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Score of query i if row j of ``true`` were its truth, for all i and j."""
    p, t = _standardised(predicted, "predicted", refuse), _standardised(true, "true", refuse)
    if p.shape != t.shape:
        raise DataError("predictions and truths disagree", found=t.shape, expected=p.shape)
    n = len(t)
    against = p @ t.T
    if candidates is not None:
        others = _standardised(candidates, "candidate", refuse)
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


def _standardised(vectors: Floats, what: str, refuse: bool = True) -> npt.NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    if wide.ndim != 2:
        raise DataError(f"{what} vectors must be a matrix", found=f"shape {wide.shape}")
    if not np.isfinite(wide).all():
        bad = np.flatnonzero(~np.isfinite(wide).all(axis=1))
        raise DataError(f"{what} vectors hold NaN or infinity: rows {listing(bad)}")
    centred = wide - wide.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("nd,nd->n", centred, centred))
    flat = norm <= 1e-12 * np.maximum(np.abs(wide).max(axis=1), 1e-300)
    if flat.any() and refuse:
        raise DataError(
            f"{what} vectors are constant, so that no correlation exists: rows "
            f"{listing(np.flatnonzero(flat))}"
        )
    scaled: npt.NDArray[np.float64] = centred / np.where(flat, 1.0, norm)[:, None]
    scaled[flat] = 0.0
    return scaled
