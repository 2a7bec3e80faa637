"""Train several alignment networks at once: one product per step for all of them.

The gradient is written out: each operation here is small, and automatic differentiation costs more
than the products (the tests compare with it, through `objectives.representational`).

Fits of one stack share the vectors; they differ in the brain's RSM, the rows they may learn from,
alpha, the initial weights and the order of batches. So a stack serves a grid of alphas, the folds
of a cross-validation, seeds, and subjects left out in turn. Each fit ends as it would alone, to
rounding, because nothing is shared between them but the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene import _random
from phosphene.objectives.representational import Reduction

Network = Literal["autoencoder", "residual"]
Weights = dict[str, torch.Tensor]
Function = Callable[[torch.Tensor], torch.Tensor]
ACTIVATIONS: dict[str, Function] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}
# Derivatives, in terms of the activation's own output.
SLOPES: dict[str, Function] = {
    "relu": lambda h: (h > 0).to(h.dtype),
    "tanh": lambda h: 1 - h.square(),
    "linear": torch.ones_like,
}
# Measured on two cores: wider stacks leave the caches, and cost more per fit than narrower ones.
STACK = {"cpu": 4, "cuda": 128}


@dataclass(frozen=True)
class Architecture:
    """What a stack has in common.

    Parameters
    ----------
    kind : {"autoencoder", "residual"}
        ``autoencoder``: the latent is the aligned vector. ``residual``: the vector itself plus a
        correction, zero at first.
    width : int
        Hidden units.
    activation : {"relu", "tanh", "linear"}
        Of the hidden units.
    """

    kind: Network
    width: int
    activation: str

    def init(self, dim: int, seeds: Sequence[int]) -> Weights:
        """Initial weights, uniform within 1/sqrt(inputs) as torch's linear layers."""

        def uniform(name: str, fan_in: int, *shape: int) -> torch.Tensor:
            bound = 1 / math.sqrt(fan_in)
            draws = [
                torch.rand(shape, generator=_random.torch_generator(seed, "alignment", name))
                for seed in seeds
            ]
            return torch.stack(draws).mul_(2 * bound).sub_(bound)

        weights = {
            "encode": uniform("encode", dim, dim, self.width),
            "encode_bias": uniform("encode_bias", dim, 1, self.width),
            "decode": uniform("decode", self.width, self.width, dim),
            "decode_bias": uniform("decode_bias", self.width, 1, dim),
        }
        if self.kind == "residual":  # starts as the original space
            weights["decode"].zero_()
            weights["decode_bias"].zero_()
        return weights

    def hidden(self, y: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Hidden units (fits, n, width) of vectors (fits, n, d)."""
        pre = torch.baddbmm(weights["encode_bias"], y, weights["encode"])
        return ACTIVATIONS[self.activation](pre)

    def out(self, hidden: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Reconstruction, or the correction of the residual variant, (fits, n, d)."""
        return torch.baddbmm(weights["decode_bias"], hidden, weights["decode"])

    def latent(self, y: torch.Tensor, weights: Weights) -> torch.Tensor:
        """Aligned vectors (fits, n, width or d)."""
        hidden = self.hidden(y, weights)
        return hidden if self.kind == "autoencoder" else y + self.out(hidden, weights)


@dataclass(frozen=True)
class Job:
    """One fit of a stack: the brain, the rows it may see, alpha, and its seeds."""

    rsm: NDArray[np.float64]
    rows: NDArray[np.bool_]
    alpha: float
    seed: int
    order_seed: int


@dataclass(frozen=True)
class Schedule:
    """How stacks are trained: Adam, on all rows or on batches; ``jobs`` stacks at a time."""

    epochs: int
    lr: float
    batch_size: int | None
    centred: bool
    reduction: Reduction
    device: torch.device
    stack: int | None = None
    jobs: int = 1


def train(
    vectors: NDArray[np.float32], jobs: Sequence[Job], network: Architecture, schedule: Schedule
) -> list[Weights]:
    """Weights of every job, on the CPU; jobs are trained in stacks that suit the device."""
    size = schedule.stack or STACK.get(schedule.device.type, 1)
    # With batches, fits that learn from more rows take more steps: they go into other stacks.
    groups: dict[int, list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(0 if schedule.batch_size is None else int(job.rows.sum()), []).append(i)
    stacks = [
        group[start : start + size]
        for group in groups.values()
        for start in range(0, len(group), size)
    ]

    def run(stack: Sequence[int]) -> list[Weights]:
        return _train_stack(vectors, [jobs[i] for i in stack], network, schedule)

    if schedule.jobs == 1 or len(stacks) == 1:
        trained = [run(stack) for stack in stacks]
    else:
        # Threads: torch lets go of the interpreter within its operations, and nothing is copied.
        with ThreadPoolExecutor(schedule.jobs) as pool:
            trained = list(pool.map(run, stacks))
    found = {
        i: weights
        for stack, results in zip(stacks, trained, strict=True)
        for i, weights in zip(stack, results, strict=True)
    }
    return [found[i] for i in range(len(jobs))]


def _train_stack(
    vectors: NDArray[np.float32], jobs: Sequence[Job], network: Architecture, schedule: Schedule
) -> list[Weights]:
    device = schedule.device
    y = torch.as_tensor(vectors, dtype=torch.float32, device=device)
    rsm = torch.stack([torch.as_tensor(job.rsm, dtype=torch.float32) for job in jobs]).to(device)
    rows = torch.stack([torch.as_tensor(job.rows, dtype=torch.float32) for job in jobs]).to(device)
    alpha = torch.tensor([job.alpha for job in jobs], device=device)
    initial = network.init(y.shape[1], [job.seed for job in jobs])
    weights = {
        name: value.to(device).contiguous().requires_grad_() for name, value in initial.items()
    }
    everything = y.expand(len(jobs), *y.shape)
    adam = torch.optim.Adam(list(weights.values()), lr=schedule.lr, fused=True)
    # Without a graph: gradients come from `gradient`.
    for epoch in range(schedule.epochs):
        for batch in _batches(jobs, len(y), schedule, epoch):
            if batch is None:
                seen, targets, mask = everything, rsm, rows
            else:
                batch = batch.to(device)
                fit = torch.arange(len(jobs), device=device)[:, None]
                seen = y[batch]
                targets = rsm[fit[:, :, None], batch[:, :, None], batch[:, None, :]]
                mask = rows[fit, batch]
            gradients = gradient(network, schedule, seen, targets, alpha, mask, weights)
            for name, value in gradients.items():
                weights[name].grad = value
            adam.step()
    with torch.no_grad():
        return [
            {name: value[i].cpu().clone() for name, value in weights.items()}
            for i in range(len(jobs))
        ]


@torch.no_grad()
def gradient(
    network: Architecture,
    schedule: Schedule,
    y: torch.Tensor,
    rsm: torch.Tensor,
    alpha: torch.Tensor,
    rows: torch.Tensor,
    weights: Weights,
) -> Weights:
    """Gradient of the summed `alignment_loss` of all fits.

    With unit rows U of the latent Z, S = U U' and the gaps E = S - R of rows that are learned from,
    the brain's term has the gradient G = 2 E U in U, and through the unit length
    (G - U (U . G)) / |Z| in Z.
    """
    n = rows.sum(dim=1)
    keep, match = 2 * alpha, 2 * (1 - alpha)
    if schedule.reduction == "mean":
        keep, match = keep / (n * y.shape[-1]), match / (n * (n - 1) / 2)
    hidden = network.hidden(y, weights)
    out = network.out(hidden, weights)
    if network.kind == "autoencoder":
        latent, error = hidden, out - y
    else:
        latent, error = y + out, out
    error = error * (keep[:, None] * rows)[:, :, None]
    pull = _pull(latent, rsm, rows, schedule.centred) * match[:, None, None]
    if network.kind == "autoencoder":
        at_hidden = torch.baddbmm(pull, error, weights["decode"].transpose(1, 2))
    else:
        error = error + pull
        at_hidden = torch.bmm(error, weights["decode"].transpose(1, 2))
    if network.activation != "linear":
        at_hidden = at_hidden * SLOPES[network.activation](hidden)
    return {
        "encode": torch.bmm(y.transpose(1, 2), at_hidden),
        "encode_bias": at_hidden.sum(dim=1, keepdim=True),
        "decode": torch.bmm(hidden.transpose(1, 2), error),
        "decode_bias": error.sum(dim=1, keepdim=True),
    }


def _pull(
    latent: torch.Tensor, rsm: torch.Tensor, rows: torch.Tensor, centred: bool
) -> torch.Tensor:
    """Half the gradient in the latent of the summed squared gaps over pairs."""
    if centred:
        latent = latent - latent.mean(dim=-1, keepdim=True)
    # A latent of zeros has no direction, and gets no gradient: as `functional.normalize`.
    length: torch.Tensor = torch.linalg.vector_norm(latent, dim=-1, keepdim=True)
    size = length.clamp_min(1e-12)
    unit = latent / size
    gap = torch.baddbmm(rsm, unit, unit.transpose(1, 2), beta=-1)
    gap = gap * rows[:, :, None] * rows[:, None, :]
    # A row's gap with itself is no pair; what it adds lies along the row and is taken off below.
    pull = torch.bmm(gap, unit)
    along = (pull * unit).sum(dim=-1, keepdim=True)
    pull = torch.addcmul(pull, unit, along, value=-1) / size
    return pull - pull.mean(dim=-1, keepdim=True) if centred else pull


def _batches(
    jobs: Sequence[Job], n: int, schedule: Schedule, epoch: int
) -> Sequence[torch.Tensor | None]:
    """Rows of every batch, (fits, batch); None stands for all rows at once."""
    size = schedule.batch_size
    if size is None or size >= jobs[0].rows.sum():
        return [None]
    orders = []
    for job in jobs:
        stream = _random.torch_generator(job.order_seed, "alignment order", epoch)
        order = torch.randperm(n, generator=stream)
        # Rows that a fit may not see go to the end, so that its batches are full of others.
        orders.append(order[torch.argsort(~torch.as_tensor(job.rows)[order], stable=True)])
    order = torch.stack(orders)
    least = int(jobs[0].rows.sum())  # as in all of the stack
    # An incomplete last batch is left out; its rows come elsewhere in the next order.
    return [order[:, i : i + size] for i in range(0, max(least - size + 1, 1), size)]
