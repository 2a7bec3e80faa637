"""The projection that every brain encoder ends in."""

from __future__ import annotations

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene.encoders._dropout import Dropout


class ResidualMLP(nn.Module):
    """``x + Dropout(Linear(GELU(x)))``.

    Parameters
    ----------
    width : int
        Number of features in and out.
    dropout : float
        Share of the branch's values that are dropped in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.GELU(), Linear(width, width), Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` plus its branch, of the same shape (B, width)."""
        out: torch.Tensor = x + self.branch(x)
        return out


class ProjectionHead(nn.Sequential):
    """``Linear -> residual(GELU, Linear, Dropout) -> LayerNorm`` (METHODS: UBP and NICE alike).

    Parameters
    ----------
    n_features : int
        Width of the flattened features.
    n_outputs : int
        Width of the target space.
    dropout : float
        Dropout of the residual branch.

    Examples
    --------
    >>> ProjectionHead(6, 4, dropout=0.0)(torch.zeros(2, 6)).shape
    torch.Size([2, 4])
    """

    def __init__(self, n_features: int, n_outputs: int, dropout: float) -> None:
        super().__init__(
            Linear(n_features, n_outputs),
            ResidualMLP(n_outputs, dropout),
            nn.LayerNorm(n_outputs),
        )
