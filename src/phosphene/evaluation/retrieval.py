"""Retrieval scores with ties as their expectation.

Every score of a query depends on two counts only: how many candidates score higher than the true
one (``above``) and how many score the same, itself included (``tied``). Under a random order of the
tied candidates the position of the true one is uniform on ``above + 1 ... above + tied``; all
scores here are expectations over that order. So a constant predictor scores exactly chance:
top-k is k/N, two-way identification .5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import digamma, gammaln

from phosphene.errors import DataError, listing
from phosphene.evaluation._checks import Floats, Ints
from phosphene.evaluation.similarity import Similarity

Direction = Literal["brain_to_image", "image_to_brain"]
_CHUNK = 1 << 24  # elements of a boolean block


def above_and_tied(matrix: Floats, true_col: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Candidates that score higher than the true one, and as high (the true one included).

    Parameters
    ----------
    matrix : ndarray, shape (queries, items)
        Scores.
    true_col : array of int, shape (queries,)
        Column of the true candidate.

    Returns
    -------
    above, tied : ndarray of int, shape (queries,)
    """
    matrix = np.asarray(matrix)
    columns = np.asarray(true_col, dtype=np.int64)
    _refuse_nan(matrix)
    truth = matrix[np.arange(len(matrix)), columns][:, None]
    return (matrix > truth).sum(axis=1), (matrix == truth).sum(axis=1)


def above_and_tied_of_all(matrix: Floats) -> tuple[Ints, Ints]:
    """The counts of `above_and_tied` for every column of every row, shape (queries, items)."""
    matrix = np.asarray(matrix)
    _refuse_nan(matrix)
    order = np.argsort(-matrix, axis=1, kind="stable")
    first, last = _tie_limits(np.take_along_axis(matrix, order, axis=1))
    above, tied = np.empty_like(order), np.empty_like(order)
    np.put_along_axis(above, order, first, axis=1)
    np.put_along_axis(tied, order, last - first + 1, axis=1)
    return above, tied


def _refuse_nan(matrix: Floats) -> None:
    # Comparisons with NaN are false and sorting puts it last: a wrong rank rather than none.
    if np.isnan(matrix).any():
        raise DataError("scores hold NaN: there is no rank", found=f"{np.isnan(matrix).sum()} NaN")


