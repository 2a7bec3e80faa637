"""Checks of image and text encoders: frozen models from stimuli to vectors."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from phosphene import _random, _registry
from phosphene.errors import MissingExtraError, PhospheneError
from phosphene.testing import _tiny_models
from phosphene.testing._runner import Suite, fail, info_of, raise_first

Vectors = npt.NDArray[np.float32]
# Reduced precision rounds differently when the batch has another size.
BATCH_TOLERANCE = 0.02
WORDS = ("aardvark", "accordion", "airplane", "hot-air balloon", "a photo of a cat")
Example = Callable[[Path], Mapping[str, Any]]
EXAMPLES: dict[str, Example] = {
    "auto": _tiny_models.tiny_vit,
    "clip": _tiny_models.tiny_clip,
    "clip-text": _tiny_models.tiny_clip,
    "dinov2": _tiny_models.tiny_dinov2,
    "openclip": _tiny_models.tiny_openclip,
    "sentence": _tiny_models.tiny_sentence,
    "siglip": _tiny_models.tiny_siglip,
    "siglip-text": _tiny_models.tiny_siglip,
    "words": _tiny_models.tiny_words,
}
# Half of a table of words is a table; half of weights is nothing.
_MODEL_FILES = (".safetensors", ".bin", ".pt")


def _vectors(found: Any, n: int, what: str) -> Vectors:
    vectors = np.asarray(found)
    if vectors.ndim != 2 or len(vectors) != n or vectors.dtype != np.float32:
        fail(
            f"wrong vectors of {what}",
            found=f"{vectors.dtype} of shape {vectors.shape}",
            expected=f"float32 of shape ({n}, d)",
        )
    if not np.isfinite(vectors).all():
        fail(f"NaN or infinite vectors of {what}")
    return vectors


def _alike(first: Vectors, second: Vectors, what: str) -> None:
    scale = float(np.abs(first).max()) or 1.0
    gap = float(np.abs(first - second).max())
    if gap > BATCH_TOLERANCE * scale:
        fail(what, found=f"largest difference {gap:.3g} where values reach {scale:.3g}")


def _identity(encoder: Any) -> None:
    for name in ("id", "weights_hash"):
        value = getattr(encoder, name, None)
        if not isinstance(value, str) or not value:
            fail(f"an encoder says its {name}", found=repr(value), expected="a text")


# ------------------------------------------------------------------------- encoders of a source
@dataclass(frozen=True)
class Sourced:
    """How to make an encoder that reads a model, with a small model for it."""

    make: Callable[..., Any]
    example: Example


def _made(kind: str, name: str, part: Any) -> tuple[Any, Sourced | None]:
    """An encoder from what is registered: from an example where it needs a model."""
    if hasattr(part, "encode") and not isinstance(part, type):
        return part, None
    info = info_of(kind, name)
    if not info.get("needs_source"):
        return part(), None
    example = info.get("example") or EXAMPLES.get(name)
    if example is None:
        fail(
            f"there is no example for the {kind.replace('_', ' ')} {name!r}",
            fix="register it with example=function, which writes a small model into a folder and "
            "returns the arguments that read it",
        )
    assert example is not None
    folder = Path(tempfile.mkdtemp())
    try:
        encoder = part(**example(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # Weights may be read from the file as they are needed.
    weakref.finalize(encoder, shutil.rmtree, folder, ignore_errors=True)
    return encoder, Sourced(part, example)


def _wrong_sources(sourced: Sourced | None) -> None:
    if sourced is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = dict(sourced.example(folder))
        elsewhere = {
            key: value.replace(name, f"{name}/absent") if isinstance(value, str) else value
            for key, value in arguments.items()
        }
        with _refused("a source that is not there", "absent"):
            sourced.make(**elsewhere)
        for path in [p for p in folder.rglob("*") if p.suffix in _MODEL_FILES]:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            with _refused("a truncated file", path.name):
                sourced.make(**arguments)
            path.write_bytes(content)


@contextlib.contextmanager
def _refused(what: str, named: str = "") -> Iterator[None]:
    try:
        yield
    except MissingExtraError:
        raise
    except PhospheneError as error:
        if named not in str(error):
            fail(f"the error about {what} must name it", found=str(error), expected=named)
        return
    except Exception as error:
        fail(f"{what} must be a PhospheneError", found=f"{type(error).__name__}: {error}")
    fail(f"{what} must be refused")


# ----------------------------------------------------------------------------- image encoders
@dataclass(frozen=True)
class ImagePart:
    """An image encoder under test."""

    name: str
    encoder: Any
    sourced: Sourced | None = None

    def pictures(self, n: int = 3) -> torch.Tensor:
        """Smooth random pictures of the encoder's size, shape (n, 3, size, size)."""
        size = int(self.encoder.image_size)
        stream = _random.torch_generator(0, "check", "encoder pictures")
        coarse = torch.rand(n, 3, 8, 8, generator=stream)
        return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")

    def encode(self, images: torch.Tensor, layer: str | None = None) -> Vectors:
        """Vectors of one layer, the default one for None."""
        name = layer or self.encoder.default_layer
        found = self.encoder.encode(images, None if layer is None else [layer])
        if set(found) != {name}:
            fail("encode returns the asked layers", found=sorted(found), expected=[name])
        return _vectors(found[name], len(images), f"layer {name!r}")


