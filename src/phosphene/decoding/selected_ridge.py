"""Ridge regression of many targets, each on the features that correlate with it most.

For every target t: S(t) = the k features of largest |r| with it; then ridge regression on S(t),
penalty by cross-validation. Selection looks at the targets, so that a score is honest only if the
selection was repeated without the samples that are scored. With ``cv`` a number of folds, as is the
default, it is. Leave-one-out errors come at no cost from one decomposition, but of features that
were selected with all samples: they favour small penalties and show success in pure noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from phosphene._device import resolve_device
from phosphene.decoding._batched import Rows, bytes_each
from phosphene.decoding._folds import Folds, folds_of
from phosphene.decoding.ridge import ALPHAS, _centred, _check_alphas, target_blocks
from phosphene.decoding.select import (
    Precision,
    Regions,
    Selection,
    checked,
    predict_sparse,
    resolve_dtype,
    sparse_coef,
)


class SelectedRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression of every target on its own k most correlated features.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, all positive.
    k : int or float
        Features per target: a number, or as a float the share of the candidates.
    regions : array of bool of shape (n_features,), or mapping of names to such arrays, optional
        Candidates; the best ``k`` of each region (see `TopCorrelation`).
    cv : int, splitter, iterable of (train, test), "loo" or "gcv"
        How the penalty of each target is chosen. Folds: **selection and fit are repeated in each
        fold**, the scores are honest but for the choice among the penalties. A number is that many
        contiguous folds, of whole groups where groups are given. "loo": exact leave-one-out on
        the features selected with **all** samples; the selection is not repeated. "gcv":
        generalised cross-validation, with the same reservation. The last two need one
        decomposition where folds need one per fold, and their scores are too good.
        ``cv=LeaveOneOut()`` repeats the selection for every sample.
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
    indices_ : ndarray of int32, shape (k,) or (n_targets, k)
        Selected features of each target, ascending, from all rows given to ``fit``.
    coef_ : ndarray, shape (k,) or (n_targets, k)
        Weights of the selected features; ``sparse_coef_`` has them among all features.
    intercept_ : float or ndarray, shape (n_targets,)
    alpha_ : float or ndarray, shape (n_targets,)
        Chosen penalties. A constant target takes the largest.
    best_score_ : float or ndarray, shape (n_targets,)
        Negative mean squared error of the cross-validation at the chosen penalty.
    cv_r2_ : float or ndarray, shape (n_targets,)
        Share of the variance predicted there, against the mean of the training rows of each fold
        (of all rows for "loo" and "gcv"). Honest with folds; **too good with "loo" and "gcv"**.

    See Also
    --------
    phosphene.decoding.ridge.RidgeLOO : All targets on the same features: many times faster.

    Notes
    -----
    One selection for all targets is
    ``make_pipeline(TopCorrelation(k, shared="max"), RidgeLOO())``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((80, 200))
    >>> Y = X[:, [3, 50]] + X[:, [9, 10]] + 0.1 * rng.standard_normal((80, 2))
    >>> model = SelectedRidge(k=2).fit(X, Y)
    >>> model.indices_.tolist()
    [[3, 9], [10, 50]]
    >>> (model.cv_r2_ > 0.9).all()
    np.True_
    """

    def __init__(
        self,
        alphas: ArrayLike = ALPHAS,
        *,
        k: int | float = 500,
        regions: Regions = None,
        cv: int | Any | Literal["loo", "gcv"] = 5,
        dtype: Precision = "auto",
        device: str = "auto",
        batch_targets: int | None = None,
        progress: bool = True,
    ) -> None:
        self.alphas = alphas
        self.k = k
        self.regions = regions
        self.cv = cv
        self.dtype = dtype
        self.device = device
        self.batch_targets = batch_targets
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Select, choose the penalties and fit.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_targets)
        groups : array of shape (n_samples,), optional
            Samples that must stay together in a fold, such as runs or repetitions of a stimulus.

        Returns
        -------
        SelectedRidge
            Itself.

        Raises
        ------
        DataError
            For NaN or infinite values (by column), unequal lengths, penalties, ``k``, regions or
            folds that cannot be used, and groups where leave-one-out would not heed them.
        """
        alphas = _check_alphas(self.alphas)
        features, Y = checked(self, X, y)
        single = Y.ndim == 1
        Y = Y.reshape(len(Y), -1)
        folds = folds_of(self.cv, features, Y, groups)
        constant = Y.max(axis=0) == Y.min(axis=0)

        whole = self._part(features, Y)
        if isinstance(folds, str):
            mse, base, coef = whole.leave_one_out(alphas, generalised=folds == "gcv")
            best = mse.argmin(axis=0)
        else:
            mse, base = self._cross_validate(features, Y, alphas, folds)
            best = mse.argmin(axis=0)
            coef = whole.coefficients(alphas[best])
        best[constant] = alphas.argmax()
        mse[:, constant] = coef[constant] = 0.0
        intercept = whole.y_mean - np.einsum("tk,tk->t", coef, whole.x_mean[whole.indices])
        intercept[constant] = Y[0, constant]
        chosen = mse[best, np.arange(len(best))]
        r2 = 1 - np.divide(chosen, base, out=np.ones(len(base)), where=~constant & (base > 0))
        found = (whole.indices, coef, intercept, alphas[best], -chosen, r2)
        if single:
            found = tuple(part[0] if part.ndim > 1 else float(part[0]) for part in found)  # type: ignore[assignment]
        self.indices_, self.coef_, self.intercept_ = found[:3]
        self.alpha_, self.best_score_, self.cv_r2_ = found[3:]
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predicted targets, of shape (n_samples,) or (n_samples, n_targets).

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return predict_sparse(self, X)

    @property
    def sparse_coef_(self) -> csr_array:
        """Weights of shape (n_targets, n_features), 0 where a feature was not selected."""
        check_is_fitted(self)
        return sparse_coef(self.indices_, self.coef_, self.n_features_in_)

    def _part(self, features: NDArray[Any], Y: NDArray[Any]) -> _Part:
        """Selection from some rows, and what it takes to solve on them."""
        selection = Selection.of(
            features, self.k, self.regions, dtype=self.dtype, device=self.device
        )
        indices, _ = selection.each(Y, self.batch_targets, self.progress)
        del selection
        n, k = len(Y), indices.shape[1]
        dtype = resolve_dtype(self.dtype, float(n) * k * min(n, k) * Y.shape[1])
        x_mean = features.mean(axis=0, dtype=np.float64)
        rows = Rows.of(features, x_mean, k, dtype, resolve_device(self.device))
        y_mean = Y.mean(axis=0, dtype=np.float64)
        return _Part(rows, indices, x_mean, Y, y_mean, self.batch_targets, self.progress)

    def _cross_validate(
        self, features: NDArray[Any], Y: NDArray[Any], alphas: NDArray[Any], folds: Folds
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean over folds of the squared error (alphas, targets) and of that of the mean."""
        mse, base = np.zeros((len(alphas), Y.shape[1])), np.zeros(Y.shape[1])
        for train, test in folds:
            part = self._part(features[train], Y[train])
            error, mean_error = part.held_out(alphas, features[test], Y[test])
            mse += error / len(folds)
            base += mean_error / len(folds)
        return mse, base


