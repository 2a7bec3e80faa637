"""The folder of a saved bridge, and what its vectors say about their origin."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene._saving import (
    atomic_folder,
    jsonable,
    read_json,
    read_tensors,
    sha256_array,
    sha256_json,
    verify_folder,
    write_json,
    write_manifest,
    write_tensors,
)
from phosphene.errors import ArtefactError

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

Arrays = Mapping[str, NDArray[np.float64]]
FORMAT = 1
KIND = "text-bridge"
CANONICAL = "canonical"
"""Layer of vectors in the common space of a canonical correlation."""


def write_bridge(
    folder: str | os.PathLike[str],
    params: Mapping[str, Any],
    fitted: Mapping[str, Any],
    arrays: Arrays,
) -> Path:
    """Write a bridge; an older one of ours in the folder is replaced as a whole."""
    config = {"format": FORMAT, "params": params, "fitted": fitted}
    with atomic_folder(Path(folder)) as partial:
        write_json(partial / "config.json", config)
        write_tensors(partial / "bridge.safetensors", arrays)
        write_manifest(partial, kind=KIND)
    return Path(folder)


def read_bridge(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters, fitted facts and arrays of a saved bridge; see :meth:`TextBridge.load`."""
    folder = Path(folder)
    verify_folder(folder, kind=KIND)
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ArtefactError(f"{folder / 'config.json'}: unknown format of a bridge",
                            found=config.get("format"), expected=FORMAT)  # fmt: skip
    arrays, _ = read_tensors(folder / "bridge.safetensors", framework="numpy")
    return config["params"], config["fitted"], arrays


def origin(bank: FeatureBank, layer: str) -> dict[str, Any]:
    """What makes a bank's space: as much as `spaces.space_digest` looks at."""
    stated = bank.provenance.get("space_of") or bank.provenance  # over a bridge before this one
    encoder = stated.get("encoder") or {"id": "undeclared", "dim": bank.dim(layer)}
    space = (stated.get("spaces") or {}).get(layer)
    declared = {} if space is None else {"spaces": {layer: space}}
    return dict(jsonable({"encoder": encoder, "layer": layer, **declared}))


def provenance(
    given: Mapping[str, Any], facts: Mapping[str, Any], concepts: Sequence[str], arrays: Arrays
) -> dict[str, Any]:
    """What a bank that went over a bridge says about its origin.

    Parameters
    ----------
    given : mapping
        Provenance of the bank that went over it.
    facts : mapping
        Of the bridge: ``kind``, what was chosen, and both ends (``images``, ``text``).
    concepts : sequence of str
        Training concepts; their number and digest are kept.
    arrays : mapping of str to ndarray
        The map; its digest names the common space of a canonical correlation.
    """
    digest = sha256_json({name: sha256_array(array) for name, array in sorted(arrays.items())})
    ends = f"{facts['text']['encoder']['id']} -> {facts['images']['encoder']['id']}"
    found: dict[str, Any] = {
        "kind": "bridge",
        "encoder": {"id": f"bridge-{facts['kind']}({ends})", "weights_hash": digest},
        "bridge": {
            **facts,
            "training_concepts": len(concepts),
            "training_concepts_sha256": sha256_json(list(concepts)),
        },
    }
    found |= {name: given[name] for name in ("prompt", "views") if name in given}
    if facts["kind"] == "ridge":
        return {**found, "space_of": facts["images"]}
    return {**found, "spaces": {CANONICAL: f"bridge:{digest}"}}
