"""Maximum mean discrepancy against a literal double loop."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from phosphene.errors import DataError
from phosphene.objectives.mmd import MMD


def batches(shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    z, v = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return z, v + shift


def test_equals_a_double_loop() -> None:
    z, v = batches()
    rows = torch.cat([z, v]).tolist()

    def distance(a: list[float], b: list[float]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    apart = [distance(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    median = statistics.median_low(apart)
    total = 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            sign = 1 if (i < 6) == (j < 6) else -1
            for factor in (0.5, 3.0):
                total += sign * math.exp(-distance(a, b) / (factor * median)) / 2 / 36
    assert float(MMD((0.5, 3.0))(z, v)) == pytest.approx(total, rel=1e-9)


def test_grows_with_the_distance_of_the_clouds_and_ignores_the_pairing() -> None:
    mmd = MMD()
    near, far = (float(mmd(*batches(shift))) for shift in (0.2, 2.0))
    z, v = batches()
    assert near < far / 2
    assert float(mmd(z, v.roll(1, 0))) == pytest.approx(float(mmd(z, v)), rel=1e-9)
    assert float(mmd(z, z.roll(1, 0))) == pytest.approx(0, abs=1e-12)


def test_is_float32_under_autocast_and_finite_for_equal_rows() -> None:
    z, v = (x.float().requires_grad_() for x in batches())
    with torch.autocast("cpu", torch.bfloat16):
        low = MMD()(z, v)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(MMD()(z, v).item(), rel=1e-6)
    low.backward()
    assert z.grad is not None
    assert z.grad.abs().max() > 1e-3
    same = torch.ones(4, 3, requires_grad=True)
    loss = MMD()(same, torch.ones(4, 3))
    loss.backward()
    assert loss.item() == 0
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_bandwidths_must_be_positive() -> None:
    with pytest.raises(DataError, match="positive"):
        MMD((1.0, 0.0))