def _tie_limits(ranked: Floats) -> tuple[Ints, Ints]:
    """First and last position of the tie that each value of a sorted row belongs to."""
    n = ranked.shape[1]
    place = np.arange(n)[None, :]
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.ones(ranked.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, n)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def expected_ranks(matrix: Floats, true_col: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Rank of the true candidate, from 1: the mean of its tied positions.

    Examples
    --------
    >>> expected_ranks(np.array([[0.9, 0.5, 0.5], [0.1, 0.1, 0.1]]), [1, 0])
    array([2.5, 2. ])
    """
    above, tied = above_and_tied(matrix, true_col)
    return above + (tied + 1) / 2


def topk_probability(
    matrix: Floats, true_col: npt.ArrayLike, k: int = 1
) -> npt.NDArray[np.float64]:
    """Probability that the true candidate is among the first ``k``.

    Examples
    --------
    >>> topk_probability(np.array([[0.9, 0.5, 0.5], [0.1, 0.1, 0.1]]), [1, 0], k=2)
    array([0.5       , 0.66666667])
    """
    return expected_hit(*above_and_tied(matrix, true_col), k)


def expected_hit(above: Ints, tied: Ints, k: int) -> npt.NDArray[np.float64]:
    """Probability of a place up to ``k``, given the two counts."""
    return np.clip((k - above) / tied, 0.0, 1.0)


def expected_two_way(above: Ints, tied: Ints, size: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Share of the other candidates that score lower, ties half; NaN where there is no other."""
    size = np.asarray(size, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        share: npt.NDArray[np.float64] = (size - above - (tied + 1) / 2) / (size - 1)
    return share


def reciprocal_ranks(matrix: Floats, true_col: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""Expected reciprocal rank: :math:`(H_{a+t} - H_a) / t` for ``a`` above and ``t`` tied.

    Examples
    --------
    >>> reciprocal_ranks(np.array([[0.9, 0.5, 0.5]]), [1]) * 12
    array([5.])
    """
    above, tied = above_and_tied(matrix, true_col)
    return expected_reciprocal(above, tied)


def expected_reciprocal(above: Ints, tied: Ints) -> npt.NDArray[np.float64]:
    """Mean of 1/place over the places of a tie, given the two counts."""
    values: npt.NDArray[np.float64] = _harmonic(above, tied) / tied
    return values


def _harmonic(start: npt.ArrayLike, count: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Sum of 1/i for i in start + 1 ... start + count."""
    start = np.asarray(start)
    total: npt.NDArray[np.float64] = digamma(start + np.asarray(count) + 1.0) - digamma(start + 1.0)
    return total


def average_precision(matrix: Floats, relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    r"""Expected average precision of every query, ties in random order.

    For a relevant item with ``A`` items above it (``a`` of them relevant) in a tie of ``T`` items
    (``t`` relevant), at place j of the tie the precision is
    :math:`(a + 1 + (j-1)\rho) / (A + j)` with :math:`\rho = (t-1)/(T-1)`; its mean over j is
    :math:`[(a + 1 - \rho (1 + A)) (H_{A+T} - H_A)] / T + \rho`.

    Parameters
    ----------
    matrix : ndarray, shape (queries, items)
        Scores.
    relevant : ndarray of bool, shape (queries, items)
        Which items answer the query; at least one per query.

    Returns
    -------
    ndarray, shape (queries,)

    Examples
    --------
    >>> average_precision(np.array([[3.0, 2.0, 1.0]]), np.array([[True, False, True]])) * 6
    array([5.])
    """
    matrix = np.asarray(matrix)
    _refuse_nan(matrix)
    if (empty := np.flatnonzero(~relevant.any(axis=1))).size:
        raise DataError(f"queries without a relevant gallery item: {listing(empty)}")
    order = np.argsort(-matrix, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    first, last = _tie_limits(np.take_along_axis(matrix, order, axis=1))
    found = np.concatenate([np.zeros((len(hits), 1), int), np.cumsum(hits, axis=1)], axis=1)
    tied = last - first + 1
    a = np.take_along_axis(found, first, axis=1)
    t = np.take_along_axis(found, last + 1, axis=1) - a
    rho = (t - 1) / np.maximum(tied - 1, 1)
    precision = (a + 1 - rho * (1 + first)) * _harmonic(first, tied) / tied + rho
    means: npt.NDArray[np.float64] = (precision * hits).sum(axis=1) / hits.sum(axis=1)
    return means


def score(similarity: Similarity, *, direction: Direction = "brain_to_image") -> pd.DataFrame:
    """Score every query.

    Parameters
    ----------
    similarity : Similarity
        Scores of queries against a gallery.
    direction : {"brain_to_image", "image_to_brain"}
        Find the image among the gallery given the brain response, or the brain response among
        those of the same subject given the image. In the second case other responses to the same
        stimulus are not candidates, and images that were not shown play no part.

    Returns
    -------
    DataFrame
        One row per query with ``query``, ``subject``, ``stimulus``, ``concept``, ``rank`` (mean of
        the tied positions), ``n_above``, ``n_tied``, ``top1``, ``top5``, ``reciprocal_rank``,
        ``average_precision`` (items of the query's concept are relevant), ``two_way``,
        ``n_gallery``, ``best`` (id of the best candidate; the smallest id among equals),
        ``true_score``, ``best_score`` and ``n_averaged``.

    Examples
    --------
    >>> queries = pd.DataFrame({"stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.9, 0.1], [0.4, 0.2]], queries, ["a", "b"])
    >>> score(scores)[["stimulus", "rank", "top1", "two_way", "best"]]
      stimulus  rank  top1  two_way best
    0        a   1.0   1.0      1.0    a
    1        b   2.0   0.0      0.0    a
    """
    columns = similarity.true_columns
    rows = np.arange(similarity.n_queries)
    queries = similarity.queries
    table = pd.DataFrame({"query": rows})
    for name in ("subject", "stimulus", "concept"):
        table[name] = queries[name].astype(str).to_numpy() if name in queries else ""
    truth = similarity.matrix[rows, columns]
    if direction == "brain_to_image":
        above, tied = above_and_tied(similarity.matrix, columns)
        size = np.full(len(rows), similarity.n_gallery)
        precision = _concept_precision(similarity, columns)
        best = similarity.top(1)
        names, scores = best["item"].to_numpy(), best["score"].to_numpy()
    elif direction == "image_to_brain":
        above, tied, size, winner = _among_responses(similarity, columns, table["subject"])
        precision = expected_reciprocal(above, tied)
        names = table["stimulus"].to_numpy()[winner]
        scores = similarity.matrix[winner, columns]
    else:
        raise DataError(
            f"there is no direction {direction!r}", expected="brain_to_image or image_to_brain"
        )
    table["rank"] = above + (tied + 1) / 2
    table["n_above"] = above
    table["n_tied"] = tied
    table["top1"] = expected_hit(above, tied, 1)
    table["top5"] = expected_hit(above, tied, 5)
    table["reciprocal_rank"] = expected_reciprocal(above, tied)
    table["average_precision"] = precision
    table["two_way"] = expected_two_way(above, tied, size)
    table["n_gallery"] = size
    table["best"] = names
    table["true_score"] = truth
    table["best_score"] = scores
    table["n_averaged"] = queries["n_averaged"].to_numpy() if "n_averaged" in queries else 1
    return table


def n_way_curve(
    table: pd.DataFrame, ways: Sequence[int] | None = None, *, k: int = 1
) -> pd.DataFrame:
    r"""Expected top-k accuracy when the gallery is the true item and N - 1 others at random.

    Exact, not sampled: with ``g`` of the G - 1 others above the true item, the number of them
    among N - 1 drawn is hypergeometric, so for k = 1 the chance of a hit is
    :math:`\binom{G-1-g}{N-1} / \binom{G-1}{N-1}`, averaged over the places of a tie.

    Parameters
    ----------
    table : DataFrame
        Per-query table of :func:`score` (``n_above``, ``n_tied``, ``n_gallery``).
    ways : sequence of int, optional
        Values of N from 2 to the gallery's size; by default all of them, thinned to about 100 for
        large galleries.
    k : int
        Hits are places up to ``k``.

    Returns
    -------
    DataFrame
        Columns ``n`` and ``accuracy`` (mean over queries) and ``chance`` (min(k / N, 1)).

    Examples
    --------
    >>> table = pd.DataFrame({"n_above": [0, 1], "n_tied": [1, 1], "n_gallery": [3, 3]})
    >>> n_way_curve(table)
       n  accuracy    chance
    0  2      0.75  0.500000
    1  3      0.50  0.333333
    """
    sizes = table["n_gallery"].unique()
    if len(sizes) != 1:
        raise DataError(
            "an n-way curve needs one gallery size", found=f"sizes {listing(sorted(sizes))}"
        )
    size = int(sizes[0])
    if ways is not None:
        n = np.asarray(ways, dtype=np.int64)
    elif size <= 200:
        n = np.arange(2, size + 1)
    else:
        n = np.unique(np.geomspace(2, size, 100).round().astype(np.int64))
    accuracy = n_way_hits(table["n_above"], table["n_tied"], size, n, k=k)
    return pd.DataFrame(
        {"n": n, "accuracy": accuracy.mean(axis=0), "chance": np.minimum(k / n, 1.0)}
    )


def n_way_hits(
    above: npt.ArrayLike, tied: npt.ArrayLike, size: int, ways: npt.ArrayLike, *, k: int = 1
) -> npt.NDArray[np.float64]:
    """Chance of a hit of every query among N candidates; see :func:`n_way_curve`.

    Parameters
    ----------
    above, tied : array of int, shape (queries,)
        Counts of :func:`above_and_tied` in the whole gallery.
    size : int
        Candidates in the whole gallery.
    ways : array of int, shape (sizes,)
        Values of N from 2 to ``size``.
    k : int
        Hits are places up to ``k``.

    Returns
    -------
    ndarray, shape (queries, sizes)

    Examples
    --------
    >>> n_way_hits([0, 1], [1, 1], 3, [2, 3])
    array([[1. , 1. ],
           [0.5, 0. ]])
    """
    n = np.asarray(ways, dtype=np.int64)
    if n.size == 0 or n.min() < 2 or n.max() > size:
        raise DataError("N must be between 2 and the size of the gallery", found=listing(n))
    # hit[g, i]: chance of a hit in N = n[i] when exactly g candidates are above, g = 0 ... G - 1.
    others = np.arange(size)[:, None]
    hit = np.zeros((size, len(n)))
    for j in range(k):
        hit += np.exp(
            _log_choose(others, j)
            + _log_choose(size - 1 - others, n[None, :] - 1 - j)
            - _log_choose(size - 1, n - 1)[None, :]
        )
    summed = np.concatenate([np.zeros((1, len(n))), np.cumsum(hit, axis=0)])
    a, t = np.asarray(above, dtype=np.int64), np.asarray(tied, dtype=np.int64)
    found: npt.NDArray[np.float64] = (summed[a + t] - summed[a]) / t[:, None]
    return found


def _log_choose(n: npt.ArrayLike, k: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Logarithm of the binomial coefficient; minus infinity where it is zero."""
    n, k = np.broadcast_arrays(np.asarray(n, float), np.asarray(k, float))
    possible = (k >= 0) & (k <= n)
    n, k = np.where(possible, n, 0.0), np.where(possible, k, 0.0)
    value = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.where(possible, value, -np.inf)


def _concept_precision(similarity: Similarity, columns: Ints) -> npt.NDArray[np.float64]:
    concepts = similarity.gallery_concepts
    if concepts is None or len(set(concepts)) == len(concepts):
        return reciprocal_ranks(similarity.matrix, columns)
    codes = np.unique(np.asarray(concepts, dtype=str), return_inverse=True)[1]
    return average_precision(similarity.matrix, codes[None, :] == codes[columns][:, None])


def _among_responses(
    similarity: Similarity, columns: Ints, subjects: pd.Series[str]
) -> tuple[Ints, Ints, Ints, Ints]:
    """Counts for finding each response among its subject's, given the image it belongs to."""
    above, tied, size, winner = np.zeros((4, len(columns)), dtype=np.int64)
    tie_break = np.asarray(similarity.gallery_ids, dtype=str)[columns]
    for members in subjects.groupby(subjects).indices.values():
        rows = np.asarray(members)
        # Among equal scores the smallest stimulus id is named, whatever the order of the queries.
        rows = rows[np.argsort(tie_break[rows], kind="stable")]
        step = max(1, _CHUNK // len(rows))
        for start in range(0, len(rows), step):
            own = rows[start : start + step]
            scores = similarity.matrix[rows[:, None], columns[own][None, :]]
            truth = similarity.matrix[own, columns[own]][None, :]
            same_image = columns[rows][:, None] == columns[own][None, :]
            excluded = same_image & (rows[:, None] != own[None, :])
            above[own] = ((scores > truth) & ~excluded).sum(axis=0)
            tied[own] = ((scores == truth) & ~excluded).sum(axis=0)
            size[own] = len(rows) - excluded.sum(axis=0)
            winner[own] = rows[np.where(excluded, -np.inf, scores).argmax(axis=0)]
    return above, tied, size, winner
