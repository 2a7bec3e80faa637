"""Float32 matrix products on the CPU, by the faster of the two libraries that torch carries.

torch computes them with MKL, which on processors of other makers leaves half of the speed unused;
oneDNN, which torch uses for bf16 and convolutions, does not (measured: 2.1 to 2.4 times faster on
an AMD Zen 5, no difference on Intel). A probe decides, once per machine; where oneDNN is not
clearly faster, or its operator is absent, everything here is plain torch.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from phosphene._device import remembered, shortest

# Measured gains are either near 1 or above 2.
MIN_GAIN = 1.4


@functools.cache
def onednn_gain(size: int = 768) -> float:
    """How many times faster oneDNN multiplies float32 matrices than torch's default here.

    The two round differently, so that the answer is kept (`phosphene._device.remembered`).
    """
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return 0.0
    return remembered("onednn", lambda: _measure(size))


def _measure(size: int) -> float:
    a = torch.linspace(-1, 1, size * size).view(size, size)
    default = functools.partial(torch.mm, a, a)
    ours = functools.partial(_onednn, a, a.T, None)
    try:
        if not torch.allclose(default(), ours(), rtol=1e-3, atol=1e-3):
            return 0.0
        return shortest(default) / shortest(ours)
    except (RuntimeError, TypeError, NotImplementedError):
        return 0.0  # another torch, another operator


def _onednn(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return out


def _applies(*tensors: torch.Tensor | None) -> bool:
    return (
        all(
            t is None or (t.device.type == "cpu" and t.dtype == torch.float32 and t.numel() > 0)
            for t in tensors
        )
        and onednn_gain() >= MIN_GAIN
    )


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``a @ b.T + bias`` without a graph.

    Parameters
    ----------
    a : torch.Tensor, shape (n, k)
    b : torch.Tensor, shape (m, k)
        Transposed views cost nothing.
    bias : torch.Tensor, shape (m,), optional
    """
    if _applies(a, b, bias):
        return _onednn(a, b, bias)
    return nn.functional.linear(a, b, bias)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            product(grad, weight.T) if wanted[0] else None,
            product(grad.T, x.T) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias`` with gradients, for matrices x (n, k) and weight (m, k).

    Under autocast, on other devices and in other precisions this is ``nn.functional.linear``.

    Examples
    --------
    >>> affine(torch.ones(1, 2), torch.tensor([[1.0, 2.0]]))
    tensor([[3.]])
    """
    autocast = torch.is_autocast_enabled(x.device.type)
    if x.ndim != 2 or autocast or not _applies(x, weight, bias):
        return nn.functional.linear(x, weight, bias)
    out: torch.Tensor = _Affine.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class Linear(nn.Linear):
    """``nn.Linear`` on `affine`: the same parameters, initialisation and state."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply the layer to (batch, features)."""
        return affine(input, self.weight, self.bias)
