"""Ridge regression with the penalty of every target chosen by exact leave-one-out.

With centred ``X`` and ``y``, hat matrix ``H(a) = 11'/n + X (X'X + a I)^-1 X'`` and prediction
``H y``, the error at sample i of the model fitted without sample i is

    e_i(a) = (y_i - (H y)_i) / (1 - H_ii)

(Allen 1974, doi:10.1080/00401706.1974.10489157). One eigendecomposition gives it for all
penalties and targets: of ``X'X`` when there are more samples than features, otherwise of the Gram
matrix ``X X'``. In the second form ``1 - H = sum_k a / (l_k + a) v_k v_k'`` over the eigenvectors
*orthogonal to the constant*. The constant itself is an eigenvector of the centred Gram matrix with
eigenvalue 0; counted with the others it would enter with weight 1, the intercept would look
unpenalised and untested, and with more features than samples the smallest penalty would always
win. It is therefore taken out exactly, by a Householder reflection that maps it to the first axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from phosphene._device import resolve_device
from phosphene._logging import progress
from phosphene.errors import DataError, listing

ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-1, 8, 10))
# Below this many multiplications the decomposition takes seconds at most in double precision.
DOUBLE_LIMIT = 4e9
# Temporary arrays of one block of targets; the decomposition itself is not counted.
BLOCK_BYTES = 2**28


class RidgeLOO(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression of many targets, the penalty of each chosen by exact leave-one-out.

    Equal to ``sklearn.linear_model.RidgeCV(alphas, alpha_per_target=True)``, with an intercept.
    Features are not scaled: standardise them before where their units differ.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, all positive.
    alpha_per_target : bool
        Choose the penalty for each target (default) or one for all by their mean error.
    criterion : {"loo", "gcv"}
        Exact leave-one-out, or generalised cross-validation (Golub, Heath & Wahba 1979,
        doi:10.1080/00401706.1979.10489751), which puts the mean of ``1 - H_ii`` over the samples
        in place of each: single samples of large leverage then count less.
    dtype : {"auto", "float32", "float64"}
        Precision of the computation; ``auto`` takes double where that costs seconds at most.
    device : str
        ``auto`` is the first CUDA device when there is one, else the CPU.
    batch_targets : int, optional
        Targets computed at a time; by default as many as keep temporaries below 256 MiB.
    store_cv_results : bool
        Keep the squared leave-one-out errors of all samples in ``cv_results_``.
    progress : bool
        Show a bar over the blocks of targets when someone is watching.

    Attributes
    ----------
    alpha_ : float or ndarray of shape (n_targets,)
        Chosen penalties. A constant target takes the largest.
    best_score_ : float or ndarray of shape (n_targets,)
        Negative mean squared error of the criterion at the chosen penalty.
    loo_r2_ : float or ndarray of shape (n_targets,)
        Share of the target's variance predicted by the models that did not see the sample, at the
        chosen penalty; negative where the mean predicts better; 0 for a constant target. Of the
        generalised errors with "gcv".
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray of shape (n_targets,)
    cv_results_ : ndarray of shape (n_samples, n_alphas) or (n_samples, n_targets, n_alphas)
        Only with ``store_cv_results``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 200))
    >>> Y = X[:, :3] + 0.1 * rng.standard_normal((60, 3))
    >>> model = RidgeLOO(alphas=(1.0, 100.0)).fit(X, Y)
    >>> model.coef_.shape, model.alpha_.shape
    ((3, 200), (3,))
    """

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        *,
        alpha_per_target: bool = True,
        criterion: Literal["loo", "gcv"] = "loo",
        dtype: Literal["auto", "float32", "float64"] = "auto",
        device: str = "auto",
        batch_targets: int | None = None,
        store_cv_results: bool = False,
        progress: bool = True,
    ) -> None:
        self.alphas = alphas
        self.alpha_per_target = alpha_per_target
        self.criterion = criterion
        self.dtype = dtype
        self.device = device
        self.batch_targets = batch_targets
        self.store_cv_results = store_cv_results
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        RidgeLOO
            Itself.

        Raises
        ------
        DataError
            For NaN or infinite values (by column), fewer than two samples, unequal lengths, a
            penalty that is not positive or an unknown criterion.
        """
        alphas = _check_alphas(self.alphas)
        if self.criterion not in ("loo", "gcv"):
            raise DataError(
                "unknown criterion of ridge regression",
                found=self.criterion,
                expected="'loo' or 'gcv'",
            )
        features: NDArray[Any]
        Y: NDArray[Any]
        # First, because scikit-learn's check of the targets would not name the columns.
        if isinstance(y, np.ndarray) and y.dtype.kind == "f":
            _check_finite(y, "target")
        features, Y = _validated(
            self, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        _check_finite(features, "feature")
        single = Y.ndim == 1
        Y = Y.reshape(len(Y), -1)
        device = resolve_device(self.device)
        dtype = self._resolve_dtype(*features.shape)

        x_mean = features.mean(axis=0, dtype=np.float64)
        y_mean = Y.mean(axis=0, dtype=np.float64)
        # A constant target has nothing to learn; without this, rounding would choose its penalty.
        constant = Y.max(axis=0) == Y.min(axis=0)
        y_mean[constant] = Y[0, constant]
        parts = _decompose(_centred(features, x_mean, dtype, device))

        n_targets = Y.shape[1]
        grid = torch.as_tensor(alphas, dtype=dtype, device=device)
        loo = parts.prepare(grid, generalised=self.criterion == "gcv")
        mse, variance = np.empty((len(alphas), n_targets)), np.empty(n_targets)
        stored = np.empty((*Y.shape, len(alphas))) if self.store_cv_results else None
        for block in self._blocks(len(Y), n_targets, len(alphas), dtype, "leave-one-out"):
            centred = _centred(Y[:, block], y_mean[block], dtype, device)
            variance[block] = centred.square().mean(dim=0, dtype=torch.float64).cpu().numpy()
            errors = loo.errors(centred).square_()
            mse[:, block] = errors.mean(dim=1).cpu().numpy()
            if stored is not None:
                stored[:, block] = errors.permute(1, 2, 0).cpu().numpy()
        mse[:, constant] = 0.0

        best = self._choose(mse, alphas, constant)
        # The weights of a block count as well: with few samples they are the larger part.
        widest = max(features.shape)
        coef, intercept = _fill(
            parts,
            Y,
            (x_mean, y_mean),
            grid[best],
            self._blocks(widest, n_targets, 1, dtype, "coefficients"),
        )
        coef[constant] = 0.0
        intercept[constant] = y_mean[constant]

        chosen = mse[best, np.arange(n_targets)]
        ratio = np.divide(chosen, variance, out=np.ones(n_targets), where=~constant)
        scores = -chosen if self.alpha_per_target else np.array([-chosen.mean()])
        penalties = alphas[best] if self.alpha_per_target else alphas[best[:1]]
        if stored is not None:
            self.cv_results_ = stored[:, 0] if single else stored
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        scalar = single or not self.alpha_per_target
        self.alpha_ = float(penalties[0]) if scalar else penalties
        self.best_score_ = float(scores[0]) if scalar else scores
        self.loo_r2_ = float(1 - ratio[0]) if single else 1 - ratio
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predicted targets, of shape (n_samples,) or (n_samples, n_targets).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        array: NDArray[Any] = _validated(self, X, reset=False)
        _check_finite(array, "feature")
        return _predict(array, self.coef_, self.intercept_)

    def _resolve_dtype(self, n_samples: int, n_features: int) -> torch.dtype:
        if self.dtype == "auto":
            work = float(n_samples) * n_features * min(n_samples, n_features)
            return torch.float64 if work <= DOUBLE_LIMIT else torch.float32
        if self.dtype not in ("float32", "float64"):
            raise DataError(
                "unknown precision of ridge regression",
                found=self.dtype,
                expected="'auto', 'float32' or 'float64'",
            )
        return torch.float64 if self.dtype == "float64" else torch.float32

    def _blocks(
        self, n_samples: int, n_targets: int, n_alphas: int, dtype: torch.dtype, what: str
    ) -> Iterator[slice]:
        each = 3 * n_samples * n_alphas * dtype.itemsize
        yield from target_blocks(n_targets, each, self.batch_targets, what, self.progress)

    def _choose(
        self, mse: NDArray[Any], alphas: NDArray[Any], constant: NDArray[Any]
    ) -> NDArray[np.intp]:
        """Index of the chosen penalty of every target; the first of equals, as in scikit-learn."""
        if not self.alpha_per_target:
            return np.full(mse.shape[1], mse.mean(axis=1).argmin())
        best: NDArray[np.intp] = mse.argmin(axis=0)
        best[constant] = alphas.argmax()
        return best


@dataclass(frozen=True)
class _Decomposition:
    """Eigenvectors of the Gram matrix (wide) or of the feature covariance (tall).

    basis : (n, r) eigenvectors orthogonal to the constant if wide, else ``X V``.
    eigenvalues : (r,).  to_features : (p, n) ``X'`` if wide, else ``V`` (p, r).
    """

    wide: bool
    basis: torch.Tensor
    eigenvalues: torch.Tensor
    to_features: torch.Tensor

    def prepare(self, alphas: torch.Tensor, generalised: bool = False) -> _LeaveOneOut:
        """Weights and leverages of all penalties, shared by all targets."""
        inverse = 1 / (self.eigenvalues + alphas[:, None])
        # Wide: numerator and denominator are both scaled by the penalty, against overflow.
        weights = inverse * alphas[:, None] if self.wide else inverse
        squares = torch.cat([part.square() @ weights.T for part in torch.split(self.basis, 1024)]).T
        if not self.wide:
            squares = 1 - 1 / len(self.basis) - squares
        if generalised:
            squares = squares.mean(dim=1, keepdim=True).expand_as(squares).clone()
        floor = torch.finfo(squares.dtype).eps ** 2 if self.wide else torch.finfo(squares.dtype).eps
        return _LeaveOneOut(self.wide, self.basis, weights, squares.clamp_(min=floor))

    def coefficients(self, Y: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Weights (p, targets) with one penalty per target."""
        shrunk = (self.basis.T @ Y) / (self.eigenvalues[:, None] + alphas)
        return self.to_features @ (self.basis @ shrunk if self.wide else shrunk)

    def project(self, X: torch.Tensor) -> torch.Tensor:
        """Centred rows (m, p) such that ``coefficients`` predicts ``project(X) @ shrunk``."""
        mapped = X @ self.to_features
        return mapped @ self.basis if self.wide else mapped


