"""Linear maps between two sets of paired vectors: ridge regression and canonical correlation.

Ridge. With centred ``X`` (n, p) of singular values ``s`` and left vectors ``U``, the model fitted
without sample i misses it by

    e_i(a) = r_i(a) / (1 - h_i(a)),  r = Y - U diag(s^2 / (s^2 + a)) U'Y,
    1 - h_i = 1 - 1/n - sum_k U_ik^2 s_k^2 / (s_k^2 + a)

where 1/n is the intercept's share (Allen 1974, doi:10.1080/00401706.1974.10489157).

Canonical correlation. With shrunk covariances ``C = (1 - g) X'X/n + g tr(X'X)/(n p) I`` the weights
are ``Cx^-1/2 A`` and ``Cy^-1/2 B`` of the singular vectors ``A D B'`` of
``Cx^-1/2 (1 - g) X'Y/n Cy^-1/2`` (Hotelling 1936, doi:10.1093/biomet/28.3-4.321; Vinod 1976,
doi:10.1016/0304-4076(76)90010-5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def thin_svd(X: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """``U, s, V`` with ``X = U diag(s) V'`` and without the directions that X does not have.

    Centred X lacks the constant direction; with a singular value of rounding size it would count as
    one that the samples have, and with more dimensions than samples the smallest penalty would win.
    """
    try:
        U, s, Vt = scipy.linalg.svd(X, full_matrices=False)
    except scipy.linalg.LinAlgError:  # the faster driver gives up on rare matrices
        U, s, Vt = scipy.linalg.svd(X, full_matrices=False, lapack_driver="gesvd")
    kept = s > s.max(initial=0.0) * max(X.shape) * np.finfo(np.float64).eps
    return U[:, kept], s[kept], Vt[kept].T


@dataclass(frozen=True)
class Ridge:
    """Ridge regression with an intercept, at every penalty.

    Attributes
    ----------
    U, s, V : ndarray
        Singular value decomposition of the inputs.
    inside, outside : ndarray, shapes (r, q) and (n, q)
        Targets in and out of the inputs' span.
    left : ndarray, shape (n,)
        Leverage of a sample that neither the intercept nor the inputs have.
    """

    U: Matrix
    s: Matrix
    V: Matrix
    inside: Matrix
    outside: Matrix
    left: Matrix

    @classmethod
    def of(cls, X: Matrix, Y: Matrix) -> Ridge:
        """The regression of centred Y (n, q) on centred X (n, p)."""
        U, s, V = thin_svd(X)
        inside = U.T @ Y
        left = np.clip(1 - 1 / len(X) - np.sum(U**2, axis=1), 0, None)
        return cls(U, s, V, inside, Y - U @ inside, left)

    def residuals(self, alpha: float) -> Matrix:
        """Leave-one-out errors (n, q)."""
        weight = alpha / (self.s**2 + alpha)
        fitted = self.outside + self.U @ (weight[:, None] * self.inside)
        leverage_left = np.maximum(self.left + self.U**2 @ weight, np.finfo(np.float64).eps)
        return np.asarray(fitted / leverage_left[:, None])

    def weights(self, alpha: float) -> Matrix:
        """Weights (p, q)."""
        return np.asarray(self.V @ ((self.s / (self.s**2 + alpha))[:, None] * self.inside))


@dataclass(frozen=True)
class Side:
    """One side of a canonical correlation: centred vectors in their own axes.

    Attributes
    ----------
    U, s, V : ndarray
        Singular value decomposition, from `thin_svd`.
    n, p : int
        Samples and dimensions.
    """

    U: Matrix
    s: Matrix
    V: Matrix
    n: int
    p: int

    @classmethod
    def of(cls, X: Matrix) -> Side:
        """The side of centred vectors (n, p)."""
        return cls(*thin_svd(X), *X.shape)

    def scales(self, shrinkage: float) -> Matrix:
        """Square roots of the shrunk covariance's eigenvalues in these axes."""
        variances = self.s**2 / self.n
        spread = variances.sum() / self.p
        return np.asarray(np.sqrt((1 - shrinkage) * variances + shrinkage * spread))


def canonical(x: Side, y: Side, shrinkage: float) -> tuple[Matrix, Matrix, Matrix]:
    """Weights (p, r) and (q, r) of both sides, and canonical correlations (r,), largest first."""
    sx, sy = x.scales(shrinkage), y.scales(shrinkage)
    left = (x.s / sx)[:, None] * x.U.T
    right = (y.s / sy)[:, None] * y.U.T
    A, d, Bt = scipy.linalg.svd((1 - shrinkage) / x.n * (left @ right.T), full_matrices=False)
    return x.V @ (A / sx[:, None]), y.V @ (Bt.T / sy[:, None]), d


def choose(
    texts: Matrix,
    images: Matrix,
    shrinkages: Sequence[float],
    ranks: Sequence[int],
    folds: Sequence[NDArray[np.intp]],
) -> tuple[float, int]:
    """Shrinkage and rank with the best two-way identification of the rows left out.

    Parameters
    ----------
    texts, images : ndarray, shapes (n, p) and (n, q)
        Rows belong together.
    shrinkages, ranks : sequence
        What to choose from; of equals the first.
    folds : sequence of array
        Rows to leave out in turn.
    """
    scores = np.zeros((len(shrinkages), len(ranks)))
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(texts)), held_out)
        text_mean, image_mean = texts[rest].mean(axis=0), images[rest].mean(axis=0)
        x, y = Side.of(texts[rest] - text_mean), Side.of(images[rest] - image_mean)
        for i, shrinkage in enumerate(shrinkages):
            A, B, d = canonical(x, y, shrinkage)
            a = (texts[held_out] - text_mean) @ (A * d)
            b = (images[held_out] - image_mean) @ (B * d)
            for j, rank in enumerate(ranks):
                scores[i, j] += two_way(a[:, :rank], b[:, :rank])
    i, j = divmod(int(scores.argmax()), len(ranks))
    return float(shrinkages[i]), int(ranks[j])


def two_way(texts: Matrix, images: Matrix) -> float:
    """Share of pairs (i, j) where text i is nearer to image i than to image j; ties half.

    Nearness is the cosine; rows of the two arrays (n, d) belong together.
    """
    scores = _unit(texts) @ _unit(images).T
    own = np.diag(scores)[:, None]
    n = len(scores)
    ties = (np.sum(scores == own) - n) / 2
    return float((np.sum(scores < own) + ties) / (n * (n - 1)))


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float64).tiny))
