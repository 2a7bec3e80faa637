"""Linear decoders without a penalty, on features selected per target: least squares and PLS.

The penalty of `phosphene.decoding.selected_ridge.SelectedRidge` is usually worth having. These are
what published work used beside it: least squares per unit on the most correlated voxels, and
partial least squares, where the number of components takes the place of the penalty. For all
targets on the same features scikit-learn has both: ``make_pipeline(TopCorrelation(k,
shared="max"), PLSRegression())``.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.utils.validation import check_is_fitted

from phosphene.data.preprocess._threads import ordered_map
from phosphene.decoding.ridge import _centred, target_blocks
from phosphene.decoding.select import (
    Precision,
    Regions,
    Selection,
    checked,
    predict_sparse,
    resolve_dtype,
    sparse_coef,
)
from phosphene.errors import DataError


class _SelectedLinear(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Selection and prediction, which are the same whatever finds the weights."""

    k: int | float
    regions: Regions
    dtype: Precision
    batch_targets: int | None
    progress: bool

    @abstractmethod
    def _weights(self, chosen: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Weights (b, k) of centred features (b, n, k) for centred targets (b, n)."""

    def _check(self, n: int, k: int) -> None:
        """Refuse parameters that do not fit n samples and k features."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Select and fit.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Training rows only: the selection looks at the targets.
        y : array of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        self
            Itself.

        Raises
        ------
        DataError
            For NaN or infinite values (by column), unequal lengths, and parameters that do not fit.
        """
        features, Y = checked(self, X, y)
        single = Y.ndim == 1
        Y = Y.reshape(len(Y), -1)
        selection = Selection.of(features, self.k, self.regions, dtype=self.dtype, device="cpu")
        indices, _ = selection.each(Y, self.batch_targets, self.progress)
        del selection
        n, k = len(Y), indices.shape[1]
        self._check(n, k)
        dtype = resolve_dtype(self.dtype, float(n) * k * min(n, k) * len(indices))
        x_mean = features.mean(axis=0, dtype=np.float64)
        y_mean = Y.mean(axis=0, dtype=np.float64)
        constant = Y.max(axis=0) == Y.min(axis=0)
        cpu = torch.device("cpu")
        rows = _centred(features, x_mean, dtype, cpu).T.contiguous()
        coef = np.zeros(indices.shape, dtype=str(dtype).removeprefix("torch."))
        each = 4 * n * k * dtype.itemsize
        name = type(self).__name__
        for block in target_blocks(len(indices), each, self.batch_targets, name, self.progress):
            # A constant target has nothing to learn; rounding would be learnt.
            varied = np.arange(len(indices))[block][~constant[block]]
            if len(varied):
                chosen = rows[torch.as_tensor(indices[varied]).ravel()].view(len(varied), k, n)
                targets = _centred(Y[:, varied], y_mean[varied], dtype, cpu).T
                coef[varied] = self._weights(chosen.mT, targets).numpy()
        intercept = y_mean - np.einsum("tk,tk->t", coef, x_mean[indices])
        intercept[constant] = Y[0, constant]
        self.indices_ = indices[0] if single else indices
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
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


class SelectedOLS(_SelectedLinear):
    """Least squares for every target on its own k most correlated features.

    Parameters
    ----------
    k : int or float
        Features per target: a number, or as a float the share of the candidates (1.0 for all).
    regions : array of bool of shape (n_features,), or mapping of names to such arrays, optional
        Candidates; the best ``k`` of each region (see `TopCorrelation`).
    dtype : {"auto", "float32", "float64"}
        Precision of the computation; ``auto`` takes double where that costs seconds at most.
    batch_targets : int, optional
        Targets computed at a time; by default as many as keep temporaries below 256 MiB.
    progress : bool
        Show a bar over the blocks of targets when someone is watching.

    Attributes
    ----------
    indices_ : ndarray of int32, shape (k,) or (n_targets, k)
        Selected features of each target, ascending.
    coef_ : ndarray, shape (k,) or (n_targets, k)
        Weights of the selected features; ``sparse_coef_`` has them among all features.
    intercept_ : float or ndarray, shape (n_targets,)

    Notes
    -----
    Where the solution is not unique, as with ``k`` not below the number of samples, it is the one
    of least norm (complete orthogonal factorisation). Expect little of it there, and nothing of its
    fit on the training rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 40))
    >>> model = SelectedOLS(k=2).fit(X, 3 + 2 * X[:, 5] - X[:, 8])
    >>> model.indices_, model.coef_.round(6), round(model.intercept_, 6)
    (array([5, 8], dtype=int32), array([ 2., -1.]), 3.0)
    """

    def __init__(
        self,
        k: int | float = 500,
        *,
        regions: Regions = None,
        dtype: Precision = "auto",
        batch_targets: int | None = None,
        progress: bool = True,
    ) -> None:
        self.k = k
        self.regions = regions
        self.dtype = dtype
        self.batch_targets = batch_targets
        self.progress = progress

    def _weights(self, chosen: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # Centring rounds: what is left of a constant column, or of the last direction of as many
        # features as samples, is noise that must not be divided by.
        rcond = torch.finfo(chosen.dtype).eps * max(chosen.shape[1:])

        def solve(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            X, y = pair
            found = torch.linalg.lstsq(X, y[..., None], rcond=rcond, driver="gelsy")
            solution: torch.Tensor = found.solution[..., 0]
            return solution

        # Small problems by one thread each, as those of ridge regression (`_batched`).
        parts = zip(*(t.chunk(torch.get_num_threads()) for t in (chosen, targets)), strict=True)
        return torch.cat(list(ordered_map(solve, parts)))


class SelectedPLS(_SelectedLinear):
    """Partial least squares for every target on its own k most correlated features.

    scikit-learn's ``PLSRegression`` of each target alone (PLS1), features scaled to unit variance.

    Parameters
    ----------
    n_components : int
        Latent directions; at most the number of selected features and of samples.
    k : int or float
        Features per target: a number, or as a float the share of the candidates (1.0 for all).
    regions : array of bool of shape (n_features,), or mapping of names to such arrays, optional
        Candidates; the best ``k`` of each region (see `TopCorrelation`).
    dtype : {"auto", "float32", "float64"}
        Precision of selection and stored weights; PLS itself computes in double.
    batch_targets : int, optional
        Targets gathered at a time; by default as many as keep temporaries below 256 MiB.
    progress : bool
        Show a bar over the blocks of targets when someone is watching.

    Attributes
    ----------
    indices_ : ndarray of int32, shape (k,) or (n_targets, k)
        Selected features of each target, ascending.
    coef_ : ndarray, shape (k,) or (n_targets, k)
        Weights of the selected features; ``sparse_coef_`` has them among all features.
    intercept_ : float or ndarray, shape (n_targets,)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 40))
    >>> model = SelectedPLS(2, k=2).fit(X, 3 + 2 * X[:, 5] - X[:, 8])
    >>> model.indices_, model.coef_.round(6)
    (array([5, 8], dtype=int32), array([ 2., -1.]))
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        k: int | float = 500,
        regions: Regions = None,
        dtype: Precision = "auto",
        batch_targets: int | None = None,
        progress: bool = True,
    ) -> None:
        self.n_components = n_components
        self.k = k
        self.regions = regions
        self.dtype = dtype
        self.batch_targets = batch_targets
        self.progress = progress

    def _check(self, n: int, k: int) -> None:
        if not 1 <= self.n_components <= min(n, k):
            raise DataError(
                "the number of PLS components does not fit",
                found=self.n_components,
                expected=f"1 to {min(n, k)} for {n} samples and {k} selected features",
            )

    def _weights(self, chosen: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        model = PLSRegression(self.n_components, copy=False)
        out = torch.empty(chosen.shape[0], chosen.shape[2], dtype=chosen.dtype)
        for number, (X, y) in enumerate(zip(chosen, targets, strict=True)):
            with warnings.catch_warnings():
                # Fewer components explain the target fully; the weights are those of these.
                warnings.filterwarnings("ignore", message="y residual is constant")
                model.fit(X.double().numpy(), y.double().numpy())
            out[number] = torch.as_tensor(model.coef_[0])
        return out
