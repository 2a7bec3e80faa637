"""The optimiser of the demonstration generator against what its formulas say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

PATH = Path(__file__).parents[2] / "tools" / "muon.py"


@pytest.fixture(scope="module")
def muon() -> ModuleType:
    spec = importlib.util.spec_from_file_location("muon", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def literal(x: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz on the matrix itself, as published."""
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_matrices_become_orthogonal_as_published(muon: ModuleType) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = [(40, 90), (90, 40), (40, 300), (64, 500)]
    given = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    for x, found in zip(given, muon.orthogonal(given), strict=True):
        expected = literal(x) if x.shape[0] <= x.shape[1] else literal(x.T).T
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
        values = torch.linalg.svdvals(found)
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.25


def test_small_parameters_take_steps_of_adam(muon: ModuleType) -> None:
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(8, 5, generator=draw)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimisers = (muon.Muon([ours], 0.01, 0.02), torch.optim.AdamW([theirs], 0.01, weight_decay=0))
    for _ in range(5):
        gradient = torch.randn(8, 5, generator=draw)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimiser in optimisers:
            optimiser.step()
    torch.testing.assert_close(ours, theirs)


def test_convolutions_count_as_matrices(muon: ModuleType) -> None:
    draw = torch.Generator().manual_seed(2)
    weight = torch.randn(48, 32, 3, 3, generator=draw).requires_grad_()
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=draw)
    optimiser = muon.Muon([weight], lr=1.0, matrix_lr=0.5)
    optimiser.step()
    # The first step: the gradient's direction, whatever part of it the momentum holds.
    expected = -0.5 * literal(weight.grad.flatten(1)).view(weight.shape)
    torch.testing.assert_close(weight.detach() - before, expected, rtol=1e-3, atol=1e-4)


def test_state_survives_a_checkpoint(muon: ModuleType) -> None:
    draw = torch.Generator().manual_seed(3)
    start = [torch.randn(shape, generator=draw) for shape in ((40, 40), (7,))]
    gradients = [[torch.randn(p.shape, generator=draw) for p in start] for _ in range(4)]

    def run(stop: int | None) -> list[torch.Tensor]:
        weights = [p.clone().requires_grad_() for p in start]
        optimiser = muon.Muon(weights, 0.01, 0.02)
        for number, step in enumerate(gradients):
            if number == stop:
                state = optimiser.state_dict()
                optimiser = muon.Muon(weights, 0.01, 0.02)
                optimiser.load_state_dict(state)
            for p, g in zip(weights, step, strict=True):
                p.grad = g.clone()
            optimiser.step()
        return [p.detach() for p in weights]

    for whole, resumed in zip(run(None), run(2), strict=True):
        torch.testing.assert_close(whole, resumed, rtol=0, atol=0)
