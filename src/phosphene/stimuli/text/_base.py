"""The protocol of text encoders, finding one by name, and prompts."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from phosphene import _registry
from phosphene.errors import DataError, listing

Vectors = NDArray[np.float32]


@runtime_checkable
class TextEncoder(Protocol):
    """What a feature bank needs from a text encoder; attributes will do for the properties."""

    @property
    def id(self) -> str:
        """Name that goes into the provenance."""
        ...

    @property
    def weights_hash(self) -> str:
        """Digest of the weights."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, d), float32, of texts."""
        ...


def get_text_encoder(encoder: str | TextEncoder) -> TextEncoder:
    """The text encoder of a name; an encoder is returned as it is.

    Raises
    ------
    UnknownNameError
        If no text encoder has the name; the nearest are listed.
    """
    if isinstance(encoder, str):
        encoder = _registry.get("text_encoder", encoder)()
    if not isinstance(encoder, TextEncoder):
        raise DataError(
            "this is not a text encoder",
            found=type(encoder).__name__,
            expected="a registered name or an object with id, weights_hash and encode",
        )
    return encoder


def fill_prompt(prompt: str, text: str) -> str:
    """The prompt with the text in the place of ``{concept}``.

    Examples
    --------
    >>> fill_prompt("A photo of a {concept}.", "red apple")
    'A photo of a red apple.'
    """
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError:
        fields = set()
    if fields != {"concept"}:
        raise DataError("cannot use this prompt", found=repr(prompt),
                        expected="a text with {concept} as its only field")  # fmt: skip
    return prompt.format(concept=text)


def embed_texts(
    texts: Sequence[str], encoder: str | TextEncoder = "use", prompt: str = "{concept}"
) -> tuple[Vectors, list[str], dict[str, Any]]:
    """Vectors of texts in a prompt.

    Parameters
    ----------
    texts : sequence of str
        Concept names or captions.
    encoder : str or TextEncoder
        Registered name or an encoder.
    prompt : str
        Template with ``{concept}``.

    Returns
    -------
    vectors : ndarray of float32, shape (n, d)
    filled : list of str
        What was encoded.
    origin : dict
        Identity of the encoder, for the provenance.

    Raises
    ------
    DataError
        If a text is empty or the vectors are not finite.
    """
    network = get_text_encoder(encoder)
    if empty := [number for number, text in enumerate(texts) if not text.strip()]:
        raise DataError("texts are empty", found="rows " + listing(empty))
    filled = [fill_prompt(prompt, text) for text in texts]
    if not filled:
        raise DataError("there is no text to encode")
    vectors = np.asarray(network.encode(filled), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(filled):
        raise DataError(f"text encoder {network.id!r} returned vectors of a wrong shape",
                        found=vectors.shape, expected=(len(filled), "width"))  # fmt: skip
    if bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        raise DataError(
            f"text encoder {network.id!r} gave values that are not finite",
            found=listing(filled[row] for row in bad),
        )
    return vectors, filled, {"id": network.id, "weights_hash": network.weights_hash}
