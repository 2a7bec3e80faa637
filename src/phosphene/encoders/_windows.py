"""Convolution, ELU and spatial projection over windows, block by block within the processor cache.

For windows ``u`` of the input (position p, channel c, tap k) this computes
``out[p] = sum_c,f  K[c,f] * ELU(sum_k W[f,k] u[p,c,k] + b[f])`` and its gradients. The activation
in the middle is by far the largest array of TSConv; it is made again in the backward pass instead
of being kept, so that it never leaves the cache and the step needs a fraction of the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from phosphene._matmul import product

# Bytes of the middle activation per block: about one core's cache, or plenty on an accelerator.
_CPU_BLOCK = 6 << 20
_DEVICE_BLOCK = 1 << 30


def block_rows(x: torch.Tensor, positions: int, n_filters: int) -> int:
    """How many trials make one block."""
    budget = _CPU_BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK
    return max(1, budget // (positions * x.shape[1] * n_filters * x.element_size()))


def windows_of(x: torch.Tensor, taps: int, stride: int) -> torch.Tensor:
    """View of ``x`` (B, C, T) as windows (B, positions, C, taps)."""
    return x.unfold(-1, taps, stride).transpose(1, 2)


def window_moments(
    x: torch.Tensor, taps: int, stride: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean (taps,) and covariance (taps, taps) of all windows, and their number.

    Differentiable in ``x``; moments are taken around a common offset, because a drifting baseline
    would otherwise cancel the digits that the variance lives in.
    """
    offset = x.detach().mean()
    positions = (x.shape[-1] - taps) // stride + 1
    total, second = x.new_zeros(taps), x.new_zeros(taps, taps)
    step = block_rows(x, positions, taps)
    for start in range(0, len(x), step):
        u = windows_of(x[start : start + step] - offset, taps, stride).reshape(-1, taps)
        total = total + u.sum(0)
        second = second + u.T @ u
    n = x.shape[0] * x.shape[1] * positions
    centre = total / n
    covariance = second / n - centre.outer(centre)
    return centre + offset, covariance, n


class _WindowedLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        kernel: torch.Tensor,
        stride: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        batch, chans, times = x.shape
        n_filters, taps = weight.shape
        positions = (times - taps) // stride + 1
        out = x.new_empty(batch, positions, kernel.shape[0], dtype=dtype)
        spatial = kernel.to(dtype)
        work = _Work(x, weight, bias, positions, stride, dtype)
        for start, stop in work.blocks():
            h = work.activation(start, stop).view((stop - start) * positions, chans * n_filters)
            out[start:stop] = product(h, spatial).view(stop - start, positions, -1)
        ctx.save_for_backward(x, weight, bias, kernel)
        ctx.stride, ctx.dtype, ctx.positions = stride, dtype, positions
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias, kernel = ctx.saved_tensors
        n_filters, taps = weight.shape
        chans, positions = x.shape[1], ctx.positions
        work = _Work(x, weight, bias, positions, ctx.stride, ctx.dtype)
        spatial = kernel.to(ctx.dtype)
        grad = grad.to(ctx.dtype).contiguous()
        # Sums over blocks are kept in the parameters' precision.
        g_folded = weight.new_zeros(taps + 1, n_filters)
        g_spatial = kernel.new_zeros(kernel.shape[1], kernel.shape[0])
        g_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for start, stop in work.blocks():
            h = work.activation(start, stop)
            rows = (stop - start) * positions
            g_out = grad[start:stop].view(rows, -1)
            _accumulate(g_spatial, h.view(rows, chans * n_filters).T, g_out)
            g = product(g_out, spatial.T).view(len(h), n_filters)
            torch.ops.aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, h, grad_input=g)
            _accumulate(g_folded, work.windows[: len(h)].T, g)
            if g_x is not None:
                g_u = (g @ work.folded[:taps].T).view(stop - start, positions, chans, taps)
                g_x[start:stop] = torch.ops.aten.unfold_backward(
                    g_u.transpose(1, 2).to(x.dtype),
                    [stop - start, *x.shape[1:]],
                    2,
                    taps,
                    ctx.stride,
                )
        return g_x, g_folded[:taps].T, g_folded[taps], g_spatial.T, None, None


class _Work:
    """Reused buffers of one pass: windows with a column of ones, and the activation."""

    def __init__(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        positions: int,
        stride: int,
        dtype: torch.dtype,
    ) -> None:
        n_filters, taps = weight.shape
        self.x, self.taps, self.stride = x, taps, stride
        self.per_trial = positions * x.shape[1]
        self.step = max(1, min(block_rows(x, positions, n_filters), len(x)))
        # The bias rides along as the weight of a constant input: a broadcast of it into the
        # output before each product costs as much as the product.
        self.folded = torch.cat([weight.T, bias[None]]).to(dtype)
        self.windows = x.new_ones(self.step * self.per_trial, taps + 1, dtype=dtype)

    def blocks(self) -> list[tuple[int, int]]:
        n = len(self.x)
        return [(start, min(start + self.step, n)) for start in range(0, n, self.step)]

    def activation(self, start: int, stop: int) -> torch.Tensor:
        rows = (stop - start) * self.per_trial
        u = windows_of(self.x[start:stop], self.taps, self.stride)
        self.windows[:rows, : self.taps].view(*u.shape).copy_(u)
        return nn.functional.elu_(product(self.windows[:rows], self.folded.T))


def _accumulate(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    total += product(left, right.T)


def windowed_layers(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    kernel: torch.Tensor,
    stride: int,
) -> torch.Tensor:
    """Temporal filters, ELU and spatial filters over strided windows.

    Parameters
    ----------
    x : torch.Tensor, shape (B, C, T)
        Input.
    weight, bias : torch.Tensor, shape (F, taps) and (F,)
        Temporal filters.
    kernel : torch.Tensor, shape (G, C * F)
        Spatial filters, channel before temporal filter.
    stride : int
        Distance between windows.

    Returns
    -------
    torch.Tensor, shape (B, positions, G)
        In bf16 under autocast, else in the precision of ``x``.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        out: torch.Tensor = _WindowedLayers.apply(  # type: ignore[no-untyped-call]
            x, weight, bias, kernel, stride, dtype
        )
    return out