def prepare_image(name: str, part: Any) -> ImagePart:
    """A registered encoder is called without arguments, or with those of its example."""
    return ImagePart(name, *_made("image_encoder", name, part))


def provenance_is_complete(part: ImagePart) -> None:
    """Id, weights hash, preprocessing, layers and precision are there for the bank's hash."""
    encoder = part.encoder
    _identity(encoder)
    if not isinstance(encoder.preprocessing, dict) or not encoder.preprocessing:
        fail("the preprocessing is a dictionary that enters the hash", found=encoder.preprocessing)
    layers = list(encoder.layers)
    if not layers or len(set(layers)) != len(layers) or encoder.default_layer not in layers:
        fail("layers are distinct and hold the default", found=layers)
    if not isinstance(encoder.precision, str) or int(encoder.image_size) < 1:
        fail("precision is a text and image_size a number of pixels")
    canonical = getattr(encoder, "canonical_layer", lambda name: name)
    if [canonical(layer) for layer in layers] != layers:
        fail("the layers that are listed are canonical", found=[canonical(n) for n in layers],
             expected=layers)  # fmt: skip
    if unknown := set(getattr(encoder, "spaces", {})) - set(layers):
        fail("spaces are declared for layers", found=sorted(unknown), expected=layers)
    if isinstance(getattr(encoder, "packages", ()), str):
        fail("packages are names of distributions", found=encoder.packages, expected="a tuple")


def every_layer_gives_vectors(part: ImagePart) -> None:
    """Each layer alone, and several at once, give finite float32 vectors."""
    images = part.pictures(2)
    layers = list(part.encoder.layers)
    found = part.encoder.encode(images, layers)
    if list(found) != layers:
        fail("encode returns the asked layers", found=list(found), expected=layers)
    for layer in layers:
        _vectors(found[layer], 2, f"layer {layer!r}")
    _alike(found[layers[0]], part.encode(images, layers[0]), "a layer alone differs")


def images_are_encoded_one_by_one(part: ImagePart) -> None:
    """A picture's vector does not depend on the batch; two pictures differ."""
    images = part.pictures()
    together = part.encode(images)
    alone = np.concatenate([part.encode(images[i : i + 1]) for i in range(len(images))])
    _alike(together, alone, "a picture alone is encoded otherwise than in a batch")
    if np.allclose(together[0], together[1], rtol=1e-3):
        fail("two different pictures have the same vector")


