"""EEGNet: temporal filters, a few spatial filters for each, separable convolution."""

from __future__ import annotations

import torch
from torch import nn

from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders._dropout import Dropout
from phosphene.encoders._head import ProjectionHead
from phosphene.encoders._kernels import require_samples

_POOLS = (4, 8)


@register("encoder", "eegnet")
class EEGNet(BrainEncoder):
    """EEGNet-8,2: ``Conv(1, 8, 64) BN; 2 spatial filters each BN ELU pool 4; separable, pool 8``.

    Source: Lawhern et al., Journal of Neural Engineering 2018 (arXiv:1611.08024). Convolutions in
    time keep the length. Spatial filters act on each temporal filter apart and have at most unit
    norm: the paper cuts them back after each step, here longer ones are shortened where they are
    used, which computes the same functions.

    The paper's input has 128 Hz, and its kernels span half a second (64) and an eighth (16, after
    pooling); an encoder does not know the sampling rate, so give ``kernel=125`` at 250 Hz for the
    same span.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 32) and width of the target space.
    n_temporal, depth, n_separable : int
        Temporal filters, spatial filters for each of them, filters of the separable convolution.
    kernel, separable_kernel : int
        Samples of their kernels.
    max_norm : float
        Largest norm of a spatial filter.
    dropout, head_dropout : float
        Dropout after each pooling, and in the head.

    Raises
    ------
    DataError
        If there are fewer than 32 samples, which the two poolings need.

    Examples
    --------
    >>> EEGNet(4, 100, 8)(torch.zeros(2, 4, 100)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        n_temporal: int = 8,
        depth: int = 2,
        n_separable: int = 16,
        kernel: int = 64,
        separable_kernel: int = 16,
        max_norm: float = 1.0,
        dropout: float = 0.25,
        head_dropout: float = 0.5,
    ) -> None:
        n_times = require_times("EEGNet", n_times)
        super().__init__(n_chans, n_times, n_outputs)
        require_samples("EEGNet", n_times, _POOLS[0] * _POOLS[1], "pooling over 4 and 8")
        self.depth, self.max_norm = depth, max_norm
        width = n_temporal * depth
        self.temporal = nn.Conv2d(1, n_temporal, (1, kernel), bias=False)
        self.temporal_norm = nn.BatchNorm2d(n_temporal)
        self.spatial = nn.Conv2d(n_temporal, width, (n_chans, 1), groups=n_temporal, bias=False)
        self.spatial_norm = nn.BatchNorm1d(width)
        self.depthwise = nn.Conv1d(width, width, separable_kernel, groups=width, bias=False)
        self.pointwise = nn.Conv1d(width, n_separable, 1, bias=False)
        self.separable_norm = nn.BatchNorm1d(n_separable)
        self.dropout = Dropout(dropout)
        self.head = ProjectionHead(self._body_width(), n_outputs, head_dropout)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, filters * positions)."""
        h = nn.functional.elu(self.spatial_norm(self._filter(x)))
        h = self.dropout(nn.functional.avg_pool1d(h, _POOLS[0]))
        h = self.pointwise(self.depthwise(_padded(h, self.depthwise.kernel_size[0])))
        h = nn.functional.elu(self.separable_norm(h))
        out: torch.Tensor = self.dropout(nn.functional.avg_pool1d(h, _POOLS[1])).flatten(1)
        return out

    def _filter(self, x: torch.Tensor) -> torch.Tensor:
        """Temporal filters, their batch norm, spatial filters: (B, C, T) to (B, F * depth, T)."""
        norm = self.temporal_norm
        h = norm(self.temporal(_padded(x[:, None], self.temporal.kernel_size[1])))
        kernel = torch.renorm(self.spatial.weight, 2, 0, self.max_norm)
        out = nn.functional.conv2d(h, kernel.to(h.dtype), groups=norm.num_features)
        return out.squeeze(2)


def _padded(x: torch.Tensor, kernel: int) -> torch.Tensor:
    """Zeros before and after, so that a convolution keeps the number of samples."""
    return nn.functional.pad(x, ((kernel - 1) // 2, kernel // 2))
