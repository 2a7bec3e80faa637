"""The folder of a saved aligner."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene._saving import (
    atomic_folder,
    read_json,
    read_tensors,
    verify_folder,
    write_json,
    write_manifest,
    write_tensors,
)
from phosphene.errors import ArtefactError
from phosphene.evaluation.protocol import environment
from phosphene.methods._alignment_bank import require_fitted
from phosphene.methods._alignment_settings import resolve

if TYPE_CHECKING:
    from phosphene.methods.brain_alignment import BrainAligner

FORMAT = 1
KIND = "brain-aligner"
FITTED = ("alpha_", "penalty_", "categories_", "towers_", "spaces_", "n_features_in_")


def save(aligner: BrainAligner, folder: Path) -> Path:
    """Write a fitted aligner; an older one of ours in the folder is replaced as a whole."""
    require_fitted(aligner)
    fitted = {name: getattr(aligner, name) for name in FITTED}
    # JSON has no tuples as keys: a list of pairs keeps (subject, region).
    fitted["weights_"] = [[key, share] for key, share in aligner.weights_.items()]
    fitted["cv_"] = aligner.cv_.to_dict("list")
    config = {
        "format": FORMAT,
        "params": {f.name: getattr(aligner, f.name) for f in dataclasses.fields(aligner)},
        "fitted": fitted,
        "versions": environment(),
    }
    with atomic_folder(folder) as partial:
        write_json(partial / "config.json", config)
        write_tensors(partial / "aligner.safetensors", aligner.arrays_)
        write_manifest(partial, kind=KIND)
    return folder


def load(cls: type[BrainAligner], folder: Path) -> BrainAligner:
    """Rebuild an aligner from its folder."""
    verify_folder(folder, kind=KIND)
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / 'config.json'}: unknown format of an aligner",
            found=config.get("format"),
            expected=FORMAT,
        )
    params: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["params"].items()
    }
    aligner = cls(**params)
    fitted = config["fitted"]
    for name in FITTED:
        setattr(aligner, name, fitted[name])
    aligner.weights_ = {
        tuple(key) if isinstance(key, list) else key: share for key, share in fitted["weights_"]
    }
    aligner.cv_ = pd.DataFrame(fitted["cv_"], columns=["alpha", "penalty", "fold", "rsa"])
    aligner.arrays_, _ = read_tensors(folder / "aligner.safetensors", framework="numpy")
    # Of a fit on many categories: how many there were matters to the checks of a fit only.
    aligner._settings = resolve(aligner, 10**9)
    return aligner
