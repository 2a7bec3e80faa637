"""Networks that reconstructions are compared with, and the eight metrics of the literature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.evaluation._pictures import in_batches
from phosphene.stimuli.encoders import (
    CallableEncoder,
    EfficientNetLite0,
    Features,
    ImageEncoder,
    check_layers,
    get_encoder,
)

Measure = Literal["pixcorr", "ssim", "two_way", "distance"]
Encode = Callable[[Tensor, Sequence[str]], Features]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
MAP = ":map"
PLAIN: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())


@dataclass(frozen=True)
class ImageMetric:
    """What one metric is.

    Attributes
    ----------
    measure : {"pixcorr", "ssim", "two_way", "distance"}
        What is computed.
    size : int
        Side of the pictures in pixels.
    network, layer : str
        Whose features are compared, flattened; "" where pixels are.
    normalisation : pair of tuples
        Mean and deviation of the colours that the network expects.
    """

    measure: Measure
    size: int
    network: str = ""
    layer: str = ""
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = PLAIN

    @property
    def better(self) -> str:
        """Which direction is better: "higher" or "lower"."""
        return "lower" if self.measure == "distance" else "higher"


METRICS: Mapping[str, ImageMetric] = MappingProxyType(
    {
        "PixCorr": ImageMetric("pixcorr", 425),
        "SSIM": ImageMetric("ssim", 425),
        "AlexNet(2)": ImageMetric("two_way", 256, "AlexNet", "features.4", IMAGENET),
        "AlexNet(5)": ImageMetric("two_way", 256, "AlexNet", "features.11", IMAGENET),
        "Inception": ImageMetric("two_way", 342, "Inception v3", "avgpool", IMAGENET),
        "CLIP": ImageMetric("two_way", 224, "CLIP ViT-L/14", "image embedding", CLIP),
        "EffNet-B": ImageMetric("distance", 255, "EfficientNet-B1", "avgpool", IMAGENET),
        "SwAV": ImageMetric("distance", 224, "SwAV ResNet-50", "avgpool", IMAGENET),
    }
)
"""The eight metrics of MindEye2 (Scotti et al., ICML 2024), in the order of its tables."""


@dataclass(frozen=True)
class _Maps:
    """Flattened maps of EfficientNet-Lite0's layers."""

    encoder: EfficientNetLite0

    def __call__(self, images: Tensor, layers: Sequence[str]) -> Features:
        names = [layer.removesuffix(MAP) for layer in layers]
        with torch.inference_mode():
            maps = self.encoder.maps(images, names)
        return {name + MAP: maps[name].flatten(1).cpu().numpy() for name in names}


