"""The protocol of image encoders, and finding one by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli._sources import make_part

Features = dict[str, NDArray[np.float32]]


@runtime_checkable
class ImageEncoder(Protocol):
    """What a feature bank needs from an image encoder; attributes will do for the properties.

    More is used when it is there: ``device``, where the images are brought; ``concurrent``, true
    if ``encode`` may run in several threads at once; ``canonical_layer(name)``, which gives the one
    spelling of a layer's name where names are open-ended (``layers`` then lists only the usual
    ones) and raises :class:`UnknownNameError`; ``spaces``, from a layer to the name of the space
    that it shares with a text encoder; ``packages``, the distributions whose versions the vectors
    depend on; ``maps(images, layers)``, which gives tensors of layers before any pooling,
    differentiable in the pictures.
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
        Registered name (``efficientnet-lite0``), or ``kind:SOURCE`` with a folder or a hub id,
        which may end in ``@REVISION``: ``clip:openai/clip-vit-base-patch32``. An encoder is
        returned as it is.
    precision : {"auto", "fp32", "bf16"}
        Number format for encoders made from a name; ``auto`` probes the machine.
    device : str
        ``auto``, ``cpu``, ``cuda`` ..., for encoders made from a name.

    Raises
    ------
    UnknownNameError
        If no encoder has the name; the nearest are listed.
    DataError
        If a bare function is given, or the source is not a model of the kind.
    """
    if isinstance(encoder, str):
        made = make_part("image_encoder", encoder, precision=precision, device=device)
        assert isinstance(made, ImageEncoder)
        return made
    if isinstance(encoder, ImageEncoder):
        return encoder
    raise DataError(
        "this is not an image encoder",
        found=type(encoder).__name__,
        expected="a name, kind:SOURCE, or an object with the members of ImageEncoder",
        fix="wrap a function: CallableEncoder(fn, id='my-model-v1', image_size=224)",
    )


def check_layers(encoder: ImageEncoder, layers: Sequence[str] | str | None) -> tuple[str, ...]:
    """The asked layers, the default one for None; unknown names are an error.

    Where an encoder knows several spellings of a name, the canonical ones are returned.
    """
    if layers is None:
        return (encoder.default_layer,)
    asked = (layers,) if isinstance(layers, str) else tuple(layers)
    canonical = getattr(encoder, "canonical_layer", None)
    if canonical is not None:
        asked = tuple(str(canonical(layer)) for layer in asked)
    asked = tuple(dict.fromkeys(asked))
    for layer in () if canonical is not None else asked:
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
