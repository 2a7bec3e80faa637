"""Principal components of a layer: the directions in which pictures differ most, most first.

A recording tells little of any single unit of a vision network and much of some directions among
all of them, such as where in the frame something is. Stage 2 may compare those directions instead
of units, each weighed by how surely it is decoded::

    p = (s - mean) / deviation @ axes                 unit variance over the training pictures
    w = R2 / (1 - R2)                                 R2 by cross-validation on training data

With Gaussian errors of variance 1 - R2 and targets shrunk by R2, as ridge regression gives them,
``sum w (p_decoded - p)**2`` counts a direction by the evidence there is of it; of what is not
decoded at all the picture is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene.errors import DataError

# A direction that is decoded all but perfectly does not silence the others.
_SUREST = 0.95


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of the standardised units of a layer.

    Parameters
    ----------
    mean : ndarray, shape (units,)
        Mean of the training pictures.
    axes : ndarray, shape (units, components)
        Takes a deviation from it to components of unit variance.

    Examples
    --------
    >>> values = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    >>> found = Components.fit(values, 3)
    >>> found.project(torch.from_numpy(values)).std(0, correction=0)
    tensor([1., 1., 1.])
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.float32], count: int) -> Self:
        """Components of training pictures.

        Parameters
        ----------
        values : ndarray, shape (pictures, units)
            Features of a layer.
        count : int
            How many; fewer where there are fewer pictures or units.

        Raises
        ------
        DataError
            If all pictures are alike.
        """
        mean = values.mean(axis=0, dtype=np.float64)
        deviation = values.std(axis=0, dtype=np.float64)
        safe = np.where(deviation > 0, deviation, 1)
        standard = (values - mean) / safe
        if not deviation.any():
            raise DataError("a layer says the same of all training pictures",
                            found=f"{len(values)} pictures")  # fmt: skip
        spread, directions = _leading(standard, count)
        axes = directions / safe[:, None] / spread
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes, dtype=np.float32))

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Components (pictures, components) of a layer (pictures, units), with gradients."""
        mean, axes = (torch.from_numpy(a).to(values.device) for a in (self.mean, self.axes))
        return (values - mean) @ axes

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is needed to make them again, by name."""
        return {"mean": self.mean, "axes": self.axes}


def _leading(
    standard: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviations (k,) along the leading directions (units, k), largest first.

    By products of the shorter side: a layer has thousands of units, of which few directions are
    wanted, and a whole decomposition takes seven times as long.
    """
    from scipy.linalg import eigh

    n, units = standard.shape
    products = standard @ standard.T if n <= units else standard.T @ standard
    last = len(products) - 1
    values, vectors = eigh(products, subset_by_index=(max(0, last + 1 - count), last))
    spread = np.sqrt(np.maximum(values[::-1], 0) / n)
    told = spread > 1e-4 * spread[0]
    spread, vectors = spread[told], vectors[:, ::-1][:, told]
    if n <= units:
        vectors = standard.T @ vectors / (spread * np.sqrt(n))
    return spread, vectors


def evidence(r2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of mean 1, proportional to R2 / (1 - R2), of components that are decoded at all.

    Examples
    --------
    >>> evidence(np.array([0.5, 0.5, 0.2])).round(2)
    array([1.33, 1.33, 0.33], dtype=float32)
    """
    told = np.clip(np.asarray(r2, np.float64), 1e-6, _SUREST)
    weights = told / (1 - told)
    return np.asarray(weights / weights.mean(), np.float32)
