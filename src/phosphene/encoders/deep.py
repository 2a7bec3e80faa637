"""DeepNet: four blocks of convolution and pooling."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders._dropout import Dropout
from phosphene.encoders._head import ProjectionHead
from phosphene.encoders._kernels import TemporalSpatial, require_samples
from phosphene.errors import DataError


@register("encoder", "deep")
class DeepNet(BrainEncoder):
    """Temporal and spatial filters, then three more convolutions, with max pooling after each.

    Source: the deep ConvNet of Schirrmeister et al., Human Brain Mapping 2017 (arXiv:1703.05051):
    25, 50, 100 and 200 filters over 10 samples. The paper pools over 3 samples, which needs 441 of
    them; here it is 2, which needs 151, so that one second at 200 or 250 Hz is long enough.
    ``pool=3`` is the paper's.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples and width of the target space.
    widths : tuple of int
        Filters of the blocks.
    kernel, pool : int
        Samples of a temporal filter, and of a pooling window (with the same distance).
    dropout, head_dropout : float
        Dropout before each block but the first, and in the head.

    Raises
    ------
    DataError
        If there are too few samples; the number that is needed is stated.

    Examples
    --------
    >>> DeepNet(4, 160, 8)(torch.zeros(2, 4, 160)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        widths: tuple[int, ...] = (25, 50, 100, 200),
        kernel: int = 10,
        pool: int = 2,
        dropout: float = 0.5,
        head_dropout: float = 0.5,
    ) -> None:
        n_times = require_times("DeepNet", n_times)
        super().__init__(n_chans, n_times, n_outputs)
        if not widths:
            raise DataError("DeepNet needs at least one block", found="widths=()")
        least = 1
        for _ in widths:
            least = least * pool + kernel - 1
        why = f"{len(widths)} blocks with kernel {kernel} and pooling over {pool}"
        require_samples("DeepNet", n_times, least, why)
        first = TemporalSpatial(n_chans, widths[0], widths[0], kernel)
        layers: list[nn.Module] = [first, *_rest(widths[0], pool)]
        for before, after in pairwise(widths):
            convolution = nn.Conv1d(before, after, kernel, bias=False)
            layers += [Dropout(dropout), convolution, *_rest(after, pool)]
        self.layers = nn.Sequential(*layers)
        self.head = ProjectionHead(self._body_width(), n_outputs, head_dropout)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, filters * positions)."""
        out: torch.Tensor = self.layers(x).flatten(1)
        return out


def _rest(width: int, pool: int) -> list[nn.Module]:
    """What follows each convolution."""
    return [nn.BatchNorm1d(width), nn.ELU(), nn.MaxPool1d(pool)]
