"""The structural network sees what the encoder sees, and has gradients down to the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction.structural import StructuralNetwork
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.stimuli.images import fit, prepare_by
from phosphene.testing import _tiny_models


@pytest.fixture(scope="module")
def network() -> StructuralNetwork:
    return StructuralNetwork(layers=("block1", "block3"), grid=7, device="cpu")


def smooth(n: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures of uint8, as natural ones are."""
    coarse = np.random.default_rng(seed).random((n, 3, 4, 4))
    fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), side, mode="bilinear")
    return (fine.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (300, 260)])
def test_preparation_is_that_of_the_encoder(
    network: StructuralNetwork, shape: tuple[int, int]
) -> None:
    picture = smooth(1, 320)[0][: shape[0], : shape[1]]
    expected = prepare_by(network.encoder.preprocessing, picture, 224)
    found = network.prepare(tensor(picture[None]))[0].numpy()
    assert found.shape == (3, 224, 224)
    assert np.abs(found - expected).max() < 1.5 / 255


def test_small_detail_is_averaged_before_it_is_left_out(network: StructuralNetwork) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    expected = prepare_by(network.encoder.preprocessing, picture, 224)
    found = network.prepare(tensor(picture[None]))[0].numpy()
    assert np.abs(found - expected).max() < 3 / 255


def test_features_are_the_encoders_own(network: StructuralNetwork) -> None:
    pictures = smooth(2, 64)
    prepared = network.prepare(tensor(pictures))
    own = network.encoder.encode(prepared, ["block1", "block3", "pool"])
    found = network.features(tensor(pictures))
    np.testing.assert_allclose(found["pool"], own["pool"], rtol=1e-3, atol=1e-4)
    for layer in ("block1", "block3"):  # the mean over the grid is the mean over the picture
        means = found[layer].reshape(2, -1, 7 * 7).mean(dim=2)
        np.testing.assert_allclose(means, own[layer], rtol=1e-3, atol=1e-4)


def test_the_grid_keeps_places(network: StructuralNetwork) -> None:
    picture = np.full((1, 64, 64, 3), 128, np.uint8)
    changed = picture.copy()
    changed[:, 8:24, 8:24] = (255, 0, 0)
    found = [network.features(tensor(p))["block1"].reshape(-1, 7, 7) for p in (picture, changed)]
    moved = (found[0] - found[1]).abs().sum(dim=0)
    assert moved[:4, :4].sum() > 20 * moved[4:, 4:].sum()


def test_pixels_are_the_mean_colours_of_cells_and_need_no_network() -> None:
    network = StructuralNetwork(layers=("pixels",), final=None, device="cpu")
    network.encoder.maps = None  # would fail if it were asked
    x = tensor(smooth(2, 64)).requires_grad_()
    found = network.features(x)["pixels"]
    cells = x.reshape(2, 3, 32, 2, 32, 2).mean((3, 5)).flatten(1)
    torch.testing.assert_close(found, cells)
    found.sum().backward()
    assert x.grad is not None
    assert bool((x.grad > 0).all())
    both = StructuralNetwork(layers=("pixels", "block1"), device="cpu").features(x.detach())
    assert list(both) == ["pixels", "block1", "pool"]
    torch.testing.assert_close(both["pixels"], found.detach())


def test_gradients_equal_finite_differences(network: StructuralNetwork) -> None:
    x = tensor(smooth(1, 32)).clamp(0.2, 0.8).requires_grad_()
    direction = tensor(smooth(1, 32, seed=5)) - 0.5
    names = network.names

    def value(pictures: torch.Tensor) -> torch.Tensor:
        found = network.features(pictures)
        return torch.stack([found[name].square().mean() for name in names]).sum()

    value(x).backward()
    assert x.grad is not None
    slope = float((x.grad * direction).sum())
    with torch.no_grad():
        step = 2e-3
        differ = float(value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert slope == pytest.approx(differ, rel=0.05)
    assert abs(slope) > 1e-3


def test_shown_pictures_go_through_the_size_of_generated_ones(network: StructuralNetwork) -> None:
    pictures = smooth(3, 100)
    stimuli = StimulusSet.from_arrays(["a", "b", "c"], pictures)
    found = network.encode(stimuli, ["c", "a"], 32)
    small = np.stack([fit(pictures[row], 32) for row in (2, 0)])
    expected = network.features(tensor(small))
    for name in network.names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4)
    assert not np.allclose(found["block1"], network.encode(stimuli, ["c", "a"], 100)["block1"])


def test_tokens_of_a_transformer(tmp_path: Path) -> None:
    _tiny_models.tiny_clip(tmp_path)
    network = StructuralNetwork(
        f"clip:{tmp_path}", ("encoder.layers.0.mlp", "encoder.layers.1.mlp"), "embedding",
        device="cpu",
    )  # fmt: skip
    x = tensor(smooth(2, 48)).requires_grad_()
    found = network.features(x)
    own = network.encoder.encode(
        network.prepare(x.detach()), ["encoder.layers.0.mlp:tokens", "embedding"]
    )
    np.testing.assert_allclose(
        found["encoder.layers.0.mlp"].detach(), own["encoder.layers.0.mlp:tokens"], rtol=1e-4,
        atol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(found["embedding"].detach(), own["embedding"], rtol=1e-4, atol=1e-5)
    found["encoder.layers.1.mlp"].square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def test_what_cannot_be_is_refused() -> None:
    blind = CallableEncoder(lambda x: x.mean((2, 3)), id="means", image_size=16, dim=3)
    with pytest.raises(DataError, match="no gradients"):
        StructuralNetwork(blind)
    with pytest.raises(DataError, match="each once"):
        StructuralNetwork(layers=("block1", "block1"))
    with pytest.raises(DataError, match="final one"):
        StructuralNetwork(layers=("block1", "pool"))
    with pytest.raises(DataError, match="grid"):
        StructuralNetwork(grid=0)


def test_gradients_do_not_depend_on_who_opened_the_network_first() -> None:
    from phosphene.stimuli.encoders import efficientnet

    efficientnet._network.cache_clear()
    network = StructuralNetwork(layers=("block1",), final=None)
    picture = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        network.features(picture)
    moved = picture.clone().requires_grad_()
    network.features(moved)["block1"].square().sum().backward()
    assert moved.grad is not None
    assert float(moved.grad.abs().max()) > 0
