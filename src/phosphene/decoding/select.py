"""The features that go best with a target: chosen by correlation, on training rows only.

For every target the ``k`` features of largest ``|r|``, r being Pearson's correlation over the rows
given to ``fit`` (selection of voxels per decoded unit, Horikawa & Kamitani 2017,
doi:10.1038/ncomms15037). Selection looks at the targets: whatever is scored afterwards on the same
rows is too good, in noise as well (Kriegeskorte et al. 2009, doi:10.1038/nn.2303). Voxels that are
chosen without a look at targets (by reliability or region) are the matter of
`phosphene.data.preprocess`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted

from phosphene._device import resolve_device
from phosphene.decoding.ridge import (
    DOUBLE_LIMIT,
    _centred,
    _check_finite,
    _validated,
    target_blocks,
)
from phosphene.errors import DataError, listing

Regions = ArrayLike | Mapping[str, ArrayLike] | None
Shared = Literal[False, "max", "mean"]
Precision = Literal["auto", "float32", "float64"]


class TopCorrelation(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Select the features of largest absolute correlation with each target.

    Parameters
    ----------
    k : int or float
        Features per target: a number (at most all), or as a float the share of the candidates,
        above 0 and at most 1.
    shared : {False, "max", "mean"}
        One selection for all targets, by the largest or the mean ``|r|`` over the targets, instead
        of one for each.
    regions : array of bool of shape (n_features,), or mapping of names to such arrays, optional
        Candidates. Of several regions, which must not overlap, the best ``k`` of each are taken.
        By default all features are candidates.
    dtype : {"auto", "float32", "float64"}
        Precision of the correlations; ``auto`` takes double where that costs seconds at most.
    device : str
        ``auto`` is the first CUDA device when there is one, else the CPU.
    batch_targets : int, optional
        Targets computed at a time; by default as many as keep temporaries below 256 MiB.
    progress : bool
        Show a bar over the blocks of targets when someone is watching.

    Attributes
    ----------
    indices_ : ndarray of int32, shape (n_targets, n_selected)
        Selected features of each target, in ascending order; (n_selected,) if shared or for a
        one-dimensional target.
    correlations_ : ndarray, same shape
        Their correlations; if shared, the largest or mean ``|r|``.

    Notes
    -----
    Correlations are compared after rounding (10 decimals in double, 6 in single precision), and
    of equals the features that come first are taken: equal columns stay in order whatever the
    order of summation was. A constant feature or target correlates 0. ``transform`` keeps the
    features that any target selected, in their order.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((50, 30))
    >>> Y = np.stack([X[:, 4] - X[:, 7], X[:, 20] + X[:, 7]], axis=1)
    >>> TopCorrelation(k=2).fit(X, Y).indices_.tolist()
    [[4, 7], [7, 20]]
    """

    def __init__(
        self,
        k: int | float = 500,
        *,
        shared: Shared = False,
        regions: Regions = None,
        dtype: Precision = "auto",
        device: str = "auto",
        batch_targets: int | None = None,
        progress: bool = True,
    ) -> None:
        self.k = k
        self.shared = shared
        self.regions = regions
        self.dtype = dtype
        self.device = device
        self.batch_targets = batch_targets
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Select.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Training rows only.
        y : array of shape (n_samples,) or (n_samples, n_targets)

        Returns
        -------
        TopCorrelation
            Itself.

        Raises
        ------
        DataError
            For NaN or infinite values (by column), fewer than two samples, a ``k`` that is no
            number of features, or regions that do not fit, are empty or overlap.
        """
        if self.shared not in (False, "max", "mean"):
            raise DataError(
                "unknown way to select for all targets",
                found=self.shared,
                expected="False, 'max' or 'mean'",
            )
        features, Y = checked(self, X, y)
        single = Y.ndim == 1
        selection = Selection.of(
            features, self.k, self.regions, dtype=self.dtype, device=self.device
        )
        Y = Y.reshape(len(Y), -1)
        if self.shared:
            found = selection.shared(Y, self.shared, self.batch_targets, self.progress)
        else:
            found = selection.each(Y, self.batch_targets, self.progress)
        drop = single or bool(self.shared)
        self.indices_, self.correlations_ = (part[0] if drop else part for part in found)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features that any target selected, of shape (n_samples, n_kept), in their order."""
        check_is_fitted(self)
        array: NDArray[Any] = _validated(self, X, reset=False)
        _check_finite(array, "feature")
        return array[:, self._get_support_mask()]

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.indices_.ravel()] = True
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