@dataclass(frozen=True, eq=False)
class Network:
    """A frozen network with a layer, and how its features are compared.

    Made by :meth:`from_encoder` or :meth:`from_callable`; for a metric of the literature by
    :meth:`for_metric`.

    Parameters
    ----------
    id, weights : str
        Name, and digest of the weights; both are recorded with every score.
    image_size : int
        Side of the pictures in pixels. The whole picture is resized to it, nothing is cut off.
    layer : str
        Layer.
    encode : callable
        From pictures (B, 3, size, size) and names of layers to vectors (B, d) by layer.
    measure : {"two_way", "distance"}
        How features are compared.
    mean, std : tuple of float
        Colours are standardised with these before ``encode``; empty where it does so itself.

    Examples
    --------
    >>> network = Network.from_callable(lambda x: x.mean((2, 3)), id="mean colour", image_size=8)
    >>> network.features(np.ones((2, 16, 16, 3), np.float32)).shape
    (2, 3)
    """

    id: str
    weights: str
    image_size: int
    layer: str
    encode: Encode = field(repr=False)
    measure: Measure = "two_way"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.measure not in ("two_way", "distance"):
            raise DataError("a network has no such measure", found=self.measure,
                            expected="two_way or distance")  # fmt: skip

    @property
    def better(self) -> str:
        """Which direction is better: "higher" or "lower"."""
        return "lower" if self.measure == "distance" else "higher"

    @classmethod
    def from_encoder(
        cls,
        encoder: str | ImageEncoder,
        layer: str | None = None,
        measure: Measure = "two_way",
    ) -> Network:
        """A layer of an image encoder.

        Parameters
        ----------
        encoder : str or ImageEncoder
            ``efficientnet-lite0``, ``clip:SOURCE``, ``dinov2:SOURCE`` ..., or an encoder. Layers of
            one encoder object share their passes.
        layer : str, optional
            Default: the encoder's own. Layers of EfficientNet-Lite0 are spatial means; with
            ``:map`` behind the name they are the whole map, so that it counts what lies where.
        measure : {"two_way", "distance"}
            How features are compared.
        """
        # Scores should not depend on whether this machine is faster in bf16.
        made = get_encoder(encoder, precision="fp32")
        if layer is not None and layer.endswith(MAP) and isinstance(made, EfficientNetLite0):
            (name,) = check_layers(made, layer.removesuffix(MAP))
            encode: Encode = _Maps(made)
            return cls(made.id, made.weights_hash, made.image_size, name + MAP, encode, measure)
        (name,) = check_layers(made, layer)
        return cls(made.id, made.weights_hash, made.image_size, name, made.encode, measure)

    @classmethod
    def from_callable(
        cls,
        function: Callable[[Tensor], Tensor],
        *,
        id: str,
        image_size: int,
        layer: str = "vector",
        measure: Measure = "two_way",
        weights: str | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> Network:
        """Any function or module.

        Parameters
        ----------
        function : callable
            From pictures (B, 3, size, size), standardised with ``mean`` and ``std``, to features
            (B, ...), which are flattened. A module runs on its own device and should be in eval
            mode.
        id : str
            Name of the network with its version.
        image_size : int
            Side of the pictures in pixels.
        layer : str
            What the function returns, for the record.
        measure : {"two_way", "distance"}
            How features are compared.
        weights : str, optional
            Digest of the weights; computed for a module, else said to be declared by the id.
        mean, std : sequence of float
            Mean and deviation of the three colours; nothing is standardised without them.
        """
        if len(mean) != len(std) or len(mean) not in (0, 3):
            raise DataError("mean and deviation of three colours are needed, or neither",
                            found=(tuple(mean), tuple(std)))  # fmt: skip
        whole = CallableEncoder(
            function, id=id, image_size=image_size, layers=(layer,), weights_hash=weights
        )
        device = torch.device("cpu")
        if isinstance(function, torch.nn.Module):
            device = next((p.device for p in function.parameters()), device)
        whole.fn = lambda x: torch.as_tensor(function(x.to(device))).flatten(1)
        return cls(id, whole.weights_hash, image_size, layer, whole.encode, measure,
                   tuple(mean), tuple(std))  # fmt: skip

    @classmethod
    def for_metric(
        cls, metric: str, function: Callable[[Tensor], Tensor], *, weights: str | None = None
    ) -> Network:
        """The network of a metric of the literature, from a function of your own.

        Size of the pictures, normalisation, layer and measure are those of ``METRICS``.

        Parameters
        ----------
        metric : str
            A name of ``METRICS``, such as ``"AlexNet(2)"``.
        function : callable
            From standardised pictures (B, 3, size, size) to the layer's output.
        weights : str, optional
            As for :meth:`from_callable`.

        Raises
        ------
        UnknownNameError
            If no metric with a network has the name.
        """
        known = [name for name, about in METRICS.items() if about.network]
        if metric not in known:
            raise UnknownNameError(
                f"no metric with a network is named {metric!r}",
                expected="one of " + ", ".join(known),
                fix=_registry.did_you_mean(metric, known),
            )
        about = METRICS[metric]
        mean, std = about.normalisation
        return cls.from_callable(
            function, id=about.network, image_size=about.size, layer=about.layer,
            measure=about.measure, weights=weights, mean=mean, std=std,
        )  # fmt: skip

    def features(self, pictures: npt.NDArray[Any], batch: int = 16) -> npt.NDArray[np.float32]:
        """Vectors (n, d) of pictures (n, H, W, 3), uint8 or floating in [0, 1]."""
        return features_of({"": self}, pictures, batch)[""]


def encoder_networks(
    encoder: str | ImageEncoder, layers: Sequence[str], *, distance: Sequence[str] = ()
) -> dict[str, Network]:
    """Several layers of one encoder, which share their passes.

    Parameters
    ----------
    encoder : str or ImageEncoder
        As for :meth:`Network.from_encoder`.
    layers : sequence of str
        Layers for two-way identification.
    distance : sequence of str
        Layers for the correlation distance.

    Returns
    -------
    dict of str to Network
        Named by encoder and layer; a distance says so.
    """
    made = get_encoder(encoder, precision="fp32")
    found = {_title(made, layer): Network.from_encoder(made, layer) for layer in layers}
    return found | {
        f"{_title(made, layer)} distance": Network.from_encoder(made, layer, "distance")
        for layer in distance
    }


def _title(encoder: ImageEncoder, layer: str) -> str:
    return f"{encoder.id} {layer.replace(MAP, ' map')}"


def offline_networks() -> dict[str, Network]:
    """What needs no hub: EfficientNet-Lite0 after blocks 4 and 9, and its pooled features.

    Two-way identification in all three, and the correlation distance of the last. Blocks are whole
    maps, so that it counts what lies where; pooled features know the kind of thing. These are not
    the networks of the literature, and their numbers cannot be compared with its.
    """
    layers = ("block4:map", "block9:map", "pool")
    return encoder_networks("efficientnet-lite0", layers, distance=("pool",))


def features_of(
    networks: Mapping[str, Network], pictures: npt.NDArray[Any], batch: int = 16
) -> dict[str, npt.NDArray[np.float32]]:
    """Features (n, d) by network; layers of one encoder come from one pass."""
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in networks}
    for group in _by_pass(networks):
        first = next(iter(group.values()))
        layers = list(dict.fromkeys(network.layer for network in group.values()))
        for x in in_batches(pictures, batch, first.image_size):
            planes = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
            if first.mean:
                mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (first.mean, first.std))
                planes = (planes - mean) / std
            made = first.encode(planes, layers)
            for name, network in group.items():
                parts[name].append(np.asarray(made[network.layer], dtype=np.float32))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _by_pass(networks: Mapping[str, Network]) -> Iterator[dict[str, Network]]:
    groups: dict[Any, dict[str, Network]] = {}
    for name, network in networks.items():
        key = (network.encode, network.image_size, network.mean, network.std)
        groups.setdefault(key, {})[name] = network
    yield from groups.values()
