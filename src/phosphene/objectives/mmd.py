"""Maximum mean discrepancy of two batches: how far apart two distributions of vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from phosphene.errors import DataError


class MMD(nn.Module):
    r"""Squared maximum mean discrepancy under a mean of Gaussian kernels.

    .. math::
        \frac1{n^2} \sum_{ij} \big( k(z_i, z_j) + k(v_i, v_j) - 2 k(z_i, v_j) \big), \qquad
        k(a, b) = \frac1K \sum_k \exp \frac{-\lVert a - b \rVert^2}{f_k m}

    m is the median squared distance between two of the 2n vectors, taken as a constant. This is the
    estimate that counts i = j, which is never negative. Which row belongs to which does not matter,
    so that it is no contrastive objective: it moves the clouds, not the pairs.

    Gretton et al., A kernel two-sample test, JMLR 13, 2012.

    Parameters
    ----------
    factors : sequence of float
        Squared bandwidths in units of the median.

    Examples
    --------
    >>> z = torch.eye(3)
    >>> MMD()(z, z[[2, 0, 1]]).abs().item() < 1e-6
    True
    """

    def __init__(self, factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> None:
        super().__init__()
        if not factors or min(factors) <= 0:
            raise DataError("bandwidths must be positive", found=str(tuple(factors)))
        self.factors = tuple(float(factor) for factor in factors)

    def forward(self, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Discrepancy of two batches of shape (B, D), a scalar in float32 or wider."""
        with torch.autocast(z.device.type, enabled=False):
            both = torch.cat([z, v])
            both = both if both.dtype == torch.float64 else both.float()
            n, total = len(z), len(both)
            squares = both.square().sum(1)
            distance = (squares[:, None] + squares[None, :] - 2 * both @ both.T).clamp_min(0)
            off = ~torch.eye(total, dtype=torch.bool, device=both.device)
            median = distance.detach()[off].median()
            # All vectors equal: every distance is 0, and so is the discrepancy.
            median = torch.where(median > 0, median, torch.ones_like(median))
            kernel = torch.zeros_like(distance)
            for factor in self.factors:
                kernel = kernel + torch.exp(-distance / (factor * median))
            sign = torch.ones(total, dtype=both.dtype, device=both.device) / n
            sign[n:] = -1 / len(v)
            return sign @ kernel @ sign / len(self.factors)
