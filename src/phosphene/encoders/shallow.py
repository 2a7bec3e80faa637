"""ShallowNet: band power of spatial filters."""

from __future__ import annotations

import torch
from torch import nn

from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders._dropout import Dropout
from phosphene.encoders._head import ProjectionHead
from phosphene.encoders._kernels import TemporalSpatial, require_samples


@register("encoder", "shallow")
class ShallowNet(BrainEncoder):
    """``Conv(1, 40, (1, 25)) Conv(40, 40, (C, 1)) BN square AvgPool(75, 15) log Dropout``.

    Source: the shallow ConvNet of Schirrmeister et al., Human Brain Mapping 2017
    (arXiv:1703.05051): the logarithm of the mean power of 40 filters in windows of 75 samples. Its
    sizes are the paper's, which were chosen for 250 Hz.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 99) and width of the target space.
    n_filters, kernel, pool, stride : int
        Filters, samples of a temporal filter, and window and distance of the pooling in samples.
    dropout, head_dropout : float
        Dropout before the head and in it.

    Raises
    ------
    DataError
        If there are fewer than ``kernel + pool - 1`` samples.

    Examples
    --------
    >>> ShallowNet(4, 100, 8, n_filters=3)(torch.zeros(2, 4, 100)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        n_filters: int = 40,
        kernel: int = 25,
        pool: int = 75,
        stride: int = 15,
        dropout: float = 0.5,
        head_dropout: float = 0.5,
    ) -> None:
        n_times = require_times("ShallowNet", n_times)
        super().__init__(n_chans, n_times, n_outputs)
        why = f"kernel {kernel} and pooling over {pool}"
        require_samples("ShallowNet", n_times, kernel + pool - 1, why)
        self.filters = TemporalSpatial(n_chans, n_filters, n_filters, kernel)
        self.norm = nn.BatchNorm1d(n_filters)
        self.pool = nn.AvgPool1d(pool, stride)
        self.dropout = Dropout(dropout)
        self.head = ProjectionHead(self._body_width(), n_outputs, head_dropout)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, filters * windows)."""
        power = self.pool(self.norm(self.filters(x)).square())
        out: torch.Tensor = self.dropout(power.clamp_min(1e-6).log()).flatten(1)
        return out
