"""MLP: residual blocks for flat input such as voxels."""

from __future__ import annotations

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder
from phosphene.encoders._dropout import Dropout
from phosphene.encoders._head import ProjectionHead
from phosphene.errors import DataError


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), Linear(width, width), nn.GELU(), Dropout(dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.branch(x)
        return out


@register("encoder", "mlp")
class MLP(BrainEncoder):
    """Linear read-in -> residual blocks -> projection head, for (B, V) or (B, C, T) input.

    Source: the backbone of MindEye2 (ICML 2024, arXiv:2403.11207), reduced: one read-in, no
    mixing across tokens.

    Parameters
    ----------
    n_chans : int
        Voxels, or channels.
    n_times : int or None
        Samples per trial; None for voxels.
    n_outputs : int
        Width of the target space.
    width : int
        Width of the blocks.
    n_blocks : int
        Number of residual blocks.
    dropout : float
        Dropout of the blocks and of the head.

    Examples
    --------
    >>> MLP(50, None, 8, width=16)(torch.zeros(2, 50)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        width: int = 512,
        n_blocks: int = 2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(n_chans, n_times, n_outputs)
        self.read_in = Linear(n_chans * (n_times or 1), width)
        self.blocks = nn.Sequential(*(_Block(width, dropout) for _ in range(n_blocks)))
        self.head = ProjectionHead(width, n_outputs, dropout)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, width)."""
        out: torch.Tensor = self.blocks(self.read_in(x.flatten(1)))
        return out

    def _check(self, x: torch.Tensor) -> None:
        shape = tuple(x.shape[1:])
        allowed: list[tuple[int, ...]] = [(self.n_chans, self.n_times or 1)]
        if self.n_times in (None, 1):
            allowed.append((self.n_chans,))
        if shape not in allowed:
            raise DataError(
                "MLP got input of another shape than it was built for",
                found=tuple(x.shape),
                expected=" or ".join(f"(batch, {', '.join(map(str, s))})" for s in allowed),
            )
