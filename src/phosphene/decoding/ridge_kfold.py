"""Ridge regression of many targets, the penalty of each chosen by folds of whole groups.

Leave-one-out (`phosphene.decoding.ridge`) costs one decomposition, but takes samples one at a time:
repetitions of a stimulus, or neighbours in time of one run, then stand on both sides. Folds that
keep such groups together need one decomposition each.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from phosphene._device import resolve_device
from phosphene.decoding._folds import Folds, folds_of
from phosphene.decoding._himalaya import solve_by_himalaya
from phosphene.decoding.ridge import (
    ALPHAS,
    BLOCK_BYTES,
    _centred,
    _check_alphas,
    _check_finite,
    _decompose,
    _fill,
    _predict,
    _validated,
    target_blocks,
)
from phosphene.decoding.select import Precision, checked, resolve_dtype
from phosphene.errors import DataError


class RidgeKFold(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression of many targets, the penalty of each chosen by k-fold cross-validation.

    Equal to a ``GridSearchCV`` over ``sklearn.linear_model.Ridge`` for each target. Features are
    not scaled: standardise them before where their units differ.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, all positive.
    cv : int, splitter or iterable of (train, test)
        Folds. A number is that many contiguous ones, or of whole groups where groups are given.
    alpha_per_target : bool
        Choose the penalty for each target (default) or one for all by their mean error.
    solver : {"torch", "himalaya"}
        Our own solver, or himalaya's (extra ``fmri``). They agree up to rounding; ours is faster.
    dtype : {"auto", "float32", "float64"}
        Precision of the computation; ``auto`` takes double where that costs seconds at most.
    device : str
        ``auto`` is the first CUDA device when there is one, else the CPU.
    batch_targets : int, optional
        Targets computed at a time; by default as many as keep temporaries below 256 MiB.
    progress : bool
        Show a bar over the blocks of targets when someone is watching.

    Attributes
    ----------
    alpha_ : float or ndarray of shape (n_targets,)
        Chosen penalties. A constant target takes the largest.
    best_score_ : float or ndarray of shape (n_targets,)
        Negative squared error at the chosen penalty, averaged within and then over the folds.
    cv_r2_ : float or ndarray of shape (n_targets,)
        Share of the test folds' squared deviation from the mean of their training rows that was
        predicted, at the chosen penalty; 0 for a constant target.
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray of shape (n_targets,)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 200))
    >>> Y = X[:, :3] + 0.1 * rng.standard_normal((60, 3))
    >>> runs = np.repeat(np.arange(6), 10)
    >>> RidgeKFold(alphas=(1.0, 100.0), cv=3).fit(X, Y, groups=runs).alpha_.shape
    (3,)
    """

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        *,
        cv: int | Any = 5,
        alpha_per_target: bool = True,
        solver: Literal["torch", "himalaya"] = "torch",
        dtype: Precision = "auto",
        device: str = "auto",
        batch_targets: int | None = None,
        progress: bool = True,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.solver = solver
        self.dtype = dtype
        self.device = device
        self.batch_targets = batch_targets
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_targets)
        groups : array of shape (n_samples,), optional
            Samples that must stay together in a fold, such as runs or repetitions of a stimulus.

        Returns
        -------
        RidgeKFold
            Itself.

        Raises
        ------
        DataError
            For NaN or infinite values (by column), unequal lengths, penalties or folds that cannot
            be used, or an unknown solver.
        MissingExtraError
            If himalaya is asked for and not installed.
        """
        alphas = _check_alphas(self.alphas)
        if self.solver not in ("torch", "himalaya"):
            raise DataError(
                "unknown solver of ridge regression",
                found=self.solver,
                expected="'torch' or 'himalaya'",
            )
        if isinstance(self.cv, str):
            raise DataError(
                "these are not folds", found=self.cv, fix="RidgeLOO has criterion='loo' and 'gcv'"
            )
        features, Y = checked(self, X, y)
        single = Y.ndim == 1
        Y = Y.reshape(len(Y), -1)
        folds = folds_of(self.cv, features, Y, groups)
        assert not isinstance(folds, str)
        n, p = features.shape
        grid = torch.as_tensor(alphas, device=resolve_device(self.device)).to(
            resolve_dtype(self.dtype, float(n) * p * min(n, p))
        )
        means = features.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
        constant = Y.max(axis=0) == Y.min(axis=0)
        means[1][constant] = Y[0, constant]
        solve = self._by_himalaya if self.solver == "himalaya" else self._by_torch
        best, chosen, coef, intercept = solve(features, Y, means, grid, folds, constant)

        coef[constant] = chosen[constant] = 0.0
        intercept[constant] = means[1][constant]
        base = _error_of_means(Y, folds)
        r2 = 1 - np.divide(chosen, base, out=np.ones(len(base)), where=~constant & (base > 0))
        scores, penalties = -chosen, alphas[best]
        if not self.alpha_per_target:
            scores, penalties = np.array([scores.mean()]), penalties[:1]
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        scalar = single or not self.alpha_per_target
        self.alpha_ = float(penalties[0]) if scalar else penalties
        self.best_score_ = float(scores[0]) if scalar else scores
        self.cv_r2_ = float(r2[0]) if single else r2
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

    def _by_torch(
        self,
        features: NDArray[Any],
        Y: NDArray[Any],
        means: tuple[NDArray[Any], NDArray[Any]],
        grid: torch.Tensor,
        folds: Folds,
        constant: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Chosen penalties, their errors, weights and intercepts."""
        mse = np.zeros((len(grid), Y.shape[1]))
        for train, test in folds:
            self._add_fold(mse, features, Y, grid, train, test)
        mse /= len(folds)
        mse[:, constant] = 0.0
        if self.alpha_per_target:
            best = mse.argmin(axis=0)
            best[constant] = int(grid.argmax())
        else:
            best = np.full(Y.shape[1], mse.mean(axis=1).argmin())
        parts = _decompose(_centred(features, means[0], grid.dtype, grid.device))
        each = 3 * max(features.shape) * grid.dtype.itemsize
        blocks = target_blocks(Y.shape[1], each, self.batch_targets, "coefficients", self.progress)
        coef, intercept = _fill(parts, Y, means, grid[best], blocks)
        return best, mse[best, np.arange(len(best))], coef, intercept

    def _add_fold(
        self,
        mse: NDArray[Any],
        features: NDArray[Any],
        Y: NDArray[Any],
        grid: torch.Tensor,
        train: NDArray[np.intp],
        test: NDArray[np.intp],
    ) -> None:
        """Add the squared errors of one fold to ``mse`` (alphas, targets)."""
        dtype, device = grid.dtype, grid.device
        x_mean = features[train].mean(axis=0, dtype=np.float64)
        parts = _decompose(_centred(features[train], x_mean, dtype, device))
        new = parts.project(_centred(features[test], x_mean, dtype, device))
        each = 5 * len(Y) * dtype.itemsize
        for block in target_blocks(Y.shape[1], each, self.batch_targets, "fold", self.progress):
            y_mean = Y[train, block].mean(axis=0, dtype=np.float64)
            projected = parts.basis.T @ _centred(Y[train, block], y_mean, dtype, device)
            truth = _centred(Y[test, block], y_mean, dtype, device)
            for number, alpha in enumerate(grid):
                guess = new @ (projected / (parts.eigenvalues[:, None] + alpha))
                error = guess.sub_(truth).square_().mean(dim=0, dtype=torch.float64)
                mse[number, block] += error.cpu().numpy()

    def _by_himalaya(
        self,
        features: NDArray[Any],
        Y: NDArray[Any],
        means: tuple[NDArray[Any], NDArray[Any]],
        grid: torch.Tensor,
        folds: Folds,
        constant: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Chosen penalties, their errors, weights and intercepts."""
        X, targets = (
            _centred(array, mean, grid.dtype, grid.device)
            for array, mean in zip((features, Y), means, strict=True)
        )
        each = 8 * len(Y) * grid.dtype.itemsize
        batch = self.batch_targets or max(1, BLOCK_BYTES // each)
        best, mse, coef = solve_by_himalaya(X, targets, grid, folds, self.alpha_per_target, batch)
        if self.alpha_per_target:
            best[constant] = int(grid.argmax())
        return best, mse, coef, means[1] - coef @ means[0]


def _error_of_means(Y: NDArray[Any], folds: Folds) -> NDArray[np.float64]:
    """Mean over folds of the test rows' squared deviation from the mean of the training rows."""
    total = np.zeros(Y.shape[1])
    for block in target_blocks(Y.shape[1], 16 * len(Y), None, "means", False):
        for train, test in folds:
            mean = Y[train, block].mean(axis=0, dtype=np.float64)
            total[block] += np.square(Y[test, block] - mean).mean(axis=0)
    return total / len(folds)
