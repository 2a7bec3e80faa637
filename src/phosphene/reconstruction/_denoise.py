"""The denoising loop: DDIM without noise of its own, differentiable in latents and tokens.

With ``a_t`` the product of the alphas up to time ``t``, ``x`` the latent and ``e`` the noise that
the network sees in it, one step is::

    x_0 = (x - sqrt(1 - a_t) e) / sqrt(a_t)
    x'  = sqrt(a_prev) x_0 + sqrt(1 - a_prev) e

after Song et al., Denoising Diffusion Implicit Models, ICLR 2021, arXiv:2010.02502. The numbers are
those of the ``DDIMScheduler`` of diffusers with ``eta=0``; the loop is ours because the pipelines
run without gradients.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from phosphene.errors import DataError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
# What the network says about (latents, time); the latents may be doubled for guidance.
Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Times of the denoising steps and the share of signal at each.

    Parameters
    ----------
    alphas : ndarray of float, shape (training times,)
        ``a_t``.
    final_alpha : float
        ``a_prev`` of the last step.
    prediction : {"epsilon", "v_prediction", "sample"}
        What the network predicts: the noise, a mixture, or the latent without noise.
    spacing : {"leading", "trailing", "linspace"}
        How the steps lie in the training times.
    offset : int
        Added to the times; for ``leading`` only.
    clip : float or None
        Bound of ``x_0``, None for none.
    """

    alphas: np.ndarray[Any, np.dtype[np.float64]]
    final_alpha: float
    prediction: str
    spacing: str
    offset: int = 0
    clip: float | None = None

    @classmethod
    def of(cls, scheduler: Any, source: str) -> Schedule:
        """The schedule that a ``DDIMScheduler`` of diffusers describes.

        Raises
        ------
        DataError
            If it asks for something that the loop does not do.
        """
        config = scheduler.config
        for name, value, known in (
            ("prediction_type", config.prediction_type, PREDICTIONS),
            ("timestep_spacing", config.timestep_spacing, SPACINGS),
            ("thresholding", bool(config.thresholding), (False,)),
        ):
            if value not in known:
                raise DataError(f"the scheduler of {source} asks for something that we do not do",
                                found=f"{name} {value!r}",
                                expected=" or ".join(map(repr, known)))  # fmt: skip
        return cls(
            np.asarray(scheduler.alphas_cumprod, dtype=np.float64),
            float(scheduler.final_alpha_cumprod),
            str(config.prediction_type),
            str(config.timestep_spacing),
            int(config.steps_offset),
            float(config.clip_sample_range) if config.clip_sample else None,
        )

    def times(self, steps: int) -> list[int]:
        """Times of all steps, from much noise to little.

        Raises
        ------
        DataError
            If there are more steps than training times.
        """
        total = len(self.alphas)
        if not 1 <= int(steps) <= total:
            raise DataError("the number of denoising steps", found=steps, expected=f"1 to {total}")
        if self.spacing == "linspace":
            return [int(time) for time in np.linspace(0, total - 1, steps).round()[::-1]]
        if self.spacing == "leading":
            return [time * (total // steps) + self.offset for time in reversed(range(steps))]
        return [int(time) - 1 for time in np.round(np.arange(total, 0, -total / steps))]

    def remaining(self, steps: int, start: int) -> list[int]:
        """Times of the last ``start`` of ``steps`` steps."""
        times = self.times(steps)
        if not 1 <= int(start) <= len(times):
            raise DataError("the number of denoising steps that remain", found=start,
                            expected=f"1 to {len(times)}")  # fmt: skip
        return times[len(times) - int(start) :]

    def add_noise(self, z: Tensor, noise: Tensor, time: int) -> Tensor:
        """Latents with the noise that they have at a time."""
        a = float(self.alphas[time])
        return math.sqrt(a) * z + math.sqrt(1 - a) * noise

    def step(self, x: Tensor, predicted: Tensor, time: int, steps: int) -> Tensor:
        """Latents after one step, from the network's prediction at ``time``."""
        before = time - len(self.alphas) // steps
        a = float(self.alphas[time])
        a_next = float(self.alphas[before]) if before >= 0 else self.final_alpha
        signal, sigma = math.sqrt(a), math.sqrt(1 - a)
        if self.prediction == "epsilon":
            clean, noise = (x - sigma * predicted) / signal, predicted
        elif self.prediction == "sample":
            clean, noise = predicted, (x - signal * predicted) / sigma
        else:
            clean = signal * x - sigma * predicted
            noise = signal * predicted + sigma * x
        if self.clip is not None:
            clean = clean.clamp(-self.clip, self.clip)
        return math.sqrt(a_next) * clean + math.sqrt(1 - a_next) * noise


def denoise(
    network: Network,
    schedule: Schedule,
    z: Tensor,
    *,
    steps: int,
    start: int,
    guidance: float = 1.0,
    checkpoint: bool = False,
    truncate: int | None = None,
) -> Tensor:
    """Latents without noise.

    Parameters
    ----------
    network : callable
        Prediction of noisy latents at a time. With guidance it gets the latents twice and answers
        with the predictions without and with the condition, one below the other.
    schedule : Schedule
        Times and shares of noise.
    z : torch.Tensor, shape (n, C, h, w)
        Latents with the noise of step ``start``.
    steps, start : int
        Steps from pure noise, and how many of them remain.
    guidance : float
        Weight of the condition in classifier-free guidance; 1 or less is none.
    checkpoint : bool
        Keep only the latents of each step for the gradient and compute the rest once more.
    truncate : int, optional
        Gradients go through the network in the last ``truncate`` steps only. In the steps before,
        its prediction counts as a constant, and ``z`` is followed through the formula of the step,
        so that it still has a gradient.

    Returns
    -------
    torch.Tensor, shape (n, C, h, w)
    """
    times = schedule.remaining(steps, start)
    if truncate is not None and truncate < 0:
        raise DataError("the number of steps with gradients", found=truncate, expected="0 or more")
    followed = len(times) if truncate is None else min(int(truncate), len(times))
    # On the device at once: a time handed over at every step would wait for the device.
    clock = torch.tensor(times, device=z.device)

    def predict(x: Tensor, time: Tensor) -> Tensor:
        if guidance <= 1:
            return network(x, time)
        empty, full = network(torch.cat([x, x]), time).chunk(2)
        return empty + guidance * (full - empty)

    def one(x: Tensor, number: int, constant: bool) -> Tensor:
        with torch.no_grad() if constant else contextlib.nullcontext():
            predicted = predict(x, clock[number])
        return schedule.step(x, predicted, times[number], steps)

    for number in range(len(times)):
        constant = number < len(times) - followed
        if checkpoint and not constant and torch.is_grad_enabled():
            again = recompute(one, z, number, constant, use_reentrant=False,
                              preserve_rng_state=False)  # fmt: skip
            z = cast("Tensor", again)
        else:
            z = one(z, number, constant)
    return z


def unet_network(unet: Any, tokens: Tensor, more: Mapping[str, Any]) -> Network:
    """A ``UNet2DConditionModel`` under a condition, with latents in float32 around it.

    Parameters
    ----------
    unet : UNet2DConditionModel
        In its own number format.
    tokens : torch.Tensor, shape (n, T, D)
        As many as there will be latents.
    more : mapping
        Further arguments of the unet.
    """
    dtype = unet.dtype
    hidden = tokens.to(dtype)

    def network(x: Tensor, time: Tensor) -> Tensor:
        found = unet(x.to(dtype), time, encoder_hidden_states=hidden, return_dict=False, **more)[0]
        return cast("Tensor", found.to(x.dtype))

    return network
