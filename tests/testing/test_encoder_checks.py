"""The checks of encoders, objectives and views find parts that are broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from phosphene.stimuli.views import View, ViewInput
from phosphene.testing import (
    CheckFailure,
    check_encoder,
    check_image_encoder,
    check_objective,
    check_text_encoder,
    check_view,
)

SHAPES = [(4, 20)]


class Plain(nn.Module):
    """An encoder without fault; the broken ones change one thing."""

    def __init__(self, n_chans: int, n_times: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_chans * n_times, n_outputs)
        self.norm = nn.BatchNorm1d(n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x.flatten(1)))


class BatchStatisticsInEval(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.linear(x.flatten(1))
        return (z - z.mean(0)) / (z.std(0, correction=0) + 1e-5) + self.norm(z)


class DropoutInEval(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(super().forward(x), 0.5, training=True)


class UnusedParameter(Plain):
    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.forgotten = nn.Parameter(torch.ones(3))


class UnseededStart(Plain):
    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        with torch.random.fork_rng():
            torch.seed()
            nn.init.normal_(self.linear.weight)


class ConstantStart(Plain):
    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        nn.init.constant_(self.linear.bias, 0)
        nn.init.eye_(self.linear.weight)


class StateOutsideTheModule(Plain):
    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.gain = torch.rand(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.gain


class ScalesInPlace(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mul_(0.5))


class IgnoresTheInput(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(torch.zeros_like(x).flatten(1)))


class WrongWidth(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, 1:]


class PoolsAwayChannels(Plain):
    def __init__(self, n_chans: int, n_times: int, n_outputs: int) -> None:
        super().__init__(1, n_times, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mean(1, keepdim=True))


def test_a_plain_module_passes() -> None:
    check_encoder(Plain, shapes=SHAPES)


@pytest.mark.parametrize(
    ("encoder", "finding"),
    [
        (BatchStatisticsInEval, "batch"),
        (DropoutInEval, "batch|differ"),
        (UnusedParameter, "forgotten"),
        (UnseededStart, "linear.weight"),
        (ConstantStart, "seed"),
        (StateOutsideTheModule, "state"),
        (ScalesInPlace, "in place"),
        (IgnoresTheInput, "same vector|no gradient"),
        (WrongWidth, r"15\)"),
        (PoolsAwayChannels, "channels was accepted"),
    ],
)
def test_broken_encoders_are_caught(encoder: type[nn.Module], finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_encoder(encoder, shapes=SHAPES)


def test_an_encoder_that_raises_is_a_failure_with_its_error() -> None:
    def broken(**sizes: int) -> nn.Module:
        raise ZeroDivisionError("n_times")

    with pytest.raises(CheckFailure, match="ZeroDivisionError: n_times"):
        check_encoder(broken, shapes=SHAPES)


# --------------------------------------------------------------------------------- objectives
def contrast(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of cosines, a plain objective without fault."""
    z, v = (functional.normalize(x.float(), dim=1) for x in (z, v))
    logits = 5 * z @ v.T
    rows = torch.arange(len(z))
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)) / 2


def one_direction(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    logits = 5 * functional.normalize(z.float(), dim=1) @ functional.normalize(v.float(), dim=1).T
    return functional.cross_entropy(logits, torch.arange(len(z)))


def ignores_the_brain(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return contrast(v, v) + 0 * z.float().sum()


def order_matters(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return contrast(z, v) + (torch.arange(len(z)) * z[:, 0].float()).sum() * 1e-3


def wrong_sign(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return -contrast(z, v)


def overflows(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    logits = (z.float() @ v.float().T).exp()
    return -(logits.diagonal() / logits.sum(1)).log().mean()


def not_reduced(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (z.float() - v.float()).square().sum(1)


def normalises_in_place(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return contrast(z if z.requires_grad else z.mul_(2), v)


def ignores_ids(z: torch.Tensor, v: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
    return contrast(z, v)


def test_a_plain_objective_passes() -> None:
    check_objective(contrast)


@pytest.mark.parametrize(
    ("objective", "finding"),
    [
        (one_direction, "brain to image and image to brain"),
        (ignores_the_brain, "no gradient reaches the brain"),
        (order_matters, "order"),
        (wrong_sign, "aligned"),
        (overflows, "finite"),
        (not_reduced, "scalar"),
        (normalises_in_place, "in place"),
        (ignores_ids, "naming the stimuli"),
    ],
)
def test_broken_objectives_are_caught(objective: Callable[..., Any], finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_objective(objective)


# -------------------------------------------------------------------------------------- views
@dataclass(frozen=True)
class Darker(View):
    """A view without fault; the broken ones change one thing."""

    kind: ClassVar[str] = "darker"

    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images * 0.5


class Unseeded(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images * torch.rand(1)


class TooBright(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images * 1.5


class Cropped(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images[..., 1:]


class Double(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images.double()


class BatchMean(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return (source.images + source.images.mean(0, keepdim=True)) / 2


class InPlace(Darker):
    def render(self, source: ViewInput) -> torch.Tensor:
        return source.images.mul_(0.5)


class Nameless(Darker):
    @property
    def name(self) -> str:
        return ""


def test_a_plain_view_passes() -> None:
    check_view(Darker())


@pytest.mark.parametrize(
    ("view", "finding"),
    [
        (Unseeded, "two results"),
        (TooBright, r"\[0, 1\]"),
        (Cropped, "shape"),
        (Double, "float64"),
        (BatchMean, "batch"),
        (InPlace, "two results|in place"),
        (Nameless, "canonical name"),
    ],
)
def test_broken_views_are_caught(view: type[View], finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_view(view())


# ----------------------------------------------------------------------- image, text encoders
def colour(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


def batch_centred(images: torch.Tensor) -> torch.Tensor:
    return colour(images) - colour(images).mean(0)


def constant(images: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(images), 3)


def unseeded(images: torch.Tensor) -> torch.Tensor:
    return colour(images) + 1e-3 * torch.rand(1)


@pytest.mark.parametrize(
    ("function", "finding"),
    [(batch_centred, "batch"), (constant, "same vector"), (unseeded, "differ")],
)
def test_broken_image_encoders_are_caught(function: Callable[..., Any], finding: str) -> None:
    from phosphene.stimuli.encoders import CallableEncoder

    check_image_encoder(CallableEncoder(colour, id="colour", image_size=8))
    with pytest.raises(CheckFailure, match=finding):
        check_image_encoder(CallableEncoder(function, id="broken", image_size=8))


class Letters:
    """Counts of letters as a text encoder; ``broken`` makes it depend on the batch."""

    id = "letters"
    weights_hash = "none"

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def encode(self, texts: list[str]) -> Any:
        import numpy as np

        rows = np.array([[t.count(c) for c in "abcdefgh"] for t in texts], np.float32)
        return rows - rows.mean(0) if self.broken else rows


def test_broken_text_encoders_are_caught() -> None:
    check_text_encoder(Letters())
    with pytest.raises(CheckFailure, match="alone"):
        check_text_encoder(Letters(broken=True))
