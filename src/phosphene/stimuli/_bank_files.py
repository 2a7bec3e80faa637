"""The folder of a saved feature bank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._saving import (
    atomic_folder,
    read_array,
    read_json,
    read_table,
    verify_folder,
    write_array,
    write_json,
    write_manifest,
    write_table,
)
from phosphene.errors import ArtefactError

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

FORMAT = 1


def write_bank(bank: FeatureBank, folder: str | os.PathLike[str]) -> Path:
    """Write a bank; the folder appears, or replaces an older one, when all of it is written."""
    folder = Path(folder)
    with atomic_folder(folder) as partial:
        files = []
        for number, ((view, layer), array) in enumerate(bank.arrays.items()):
            file = f"vectors-{number:03d}.npy"
            write_array(partial / file, array)
            files.append({"view": view, "layer": layer, "file": file})
        write_table(partial / "stimuli.csv", bank.stimuli.rename_axis("stimulus").reset_index())
        about = {
            "format": FORMAT,
            "hash": bank.hash,
            "arrays": files,
            "default_layer": bank.default_layer,
            "provenance": bank.provenance,
            "timings": bank.timings,
        }
        write_json(partial / "bank.json", about)
        write_manifest(partial)
    return folder


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
