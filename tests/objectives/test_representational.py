"""The two terms of alignment against a literal loop."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch

from phosphene.objectives.representational import alignment_loss, similarity


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("centred", [False, True])
def test_loss_is_the_loop_over_rows_and_pairs(
    reduction: Literal["mean", "sum"], centred: bool
) -> None:
    stream = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    y, rebuilt, latent, rsm = draw(5, 4), draw(2, 5, 4), draw(2, 5, 3), draw(2, 5, 5)
    rows = torch.ones(2, 5, dtype=torch.float64)
    rows[1, [0, 3]] = 0
    alpha = torch.tensor([0.3, 0.01], dtype=torch.float64)
    found = alignment_loss(
        y, rebuilt, latent, rsm + rsm.mT, alpha, rows, centred=centred, reduction=reduction
    )
    for k in range(2):
        seen = torch.nonzero(rows[k]).ravel().tolist()
        kept = [(y[i, j] - rebuilt[k, i, j]) ** 2 for i in seen for j in range(4)]
        gaps = []
        for i, j in itertools.combinations(seen, 2):
            a, b = latent[k, i].numpy(), latent[k, j].numpy()
            if centred:
                s = np.corrcoef(a, b)[0, 1]
            else:
                s = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            gaps.append((s - float(rsm[k, i, j] + rsm[k, j, i])) ** 2)
        combine = np.mean if reduction == "mean" else np.sum
        expected = alpha[k] * combine(kept) + (1 - alpha[k]) * combine(gaps)
        assert float(found[k]) == pytest.approx(float(expected))


def test_a_silent_latent_has_a_finite_gradient() -> None:
    latent = torch.zeros(3, 4, requires_grad=True)
    similarity(latent).sum().backward()  # type: ignore[no-untyped-call]
    assert latent.grad is not None
    assert bool(torch.isfinite(latent.grad).all())
