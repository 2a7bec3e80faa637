r"""Representational dissimilarity matrices (RDMs): how different the responses to two things are.

Of patterns (things x units): cosine and correlation distances (1 less the similarity) and the
squared Euclidean distance per unit. The noise of a measurement adds to every distance of these. The
cross-validated ones are formed of independent measurements a, b of the same things and are 0 on
average where there is no difference (and then negative as often as positive):

.. math::
    d_{ij} = \operatorname{mean}_{a \ne b} (x_{ai} - x_{aj})^\top \Sigma^{-1} (x_{bi} - x_{bj}) / p

with p units; without a noise covariance that is the cross-validated squared Euclidean distance,
with it the crossnobis distance (Walther et al. 2016, doi:10.1016/j.neuroimage.2015.12.012).

Functions of arrays alone; nothing here knows of recordings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from phosphene.errors import DataError, listing
from phosphene.evaluation.rsm import (
    correlation,
    cross_validated_gram,
    similarity_matrix,
    upper,
)

RDMMetric = Literal["correlation", "cosine", "euclidean", "crossnobis"]
METRICS = ("correlation", "cosine", "euclidean", "crossnobis")
Comparison = Literal["spearman", "kendall", "pearson"]
COMPARISONS = ("spearman", "kendall", "pearson")
Array = npt.NDArray[np.float64]


def rdm(
    patterns: npt.ArrayLike,
    metric: RDMMetric = "correlation",
    *,
    noise_covariance: npt.ArrayLike | None = None,
) -> Array:
    """Dissimilarity of every pair of things.

    Parameters
    ----------
    patterns : array, shape (things, units), or (measurements, things, units) for crossnobis
        Responses or vectors.
    metric : {"correlation", "cosine", "euclidean", "crossnobis"}
        See the module.
    noise_covariance : array, shape (units, units), optional
        For crossnobis; without one the units count as they are (whitened before, say).

    Returns
    -------
    ndarray, shape (things, things)
        Symmetric, 0 on the diagonal.

    Raises
    ------
    DataError
        If values are not finite, shapes do not fit the metric, a pattern has no direction (cosine,
        correlation), or the covariance is not positive definite.

    Examples
    --------
    >>> rdm([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "cosine").round(3)
    array([[0.   , 1.   , 0.293],
           [1.   , 0.   , 0.293],
           [0.293, 0.293, 0.   ]])
    """
    x = np.asarray(patterns, dtype=np.float64)
    if metric not in METRICS:
        raise DataError("unknown metric of an RDM", found=metric, expected=", ".join(METRICS))
    if noise_covariance is not None and metric != "crossnobis":
        raise DataError(f"a noise covariance has no part in {metric} distances")
    if x.ndim not in (2, 3) or 0 in x.shape or not np.isfinite(x).all():
        raise DataError("patterns are a table of finite numbers", found=f"shape {x.shape}")
    if metric == "crossnobis":
        gram = _cross_gram(x, noise_covariance)
    elif x.ndim != 2:
        raise DataError(
            f"{metric} distances are of one measurement",
            found=f"shape {x.shape}",
            fix="average the measurements, or use crossnobis",
        )
    elif metric == "euclidean":
        x = x - x.mean(axis=0)
        gram = x @ x.T / x.shape[1]
    else:
        found = 1.0 - similarity_matrix(x, metric)
        np.fill_diagonal(found, 0.0)
        return found
    power = np.diag(gram)
    found = power[:, None] + power[None, :] - 2 * gram
    np.fill_diagonal(found, 0.0)
    return found


def _cross_gram(x: Array, noise_covariance: npt.ArrayLike | None) -> Array:
    if noise_covariance is not None and x.ndim == 3:
        p = x.shape[-1]
        sigma = np.asarray(noise_covariance, dtype=np.float64)
        if sigma.shape != (p, p):
            raise DataError(
                "the noise covariance is of other units",
                found=f"shape {sigma.shape}",
                expected=f"({p}, {p})",
            )
        try:
            lower = np.linalg.cholesky(sigma)
        except np.linalg.LinAlgError as error:
            raise DataError(
                "the noise covariance is not positive definite",
                fix="shrink it towards its diagonal",
            ) from error
        x = np.linalg.solve(lower, x.reshape(-1, p).T).T.reshape(x.shape)
    return cross_validated_gram(x)


def check_rdm(matrix: npt.ArrayLike, n: int | None = None, name: str = "the RDM") -> Array:
    """An RDM as float64, or an error that says what is wrong with it.

    Parameters
    ----------
    matrix : array, shape (n, n)
        Dissimilarities.
    n : int, optional
        How many things there should be.
    name : str
        How the message calls it.

    Raises
    ------
    DataError
        If it is not square, of another size or of fewer than four things, not finite, not
        symmetric, or constant; or if its diagonal is not zero, as that of similarities.

    Examples
    --------
    >>> check_rdm(np.eye(4))
    Traceback (most recent call last):
    ...
    phosphene.errors.DataError: the RDM has a diagonal that is not zero
    ...
    """
    found = np.asarray(matrix, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or len(found) < 4:
        raise DataError(f"{name} is not square, of four things at least", found=found.shape)
    if n is not None and len(found) != n:
        raise DataError(f"{name} is of other things", found=f"{len(found)} rows", expected=n)
    if not np.isfinite(found).all():
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        raise DataError(f"{name} holds NaN or infinity", found=f"rows {listing(bad)}")
    size = max(float(np.abs(found).max()), 1e-300)
    if np.abs(np.diag(found)).max() > 1e-6 * size:
        raise DataError(
            f"{name} has a diagonal that is not zero",
            found=f"{np.diag(found)[0]:.3g}",
            expected="dissimilarities: nothing differs from itself",
            fix="pass 1 - RSM for correlations or cosines",
        )
    if np.abs(found - found.T).max() > 1e-5 * size:
        raise DataError(f"{name} is not symmetric")
    if np.ptp(pairs(found)) == 0:
        raise DataError(f"{name} is constant: it says nothing of the things")
    return (found + found.T) / 2


def pairs(matrix: Array) -> Array:
    """The pairs of an RDM: its upper triangle without the diagonal, row by row."""
    return upper(matrix)


def compare_rdms(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    method: Comparison = "spearman",
    given: npt.ArrayLike | None = None,
) -> float:
    """How well two RDMs agree.

    Parameters
    ----------
    first, second : array, shape (things, things)
        RDMs of the same things in the same order.
    method : {"spearman", "kendall", "pearson"}
        Rank correlation over pairs of things, Kendall's tau-a (which does not favour models that
        predict ties, Nili et al. 2014), or Pearson's correlation.
    given : array, shape (things, things) or (n, things, things), optional
        RDMs held constant: the partial correlation. Not with tau-a.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    DataError
        See :func:`check_rdm`; also where the other RDMs leave nothing to compare.

    Examples
    --------
    >>> a = rdm(np.random.default_rng(0).normal(size=(6, 4)), "euclidean")
    >>> round(compare_rdms(a, a**2), 6), round(compare_rdms(a, a**2, method="kendall"), 6)
    (1.0, 1.0)
    """
    a = check_rdm(first, name="the first RDM")
    b = check_rdm(second, len(a), "the second RDM")
    check_comparison(method, given is not None)
    x, y = pairs(a), pairs(b)
    if method == "kendall":
        return tau_a(x, y)
    x, y = ranked(x, method), ranked(y, method)
    if given is not None:
        others = np.asarray(given, dtype=np.float64)
        others = others[None] if others.ndim == 2 else others
        constant = [pairs(check_rdm(one, len(a), "an RDM held constant")) for one in others]
        basis = control_basis([ranked(one, method) for one in constant])
        x, y = residual(x, basis), residual(y, basis)
    value = correlation(x, y)
    if np.isnan(value):
        raise DataError("the RDMs held constant leave nothing to compare")
    return value


def check_comparison(method: str, partial: bool = False) -> None:
    """Refuse unknown comparisons, and partial ones that are not defined."""
    if method not in COMPARISONS:
        raise DataError(
            "unknown comparison of RDMs", found=method, expected="one of " + ", ".join(COMPARISONS)
        )
    if partial and method == "kendall":
        raise DataError(
            "tau-a has no partial form here", fix="use spearman or pearson for partial correlations"
        )


def ranked(values: Array, method: str) -> Array:
    """Ranks for Spearman's correlation, else the values."""
    return np.asarray(rankdata(values), dtype=np.float64) if method == "spearman" else values


