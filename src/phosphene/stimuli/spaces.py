"""Target spaces: which vectors may be compared with which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phosphene._saving import sha256_json
from phosphene.errors import SpaceMismatchError

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank


def space_digest(provenance: Mapping[str, Any], layer: str, dim: int) -> str:
    """Digest of the space that vectors of a layer live in.

    Encoder, weights, preprocessing and layer make a space; views share it. An encoder may declare
    that a layer lies in a joint space (CLIP's images and texts): then the declared name, which
    holds the hash of the weights, is the space, whichever of its encoders made the vectors.

    Parameters
    ----------
    provenance : mapping
        Of a bank.
    layer : str
        Canonical name.
    dim : int
        Width of the vectors, all that is known of a space without a declared encoder.
    """
    # Vectors that a bridge leads into the space of another encoder say which one that is.
    provenance = provenance.get("space_of") or provenance
    joint = (provenance.get("spaces") or {}).get(layer)
    if joint is not None:
        return str(sha256_json({"joint": joint}))
    encoder = provenance.get("encoder") or {"id": "undeclared", "dim": dim}
    return str(sha256_json({"encoder": encoder, "layer": layer}))


def require_same_space(
    a: FeatureBank,
    b: FeatureBank,
    layer_a: str | None = None,
    layer_b: str | None = None,
) -> None:
    """Refuse to compare vectors of different spaces, whose equal widths would let it pass.

    Parameters
    ----------
    a, b : FeatureBank
        Banks whose vectors are to be compared.
    layer_a, layer_b : str, optional
        Layers; each bank's default when not given.

    Raises
    ------
    SpaceMismatchError
        Naming both encoders and layers.
    """
    if a.space(layer_a) == b.space(layer_b):
        return
    kinds = {str(bank.provenance.get("kind")) for bank in (a, b)}
    if "text" in kinds and len(kinds) > 1:
        fix = (
            "use a joint model such as CLIP for both, or fit phosphene.stimuli.text.TextBridge on "
            "training concepts"
        )
    else:
        fix = "extract both with the same encoder, weights and layer"
    raise SpaceMismatchError(
        "vectors of two banks lie in different spaces and cannot be compared",
        found=f"{_describe(a, layer_a)}; {_describe(b, layer_b)}",
        expected="one space",
        fix=fix,
    )


def _describe(bank: FeatureBank, layer: str | None) -> str:
    encoder = bank.provenance.get("encoder") or {}
    weights = str(encoder.get("weights_hash", ""))[:12]
    name = bank.default_layer if layer is None else layer
    return (
        f"encoder {encoder.get('id', 'undeclared')!r}"
        + (f" (weights {weights})" if weights else "")
        + f", layer {name!r}, {bank.dim(layer)}-d"
    )
