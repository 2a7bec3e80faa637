"""EEGProject: one linear map of the whole epoch, then the projection head."""

from __future__ import annotations

from typing import ClassVar

from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders._head import ProjectionHead


@register("encoder", "eegproject")
class EEGProject(BrainEncoder):
    """Flattened epoch -> Linear -> residual MLP -> LayerNorm: 5.4 M parameters at 17 x 250 -> 1024.

    Source: the brain encoder of UBP (CVPR 2025, arXiv:2503.04207), as in its released code.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples and width of the target space.
    dropout : float
        Dropout of the residual branch.

    Examples
    --------
    >>> encoder = EEGProject(17, 250, 1024)
    >>> round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1)
    5.4
    """

    starts_with_product: ClassVar[bool] = True

    def __init__(
        self, n_chans: int, n_times: int | None, n_outputs: int, *, dropout: float = 0.3
    ) -> None:
        n_times = require_times("EEGProject", n_times)
        super().__init__(n_chans, n_times, n_outputs)
        self.head = ProjectionHead(n_chans * n_times, n_outputs, dropout)
