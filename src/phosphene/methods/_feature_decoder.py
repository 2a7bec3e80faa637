"""Ridge from signals to one group of targets: a text embedding, a latent, a layer of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from phosphene.decoding.ridge import RidgeLOO
from phosphene.decoding.select import sparse_coef
from phosphene.decoding.selected_ridge import SelectedRidge

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Where next to nothing is decoded, the factor that restores the spread would blow up noise.
LARGEST_FACTOR = 4.0


@dataclass(frozen=True, eq=False)
class FeatureDecoder:
    r"""One linear map from features of the signals to units of a group of targets.

    Parameters
    ----------
    shape : tuple of int
        Shape of a target before it was flattened.
    units : ndarray of int, shape (units,)
        Places of the decoded units in the flattened target.
    columns : ndarray of int, shape (columns,)
        Features of the signals that are used.
    coef : ndarray, shape (units, columns) or (units, n_voxels)
        Weights.
    intercept : ndarray, shape (units,)
        Constant of every unit.
    mean : ndarray, shape (units,)
        Mean target of the training data.
    r2 : ndarray, shape (units,)
        Cross-validated R2 of every unit on the training data.
    factor : float
        Restores the spread that ridge regression takes away, see :meth:`rescaled`.
    chosen : ndarray of int, shape (units, n_voxels), optional
        Which of ``columns`` the weights of each unit are for; all in order when None.
    """

    shape: tuple[int, ...]
    units: Ints
    columns: Ints
    coef: Floats
    intercept: Floats
    mean: Floats
    r2: Floats
    factor: float = 1.0
    chosen: Ints | None = None

    @classmethod
    def fit(
        cls,
        X: Floats,
        Y: npt.NDArray[Any],
        columns: Ints,
        *,
        alphas: Sequence[float],
        n_voxels: int | None,
        groups: npt.ArrayLike,
        device: str = "auto",
        progress: bool = True,
    ) -> Self:
        """Fit on training data.

        A target that never varies, such as the first token of a text embedding, gets no weights and
        is predicted exactly.

        Parameters
        ----------
        X : ndarray, shape (trials, features)
            Standardised signals, flattened.
        Y : ndarray, shape (trials, ...)
            Targets of the same trials.
        columns : ndarray of int
            Features that may be used.
        alphas : sequence of float
            Penalties to choose from.
        n_voxels : int or None
            How many of these features each target uses, those of largest absolute correlation with
            it in the training data; None uses all. Penalties and R2 come from exact leave-one-out
            where all are used, and from five folds of whole groups, in each of which the selection
            is repeated, where they are selected.
        groups : array, shape (trials,)
            What stays together in a fold, such as the concept of each trial.
        device : str
            Where the products are computed.
        progress : bool
            Show a bar when someone is watching.
        """
        shape = tuple(int(size) for size in Y.shape[1:])
        flat = np.asarray(Y, np.float32).reshape(len(Y), -1)
        used = X if len(columns) == X.shape[1] else np.ascontiguousarray(X[:, columns])
        common: dict[str, Any] = {"alphas": alphas, "device": device, "progress": progress}
        chosen: Ints | None = None
        if n_voxels is None or n_voxels >= len(columns):
            model: Any = RidgeLOO(**common).fit(used, flat)
            r2 = model.loo_r2_
        else:
            model = SelectedRidge(k=int(n_voxels), **common).fit(used, flat, groups=groups)
            r2, chosen = model.cv_r2_, np.asarray(model.indices_, np.int64)
        return cls(
            shape,
            np.arange(flat.shape[1]),
            np.asarray(columns, np.int64),
            np.ascontiguousarray(model.coef_, dtype=np.float32),
            np.asarray(model.intercept_, np.float32),
            flat.mean(axis=0, dtype=np.float64).astype(np.float32),
            np.asarray(r2, np.float32),
            chosen=chosen,
        )

    def keep(self, units: Ints) -> Self:
        """The decoder of some of the units."""
        parts: dict[str, Any] = {
            name: np.ascontiguousarray(getattr(self, name)[units])
            for name in ("units", "coef", "intercept", "mean", "r2", "chosen")
            if getattr(self, name) is not None
        }
        return replace(self, **parts)

    def best(self, count: int) -> Self:
        """The decoder of so many units, those of the largest R2, in their order."""
        chosen = np.argsort(-self.r2, kind="stable")[:count]  # of equal ones the first
        return self.keep(np.sort(chosen))

    def rescaled(self, deviation: Floats) -> Self:
        r"""The decoder whose predictions spread as far around the mean as the training targets.

        At the chosen penalty, predictions of new data spread by :math:`\sqrt{R^2}` of what a target
        does. One factor for the whole group,

        .. math::
            s = \sqrt{\sum_t \sigma_t^2 \big/ \sum_t \max(R^2_t, 0)\, \sigma_t^2},

        restores the length of a typical deviation and leaves its direction alone; it is at most 4.

        Parameters
        ----------
        deviation : ndarray, shape (units,)
            Standard deviation of the training targets.
        """
        variance = np.square(np.asarray(deviation, np.float64))
        told = float((np.maximum(self.r2, 0) * variance).sum())
        total = float(variance.sum())
        if total == 0:
            return self
        factor = LARGEST_FACTOR if told <= 0 else float(np.sqrt(total / told))
        return replace(self, factor=min(factor, LARGEST_FACTOR))

    def predict(self, X: Floats) -> Floats:
        """Decoded units (trials, units) of standardised, flattened signals (trials, features)."""
        used = X if len(self.columns) == X.shape[1] else X[:, self.columns]
        decoded: Floats
        if self.chosen is None:
            decoded = used @ self.coef.T + self.intercept
        else:
            weights = sparse_coef(self.chosen, self.coef, used.shape[1])
            decoded = np.ascontiguousarray((weights @ np.ascontiguousarray(used.T)).T)
            decoded += self.intercept
        if self.factor != 1.0:
            decoded = self.mean + np.float32(self.factor) * (decoded - self.mean)
        return decoded

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that is needed to make it again, by name, for safetensors."""
        whole = {"shape": np.asarray(self.shape, np.int64), "factor": np.asarray(self.factor)}
        names = ("units", "columns", "coef", "intercept", "mean", "r2", "chosen")
        found = {name: getattr(self, name) for name in names}
        return whole | {name: array for name, array in found.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of :meth:`arrays`."""
        parts: dict[str, Any] = dict(arrays)
        parts["shape"] = tuple(int(size) for size in arrays["shape"])
        parts["factor"] = float(arrays["factor"])
        return cls(**parts)
