"""Unit length: the values and gradients of torch's own."""

from __future__ import annotations

import torch

from phosphene.objectives._unit import unit


def test_values_and_gradients_are_those_of_normalize() -> None:
    stream = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(5, 7, generator=stream, dtype=torch.float64)
    x[2] = 0
    wanted = torch.randn(5, 7, generator=stream, dtype=torch.float64)
    found = []
    for scale in (unit, torch.nn.functional.normalize):
        leaf = x.clone().requires_grad_()
        out = scale(leaf)
        (out * wanted).sum().backward()
        assert leaf.grad is not None
        found.append((out.detach(), leaf.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=1e-12)
    single = torch.randn(64, 512, generator=stream)
    assert torch.equal(unit(single), torch.nn.functional.normalize(single, dim=1))


def test_gradients_agree_with_differences() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(unit, (x.requires_grad_(),))