@dataclass(frozen=True)
class _LeaveOneOut:
    wide: bool
    basis: torch.Tensor
    weights: torch.Tensor
    leverage_left: torch.Tensor

    def errors(self, Y: torch.Tensor) -> torch.Tensor:
        """Leave-one-out errors (alphas, n, targets) of centred targets (n, targets)."""
        projected = self.basis.T @ Y
        fitted = self.basis @ (self.weights[:, :, None] * projected)
        residual = fitted if self.wide else fitted.neg_().add_(Y)
        return residual.div_(self.leverage_left[:, :, None])


def _decompose(X: torch.Tensor) -> _Decomposition:
    n, p = X.shape
    if n > p:
        eigenvalues, vectors = torch.linalg.eigh(X.T @ X)
        return _Decomposition(False, X @ vectors, eigenvalues.clamp_(min=0), vectors)
    # u: the reflection I - 2uu' maps the constant direction to the first axis.
    u = torch.full((n,), -1 / n**0.5, dtype=X.dtype, device=X.device)
    u[0] += 1
    u /= u.norm()
    gram = X @ X.T
    image = gram @ u
    w = 2 * (image - (u @ image) * u)
    gram.addr_(u, w, alpha=-1).addr_(w, u, alpha=-1)
    eigenvalues, rotated = torch.linalg.eigh(gram[1:, 1:])
    del gram
    basis = torch.zeros(n, n - 1, dtype=X.dtype, device=X.device)
    basis[1:] = rotated
    basis.addr_(u, u[1:] @ rotated, alpha=-2)
    return _Decomposition(True, basis, eigenvalues.clamp_(min=0), X.T)


