"""EEGNet, ShallowNet and DeepNet: sizes worked by hand, layers written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.encoders._kernels import TemporalSpatial
from phosphene.encoders.deep import DeepNet
from phosphene.encoders.eegnet import EEGNet
from phosphene.encoders.shallow import ShallowNet
from phosphene.errors import DataError

OUT = 8


def head(width: int) -> int:
    """Parameters of the projection head."""
    return (width + 1) * OUT + (OUT + 1) * OUT + 2 * OUT


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("chans", "times", "width"), [(17, 250, 7 * 16), (63, 201, 6 * 16), (271, 100, 3 * 16)]
)
def test_eegnet(chans: int, times: int, width: int) -> None:
    # 250 -> 62 -> 7, 201 -> 50 -> 6, 100 -> 25 -> 3 positions of 16 filters.
    encoder = EEGNet(chans, times, OUT)
    assert encoder(torch.randn(3, chans, times)).shape == (3, OUT)
    assert encoder.head[0].in_features == width
    body = 8 * 64 + 2 * 8 + 16 * chans + 2 * 16 + 16 * 16 + 16 * 16 + 2 * 16
    assert count(encoder) == body + head(width)


@pytest.mark.parametrize(
    ("chans", "times", "windows"), [(17, 250, 11), (63, 201, 7), (271, 100, 1)]
)
def test_shallow(chans: int, times: int, windows: int) -> None:
    # (times - 24 - 75) // 15 + 1 windows.
    encoder = ShallowNet(chans, times, OUT)
    assert encoder(torch.randn(3, chans, times)).shape == (3, OUT)
    assert encoder.head[0].in_features == 40 * windows
    assert count(encoder) == 40 * 25 + 40 + 40 * 40 * chans + 2 * 40 + head(40 * windows)


@pytest.mark.parametrize(("chans", "times", "positions"), [(17, 250, 7), (63, 201, 4)])
def test_deep(chans: int, times: int, positions: int) -> None:
    # 250: 241 120, 111 55, 46 23, 14 7.  201: 192 96, 87 43, 34 17, 8 4.
    encoder = DeepNet(chans, times, OUT)
    assert encoder(torch.randn(3, chans, times)).shape == (3, OUT)
    assert encoder.head[0].in_features == 200 * positions
    body = 25 * 10 + 25 + 25 * 25 * chans
    body += 10 * (25 * 50 + 50 * 100 + 100 * 200) + 2 * (25 + 50 + 100 + 200)
    assert count(encoder) == body + head(200 * positions)


@pytest.mark.parametrize(
    ("encoder", "least", "settings"),
    [
        (EEGNet, 32, {}),
        (ShallowNet, 99, {}),
        (DeepNet, 151, {}),
        (DeepNet, 441, {"pool": 3}),
    ],
)
def test_the_shortest_input_is_stated_exactly(encoder: type, least: int, settings: dict) -> None:
    assert encoder(3, least, OUT, **settings)(torch.randn(2, 3, least)).shape == (2, OUT)
    with pytest.raises(
        DataError, match=rf"found: {least - 1} samples\s+expected: at least {least} "
    ):
        encoder(3, least - 1, OUT, **settings)
    with pytest.raises(DataError, match="encoder='mlp'"):
        encoder(3, None, OUT)


def test_temporal_and_spatial_filters_equal_the_two_layers() -> None:
    torch.manual_seed(0)
    module = TemporalSpatial(5, 3, 4, 7).double()
    x = torch.randn(2, 5, 20, dtype=torch.float64)
    literal = module.spatial(module.temporal(x[:, None])).squeeze(2)
    torch.testing.assert_close(module(x), literal, atol=1e-12, rtol=0)
    weights = torch.randn_like(literal)
    grads = [
        torch.autograd.grad((out * weights).sum(), list(module.parameters()))
        for out in (module(x), literal)
    ]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


def test_shallow_is_the_logarithm_of_mean_power() -> None:
    torch.manual_seed(0)
    encoder = ShallowNet(3, 120, OUT, n_filters=4).double().eval()
    x = torch.randn(2, 3, 120, dtype=torch.float64)
    filtered = encoder.filters(x) / (1 + encoder.norm.eps) ** 0.5  # running mean 0 and variance 1
    windows = [filtered[:, :, s : s + 75].square().mean(2).log() for s in (0, 15)]
    expected = torch.stack(windows, 2).flatten(1)
    torch.testing.assert_close(encoder.body(x), expected)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_eegnet_equals_its_layers_in_torch() -> None:
    torch.manual_seed(0)
    encoder = EEGNet(5, 70, OUT, kernel=10).double().eval()
    with torch.no_grad():
        encoder.spatial.weight[:3] *= 40  # longer than one
        for norm in (encoder.temporal_norm, encoder.spatial_norm, encoder.separable_norm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 5, 70, dtype=torch.float64)
    f = nn.functional
    h = encoder.temporal_norm(f.conv2d(x[:, None], encoder.temporal.weight, padding="same"))
    weight = encoder.spatial.weight
    lengths = weight.flatten(1).norm(dim=1)
    assert (lengths > 1).any()
    assert (lengths < 1).any()
    weight = weight / lengths.clamp_min(1)[:, None, None, None]
    h = f.elu(encoder.spatial_norm(f.conv2d(h, weight, groups=8).squeeze(2)))
    h = f.avg_pool1d(h, 4)
    h = f.conv1d(f.conv1d(h, encoder.depthwise.weight, padding="same", groups=16),
                 encoder.pointwise.weight)  # fmt: skip
    h = f.avg_pool1d(f.elu(encoder.separable_norm(h)), 8)
    torch.testing.assert_close(encoder.body(x), h.flatten(1), atol=1e-6, rtol=1e-6)


def test_deep_needs_a_block() -> None:
    with pytest.raises(DataError, match="at least one block"):
        DeepNet(3, 300, OUT, widths=())
