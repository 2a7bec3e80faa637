"""ATMS against torch's own transformer layer; tokens of subjects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.encoders.atms import ATMSEncoder, ChannelTransformer
from phosphene.errors import DataError


def randomised(module: nn.Module) -> nn.Module:
    """Norms and biases away from one and zero, in double precision."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.double()


class Literal(nn.Module):
    """The same layer from torch's parts; heads must divide the samples."""

    def __init__(self, front: ChannelTransformer) -> None:
        super().__init__()
        width = front.embed.in_features
        self.front = front
        self.layers = []
        for ours in front.layers:
            layer = nn.TransformerEncoderLayer(
                width, 4, 256, dropout=0.0, activation="gelu", batch_first=True
            ).double()
            projections = (ours.query, ours.key, ours.value)
            state = {
                "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
                "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
            }
            for theirs, part in (
                ("self_attn.out_proj", ours.out),
                ("linear1", ours.feed[0]),
                ("linear2", ours.feed[3]),
                ("norm1", ours.norm1),
                ("norm2", ours.norm2),
            ):
                state[f"{theirs}.weight"], state[f"{theirs}.bias"] = part.weight, part.bias
            layer.load_state_dict(state)
            self.layers.append(layer)

    def forward(self, x: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        tokens = x @ self.front.embed.weight.T + self.front.embed.bias
        rows = [self.front.shared[0] if s < 0 else self.front.subjects[s] for s in subject.tolist()]
        tokens = torch.cat([torch.stack(rows)[:, None], tokens], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.front.norm(tokens)[:, 1:]


@pytest.mark.parametrize("n_layers", [1, 2])
def test_front_equals_the_layer_of_torch(n_layers: int) -> None:
    torch.manual_seed(0)
    front = randomised(ChannelTransformer(40, n_subjects=3, n_layers=n_layers, dropout=0.0))
    literal = Literal(front)
    x = torch.randn(5, 7, 40, dtype=torch.float64)
    subject = torch.tensor([2, 0, -1, 1, 2])
    for module in (front, literal):
        module.eval()
    torch.testing.assert_close(front(x, subject), literal(x, subject), atol=1e-10, rtol=0)


def test_heads_of_samples_that_they_do_not_divide() -> None:
    torch.manual_seed(1)
    front = randomised(ChannelTransformer(43, n_heads=4, dropout=0.0)).eval()
    layer = front.layers[0]
    assert layer.query.out_features == 40  # four heads of 43 // 4 = 10
    tokens = torch.randn(2, 3, 43, dtype=torch.float64)
    found = layer(tokens)
    for trial, row in zip(tokens, found, strict=True):
        heads = []
        for h in range(4):
            part = slice(10 * h, 10 * h + 10)
            q, k, v = (
                trial @ p.weight[part].T + p.bias[part]
                for p in (layer.query, layer.key, layer.value)
            )
            heads.append(torch.softmax(q @ k.T / 10**0.5, 1) @ v)
        h = layer.norm1(trial + layer.out(torch.cat(heads, 1)))
        torch.testing.assert_close(row, layer.norm2(h + layer.feed(h)), atol=1e-10, rtol=0)


def test_encoder_is_the_front_then_tsconv() -> None:
    torch.manual_seed(0)
    fast = ATMSEncoder(6, 90, 12, n_subjects=2, dropout=0.0, conv_dropout=0.0, head_dropout=0.0)
    fast = randomised(fast)
    slow = ATMSEncoder(
        6, 90, 12, n_subjects=2, dropout=0.0, conv_dropout=0.0, head_dropout=0.0, literal=True
    ).double()
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(4, 6, 90, dtype=torch.float64)
    subject = torch.tensor([0, 1, 1, -1])
    fast.front.share = slow.front.share = 0.0
    outs, grads = [], []
    for module in (fast, slow):
        out = module(x, subject=subject)
        outs.append(out)
        (out * torch.arange(12.0, dtype=torch.float64)).sum().backward()
        grads.append(module.front.embed.weight.grad)
    torch.testing.assert_close(*outs, atol=1e-9, rtol=0)
    torch.testing.assert_close(*grads, atol=1e-8, rtol=1e-8)
    for module in (fast, slow):
        module.eval()
    torch.testing.assert_close(
        fast(x, subject=subject), fast.tsconv(fast.front(x, subject)), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize(("chans", "times"), [(17, 250), (63, 201), (271, 100)])
def test_sizes_follow_the_input(chans: int, times: int) -> None:
    encoder = ATMSEncoder(chans, times, 8, n_subjects=2)
    assert encoder(torch.randn(2, chans, times)).shape == (2, 8)
    inner = 4 * (times // 4)
    expected = (times + 1) * times + 3 * (times + 1) * inner + (inner + 1) * times
    expected += (times + 1) * 256 + 257 * times + 3 * 2 * times + 3 * times
    assert sum(p.numel() for p in encoder.front.parameters()) == expected


def test_unseen_subjects_share_a_token_which_is_trained() -> None:
    torch.manual_seed(0)
    encoder = ATMSEncoder(5, 80, 8, n_subjects=2, share=0.5).eval()
    x = torch.randn(1, 5, 80).repeat(4, 1, 1)
    out = encoder(x, subject=torch.tensor([0, 1, -1, 7]))
    assert not torch.allclose(out[0], out[1])
    assert not torch.allclose(out[0], out[2])
    torch.testing.assert_close(out[2], out[3])
    torch.testing.assert_close(out[2], encoder(x)[0])
    out = encoder.train()(torch.randn(40, 5, 80), subject=torch.zeros(40, dtype=torch.long))
    (out * torch.randn_like(out)).sum().backward()
    assert encoder.front.shared.grad.abs().sum() > 0
    assert encoder.front.subjects.grad[0].abs().sum() > 0
    assert encoder.front.subjects.grad[1].abs().sum() == 0


def test_share_is_that_of_the_trials() -> None:
    torch.manual_seed(0)
    front = ChannelTransformer(8, n_subjects=1, share=0.3)
    tokens = front._subject_tokens(4000, torch.zeros(4000, dtype=torch.long))
    shared = (tokens == front.shared).all(1).double().mean()
    assert abs(float(shared) - 0.3) < 0.04
    front.eval()
    assert not (front._subject_tokens(50, torch.zeros(50, dtype=torch.long)) == front.shared).any()


def test_without_subjects_there_is_no_token() -> None:
    encoder = ATMSEncoder(5, 80, 8).eval()
    assert not hasattr(encoder.front, "subjects")
    x = torch.randn(2, 5, 80)
    assert torch.equal(encoder(x), encoder(x, subject=torch.tensor([0, 3])))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(DataError, match=r"too short[\s\S]*at least 75"):
        ATMSEncoder(5, 74, 8)
    with pytest.raises(DataError, match="at least one sample"):
        ChannelTransformer(3, n_heads=4)
    with pytest.raises(DataError, match="encoder='mlp'"):
        ATMSEncoder(5, None, 8)
