"""Dropout from 16 random bits per value."""

from __future__ import annotations

import pytest
import torch

from phosphene.encoders._dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_share_and_mean_are_right(p: float) -> None:
    torch.manual_seed(0)
    n = 400_000
    x = torch.ones(n)
    y = Dropout(p)(x)
    spread = (p * (1 - p) / n) ** 0.5
    assert abs(float((y == 0).double().mean()) - p) < 5 * spread
    assert abs(float(y.double().mean()) - 1) < 5 * spread / (1 - p)
    torch.testing.assert_close(y[y != 0].unique(), torch.tensor([1 / (1 - p)]), rtol=1e-4, atol=0)


def test_neighbours_and_draws_are_independent() -> None:
    torch.manual_seed(0)
    drop = Dropout(0.5)
    first, second = drop(torch.ones(1000, 101)), drop(torch.ones(1000, 101))
    kept = (first != 0).double() - 0.5
    again = (second != 0).double() - 0.5
    for shift in (1, 2, 3, 4):  # four values share one draw
        product = kept.flatten()[shift:] * kept.flatten()[:-shift]
        assert abs(float(product.mean())) < 0.005
    assert abs(float((kept * again).mean())) < 0.005


def test_the_same_seed_drops_the_same_values() -> None:
    drop, x = Dropout(0.3), torch.randn(7, 5, 3)
    seen = []
    for _ in range(2):
        torch.manual_seed(3)
        seen.append(drop(x))
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], drop(x))


def test_gradients_pass_where_values_do() -> None:
    x = torch.randn(50, 8, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y != 0).float() * 2)


def test_nothing_is_dropped_outside_training_or_at_zero() -> None:
    x = torch.randn(20, 4)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert Dropout(0.5)(x.bfloat16()).dtype == torch.bfloat16
    assert Dropout(0.5)(torch.empty(0, 4)).shape == (0, 4)
