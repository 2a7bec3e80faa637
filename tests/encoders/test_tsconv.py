"""TSConv's fast form against the layers of the paper, written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from phosphene.encoders.tsconv import TSConv
from phosphene.errors import DataError


class PaperTSConv(nn.Module):
    """The layers as torch modules in the paper's order, independent of our code."""

    def __init__(self, chans: int, times: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 40, (1, 25)),
            nn.AvgPool2d((1, 51), (1, 5)),
            nn.BatchNorm2d(40),
            nn.ELU(),
            nn.Conv2d(40, 40, (chans, 1)),
            nn.BatchNorm2d(40),
            nn.ELU(),
            nn.Dropout(0.0),
            nn.Conv2d(40, 40, (1, 1)),
        )
        self.linear = nn.Linear(40 * ((times - 75) // 5 + 1), outputs)
        self.residual = nn.Linear(outputs, outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layers(x[:, None]).squeeze(2).transpose(1, 2).flatten(1)
        h = self.linear(h)
        return self.norm(h + self.residual(nn.functional.gelu(h)))

    def load(self, encoder: TSConv) -> None:
        pairs = [
            (self.layers[0], encoder.temporal),
            (self.layers[2], encoder.temporal_norm),
            (self.layers[4], encoder.spatial),
            (self.layers[5], encoder.spatial_norm),
            (self.layers[8], encoder.mix),
            (self.linear, encoder.head[0]),
            (self.residual, encoder.head[1].branch[1]),
            (self.norm, encoder.head[2]),
        ]
        for own, theirs in pairs:
            own.load_state_dict(theirs.state_dict())


def make(chans: int, times: int, *, literal: bool = False) -> TSConv:
    torch.manual_seed(1)
    module = TSConv(chans, times, 12, dropout=0.0, head_dropout=0.0, literal=literal).double()
    # Gains and biases of the norms away from one and zero, so that folding them is tested.
    for norm in (module.temporal_norm, module.spatial_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return module


@pytest.mark.parametrize(("chans", "times"), [(7, 120), (3, 75), (5, 79), (17, 201)])
@pytest.mark.parametrize("reference", ["paper", "literal"])
def test_outputs_gradients_and_statistics_equal_the_literal_form(
    chans: int, times: int, reference: str
) -> None:
    fast = make(chans, times)
    if reference == "paper":
        slow: nn.Module = PaperTSConv(chans, times, 12).double()
        slow.load(fast)
    else:
        slow = TSConv(chans, times, 12, dropout=0.0, head_dropout=0.0, literal=True).double()
        slow.load_state_dict(fast.state_dict())
    x = torch.randn(6, chans, times, dtype=torch.float64) + 2.0
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    weights = torch.randn(6, 12, dtype=torch.float64)
    for _ in range(2):  # twice: running statistics after two updates
        outs = [fast(inputs[0]), slow(inputs[1])]
    for out in outs:
        (out * weights).sum().backward()
    torch.testing.assert_close(*outs, atol=1e-10, rtol=0)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-10, rtol=0)
    grads = [sorted((p.grad for p in m.parameters()), key=_key) for m in (fast, slow)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    norms = [[m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
             for module in (fast, slow)]  # fmt: skip
    for ours, theirs in zip(*norms, strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, atol=1e-12, rtol=0)
        torch.testing.assert_close(ours.running_var, theirs.running_var, atol=1e-12, rtol=0)
        assert ours.num_batches_tracked == theirs.num_batches_tracked == 2
    fast.eval()
    slow.eval()
    torch.testing.assert_close(fast(x), slow(x), atol=1e-10, rtol=0)


def _key(grad: torch.Tensor) -> tuple[int, float]:
    return grad.numel(), float(grad.double().abs().sum().round(decimals=6))


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(9, 4, 100, dtype=torch.float64)
    results = []
    for block in (1, 1 << 14, 1 << 30):
        monkeypatch.setattr("phosphene.encoders._windows._CPU_BLOCK", block)
        module = make(4, 100)
        out = module(x)
        out.sum().square().backward()
        results.append((out.detach(), module.temporal.weight.grad, module.spatial.weight.grad))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_raw_microvolts_with_a_large_offset_stay_exact_in_float32() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4, 100) * 5 + 300  # drifting baseline, in microvolts
    fast = TSConv(4, 100, 8, dropout=0.0, head_dropout=0.0)
    exact = copy.deepcopy(fast).double()
    torch.testing.assert_close(fast(x).double(), exact(x.double()), atol=2e-3, rtol=2e-3)


def test_bf16_is_close_to_fp32() -> None:
    torch.manual_seed(0)
    fast = TSConv(6, 150, 16, dropout=0.0, head_dropout=0.0)
    x = torch.randn(16, 6, 150)
    full = fast(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = fast(x)
    half.float().sum().backward()
    assert nn.functional.cosine_similarity(full, half.float()).min() > 0.99
    assert all(p.grad.dtype == torch.float32 for p in fast.parameters())


def test_too_short_input_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match=r"too short[\s\S]*74 samples[\s\S]*at least 75"):
        TSConv(17, 74, 8)
