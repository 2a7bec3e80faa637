"""Ridge regression of many targets, each on features of its own: solved in batches.

With F (k, n) the centred features of a target, one eigendecomposition of the smaller of F F' and
F' F gives the coefficients and the exact leave-one-out errors for all penalties. The intercept is
treated as in `phosphene.decoding.ridge`: where there are more features than samples, the samples
are first turned by a reflection that takes the constant to the first axis, which is then dropped.
That reflection is the same for all targets, so it is applied to all features once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene.data.preprocess._threads import ordered_map
from phosphene.decoding.ridge import _centred


@dataclass(frozen=True)
class Rows:
    """Centred features of some samples, one row per feature, to gather those of a target from.

    features : (p, n), or (p, n - 1) turned if wide.
    mirror : (n,), the unit vector of the reflection if wide, else None.
    """

    features: torch.Tensor
    mirror: torch.Tensor | None

    @classmethod
    def of(
        cls,
        features: NDArray[np.floating],
        mean: NDArray[np.float64],
        k: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Rows:
        """Of features (n, p) of which every target gets k."""
        rows = _centred(features, mean, dtype, device).T.contiguous()
        n = rows.shape[1]
        if n > k:
            return cls(rows, None)
        mirror = torch.full((n,), -1 / n**0.5, dtype=dtype, device=device)
        mirror[0] += 1
        mirror /= mirror.norm()
        rows.addr_(rows @ mirror, mirror, alpha=-2)
        return cls(rows[:, 1:].contiguous(), mirror)

    def turned(self, Y: torch.Tensor) -> torch.Tensor:
        """Centred targets (targets, n) in the coordinates of the features."""
        if self.mirror is None:
            return Y
        return (Y - 2 * (Y @ self.mirror)[:, None] * self.mirror)[:, 1:]

    def solve(self, indices: torch.Tensor, Y: torch.Tensor) -> Solved:
        """Decompose the features ``indices`` (targets, k) of centred targets Y (targets, n)."""
        chosen, gram, right = self._normal(indices, Y)
        values, vectors = _spread(torch.linalg.eigh, gram)
        return Solved(chosen, values.clamp_(min=0), vectors, vectors.mT @ right, Y, self.mirror)

    def at(self, indices: torch.Tensor, Y: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Weights (targets, k) for one penalty per target (targets,)."""
        chosen, gram, right = self._normal(indices, Y)
        gram.diagonal(dim1=-2, dim2=-1).add_(alphas[:, None])
        factor, failed = _spread(torch.linalg.cholesky_ex, gram)
        if failed.any():  # a penalty below the rounding of the largest eigenvalue
            return self.solve(indices, Y).coefficients(alphas[:, None])[..., 0]
        dual = torch.cholesky_solve(right, factor)
        return (dual if self.mirror is None else chosen @ dual)[..., 0]

    def _normal(
        self, indices: torch.Tensor, Y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features (b, k, n), the smaller Gram matrix and the right side of the equations."""
        chosen = self.features[indices.ravel()].view(*indices.shape, -1)
        turned = self.turned(Y)[..., None]
        if self.mirror is None:
            return chosen, chosen @ chosen.mT, chosen @ turned
        return chosen, chosen.mT @ chosen, turned


@dataclass(frozen=True)
class Solved:
    """Eigendecomposition of the features of a batch of targets.

    features (b, k, n or n - 1), values (b, r), vectors (b, k or n - 1, r), projected (b, r, 1),
    targets (b, n), mirror (n,) if wide.
    """

    features: torch.Tensor
    values: torch.Tensor
    vectors: torch.Tensor
    projected: torch.Tensor
    targets: torch.Tensor
    mirror: torch.Tensor | None

    def coefficients(self, alphas: torch.Tensor) -> torch.Tensor:
        """Weights (b, k, m) for penalties (b, m)."""
        shrunk = self.vectors @ (self.projected / (self.values[..., None] + alphas[:, None, :]))
        return shrunk if self.mirror is None else self.features @ shrunk

    def errors(self, alphas: torch.Tensor, generalised: bool = False) -> torch.Tensor:
        """Leave-one-out errors (b, n, a) for penalties (a,), the same for all targets.

        Generalised cross-validation puts the mean of what the leverages leave in place of each.
        """
        inverse = 1 / (self.values[..., None] + alphas)
        if self.mirror is None:
            basis = self.features.mT @ self.vectors
            left = 1 - 1 / basis.shape[1] - basis.square() @ inverse
            residual = self.targets[..., None] - basis @ (inverse * self.projected)
            floor = torch.finfo(left.dtype).eps
        else:
            basis = self._turned_back()
            # Numerator and denominator are both scaled by the penalty, against overflow.
            weights = inverse * alphas
            left = basis.square() @ weights
            residual = basis @ (weights * self.projected)
            floor = torch.finfo(left.dtype).eps ** 2
        if generalised:
            left = left.mean(dim=1, keepdim=True)
        return residual.div_(left.clamp_(min=floor))

    def _turned_back(self) -> torch.Tensor:
        """Eigenvectors (b, n, r) over the samples, orthogonal to the constant."""
        assert self.mirror is not None
        b, m, r = self.vectors.shape
        basis = self.vectors.new_zeros(b, m + 1, r)
        basis[:, 1:] = self.vectors
        inner = self.mirror[1:] @ self.vectors
        return basis.sub_(2 * self.mirror[:, None] * inner[:, None, :])


def _spread(
    decompose: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], batch: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Decompose small matrices, on a CPU each of them by one thread.

    A matrix of some hundreds of rows gains nothing from two threads, which on a busy machine wait
    for each other many times longer than they compute.
    """
    if batch.is_cuda:
        return tuple(decompose(batch))
    parts = list(ordered_map(decompose, batch.chunk(torch.get_num_threads())))
    return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))


def bytes_each(n: int, k: int, n_alphas: int, itemsize: int) -> int:
    """Temporary memory of one target in a batch."""
    small = min(n, k)
    return itemsize * (k * n + 4 * small * small + 2 * n * small + 4 * n * n_alphas)