def encoding_is_repeatable(part: ImagePart) -> None:
    """The same batch gives the same bits and is left as it is."""
    images = part.pictures()
    before = images.clone()
    if not np.array_equal(part.encode(images), part.encode(images)):
        fail("two passes over the same pictures differ")
    if not torch.equal(images, before):
        fail("the encoder changed its input in place")


def bad_requests_are_refused(part: ImagePart) -> None:
    """An unknown layer and pictures of another size are errors of phosphene."""
    images = part.pictures(1)
    with _refused("an unknown layer"):
        part.encoder.encode(images, ["no such layer"])
    with _refused("pictures of another size"):
        part.encoder.encode(images[..., :-1])


def wrong_sources_are_refused(part: ImagePart) -> None:
    """A source that is not there and one that is damaged are errors of phosphene that name it."""
    _wrong_sources(part.sourced)


IMAGE_SUITE: Suite[ImagePart] = Suite(
    "image_encoder",
    prepare_image,
    (
        provenance_is_complete,
        every_layer_gives_vectors,
        images_are_encoded_one_by_one,
        encoding_is_repeatable,
        bad_requests_are_refused,
        wrong_sources_are_refused,
    ),
)
_registry.add("check", "image_encoder", IMAGE_SUITE)


# ------------------------------------------------------------------------------ text encoders
@dataclass(frozen=True)
class TextPart:
    """A text encoder under test."""

    name: str
    encoder: Any
    sourced: Sourced | None = None

    def encode(self, *texts: str) -> Vectors:
        """Vectors of some texts."""
        return _vectors(self.encoder.encode(list(texts)), len(texts), "texts")


def prepare_text(name: str, part: Any) -> TextPart:
    """A registered encoder is called without arguments, or with those of its example."""
    return TextPart(name, *_made("text_encoder", name, part))


def identity_is_given(part: TextPart) -> None:
    """Id and weights hash are there for the bank's hash."""
    _identity(part.encoder)


def texts_are_encoded_one_by_one(part: TextPart) -> None:
    """A text's vector depends neither on the batch nor on the order; two texts differ."""
    together = part.encode(*WORDS)
    _alike(together, np.concatenate([part.encode(word) for word in WORDS]), "a text alone differs")
    _alike(together[::-1], part.encode(*WORDS[::-1]), "vectors do not follow the order of texts")
    if np.allclose(together[0], together[1], rtol=1e-3):
        fail("two different texts have the same vector", found=WORDS[:2])


def texts_are_encoded_repeatably(part: TextPart) -> None:
    """The same texts give the same bits."""
    if not np.array_equal(part.encode(*WORDS), part.encode(*WORDS)):
        fail("two passes over the same texts differ")


def sources_of_text_are_checked(part: TextPart) -> None:
    """A source that is not there and one that is damaged are errors of phosphene that name it."""
    _wrong_sources(part.sourced)


TEXT_SUITE: Suite[TextPart] = Suite(
    "text_encoder",
    prepare_text,
    (
        identity_is_given,
        texts_are_encoded_one_by_one,
        texts_are_encoded_repeatably,
        sources_of_text_are_checked,
    ),
)
_registry.add("check", "text_encoder", TEXT_SUITE)


def check_image_encoder(encoder: Any) -> None:
    """Check an image encoder: a registered name, a class, or an object as it goes to a bank.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.
    MissingExtraError
        If a package of the encoder is not installed.

    Examples
    --------
    >>> from phosphene.stimuli.encoders import CallableEncoder
    >>> check_image_encoder(CallableEncoder(lambda x: x.mean((2, 3)), id="colour", image_size=8))
    """
    raise_first(IMAGE_SUITE, encoder)


def check_text_encoder(encoder: Any) -> None:
    """Check a text encoder: a registered name, a class, or an object as it goes to a bank.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.
    MissingExtraError
        If a package of the encoder is not installed.
    """
    raise_first(TEXT_SUITE, encoder)
