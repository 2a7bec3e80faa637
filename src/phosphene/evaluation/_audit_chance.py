"""Is a score chance? Permutation tests on the scores that an audit asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from phosphene import _random

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# One-sided. A check accuses a clean decoder this often; an audit makes three such tests at most.
ALPHA = 0.001
PERMUTATIONS = 4999


def two_way(scores: Floats) -> Floats:
    """Two-way identification of every query if the candidate of each column were the true one.

    Parameters
    ----------
    scores : ndarray, shape (queries, candidates)

    Returns
    -------
    ndarray, shape (queries, candidates)
        Share of the other candidates that score lower, ties half.

    Examples
    --------
    >>> two_way(np.array([[0.3, 0.1, 0.1]])).tolist()
    [[1.0, 0.25, 0.25]]
    """
    n = scores.shape[1]
    ordered = np.sort(scores, axis=1)
    below = np.stack([np.searchsorted(o, s, "left") for o, s in zip(ordered, scores, strict=True)])
    upto = np.stack([np.searchsorted(o, s, "right") for o, s in zip(ordered, scores, strict=True)])
    found: Floats = (below + (upto - below - 1) / 2) / (n - 1)
    return found


def top1(scores: Floats, answers: Ints) -> float:
    """Top-1 accuracy, ties as their expectation."""
    true = scores[np.arange(len(scores)), answers][:, None]
    best = (scores > true).sum(axis=1) == 0
    return float((best / (scores == true).sum(axis=1)).mean())


def p_of_answers(
    tables: Sequence[Floats], answers: Ints, blocks: Ints, seed: int
) -> tuple[float, float]:
    """Mean two-way identification over several tables, and how often exchanged answers do as well.

    Exact where every response had the same chance to stand with every answer of its block, that is
    for responses that were shuffled.

    Parameters
    ----------
    tables : sequence of ndarray, shape (queries, candidates)
        Of `two_way`.
    answers, blocks : ndarray of int, shape (queries,)
        True column, and the block within which answers are exchanged.
    seed : int
        Seed of the permutations.

    Returns
    -------
    statistic, p : float
    """
    rng = _random.generator(seed, "audit", "answers")
    rows = np.arange(len(answers))
    observed = float(np.mean([table[rows, answers].mean() for table in tables]))
    groups = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    null = np.zeros(PERMUTATIONS)
    for table in tables:
        order = np.tile(rows, (PERMUTATIONS, 1))
        for group in groups:
            order[:, group] = rng.permuted(order[:, group], axis=1)
        null += table[rows, answers[order]].mean(axis=1)
    return observed, _p(observed, null / len(tables))


def p_of_candidates(tables: Sequence[Floats], answers: Ints, seed: int) -> tuple[float, float]:
    """Mean two-way identification over several tables, and how often exchanged candidates do too.

    Valid for a decoder that knows nothing of which candidate belongs to which response, however
    alike the responses to one candidate are.

    Returns
    -------
    statistic, p : float
        ``p`` cannot be smaller than one over the number of orders of the candidates.
    """
    rng = _random.generator(seed, "audit", "candidates")
    mean = np.mean(tables, axis=0)
    n = mean.shape[1]
    sums = np.zeros((n, n))  # true candidate x column that takes its place
    np.add.at(sums, answers, mean)
    sums /= len(answers)
    observed = float(np.trace(sums))
    order = rng.permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)
    null = sums[np.arange(n), order].sum(axis=1)
    return observed, _p(observed, null)


def _p(observed: float, null: Floats) -> float:
    return float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))
