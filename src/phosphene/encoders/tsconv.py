"""TSConv: temporal convolution, pooling, spatial convolution; computed as matrix products.

The literal form is ``Conv(1, F, (1, 25)) -> AvgPool((1, 51), (1, 5)) -> BatchNorm -> ELU ->
Conv(F, F, (C, 1)) -> BatchNorm -> ELU -> Dropout -> Conv1x1(F, F)``. Three exact identities make
it an order of magnitude cheaper:

1. Pooling commutes with convolution. The first two layers are a convolution of stride 5 over the
   51-sample moving average of the input, which has no parameters (``prepare``): 36 positions
   instead of 226 at 250 samples.
2. Batch statistics of a linear map follow from the moments of its input. With ``y = W u + b`` over
   windows ``u`` of 25 samples, ``mean y = W mean(u) + b`` and ``var y = diag(W Cov(u) W')``: the
   normalisation folds into ``W`` and ``b``, and the large activation is written once.
3. What is left are two matrix products with channels and features innermost, computed block by
   block (`_windows`).
"""

from __future__ import annotations

import torch
from torch import nn

from phosphene._registry import register
from phosphene.encoders._base import BrainEncoder, require_times
from phosphene.encoders._dropout import Dropout
from phosphene.encoders._head import ProjectionHead
from phosphene.encoders._windows import window_moments, windowed_layers
from phosphene.errors import DataError

_KERNEL = 25
_POOL = 51
_STRIDE = 5
_MIN_TIMES = _KERNEL + _POOL - 1


@register("encoder", "tsconv")
class TSConv(BrainEncoder):
    """Temporal-spatial convolution of NICE.

    Source: Song et al., ICLR 2024 (arXiv:2308.13234), as in the released code.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 75) and width of the target space.
    n_filters : int
        Temporal and spatial filters.
    dropout : float
        Dropout after the spatial convolution.
    head_dropout : float
        Dropout of the projection head.
    literal : bool
        Compute layer by layer as written in the paper. The same parameters and, within rounding,
        the same numbers; the reference for the fast form.

    Raises
    ------
    DataError
        If there are fewer than 75 samples.

    Examples
    --------
    >>> TSConv(4, 80, 8, n_filters=3)(torch.zeros(2, 4, 80)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        n_filters: int = 40,
        dropout: float = 0.5,
        head_dropout: float = 0.5,
        literal: bool = False,
    ) -> None:
        n_times = require_times("TSConv", n_times)
        super().__init__(n_chans, n_times, n_outputs)
        if n_times < _MIN_TIMES:
            raise DataError(
                "TSConv: the input is too short",
                found=f"{n_times} samples",
                expected=f"at least {_MIN_TIMES} (kernel {_KERNEL} and pooling over {_POOL})",
                fix="use longer epochs, a higher sampling rate or encoder='eegproject'",
            )
        self.literal = literal
        self.temporal = nn.Conv2d(1, n_filters, (1, _KERNEL))
        self.temporal_norm = nn.BatchNorm2d(n_filters)
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_chans, 1))
        self.spatial_norm = nn.BatchNorm2d(n_filters)
        self.dropout = Dropout(dropout)
        self.mix = nn.Conv2d(n_filters, n_filters, (1, 1))
        self.head = ProjectionHead(self._body_width(), n_outputs, head_dropout)

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """Moving average over 51 samples: (B, C, T) to (B, C, T - 50)."""
        return x if self.literal else nn.functional.avg_pool1d(x, _POOL, stride=1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, positions * filters)."""
        return self._literal(x) if self.literal else self._products(x)

    def _literal(self, x: torch.Tensor) -> torch.Tensor:
        h = nn.functional.avg_pool2d(self.temporal(x.unsqueeze(1)), (1, _POOL), (1, _STRIDE))
        h = nn.functional.elu(self.temporal_norm(h))
        h = nn.functional.elu(self.spatial_norm(self.spatial(h)))
        h = self.mix.forward(self.dropout(h))
        return h.squeeze(2).transpose(1, 2).flatten(1)

    def _products(self, x: torch.Tensor) -> torch.Tensor:
        n_filters = self.temporal.out_channels
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self._fold(x)
        # Conv2d weights are (out, in, channel, 1); the product wants the channel before the filter.
        kernel = self.spatial.weight.squeeze(3).transpose(1, 2).reshape(n_filters, -1)
        h = windowed_layers(x, weight, bias, kernel, _STRIDE)
        if self.spatial.bias is not None:
            h = h + self.spatial.bias
        h = nn.functional.elu(self._norm_last(h.flatten(0, 1)))
        h = self.dropout(h)
        h = nn.functional.linear(h, self.mix.weight.view(n_filters, n_filters), self.mix.bias)
        return h.view(len(x), -1)

    def _fold(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Temporal weights and bias with the batch normalisation that follows them folded in."""
        norm = self.temporal_norm
        weight = self.temporal.weight.view(-1, _KERNEL)
        bias = self.temporal.bias
        assert bias is not None
        if norm.training or norm.running_mean is None or norm.running_var is None:
            centre, covariance, n = window_moments(x.to(weight.dtype), _KERNEL, _STRIDE)
            mean = weight @ centre + bias
            variance = ((weight @ covariance) * weight).sum(1).clamp_min(0)
            self._track(norm, mean, variance, n)
        else:
            mean, variance = norm.running_mean, norm.running_var
        gain = norm.weight * torch.rsqrt(variance + norm.eps)
        return weight * gain[:, None], (bias - mean) * gain + norm.bias

    @staticmethod
    @torch.no_grad()
    def _track(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor, n: int) -> None:
        """Update the running statistics as ``BatchNorm2d`` does."""
        if norm.running_mean is None or norm.running_var is None:
            return
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        momentum = 0.1 if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach(), momentum)
        norm.running_var.lerp_(variance.detach() * (n / max(n - 1, 1)), momentum)

    def _norm_last(self, h: torch.Tensor) -> torch.Tensor:
        """Batch normalisation with the features on the last axis."""
        norm = self.spatial_norm
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(
            h,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            norm.training,
            0.1 if norm.momentum is None else norm.momentum,
            norm.eps,
        )
