"""The noise ceiling of a simulated study: what an observer who knows the truth would retrieve.

The observer knows the expected response t_i of every candidate and the noise covariance S, and
answers the most likely candidate. For a response x = t_k + e, e ~ N(0, S), the log-likelihoods are,
up to a constant,

    l_i = t_i' S^-1 x - t_i' S^-1 t_i / 2

so that with the Gram matrix G = T S^-1 T' one trial is l = G[k] - diag(G) / 2 + n with
n ~ N(0, G): the ceiling needs no responses, only G. Fluctuations of the person (attention, latency,
gain) are not counted as noise, so that it bounds from above.

Green & Swets 1966, Signal Detection Theory and Psychophysics (the ideal observer).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene import _random
from phosphene.errors import DataError

_DRAWS_AT_ONCE = 4096


class Truth(Protocol):
    """What is known of a simulated person; `phosphene.simulation` provides it."""

    @property
    def templates(self) -> Any:
        """Expected response to each candidate, shape (candidates, ...)."""
        ...

    def filters(self, repetitions: int = 1) -> Any:
        """Inverse noise covariance of an average, times the templates; shape of the templates."""
        ...


def noise_ceiling(
    truth: Truth, repetitions: int = 1, *, k: int = 1, n_draws: int = 20_000, seed: int = 0
) -> float:
    """Top-k accuracy of the ideal observer on averages of so many repetitions.

    Parameters
    ----------
    truth : Truth
        Templates and noise of a subject, e.g. ``study.truth["01"]``.
    repetitions : int
        Repetitions averaged into one response.
    k : int
        Hits are true candidates among the first k.
    n_draws : int
        Simulated trials, spread evenly over the candidates.
    seed : int
        Seed of the draws.

    Returns
    -------
    float
        Share of hits in [0, 1].
    """
    if repetitions < 1:
        raise DataError("at least one repetition is averaged", found=repetitions)
    n = len(truth.templates)
    templates = np.asarray(truth.templates, dtype=np.float64).reshape(n, -1)
    filters = np.asarray(truth.filters(repetitions), dtype=np.float64).reshape(n, -1)
    # What all responses have in common tells nothing, but would cost precision.
    templates, filters = templates - templates.mean(axis=0), filters - filters.mean(axis=0)
    return ceiling_from_gram(filters @ templates.T, k=k, n_draws=n_draws, seed=seed)


def ceiling_from_gram(
    gram: ArrayLike, *, k: int = 1, n_draws: int = 20_000, seed: int = 0
) -> float:
    """Top-k accuracy of the ideal observer from the templates' Gram matrix.

    Parameters
    ----------
    gram : array, shape (candidates, candidates)
        ``T S^-1 T'`` with the noise covariance S of one response.
    k, n_draws, seed
        As in `noise_ceiling`.

    Raises
    ------
    DataError
        If the matrix is not square, finite and symmetric.

    Examples
    --------
    >>> ceiling_from_gram(np.zeros((4, 4)))  # no signal: chance
    0.25
    >>> ceiling_from_gram(100 * np.eye(4))
    1.0
    """
    G = np.asarray(gram, dtype=np.float64)
    if G.ndim != 2 or G.shape[0] != G.shape[1] or not np.isfinite(G).all():
        raise DataError("not a Gram matrix", found=f"shape {G.shape}", expected="square, finite")
    scale = float(np.abs(G).max())
    if not np.allclose(G, G.T, atol=1e-6 * scale + 1e-12):
        raise DataError("the Gram matrix is not symmetric")
    if k < 1 or n_draws < 1:
        raise DataError("k and n_draws are positive", found=f"k={k}, n_draws={n_draws}")
    n = len(G)
    G = (G + G.T) / 2
    values, vectors = np.linalg.eigh(G)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    # Directions of rounding error would break ties that are exact.
    root[:, values <= 1e-12 * max(scale, 1e-300)] = 0.0
    rng = _random.generator(seed, "noise ceiling")
    true = np.arange(n_draws) % n
    bias = np.diagonal(G) / 2
    hits = 0.0
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        rows = true[start : start + _DRAWS_AT_ONCE]
        scores = G[rows] - bias + rng.standard_normal((len(rows), n)) @ root.T
        hits += _hits(scores, rows, k).sum()
    return float(hits / n_draws)


def _hits(scores: NDArray[Any], true: NDArray[Any], k: int) -> NDArray[Any]:
    """Expected hits when ties are broken at random."""
    own = scores[np.arange(len(true)), true][:, None]
    above = (scores > own).sum(axis=1)
    tied = (scores == own).sum(axis=1)
    share: NDArray[Any] = np.clip((k - above) / tied, 0.0, 1.0)
    return share
