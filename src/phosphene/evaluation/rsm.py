r"""Representational similarity matrices: how alike the responses to two things are.

Of patterns (things x units), as cosine or as Pearson's correlation; or cross-validated over
independent measurements of the same things, where noise does not add up (crossnobis):

.. math::
    G = \operatorname{mean}_{a \ne b} H X_a X_b^\top H / p, \qquad
    S = G / \overline{\mathrm{diag}(G)}

with H the centring matrix and p units. Cross-validated squared distances are
:math:`G_{ii} + G_{jj} - 2 G_{ij}`, so that G holds what they hold, as a similarity (Walther et al.
2016, doi:10.1016/j.neuroimage.2015.12.012); units are expected to be whitened before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from phosphene.errors import DataError, listing

Metric = Literal["cosine", "correlation", "crossnobis"]
METRICS = ("cosine", "correlation", "crossnobis")
Matrix = npt.NDArray[np.float64]


def similarity_matrix(patterns: npt.ArrayLike, metric: Metric = "cosine") -> Matrix:
    """Similarity of every pair of rows.

    Parameters
    ----------
    patterns : array, shape (things, units), or (measurements, things, units) for crossnobis
        Responses or vectors.
    metric : {"cosine", "correlation", "crossnobis"}
        See the module.

    Returns
    -------
    ndarray, shape (things, things)
        Symmetric.

    Raises
    ------
    DataError
        If values are not finite, or a row has no direction (length zero; constant, for the
        correlation; no variance in common between measurements, for crossnobis).

    Examples
    --------
    >>> similarity_matrix([[1.0, 0.0], [1.0, 1.0]]).round(3)
    array([[1.   , 0.707],
           [0.707, 1.   ]])
    """
    x = np.asarray(patterns, dtype=np.float64)
    if metric not in METRICS:
        raise DataError("unknown metric of an RSM", found=metric, expected=", ".join(METRICS))
    if metric == "crossnobis":
        return _cross_validated(x)
    if x.ndim != 2:
        raise DataError(
            "an RSM is computed of a table of things and units", found=f"shape {x.shape}"
        )
    _require_finite(x)
    scale = np.abs(x).max(axis=1, keepdims=True)
    if metric == "correlation":
        x = x - x.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("nd,nd->n", x, x))
    flat = np.flatnonzero(length <= 1e-12 * np.maximum(scale[:, 0], 1e-300))
    if flat.size:
        raise DataError(
            "responses of length zero, or constant ones, have no similarity",
            found=f"rows {listing(flat)}",
            fix="leave out things without a response, or units that never respond",
        )
    x = x / length[:, None]
    return _symmetric(x @ x.T)


def _cross_validated(x: Matrix) -> Matrix:
    if x.ndim == 3:
        _require_finite(x.reshape(-1, x.shape[-1]))
        x = x - x.mean(axis=1, keepdims=True)
    gram = cross_validated_gram(x)
    power = float(np.diag(gram).mean())
    if not power > 1e-12 * float(np.square(x).mean()):
        raise DataError(
            "independent measurements have no variance in common, so that there is no similarity",
            found=f"{power:.3g} on average",
            fix="take more reliable voxels, or another metric",
        )
    return gram / power


def cross_validated_gram(x: Matrix) -> Matrix:
    """Inner products of things per unit, over pairs of different measurements.

    Parameters
    ----------
    x : ndarray, shape (measurements, things, units)
        Independent measurements of the same things, two or more.

    Returns
    -------
    ndarray, shape (things, things)
        Symmetric; the diagonal may be negative where measurements disagree.

    Raises
    ------
    DataError
        If there are not several measurements.
    """
    if x.ndim != 3 or len(x) < 2:
        raise DataError(
            "crossnobis needs independent measurements of the same things",
            found=f"shape {x.shape}",
            expected="(measurements, things, units) with two measurements or more",
            fix="keep runs or repetitions apart instead of averaging them",
        )
    total = x.sum(axis=0)
    # sum over a != b of X_a X_b' is that over all pairs less that over equal ones.
    same = np.einsum("mik,mjk->ij", x, x, optimize=True)
    return _symmetric((total @ total.T - same) / (len(x) * (len(x) - 1) * x.shape[-1]))


def check_rsm(rsm: npt.ArrayLike, n: int | None = None, name: str = "the RSM") -> Matrix:
    """An RSM as float64, or an error that says what is wrong with it.

    Parameters
    ----------
    rsm : array, shape (n, n)
        Similarities, not distances.
    n : int, optional
        How many things there should be.
    name : str
        How the message calls it.

    Raises
    ------
    DataError
        If it is not square, of another size, not finite, not symmetric, constant, or holds
        distances.
    """
    matrix = np.asarray(rsm, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{name} is not square", found=f"shape {matrix.shape}")
    if n is not None and len(matrix) != n:
        raise DataError(
            f"{name} is of another size than the vectors",
            found=f"{len(matrix)} rows",
            expected=f"{n}, one per category in the order of the vectors",
        )
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        raise DataError(f"{name} holds NaN or infinity", found=f"rows {listing(bad)}")
    gap = np.abs(matrix - matrix.T)
    if gap.max() > 1e-5 * max(float(np.abs(matrix).max()), 1e-300):
        i, j = np.unravel_index(int(gap.argmax()), gap.shape)
        raise DataError(
            f"{name} is not symmetric",
            found=f"{matrix[i, j]:.4g} at ({i}, {j}) and {matrix[j, i]:.4g} at ({j}, {i})",
            fix="average it with its transpose if the two halves are two estimates",
        )
    pairs = upper(matrix)
    if np.ptp(pairs) == 0:
        raise DataError(f"{name} is constant: it says nothing of the categories", found=pairs[0])
    if np.diag(matrix).max() <= pairs.min() and pairs.min() >= 0:
        raise DataError(
            f"{name} holds distances: nothing is nearer to a category than others are",
            expected="similarities, largest on the diagonal",
            fix="pass 1 - RDM for correlation or cosine distances",
        )
    return _symmetric(matrix)


def upper(rsm: Matrix) -> Matrix:
    """The pairs of an RSM: its upper triangle without the diagonal."""
    return rsm[np.triu_indices(len(rsm), 1)]


def rsm_correlation(
    first: Matrix, second: Matrix, *, method: Literal["spearman", "pearson"] = "spearman"
) -> float:
    """How well two RSMs agree: correlation over pairs; NaN when one is constant.

    Examples
    --------
    >>> a = similarity_matrix(np.random.default_rng(0).normal(size=(6, 4)))
    >>> round(rsm_correlation(a, a**3), 6)
    1.0
    """
    a, b = upper(np.asarray(first)), upper(np.asarray(second))
    if method == "spearman":
        a, b = rankdata(a), rankdata(b)
    return correlation(a, b)


def correlation(a: Matrix, b: Matrix) -> float:
    """Pearson's correlation of two sequences, NaN when one is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def reliability(rsms: Mapping[Any, Matrix]) -> dict[Any, float]:
    """Agreement of every RSM with the mean of the others (Pearson over pairs, at least 0).

    The lower bound of the noise ceiling of Nili et al. 2014 (doi:10.1371/journal.pcbi.1003553).
    """
    n = len(rsms)
    if n < 2:
        raise DataError("reliability compares an RSM with others", found=n, expected="two or more")
    total = np.sum(list(rsms.values()), axis=0, dtype=np.float64)
    found = {
        key: rsm_correlation(rsm, (total - rsm) / (n - 1), method="pearson")
        for key, rsm in rsms.items()
    }
    return {key: max(0.0, value) for key, value in found.items()}


def shares(
    rsms: Mapping[Any, Matrix], weights: Literal["equal", "reliability"]
) -> dict[Any, float]:
    """Weight of every RSM in a mean of them: all alike, or by `reliability`.

    Raises
    ------
    DataError
        If no RSM agrees with the others, so that no weight is left.
    """
    if weights == "equal" or len(rsms) == 1:
        return dict.fromkeys(rsms, 1 / len(rsms))
    given = reliability(rsms)
    total = sum(given.values())
    if not total > 0:
        raise DataError(
            "no RSM agrees with the mean of the others, so that none is reliable",
            found=f"{len(rsms)} RSMs",
            fix='use weights="equal", or check the order of the categories',
        )
    return {key: value / total for key, value in given.items()}


def average(rsms: Mapping[Any, Matrix], weights: Mapping[Any, float]) -> Matrix:
    """Weighted sum of several RSMs, see `shares`."""
    total = np.zeros_like(next(iter(rsms.values())))
    for key, rsm in rsms.items():
        total = total + weights[key] * rsm
    return total


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def _require_finite(x: Matrix) -> None:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise DataError("patterns hold NaN or infinity", found=f"rows {listing(bad)}")