def _fill(
    parts: _Decomposition,
    Y: NDArray[Any],
    means: tuple[NDArray[Any], NDArray[Any]],
    penalties: torch.Tensor,
    blocks: Iterable[slice],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (n_targets, p) and intercepts (n_targets,), one block of targets after the other."""
    x_mean, y_mean = means
    dtype, device = penalties.dtype, penalties.device
    name = str(dtype).removeprefix("torch.")
    coef, intercept = np.empty((Y.shape[1], len(x_mean)), dtype=name), np.empty(Y.shape[1])
    for block in blocks:
        centred = _centred(Y[:, block], y_mean[block], dtype, device)
        coef[block] = parts.coefficients(centred, penalties[block]).T.cpu().numpy()
        intercept[block] = y_mean[block] - coef[block] @ x_mean
    return coef, intercept


def _predict(X: NDArray[Any], coef: NDArray[Any], intercept: Any) -> NDArray[Any]:
    """``X coef' + intercept`` without a second copy of all weights in another precision."""
    if coef.ndim == 1 or coef.dtype == X.dtype:
        out: NDArray[Any] = X @ coef.T + intercept
        return out
    out = np.empty((len(X), len(coef)), dtype=np.result_type(X, coef, intercept))
    for block in target_blocks(len(coef), 16 * coef.shape[1], None, "prediction", False):
        out[:, block] = X @ coef[block].T + intercept[block]
    return out


def target_blocks(
    n_targets: int, bytes_each: int, batch: int | None, what: str, show: bool
) -> Iterator[slice]:
    """Blocks of targets whose temporaries stay below `BLOCK_BYTES`, with a progress bar."""
    size = batch or max(1, BLOCK_BYTES // bytes_each)
    starts = range(0, n_targets, size)
    blocks = (slice(start, start + size) for start in starts)
    yield from progress(blocks, total=len(starts), desc=what, enabled=show)


def _centred(
    array: NDArray[Any], mean: NDArray[Any], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    copy = np.subtract(array, mean, dtype=str(dtype).removeprefix("torch."), casting="same_kind")
    return torch.from_numpy(copy).to(device)


def _check_alphas(alphas: ArrayLike) -> NDArray[np.float64]:
    grid = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    bad = grid[~(np.isfinite(grid) & (grid > 0))] if grid.ndim == 1 else grid
    if grid.ndim != 1 or grid.size == 0 or bad.size:
        raise DataError(
            "the penalties of ridge regression cannot be used",
            found=listing(np.ravel(bad)) or "none",
            expected="a sequence of positive, finite numbers",
        )
    return grid


def _validated(estimator: BaseEstimator, *arrays: Any, **options: Any) -> Any:
    try:
        return validate_data(
            estimator,
            *arrays,
            dtype=[np.float64, np.float32, np.float16],
            ensure_all_finite=False,
            **options,
        )
    except ValueError as error:
        raise DataError(str(error)) from error


def _check_finite(array: NDArray[Any], what: str) -> None:
    columns = array.reshape(len(array), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        # A sum is finite only if all its terms are: a first look that needs no second array.
        if np.isfinite(columns.sum(axis=0, dtype=np.float64)).all():
            return
    bad = np.flatnonzero(~np.isfinite(columns).all(axis=0))
    if bad.size:
        raise DataError(
            f"NaN or infinity (inf) in {what} column{'s' if bad.size > 1 else ''} {listing(bad)}",
            expected="finite numbers",
            fix="remove these columns or repair the recording",
        )
