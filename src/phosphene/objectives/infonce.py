"""InfoNCE: the symmetric contrastive loss, with its normalisation and temperature named."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from phosphene._matmul import product
from phosphene._registry import register
from phosphene.errors import DataError
from phosphene.objectives._unit import unit

Normalise = Literal["both", "target", "none"]
Temperature = Literal["exp", "softplus", "raw", "fixed"]

_INVERSE_TAU = 1 / 0.07


@register("objective", "infonce")
class InfoNCE(nn.Module):
    r"""Symmetric cross-entropy over the similarities of a batch.

    .. math::

        L = \tfrac{1}{2B} \sum_i \Big[ \log\!\sum_j e^{l_{ij}} + \log\!\sum_j e^{l_{ji}} \Big]
            - \tfrac{1}{B} \sum_i \tfrac{1}{|P_i|} \sum_{j \in P_i} l_{ij},
        \qquad l_{ij} = \text{scale} \cdot z_i^\top v_j

    where :math:`P_i` are the rows that show the stimulus of row i: trials of one stimulus are
    positives of one another, with a uniform target. With distinct stimuli this is the usual mean
    of brain-to-image and image-to-brain cross-entropy. The loss is computed in float32, also under
    autocast, where only the products of the backward pass are in low precision.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), in the form of CLIP (arXiv:2103.00020);
    uniform targets over positives as in Khosla et al. 2020 (arXiv:2004.11362).

    Parameters
    ----------
    normalise : {"both", "target", "none"}
        Which vectors are scaled to unit length: brain and image (CLIP), the image only (UBP and
        its family, where the gain of the encoder's last layer norm is part of the scale), neither.
    temperature : {"exp", "softplus", "raw", "fixed"}
        How the scale follows from its parameter s: exp(s), softplus(s), s itself, or the constant
        ``init``.
    init : float, optional
        s at the start; ln(1/0.07) for exp and softplus (scales 14.3 and 2.73), else 1/0.07.
    learned : bool
        Whether s is trained.
    unit_targets : bool
        The image vectors come with unit length and need not be scaled again.

    Examples
    --------
    >>> loss = InfoNCE(normalise="none", temperature="fixed", init=1.0)
    >>> eye = torch.eye(2)
    >>> round(float(loss(eye, eye)), 4)  # ln(1 + e) - 1
    0.3133
    >>> round(float(loss(eye, eye, ids=torch.tensor([5, 5]))), 4)  # both are positives
    0.8133
    """

    def __init__(
        self,
        normalise: Normalise = "both",
        temperature: Temperature = "exp",
        init: float | None = None,
        learned: bool = True,
        *,
        unit_targets: bool = False,
    ) -> None:
        super().__init__()
        if normalise not in ("both", "target", "none"):
            raise DataError(
                "unknown normalisation", found=repr(normalise), expected="both, target or none"
            )
        if temperature not in ("exp", "softplus", "raw", "fixed"):
            raise DataError(
                "unknown temperature",
                found=repr(temperature),
                expected="exp, softplus, raw or fixed",
            )
        if init is None:
            init = math.log(_INVERSE_TAU) if temperature in ("exp", "softplus") else _INVERSE_TAU
        self.normalise = normalise
        self.temperature = temperature
        self.unit_targets = unit_targets
        value = torch.tensor(float(init))
        self.s: torch.Tensor
        if learned and temperature != "fixed":
            self.s = nn.Parameter(value)
        else:
            self.register_buffer("s", value)

    @property
    def scale(self) -> torch.Tensor:
        """The factor on the similarities, a scalar."""
        if self.temperature == "exp":
            return self.s.exp()
        if self.temperature == "softplus":
            return nn.functional.softplus(self.s)
        return self.s

    def forward(
        self, z: torch.Tensor, v: torch.Tensor, ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        z : torch.Tensor, shape (B, D)
            Brain vectors.
        v : torch.Tensor, shape (B, D)
            Image vectors, row by row the true ones.
        ids : torch.Tensor, shape (B,), optional
            Stimulus of each row; rows that share one are positives of one another. None says that
            all are distinct.

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        return self.with_scores(z, v, ids)[0]

    def with_scores(
        self, z: torch.Tensor, v: torch.Tensor, ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the scaled similarities (B,) of the true pairs without their graph."""
        device = z.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            z, v = _wide(z), _wide(v)
            if self.normalise == "both":
                z = unit(z)
            if self.normalise != "none" and not self.unit_targets:
                v = unit(v)
            loss, true = _Contrast.apply(z, v, self.scale, ids, low)  # type: ignore[no-untyped-call]
            return loss, true

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"normalise={self.normalise!r}, temperature={self.temperature!r}"


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Contrast(torch.autograd.Function):
    """The loss of ``logits = scale * z @ v.T``, and the logits of the true pairs.

    The gradient by the logits is made on the way, so that forward and backward share their
    exponentials and one B x B matrix is kept; the scale is part of passes that are made anyway. The
    logits are of the precision of ``z``; with ``low`` only the products of the backward pass are in
    that type.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: torch.Tensor,
        v: torch.Tensor,
        scale: torch.Tensor,
        ids: torch.Tensor | None,
        low: torch.dtype | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(z)
        logits = product(z, v).mul_(scale)
        true = logits.diagonal().clone()
        weights, positive = None, true
        if ids is not None:
            same = (ids[:, None] == ids[None, :]).to(logits.dtype)
            weights = same.div_(same.sum(1, keepdim=True))
            positive = (logits * weights).sum(1)
        wanted = any(ctx.needs_input_grad[:3])
        spread, gradient = torch.zeros_like(positive), None
        for axis in (1, 0):
            largest = logits.amax(axis, keepdim=True)
            shares = (logits - largest).exp_()
            total = shares.sum(axis, keepdim=True)
            spread += (total.log() + largest).flatten()
            factor = 0.5 / (n * total)
            if not wanted:
                continue
            gradient = (
                shares.mul_(factor) if gradient is None else gradient.addcmul_(shares, factor)
            )
        if gradient is not None:
            if weights is None:
                gradient.diagonal().sub_(1 / n)
            else:
                gradient.sub_(weights, alpha=1 / n)
            # By the scale: the sum of gradient times unscaled logits. At a scale of exactly 0 these
            # are lost, and it stands still.
            by_scale = torch.dot(gradient.flatten(), logits.flatten())
            by_scale = by_scale / torch.where(scale == 0, torch.ones_like(scale), scale)
            ctx.save_for_backward(z, v, scale, gradient, by_scale)
            ctx.low = low
        ctx.mark_non_differentiable(true)
        # Row by row: sums of logits are large where the loss is small.
        return (spread / 2 - positive).mean(), true

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor, _true: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        z, v, scale, gradient, by_scale = ctx.saved_tensors
        by_z, by_v, by_s = ctx.needs_input_grad[:3]
        low = ctx.low or z.dtype
        scaled = (gradient * (grad * scale)).to(low)
        to_z = product(scaled, v.to(low).T).to(z.dtype) if by_z else None
        to_v = product(scaled.T, z.to(low).T).to(v.dtype) if by_v else None
        return to_z, to_v, grad * by_scale if by_s else None, None, None