@dataclass(frozen=True)
class _Part:
    """Some rows, and the features selected from them for each target."""

    rows: Rows
    indices: NDArray[np.int32]
    x_mean: NDArray[np.float64]
    targets: NDArray[Any]
    y_mean: NDArray[np.float64]
    batch: int | None
    show: bool

    def leave_one_out(
        self, alphas: NDArray[Any], generalised: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Squared errors (alphas, targets), variances (targets,), weights at the best penalty."""
        grid = self._tensor(alphas)
        mse, variance = np.empty((len(alphas), len(self.indices))), np.empty(len(self.indices))
        coef = self._empty()
        for block, chosen, centred in self._blocks(len(alphas), "leave-one-out"):
            solved = self.rows.solve(chosen, centred)
            mse[:, block] = self._mean(solved.errors(grid, generalised).square_()).T
            variance[block] = self._mean(centred.square())
            best = self._tensor(alphas[mse[:, block].argmin(axis=0)])
            coef[block] = solved.coefficients(best[:, None])[..., 0].cpu().numpy()
        return mse, variance, coef

    def held_out(
        self, alphas: NDArray[Any], features: NDArray[Any], Y: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Squared errors (alphas, targets) on other rows, and those of predicting the mean."""
        grid = self._tensor(alphas)
        new = _centred(features, self.x_mean, grid.dtype, grid.device).T.contiguous()
        mse, base = np.empty((len(alphas), len(self.indices))), np.empty(len(self.indices))
        for block, chosen, centred in self._blocks(len(alphas), "fold"):
            inputs = new[chosen.ravel()].view(*chosen.shape, -1)
            weights = self.rows.solve(chosen, centred).coefficients(grid.expand(len(chosen), -1))
            truth = self._centred_targets(Y, block)[..., None]
            mse[:, block] = self._mean((inputs.mT @ weights).sub_(truth).square_()).T
            base[block] = self._mean(truth[..., 0].square())
        return mse, base

    def coefficients(self, alphas: NDArray[Any]) -> NDArray[Any]:
        """Weights (targets, k) with one penalty per target."""
        coef, penalties = self._empty(), self._tensor(alphas)
        for block, chosen, centred in self._blocks(1, "coefficients"):
            coef[block] = self.rows.at(chosen, centred, penalties[block]).cpu().numpy()
        return coef

    def _blocks(
        self, n_alphas: int, what: str
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Blocks of targets with their features (targets, k) and centred values (targets, n)."""
        features, k = self.rows.features, self.indices.shape[1]
        each = bytes_each(len(self.targets), k, n_alphas, features.dtype.itemsize)
        for block in target_blocks(len(self.indices), each, self.batch, what, self.show):
            chosen = torch.as_tensor(self.indices[block], device=features.device)
            yield block, chosen, self._centred_targets(self.targets, block)

    def _empty(self) -> NDArray[Any]:
        name = str(self.rows.features.dtype).removeprefix("torch.")
        return np.empty(self.indices.shape, dtype=name)

    def _centred_targets(self, Y: NDArray[Any], block: slice) -> torch.Tensor:
        features = self.rows.features
        return _centred(Y[:, block], self.y_mean[block], features.dtype, features.device).T

    def _tensor(self, alphas: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(alphas).to(self.rows.features)

    @staticmethod
    def _mean(values: torch.Tensor) -> NDArray[Any]:
        return values.mean(dim=1, dtype=torch.float64).cpu().numpy()
