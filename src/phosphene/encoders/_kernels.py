"""Temporal and spatial convolution without a nonlinearity between them, as one convolution."""

from __future__ import annotations

import torch
from torch import nn

from phosphene.errors import DataError


class TemporalSpatial(nn.Module):
    """``Conv(1, F, (1, taps)) -> Conv(F, G, (C, 1))``, computed as one ``Conv1d(C, G, taps)``.

    The product of two linear maps is a linear map: its kernel is
    ``K[g, c, k] = sum_f spatial[g, f, c] temporal[f, k]``, and the array of F channels x filters,
    by far the largest of these networks, is never made. Parameters and gradients are those of the
    two layers.

    Parameters
    ----------
    n_chans, n_temporal, n_spatial, taps : int
        Channels, temporal filters F, spatial filters G, samples of a temporal filter.

    Examples
    --------
    >>> TemporalSpatial(4, 3, 5, 10)(torch.zeros(2, 4, 30)).shape
    torch.Size([2, 5, 21])
    """

    def __init__(self, n_chans: int, n_temporal: int, n_spatial: int, taps: int) -> None:
        super().__init__()
        self.temporal = nn.Conv2d(1, n_temporal, (1, taps))
        self.spatial = nn.Conv2d(n_temporal, n_spatial, (n_chans, 1), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter signals (B, C, T) to (B, G, T - taps + 1)."""
        temporal = self.temporal.weight[:, 0, 0]
        spatial = self.spatial.weight[..., 0]
        assert self.temporal.bias is not None
        kernel = torch.einsum("gfc,fk->gck", spatial, temporal)
        bias = torch.einsum("gfc,f->g", spatial, self.temporal.bias)
        return nn.functional.conv1d(x, kernel.to(x.dtype), bias.to(x.dtype))


def require_samples(encoder: str, n_times: int, least: int, why: str) -> None:
    """Refuse epochs that are too short for an encoder.

    Raises
    ------
    DataError
        If there are fewer than ``least`` samples.
    """
    if n_times < least:
        raise DataError(
            f"{encoder}: the input is too short",
            found=f"{n_times} samples",
            expected=f"at least {least} ({why})",
            fix="use longer epochs, a higher sampling rate or encoder='eegproject'",
        )
