"""The protocol of text encoders, finding one by name, and texts through one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import DataError, listing
from phosphene.stimuli._sources import make_part
from phosphene.stimuli.text.prompts import fill_prompt, templates

Vectors = NDArray[np.float32]


@runtime_checkable
class TextEncoder(Protocol):
    """What a feature bank needs from a text encoder; attributes will do for the properties.

    Three more are used when they are there: ``spaces``, from ``"vector"`` to the name of the space
    that the vectors share with those of an image encoder, ``packages``, the distributions whose
    versions the vectors depend on, and ``details``, more that the provenance should say.
    """

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

    Parameters
    ----------
    encoder : str or TextEncoder
        Registered name (``use``), or ``kind:SOURCE`` with a folder or a hub id, which may end in
        ``@REVISION``: ``clip-text:openai/clip-vit-base-patch32``.

    Raises
    ------
    UnknownNameError
        If no text encoder has the name; the nearest are listed.
    DataError
        If the source is not a model of the kind.
    """
    if isinstance(encoder, str):
        encoder = make_part("text_encoder", encoder)
    if not isinstance(encoder, TextEncoder):
        raise DataError(
            "this is not a text encoder",
            found=type(encoder).__name__,
            expected="a name, kind:SOURCE, or an object with id, weights_hash and encode",
        )
    return encoder


def embed_texts(
    texts: Sequence[str],
    encoder: str | TextEncoder = "use",
    prompt: str | Sequence[str] = "{concept}",
) -> tuple[Vectors, list[str], dict[str, Any]]:
    """Vectors of texts in a prompt.

    Parameters
    ----------
    texts : sequence of str
        Concept names or captions.
    encoder : str or TextEncoder
        Registered name or an encoder.
    prompt : str or sequence of str
        Template with ``{concept}``, or a name in :data:`~phosphene.stimuli.text.prompts.PROMPTS`.
        Of several templates a text gets the mean of the vectors, each brought to unit length.

    Returns
    -------
    vectors : ndarray of float32, shape (n, d)
    filled : list of str
        What was encoded; of several templates the texts that went into them.
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
    forms = templates(prompt)
    filled = [fill_prompt(form, text) for form in forms for text in texts]
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
    if len(forms) > 1:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
        vectors = vectors.reshape(len(forms), len(texts), -1).mean(axis=0)
        filled = [str(text) for text in texts]
    origin = {"id": network.id, "weights_hash": network.weights_hash}
    return vectors, filled, {**origin, **getattr(network, "details", {})}
