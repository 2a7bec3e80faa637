"""Attention between channels, written out trial by trial and channel by channel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.encoders.channel_attention import (
    ChannelAttention,
    GraphAttention,
    TSConvGA,
    TSConvSA,
)
from phosphene.encoders.tsconv import TSConv
from phosphene.errors import DataError


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.double()


def normed(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """Layer norm over the last axis, by its formula."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


def test_self_attention_equals_its_formula() -> None:
    module = randomised(ChannelAttention(5, 30, dropout=0.0))
    x = torch.randn(3, 5, 30, dtype=torch.float64)
    for trial, found, weights in zip(x, module(x), module.weights(x), strict=True):
        u = normed(trial, module.norm)
        q, k = (
            normed((part.linear.weight @ u + part.linear.bias[:, None]).T, part.norm).T
            for part in (module.query, module.key)
        )
        mixed = torch.zeros_like(u)
        for i in range(5):
            scores = torch.stack([(q[i] * k[j]).sum() for j in range(5)]) / 30**0.5
            attention = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(weights[i], attention)
            mixed[i] = sum(attention[j] * u[j] for j in range(5))
        last = module.projection
        y = normed((last.linear.weight @ mixed + last.linear.bias[:, None]).T, last.norm).T
        torch.testing.assert_close(found, trial + y)


def test_graph_attention_equals_its_formula() -> None:
    module = randomised(GraphAttention(12, dropout=0.0))
    x = torch.randn(3, 4, 12, dtype=torch.float64)
    for trial, found, weights in zip(x, module(x), module.weights(x), strict=True):
        h = [module.linear.weight @ row for row in trial]
        for i in range(4):
            scores = []
            for j in range(4):
                e = (module.target[0] * h[i]).sum() + (module.source[0] * h[j]).sum()
                scores.append(e if e > 0 else 0.2 * e)
            attention = torch.stack(scores).exp()
            attention = attention / attention.sum()
            torch.testing.assert_close(weights[i], attention)
            mixed = sum(attention[j] * h[j] for j in range(4))
            torch.testing.assert_close(found[i], trial[i] + mixed + module.bias)


@pytest.mark.parametrize("front", [ChannelAttention(6, 40, 0.0), GraphAttention(40, 0.0)])
def test_channels_of_a_trial_mix_and_trials_do_not(front: nn.Module) -> None:
    randomised(front)
    x = torch.randn(3, 6, 40, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(front(x)[1, 2].square().sum(), x)
    assert (gradient[1].abs().sum(1) > 1e-6).all()
    assert not gradient[0].any()
    assert not gradient[2].any()


@pytest.mark.parametrize("encoder", [TSConvSA, TSConvGA])
def test_encoder_is_the_front_then_tsconv(encoder: type) -> None:
    sizes = {"conv_dropout": 0.0, "head_dropout": 0.0, "attention_dropout": 0.0, "n_filters": 5}
    fast = randomised(encoder(6, 95, 8, **sizes))
    slow = encoder(6, 95, 8, literal=True, **sizes).double()
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(4, 6, 95, dtype=torch.float64)
    outs, grads = [], []
    for module in (fast, slow):
        out = module(x)
        outs.append(out)
        (out * torch.arange(8.0, dtype=torch.float64)).sum().backward()
        grads.append({name: p.grad for name, p in module.named_parameters()})
    torch.testing.assert_close(*outs, atol=1e-9, rtol=0)
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name], atol=1e-8, rtol=1e-8)
    fast.eval()
    assert isinstance(fast.tsconv, TSConv)
    torch.testing.assert_close(fast(x), fast.tsconv(fast.front(x)))


@pytest.mark.parametrize(("chans", "times"), [(17, 250), (63, 201), (271, 100)])
def test_sizes_follow_the_input(chans: int, times: int) -> None:
    plain = sum(p.numel() for p in TSConv(chans, times, 8).parameters())
    x = torch.randn(2, chans, times)
    for encoder, extra in (
        (TSConvSA, 3 * (chans * chans + 3 * chans) + 2 * times),
        (TSConvGA, times * times + 3 * times),
    ):
        module = encoder(chans, times, 8)
        assert module(x).shape == (2, 8)
        assert sum(p.numel() for p in module.parameters()) == plain + extra


@pytest.mark.parametrize("encoder", [TSConvSA, TSConvGA])
def test_bad_input_is_refused(encoder: type) -> None:
    with pytest.raises(DataError, match=r"too short[\s\S]*at least 75"):
        encoder(6, 74, 8)
    with pytest.raises(DataError, match="encoder='mlp'"):
        encoder(6, None, 8)
    with pytest.raises(DataError, match=r"\(batch, 6, 100\)"):
        encoder(6, 100, 8)(torch.zeros(2, 5, 100))
