"""Checks of contrastive objectives: scalars of two batches of paired vectors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from phosphene import _random, _registry
from phosphene.testing._runner import Suite, fail, raise_first


@dataclass(frozen=True)
class ObjectivePart:
    """An objective under test."""

    name: str
    build: Callable[[], Any]

    @property
    def takes_ids(self) -> bool:
        """Whether stimulus indices can be given, so that repeated stimuli are not negatives."""
        objective = self.build()
        call = objective.forward if isinstance(objective, nn.Module) else objective
        return "ids" in inspect.signature(call).parameters

    def __call__(self, z: torch.Tensor, v: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The loss of one batch under a freshly built objective."""
        loss = self.build()(z, v, **kwargs)
        if not isinstance(loss, torch.Tensor) or loss.shape != ():
            fail("an objective returns a scalar tensor", found=getattr(loss, "shape", loss))
        assert isinstance(loss, torch.Tensor)
        return loss


def prepare(name: str, part: Any) -> ObjectivePart:
    """A class is built with its defaults; a ready objective is used as it is."""
    if isinstance(part, type):
        return ObjectivePart(name, part)
    return ObjectivePart(name, lambda: part)


def pair(n: int = 24, d: int = 12, *names: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Two batches of unit vectors that have nothing to do with each other, each (n, d)."""
    stream = _random.torch_generator(0, "check", "pair", n, d, *names)
    z, v = torch.randn(2, n, d, generator=stream)
    return nn.functional.normalize(z, dim=1), nn.functional.normalize(v, dim=1)


def value_is_finite(part: ObjectivePart) -> None:
    """Finite float32 for usual, tiny, large, equal and bf16 vectors, and for one pair."""
    z, v = pair()
    cases = {
        "unit vectors": (z, v),
        "tiny vectors": (z * 1e-4, v * 1e-4),
        "large vectors": (z * 1e3, v * 1e3),
        "equal rows": (z[:1].repeat(len(z), 1), v[:1].repeat(len(v), 1)),
        "bf16 vectors": (z.bfloat16(), v.bfloat16()),
        "a single pair": (z[:1], v[:1]),
    }
    for label, (a, b) in cases.items():
        loss = part(a, b)
        if not bool(torch.isfinite(loss)) or loss.dtype != torch.float32:
            fail(f"the loss of {label} must be a finite float32", found=f"{loss} {loss.dtype}")


def gradients_reach_brain_and_parameters(part: ObjectivePart) -> None:
    """The brain vectors and every learned parameter get finite gradients that are not zero."""
    z, v = pair()
    z.requires_grad_()
    objective = part.build()
    objective(z, v).backward()
    learned = list(objective.named_parameters()) if isinstance(objective, nn.Module) else []
    for name, value in [("brain vectors", z), *learned]:
        if not value.requires_grad:
            continue
        if value.grad is None or not bool(value.grad.any()):
            fail(f"no gradient reaches the {name}")
        elif not bool(torch.isfinite(value.grad).all()):
            fail(f"the gradient of the {name} is not finite")


def order_of_the_batch_does_not_matter(part: ObjectivePart) -> None:
    """Shuffling pairs together leaves the loss as it is."""
    z, v = pair()
    order = torch.randperm(len(z), generator=_random.torch_generator(0, "check", "order"))
    first, second = part(z, v), part(z[order], v[order])
    if not torch.allclose(first, second, rtol=1e-5, atol=1e-6):
        fail("the loss changes with the order of the pairs", found=f"{first:.6g}, {second:.6g}")


def true_pairs_cost_less_than_shuffled_ones(part: ObjectivePart) -> None:
    """Perfectly aligned pairs have a lower loss than unrelated and wrongly paired vectors."""
    for draw in range(5):
        z, v = pair(24, 12, draw)
        aligned, unrelated, rolled = part(v, v), part(z, v), part(v.roll(1, 0), v)
        if not (aligned < unrelated and aligned < rolled):
            fail(
                "aligned pairs must cost less than others",
                found=f"aligned {aligned:.4g}, unrelated {unrelated:.4g}, shuffled {rolled:.4g}",
            )


def directions_count_alike(part: ObjectivePart) -> None:
    """Swapping brain and image (unit vectors) leaves the loss as it is."""
    z, v = pair()
    forth, back = part(z, v), part(v, z)
    if not torch.allclose(forth, back, rtol=1e-4, atol=1e-5):
        fail("brain to image and image to brain differ", found=f"{forth:.6g}, {back:.6g}")


def repeated_stimuli_are_not_negatives(part: ObjectivePart) -> None:
    """With ids, a trial may match any target of its stimulus, such as another blur of it."""
    if not part.takes_ids:
        return
    _, v = pair(12)
    _, noise = pair(24, 12, "views")
    targets = nn.functional.normalize(v.repeat(2, 1) + 0.7 * noise, dim=1)
    partner = targets.roll(12, 0)
    ids = torch.arange(12).repeat(2)
    blind, told = part(partner, targets), part(partner, targets, ids=ids)
    if not told < blind - 1e-6:
        fail(
            "naming the stimuli must lower the loss of a match with another trial's target",
            found=f"{blind:.6g} without ids, {told:.6g} with ids",
        )
    plain, unique = part(v, v), part(v, v, ids=torch.arange(12) + 5)
    if not torch.allclose(plain, unique, rtol=1e-5, atol=1e-6):
        fail("ids that are all different change the loss", found=f"{plain:.6g}, {unique:.6g}")


def inputs_unmodified(part: ObjectivePart) -> None:
    """The vectors that went in are left as they are."""
    z, v = pair()
    before = z.clone(), v.clone()
    part(z, v)
    if not (torch.equal(z, before[0]) and torch.equal(v, before[1])):
        fail("the objective changed its input in place")


SUITE: Suite[ObjectivePart] = Suite(
    "objective",
    prepare,
    (
        # first, so that other findings are not its consequence
        inputs_unmodified,
        value_is_finite,
        gradients_reach_brain_and_parameters,
        order_of_the_batch_does_not_matter,
        true_pairs_cost_less_than_shuffled_ones,
        directions_count_alike,
        repeated_stimuli_are_not_negatives,
    ),
)
_registry.add("check", "objective", SUITE)


def check_objective(objective: Any) -> None:
    """Check a contrastive objective.

    Parameters
    ----------
    objective : str, type or callable
        A registered name, a class that can be built without arguments, or an objective that is
        called with brain vectors (batch, d) and image vectors (batch, d).

    Raises
    ------
    CheckFailure
        Names the promise that is broken.

    Examples
    --------
    >>> check_objective("infonce")
    """
    raise_first(SUITE, objective)
