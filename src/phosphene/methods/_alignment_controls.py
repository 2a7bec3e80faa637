"""What an aligned space is compared with: maps of the same vectors that know no brain.

``original``; ``centred`` by the mean of the training categories; ``pca`` to the width of the
paper's latent; ``whitened`` with the aligner's own penalty, which is what a linear aligner does to
vectors whatever the brain says; ``alpha=1``, the aligner without the brain's term; ``shuffled``,
the aligner fitted to the RSM with its categories permuted. The last two keep what was chosen for
the aligned row, so that nothing differs but the brain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene import _random
from phosphene.evaluation.rsm import Matrix

Map = Callable[[NDArray[Any]], NDArray[Any]]
WHITENING = 0.1
"""Penalty of the whitening where the aligner has none of its own."""


def maps_without_brain(train: Matrix, width: int | None, penalty: float) -> dict[str, Map]:
    """Original, centred, PCA and whitened vectors; fitted on training categories.

    Parameters
    ----------
    train : ndarray, shape (n, d)
    width : int, optional
        Components of PCA; half of d by default, and never more than n - 1.
    penalty : float
        Of the whitening, in units of the mean variance of a component; 0 takes `WHITENING`.
    """
    mean = train.mean(axis=0)
    _, sizes, axes = np.linalg.svd(train - mean, full_matrices=False)
    sizes, axes = sizes[: len(train) - 1], axes[: len(train) - 1]
    kept = axes[: width or max(train.shape[1] // 2, 1)]
    added = (penalty or WHITENING) * np.square(sizes).sum() / len(sizes)
    # Along a component of size s the linear aligner shrinks by s / (s^2 + penalty), brain or not.
    scale = sizes / (np.square(sizes) + added)
    return {
        "original": lambda v: v,
        "centred": lambda v: v - mean,
        "pca": lambda v: (v - mean) @ kept.T,
        "whitened": lambda v: (v - mean) @ axes.T * scale,
    }


def shuffled(
    rsms: Mapping[Any, Matrix], n: int, seed: int, *names: object
) -> list[dict[Any, Matrix]]:
    """``n`` draws of RSMs with permuted categories, all RSMs of a draw by one permutation.

    One permutation for all keeps their agreement, so that what is averaged is as strong as before.
    """
    size = len(next(iter(rsms.values())))
    draws = []
    for draw in range(n):
        order = _random.generator(seed, "shuffled rsm", draw, *names).permutation(size)
        draws.append({key: rsm[np.ix_(order, order)] for key, rsm in rsms.items()})
    return draws
