"""Matrix products by either library: the same numbers, the same gradients, safe fallbacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from phosphene import _matmul

AVAILABLE = _matmul._measure(64) > 0


@pytest.fixture(params=["default", "onednn"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "onednn" and not AVAILABLE:
        pytest.skip("this torch has no oneDNN product")
    gain = 9.0 if request.param == "onednn" else 0.0
    monkeypatch.setattr(_matmul, "onednn_gain", lambda: gain)
    return str(request.param)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torchs_with_gradients(library: str, bias: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = _matmul.Linear(30, 7, bias=bias), nn.Linear(30, 7, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(12, 30)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outs = [layer(value) for layer, value in zip((ours, theirs), inputs, strict=True)]
    for out in outs:
        out.sin().sum().backward()
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_products_of_transposed_views(library: str) -> None:
    a, b = torch.randn(5, 9), torch.randn(9, 4)
    torch.testing.assert_close(_matmul.product(a, b.T), a @ b)
    torch.testing.assert_close(_matmul.product(b.T, a), b.T @ a.T)


def test_only_what_is_asked_for_gets_a_gradient(library: str) -> None:
    x, weight = torch.randn(3, 4), torch.randn(2, 4, requires_grad=True)
    _matmul.affine(x, weight).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_everything_else_is_left_to_torch(
    library: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, weight = torch.randn(shape).to(dtype), torch.randn(2, 4).to(dtype)
    out = _matmul.affine(x, weight)
    assert out.dtype == dtype
    torch.testing.assert_close(out, nn.functional.linear(x, weight))


def test_autocast_is_respected(library: str) -> None:
    layer = _matmul.Linear(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 4)).dtype == torch.bfloat16


def test_the_probe_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOSPHENE_CACHE", str(tmp_path))
    monkeypatch.setattr(_matmul, "_measure", lambda size: 3.5)
    probe = _matmul.onednn_gain.__wrapped__
    if not AVAILABLE:
        assert probe() == 0.0
        return
    assert probe() == 3.5
    (note,) = tmp_path.iterdir()
    assert json.loads(note.read_text()) == {"gain": 3.5}
    monkeypatch.setattr(_matmul, "_measure", lambda size: 1.0)
    assert probe() == 3.5
    note.write_text("{")  # unreadable: probed again
    assert probe() == 1.0


def test_a_torch_without_the_operator_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("signature changed")

    monkeypatch.setattr(_matmul, "_onednn", broken)
    assert _matmul._measure(16) == 0.0


def test_wrong_results_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_matmul, "_onednn", lambda a, b, bias: torch.zeros(len(a), len(b)))
    assert _matmul._measure(16) == 0.0