def tau_a(x: Array, y: Array) -> float:
    """Kendall's tau-a: concordant less discordant pairs over all pairs, ties counted as neither.

    Examples
    --------
    >>> tau_a(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])).__round__(3)
    0.667
    """
    tau_b = kendalltau(x, y).statistic
    total = len(x) * (len(x) - 1) / 2
    # tau-b divides by the pairs that are not tied; undone, what is left is their difference.
    untied = [total - float((c * (c - 1) / 2).sum()) for c in (_counts(x), _counts(y))]
    return float(tau_b * np.sqrt(untied[0] * untied[1]) / total)


def _counts(values: Array) -> Array:
    return np.unique(values, return_counts=True)[1].astype(np.float64)


def control_basis(others: list[Array]) -> Array:
    """Orthonormal basis of the constant and what is held constant, shape (pairs, directions)."""
    columns = np.stack([np.ones_like(others[0]), *others], axis=1)
    U, S, _ = np.linalg.svd(columns / np.linalg.norm(columns, axis=0), full_matrices=False)
    kept: Array = U[:, np.flatnonzero(S / S[0] > 1e-10)]
    return kept


def residual(values: Array, basis: Array) -> Array:
    """What is left of values (..., pairs) beside a basis; 0 where only rounding is left."""
    left = values - (values @ basis) @ basis.T
    size = np.linalg.norm(values - values.mean(axis=-1, keepdims=True), axis=-1, keepdims=True)
    small = np.linalg.norm(left, axis=-1, keepdims=True) <= 1e-9 * size
    found: Array = np.where(small, 0.0, left)
    return found
