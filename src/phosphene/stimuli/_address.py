"""What vectors depend on: the address that they are kept under, and a bank's provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phosphene._saving import sha256_array, sha256_file
from phosphene.data._decode import DECODING_VERSION, Colour
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, PhospheneError
from phosphene.stimuli.encoders import ImageEncoder, check_layers
from phosphene.stimuli.views import VIEWS_VERSION, View

DTYPES = ("float32", "float16")


def encoder_address(encoder: ImageEncoder, background: Colour, dtype: str) -> dict[str, Any]:
    """Everything but picture, view and layer that a kept vector depends on.

    Parameters
    ----------
    encoder : ImageEncoder
        Its optional ``packages`` are distributions whose versions count too.
    background : tuple of int
        Colour under transparent pixels.
    dtype : {"float32", "float16"}
        Number format that vectors are kept in.
    """
    device = getattr(encoder, "device", None)
    return {
        "encoder": encoder.id,
        "weights_hash": encoder.weights_hash,
        "revision": getattr(encoder, "revision", None),
        "preprocessing": encoder.preprocessing,
        "decoding": {"version": DECODING_VERSION, "background": [int(v) for v in background]},
        "views_version": VIEWS_VERSION,
        "precision": encoder.precision,
        "device": str(getattr(device, "type", device or "cpu")).partition(":")[0],
        "dtype": dtype,
        "versions": versions(getattr(encoder, "packages", ())),
    }


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the libraries that pictures and vectors come out of."""
    found = {"torch": str(torch.__version__), "numpy": np.__version__, "pillow": version("pillow")}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def resolve_layers(
    encoder: ImageEncoder, layers: Sequence[str] | str | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Canonical names of the asked layers, and what each other spelling stands for."""
    canonical = getattr(encoder, "canonical_layer", lambda name: name)
    asked = [layers] if isinstance(layers, str) else list(layers or ())
    aliases = {name: str(canonical(name)) for name in asked}
    chosen = check_layers(encoder, layers if layers is None else [aliases[name] for name in asked])
    aliases = {name: meant for name, meant in aliases.items() if name != meant}
    return tuple(dict.fromkeys(str(canonical(name)) for name in chosen)), aliases


def declared_spaces(encoder: Any, layers: Iterable[str]) -> dict[str, str]:
    """The joint spaces that an encoder declares for some of its layers."""
    declared: Mapping[str, str] = getattr(encoder, "spaces", None) or {}
    return {layer: str(declared[layer]) for layer in layers if layer in declared}


def extraction_provenance(
    encoder: ImageEncoder,
    address: Mapping[str, Any],
    views: Sequence[View],
    layers: Sequence[str],
    aliases: Mapping[str, str],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """What an extracted bank says about its origin; JSON values."""
    origin = ("encoder", "weights_hash", "preprocessing", "revision")
    found = {
        "kind": "extracted",
        "encoder": {
            "id": address["encoder"],
            "weights_hash": address["weights_hash"],
            "preprocessing": address["preprocessing"],
        },
        **{name: value for name, value in address.items() if name not in origin},
        "views": {view.name: {"kind": view.kind, **view.params} for view in views},
        "layers": list(layers),
        "layer_aliases": dict(aliases),
        "spaces": declared_spaces(encoder, layers),
        "skipped": dict(skipped),
    }
    if address["revision"] is not None:
        # Not of the space: the weights' hash says whether two revisions differ.
        found["revision"] = address["revision"]
    return found


def content_hash(stimuli: StimulusSet, id: str) -> str:
    """Digest of a picture as it is now; of a generated one as declared or first made."""
    source = stimuli.sources[id]
    if callable(source) or stimuli.table.at[id, "sha256"]:
        return stimuli.hash(id)
    # A set remembers its hashes, but a file may have been edited since: it would poison the store.
    try:
        return sha256_file(source) if isinstance(source, Path) else sha256_array(source)
    except OSError as error:
        raise DataError(f"the image {source} cannot be read", found=error) from error


def content_hashes(
    stimuli: StimulusSet, *, skip: bool = False
) -> tuple[dict[str, str], dict[str, Exception]]:
    """Digest of every picture by id, and those that cannot be read if they may be skipped."""
    found: dict[str, str] = {}
    broken: dict[str, Exception] = {}

    def one(id: str) -> str | PhospheneError:
        try:
            return content_hash(stimuli, id)
        except PhospheneError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for id, result in zip(stimuli.ids, pool.map(one, stimuli.ids), strict=True):
            if isinstance(result, str):
                found[id] = result
            elif skip:
                broken[id] = result
            else:
                raise result
    return found, broken


def reason(stimuli: StimulusSet, id: str, error: BaseException) -> str:
    """Why a picture was left out; without the place of its file, which is not provenance."""
    what = getattr(error, "what", None) or str(error)
    found = getattr(error, "found", None)
    text = what if found is None else f"{what} ({found})"
    source = stimuli.sources[id]
    return text.replace(str(source), id) if isinstance(source, Path) else text
