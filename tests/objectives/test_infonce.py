"""InfoNCE against values worked by hand and against torch's cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from phosphene.errors import DataError
from phosphene.objectives.infonce import InfoNCE


def pair(n: int = 7, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(3)
    return tuple(torch.randn(2, n, d, generator=stream, dtype=torch.float64))  # type: ignore[return-value]


def test_two_pairs_by_hand() -> None:
    # logits [[2, 1], [0, 3]]: rows ln(1 + e^-1), ln(1 + e^-3); columns ln(1 + e^-2), ln(1 + e^-2)
    z = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    loss = InfoNCE("none", "fixed", 1.0)(z, torch.eye(2))
    rows = math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))
    columns = 2 * math.log1p(math.exp(-2))
    assert float(loss) == pytest.approx((rows + columns) / 4, rel=1e-6)


def test_shared_stimulus_by_hand() -> None:
    # Rows 0 and 1 show one stimulus: targets (1/2, 1/2, 0) twice and (0, 0, 1).
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]])
    loss = InfoNCE("none", "fixed", 1.0)(logits, torch.eye(3), ids=torch.tensor([4, 4, 9]))
    target = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1.0]])
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("normalise", ["both", "target", "none"])
@pytest.mark.parametrize("temperature", ["exp", "softplus", "raw", "fixed"])
def test_equals_cross_entropy_with_gradients(normalise: str, temperature: str) -> None:
    z, v = pair()
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    objective = InfoNCE(normalise, temperature).double()  # type: ignore[arg-type]
    s = objective.s.detach().clone().requires_grad_()
    scale = {
        "exp": torch.exp,
        "softplus": torch.nn.functional.softplus,
        "raw": lambda value: value,
        "fixed": lambda value: value,
    }[temperature](s)
    a = normalize(theirs, dim=1) if normalise == "both" else theirs
    b = v if normalise == "none" else normalize(v, dim=1)
    logits = scale * a @ b.T
    truth = torch.arange(len(z))
    expected = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
    expected.backward()
    for ids in (None, torch.arange(len(z)) + 40):
        ours.grad = None
        objective.zero_grad()
        loss = objective(ours, v, ids)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(ours.grad, theirs.grad)
        if temperature != "fixed":
            torch.testing.assert_close(objective.s.grad, s.grad)


def test_gradients_with_shared_stimuli_equal_cross_entropy() -> None:
    z, v = pair()
    ids = torch.tensor([3, 1, 3, 2, 1, 3, 0])
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    InfoNCE("none", "fixed", 1.5)(ours, v, ids).backward()
    target = (ids[:, None] == ids[None, :]).double()
    target /= target.sum(1, keepdim=True)
    logits = 1.5 * theirs @ v.T
    (3 * (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2).backward()
    torch.testing.assert_close(3 * ours.grad, theirs.grad)
    # a factor on the loss reaches the gradients
    ours.grad = None
    (3 * InfoNCE("none", "fixed", 1.5)(ours, v, ids)).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_targets_of_unit_length_need_not_be_scaled_again() -> None:
    z, v = pair()
    plain = InfoNCE("target", "softplus").double()
    spared = InfoNCE("target", "softplus", unit_targets=True).double()
    torch.testing.assert_close(spared(z, normalize(v, dim=1)), plain(z, v))
    assert not torch.allclose(spared(z, v), plain(z, v))


def test_large_logits_neither_overflow_nor_vanish() -> None:
    z = (200 * torch.eye(3)).requires_grad_()
    loss = InfoNCE("none", "fixed", 1.0)(z, torch.eye(3)[[1, 0, 2]])
    assert float(loss.detach()) == pytest.approx(400 / 3, rel=1e-6)
    loss.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_scales_start_where_the_papers_do() -> None:
    assert float(InfoNCE("both", "exp").scale.detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    assert float(InfoNCE("target", "softplus").scale.detach()) == pytest.approx(2.73, abs=0.005)
    assert float(InfoNCE("both", "fixed").scale.detach()) == pytest.approx(14.3, abs=0.02)
    assert float(InfoNCE("none", "raw", init=2.66).scale.detach()) == pytest.approx(2.66)


@pytest.mark.parametrize(
    ("temperature", "learned", "trainable"),
    [
        ("exp", True, 1),
        ("exp", False, 0),
        ("softplus", True, 1),
        ("raw", True, 1),
        ("fixed", True, 0),
    ],
)
def test_which_scales_are_learned(temperature: str, learned: bool, trainable: int) -> None:
    objective = InfoNCE("both", temperature, learned=learned)  # type: ignore[arg-type]
    assert len(list(objective.parameters())) == trainable
    assert "s" in objective.state_dict()


def test_scores_are_the_scaled_similarities_of_the_pairs() -> None:
    z, v = pair()
    objective = InfoNCE("target", "softplus").double()
    _, scores = objective.with_scores(z, v)
    expected = objective.scale * (z * normalize(v, dim=1)).sum(1)
    torch.testing.assert_close(scores, expected.detach())
    assert not scores.requires_grad


def test_loss_is_float32_under_autocast() -> None:
    z, v = pair(32, 16)
    z, v = z.float(), v.float()
    objective = InfoNCE()
    plain = objective(z, v)
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective(z, v)
    assert inside.dtype == torch.float32
    assert torch.equal(plain, inside)


def test_gradients_under_autocast_are_close() -> None:
    z, v = pair(64, 32)
    grads = []
    for enabled in (False, True):
        a, b = z.float().requires_grad_(), v.float().requires_grad_()
        objective = InfoNCE("target", "softplus")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = objective(a, b, torch.arange(64) % 50)
        loss.backward()
        grads.append((a.grad, b.grad, objective.s.grad))
    for exact, mixed in zip(*grads, strict=True):
        assert mixed.dtype == torch.float32
        assert float((exact - mixed).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize(("normalise", "temperature"), [("brain", "exp"), ("both", "log")])
def test_unknown_options_are_refused(normalise: str, temperature: str) -> None:
    with pytest.raises(DataError, match="unknown"):
        InfoNCE(normalise, temperature)  # type: ignore[arg-type]