@dataclass(frozen=True)
class Selection:
    """Standardised training features and the candidates, shared by all blocks of targets.

    units : (n, p), columns of mean 0 and norm 1 (0 if constant).
    regions : pairs of candidate indices (int64) and how many to take of them.
    """

    units: torch.Tensor
    regions: tuple[tuple[torch.Tensor, int], ...]

    @classmethod
    def of(
        cls,
        features: NDArray[Any],
        k: int | float,
        regions: Regions,
        *,
        dtype: Precision,
        device: str,
    ) -> Selection:
        """Of features (n, p) that have been checked."""
        n, p = features.shape
        where = resolve_device(device)
        places = tuple(
            (torch.as_tensor(members, device=where), _count(k, len(members)))
            for members in _members(regions, p)
        )
        return cls(_units(features, resolve_dtype(dtype, float(n) * p * 1000), where), places)

    def each(
        self, Y: NDArray[Any], batch: int | None, show: bool
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Indices and correlations (n_targets, n_selected), one selection per target."""
        width = sum(count for _, count in self.regions)
        indices = np.empty((Y.shape[1], width), dtype=np.int32)
        found = np.empty((Y.shape[1], width), dtype=_numpy(self.units.dtype))
        for block, r in self._blocks(Y, batch, show):
            chosen = self._strongest(r.abs())
            indices[block] = chosen.cpu().numpy()
            found[block] = r.gather(1, chosen).cpu().numpy()
        return indices, found

    def shared(
        self, Y: NDArray[Any], how: str, batch: int | None, show: bool
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Indices and strengths (1, n_selected), one selection for all targets."""
        total = self.units.new_zeros(self.units.shape[1])
        for _, r in self._blocks(Y, batch, show):
            r.abs_()
            total = total.maximum(r.amax(dim=0)) if how == "max" else total.add_(r.sum(dim=0))
        strength = (total if how == "max" else total / Y.shape[1])[None]
        chosen = self._strongest(strength)
        values = strength.gather(1, chosen).cpu().numpy()
        return chosen.cpu().numpy().astype(np.int32), values

    def _blocks(
        self, Y: NDArray[Any], batch: int | None, show: bool
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Correlations (targets, p) of one block of targets after the other."""
        # Per correlation: itself, its rounded size, two masks, a running count.
        each = self.units.shape[1] * (2 * self.units.dtype.itemsize + 10)
        for block in target_blocks(Y.shape[1], each, batch, "selection", show):
            yield block, _units(Y[:, block], self.units.dtype, self.units.device).T @ self.units

    def _strongest(self, strength: torch.Tensor) -> torch.Tensor:
        """Ascending indices (targets, n_selected) of the largest, the first of equals."""
        rounded = strength.round(decimals=10 if strength.dtype == torch.float64 else 6)
        parts = []
        for members, count in self.regions:
            inside = rounded if len(members) == rounded.shape[1] else rounded[:, members]
            least = inside.topk(count, dim=1).values[:, -1:]
            above, equal = inside > least, inside == least
            room = count - above.sum(dim=1, keepdim=True)
            above |= equal & (equal.cumsum(dim=1) <= room)
            parts.append(members[above.nonzero()[:, 1]].reshape(-1, count))
        return torch.cat(parts, dim=1).sort(dim=1).values


def checked(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
    """Features and targets, validated as scikit-learn does, with columns named in errors."""
    # First, because scikit-learn's check of the targets would not name the columns.
    if isinstance(y, np.ndarray) and y.dtype.kind == "f":
        _check_finite(y, "target")
    features, Y = _validated(
        estimator, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2
    )
    _check_finite(features, "feature")
    return features, Y


def resolve_dtype(dtype: str, work: float) -> torch.dtype:
    """Double precision where so many multiplications cost seconds at most, unless chosen."""
    if dtype == "auto":
        return torch.float64 if work <= DOUBLE_LIMIT else torch.float32
    if dtype not in ("float32", "float64"):
        raise DataError("unknown precision", found=dtype, expected="'auto', 'float32' or 'float64'")
    return torch.float64 if dtype == "float64" else torch.float32


def sparse_coef(indices: NDArray[Any], coef: NDArray[Any], n_features: int) -> csr_array:
    """Weights (n_targets, n_features) that are zero where a feature was not selected."""
    indices, coef = np.atleast_2d(indices), np.atleast_2d(coef)
    starts = np.arange(len(coef) + 1) * coef.shape[1]
    return csr_array((coef.ravel(), indices.ravel(), starts), shape=(len(coef), n_features))


def predict_sparse(model: Any, X: ArrayLike) -> NDArray[Any]:
    """Predictions of a fitted model with ``indices_``, ``coef_`` and ``intercept_``."""
    array: NDArray[Any] = _validated(model, X, reset=False)
    _check_finite(array, "feature")
    weights = sparse_coef(model.indices_, model.coef_, model.n_features_in_)
    # Each weight then scales one contiguous row, and what is not selected is never touched.
    out: NDArray[Any] = (weights @ np.ascontiguousarray(array.T)).T + model.intercept_
    return out[:, 0] if model.coef_.ndim == 1 else out


def _units(array: NDArray[Any], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Columns of mean 0 and norm 1; columns that differ from their mean by rounding are 0."""
    mean = array.mean(axis=0, dtype=np.float64)
    centred = _centred(array, mean, dtype, device)
    norm = centred.norm(dim=0)
    largest = torch.as_tensor(np.abs(array).max(axis=0).astype(np.float64), device=device)
    rounding = 10 * torch.finfo(dtype).eps * len(array) ** 0.5 * largest.to(dtype)
    scale = torch.where(norm > rounding, 1 / norm, torch.zeros_like(norm))
    return centred.mul_(scale)


def _count(k: int | float, available: int) -> int:
    kind = np.asarray(k).dtype.kind
    if kind in "iu" and np.ndim(k) == 0 and k >= 1:
        return min(int(k), available)
    if kind == "f" and np.ndim(k) == 0 and 0 < k <= 1:
        return max(1, round(float(k) * available))
    raise DataError(
        "k does not say how many features to select",
        found=k,
        expected="a whole number from 1, or a share above 0.0 and at most 1.0",
    )


def _members(regions: Regions, n_features: int) -> list[NDArray[np.int64]]:
    """Candidate indices of every region."""
    if regions is None:
        return [np.arange(n_features)]
    named = dict(regions) if isinstance(regions, Mapping) else {"regions": regions}
    if not named:
        raise DataError("there are no regions to select features from", found="an empty mapping")
    masks = {name: np.asarray(mask) for name, mask in named.items()}
    for name, mask in masks.items():
        if mask.dtype != bool or mask.shape != (n_features,):
            raise DataError(
                f"the region {name!r} does not mark the features",
                found=f"shape {mask.shape} of {mask.dtype}",
                expected=f"({n_features},) of bool",
            )
        if not mask.any():
            raise DataError(f"the region {name!r} holds no feature")
    twice = np.flatnonzero(np.sum(list(masks.values()), axis=0) > 1)
    if len(twice):
        raise DataError(
            "regions to select features from overlap",
            found=f"features {listing(twice)} in more than one",
            fix="give one mask of all of them, or masks without the common part",
        )
    return [np.flatnonzero(mask) for mask in masks.values()]


def _numpy(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
