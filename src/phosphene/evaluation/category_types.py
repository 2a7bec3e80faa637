"""Types of categories: clusters of their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from phosphene.errors import DataError

N_CLUSTERS = 10
"""As many as in the study of brain-aligned semantic vectors."""


def category_clusters(
    vectors: npt.ArrayLike,
    names: Sequence[str],
    n_clusters: int = N_CLUSTERS,
    *,
    random_state: int = 0,
) -> dict[str, str]:
    """Sort categories into clusters of like vectors, by k-means of their directions from the mean.

    Parameters
    ----------
    vectors : array, shape (n, d)
        One per category.
    names : sequence of str, length n
        Categories.
    n_clusters : int
        How many clusters; fewer than categories.
    random_state : int
        Seed of the beginnings, of which the best of ten is kept.

    Returns
    -------
    dict of str to str
        Category to cluster, which is called by its number, the largest first, and the category
        nearest to its centre: ``"1 dog"``.

    Raises
    ------
    DataError
        If there are no more categories than clusters, or names and vectors differ in number.

    Examples
    --------
    >>> category_clusters([[2.0, 0.1], [2.0, 0.0], [0.0, 2.0]], ["cat", "dog", "car"], 2)
    {'cat': '1 cat', 'dog': '1 cat', 'car': '2 car'}
    """
    from sklearn.cluster import KMeans

    x = np.asarray(vectors, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(names) or not np.isfinite(x).all():
        raise DataError(
            "one vector of finite numbers per category is needed",
            found=f"shape {x.shape}", expected=f"({len(names)}, width)",
        )  # fmt: skip
    if not 2 <= n_clusters < len(x):
        raise DataError(
            "clusters are two or more, and fewer than categories",
            found=f"{n_clusters} clusters of {len(x)} categories",
        )
    x = x - x.mean(axis=0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    model = KMeans(n_clusters, n_init=10, random_state=random_state).fit(x)
    sizes = np.bincount(model.labels_, minlength=n_clusters)
    labels = {}
    for number, cluster in enumerate(np.argsort(-sizes, kind="stable"), 1):
        rows = np.flatnonzero(model.labels_ == cluster)
        away = np.linalg.norm(x[rows] - model.cluster_centers_[cluster], axis=1)
        # Of equals the first, although their distances may round apart.
        middle = rows[int(np.argmin(np.round(away, 9)))]
        labels[int(cluster)] = f"{number} {names[middle]}"
    return {str(name): labels[int(c)] for name, c in zip(names, model.labels_, strict=True)}
