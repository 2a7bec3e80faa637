"""The folder of a saved feature bank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene._saving import (
    atomic_folder,
    read_array,
    read_json,
    read_table,
    sha256_array,
    sha256_json,
    verify_folder,
    write_array,
    write_json,
    write_manifest,
    write_table,
)
from phosphene.errors import ArtefactError
from phosphene.stimuli._arrays import Narrowed

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

FORMAT = 1
TEXT = "text"


def bank_digest(bank: FeatureBank) -> str:
    """Digest of ids, vectors and provenance; reads all vectors, in pieces."""
    arrays = {
        f"{view}/{layer}": sha256_array(array) for (view, layer), array in bank.arrays.items()
    }
    content = {
        "ids": bank.ids,
        "stimuli": {name: list(bank.stimuli[name]) for name in ("concept", "sha256", "caption")},
        "arrays": arrays,
        # How a layer was spelled when it was asked for does not make another bank.
        "provenance": {k: v for k, v in bank.provenance.items() if k != "layer_aliases"},
        "default_layer": bank.default_layer,
    }
    if bank.text is not None:
        content["text"] = bank.text.hash
    return str(sha256_json(content))


def narrowed(bank: FeatureBank, dtype: str) -> FeatureBank:
    """The bank in another number format, converted piece by piece when it is read."""
    arrays = {
        (view, layer): Narrowed(array, np.dtype(dtype), bank.ids, view, layer)
        for (view, layer), array in bank.arrays.items()
    }
    stated = {"dtype": dtype} if "dtype" in bank.provenance else {}
    return type(bank)(
        bank.stimuli,
        arrays,
        {**bank.provenance, **stated},
        bank.default_layer,
        bank.timings,
        None if bank.text is None else narrowed(bank.text, dtype),
    )


def array_name(number: int) -> str:
    """File of the bank's array of this number, counted in the order of ``bank.arrays``."""
    return f"vectors-{number:03d}.npy"


def write_bank(bank: FeatureBank, folder: str | os.PathLike[str]) -> Path:
    """Write a bank; the folder appears, or replaces an older one, when all of it is written."""
    folder = Path(folder)
    with atomic_folder(folder) as partial:
        for number, array in enumerate(bank.arrays.values()):
            write_array(partial / array_name(number), array)
        describe_bank(bank, partial)
    return folder


def describe_bank(bank: FeatureBank, folder: Path) -> None:
    """Write all of a bank but its arrays, which are in the folder already, and the manifest."""
    files = [
        {"view": view, "layer": layer, "file": array_name(number)}
        for number, (view, layer) in enumerate(bank.arrays)
    ]
    write_table(folder / "stimuli.csv", bank.stimuli.rename_axis("stimulus").reset_index())
    about = {
        "format": FORMAT,
        "hash": bank.hash,
        "arrays": files,
        "default_layer": bank.default_layer,
        "provenance": bank.provenance,
        "timings": bank.timings,
    }
    write_json(folder / "bank.json", about)
    if bank.text is not None:
        write_bank(bank.text, folder / TEXT)
    write_manifest(folder)


def read_bank(folder: str | os.PathLike[str], *, mmap: bool) -> tuple[dict[str, Any], str]:
    """The parts of a saved bank, and its digest.

    Raises
    ------
    ArtefactError
        If a file is missing, truncated or changed, or the format is unknown.
    """
    folder = Path(folder)
    if not (folder / "bank.json").is_file():
        raise ArtefactError(f"{folder} does not hold a feature bank", expected="a file bank.json")
    verify_folder(folder)
    about = read_json(folder / "bank.json")
    if about.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / 'bank.json'}: unknown format of a feature bank",
            found=about.get("format"),
            expected=FORMAT,
        )
    table = read_table(folder / "stimuli.csv").set_index("stimulus").rename_axis(None)
    arrays = {
        (item["view"], item["layer"]): read_array(folder / item["file"], mmap=mmap)
        for item in about["arrays"]
    }
    parts = {
        "stimuli": table,
        "arrays": arrays,
        "provenance": about["provenance"],
        "default_layer": about["default_layer"],
        "timings": about["timings"],
    }
    return parts, str(about["hash"])
