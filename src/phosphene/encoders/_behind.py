"""TSConv behind a front end that changes the signals of each trial."""

from __future__ import annotations

import torch
from torch import nn

from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders.tsconv import TSConv


class BehindFront(BrainEncoder):
    """A front end from (B, C, T) to (B, C, T), then TSConv with its head.

    The moving average that TSConv starts with cannot be taken once per data set, because it comes
    after parameters here; it is taken in each step. The rest of TSConv's fast form stays.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 75) and width of the target space.
    n_filters : int
        Temporal and spatial filters of TSConv.
    conv_dropout : float
        Dropout after its spatial convolution.
    head_dropout : float
        Dropout of the projection head.
    literal : bool
        Compute TSConv layer by layer; see `phosphene.encoders.tsconv.TSConv`.
    """

    front: nn.Module

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        n_filters: int = 40,
        conv_dropout: float = 0.5,
        head_dropout: float = 0.5,
        literal: bool = False,
    ) -> None:
        super().__init__(n_chans, require_times(type(self).__name__, n_times), n_outputs)
        self.tsconv = TSConv(
            n_chans,
            n_times,
            n_outputs,
            n_filters=n_filters,
            dropout=conv_dropout,
            head_dropout=head_dropout,
            literal=literal,
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, positions * filters) of raw signals (B, C, T)."""
        return self._convolve(self.front(x))

    def forward(self, x: torch.Tensor, *, prepared: bool = False) -> torch.Tensor:
        """Encode signals (B, n_chans, n_times); nothing is prepared ahead."""
        if not prepared:
            self._check(x)
        out: torch.Tensor = self.tsconv.head(self.body(x))
        return out

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        return self.tsconv.body(self.tsconv.prepare(x))
