"""EEGProject and MLP: sizes, shapes, errors."""

from __future__ import annotations

import pytest
import torch

from phosphene import _registry
from phosphene.encoders.eegproject import EEGProject
from phosphene.encoders.mlp import MLP
from phosphene.encoders.tsconv import TSConv
from phosphene.errors import DataError


def test_registered_under_the_names_of_the_recipes() -> None:
    assert {"eegproject", "tsconv", "mlp"} <= set(_registry.names("encoder"))
    assert _registry.get("encoder", "eegproject") is EEGProject


def test_eegproject_has_the_published_number_of_parameters() -> None:
    sizes = [p.numel() for p in EEGProject(17, 250, 1024).parameters()]
    assert sum(sizes) == 4250 * 1024 + 1024 + 1024 * 1024 + 1024 + 2 * 1024
    assert round(sum(sizes) / 1e6, 1) == 5.4


@pytest.mark.parametrize(("chans", "times"), [(17, 250), (63, 250), (271, 201), (3, 75)])
@pytest.mark.parametrize("encoder", [EEGProject, TSConv, MLP])
def test_widths_are_inferred(encoder: type, chans: int, times: int) -> None:
    out = encoder(chans, times, 8)(torch.randn(2, chans, times))
    assert out.shape == (2, 8)
    assert out.dtype == torch.float32


def test_output_is_layer_normalised() -> None:
    out = EEGProject(4, 10, 64)(torch.randn(5, 4, 10))
    torch.testing.assert_close(out.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_head_is_a_residual_around_the_first_linear() -> None:
    encoder = EEGProject(2, 3, 4, dropout=0.0)
    x = torch.randn(3, 2, 3)
    first, residual, norm = encoder.head
    h = first(x.flatten(1))
    branch = residual.branch[1](torch.nn.functional.gelu(h))
    torch.testing.assert_close(encoder(x), norm(h + branch))


def test_mlp_takes_voxels_and_single_samples_alike() -> None:
    encoder = MLP(30, None, 8, width=16).eval()
    x = torch.randn(4, 30)
    torch.testing.assert_close(encoder(x), encoder(x[:, :, None]))


@pytest.mark.parametrize("encoder", [EEGProject, TSConv])
def test_encoders_in_time_refuse_voxels_when_built(encoder: type) -> None:
    with pytest.raises(DataError, match="encoder='mlp'"):
        encoder(30, None, 8)


@pytest.mark.parametrize("shape", [(2, 5, 100), (2, 6, 99), (2, 600), (6, 100)])
@pytest.mark.parametrize("encoder", [EEGProject, TSConv, MLP])
def test_wrong_input_shapes_are_named(encoder: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"\(batch, 6, 100\)"):
        encoder(6, 100, 8)(torch.zeros(shape))


def test_sizes_must_be_positive() -> None:
    with pytest.raises(DataError, match="n_outputs must be positive"):
        EEGProject(2, 3, 0)


@pytest.mark.parametrize("encoder", [EEGProject, TSConv, MLP])
def test_prepare_then_forward_equals_forward(encoder: type) -> None:
    module = encoder(5, 90, 8).eval()
    x = torch.randn(3, 5, 90)
    assert torch.equal(module(x), module(module.prepare(x), prepared=True))
