"""A feature bank as one npz file, for programs that only have numpy."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._saving import atomic_path, jsonable
from phosphene.errors import ArtefactError, DataError

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

FORMAT = 1
COLUMNS = {"concept": "concepts", "sha256": "sha256", "caption": "captions"}
"""Columns of a bank's table and the names of their arrays."""
# Zeros compress a thousandfold, so that a small file could fill the memory.
MOST, MOST_RATIO = 2**30, 100


def export_npz(bank: FeatureBank, path: str | os.PathLike[str]) -> Path:
    """Write a bank as one npz file that numpy reads without pickles.

    It holds ``ids``, ``concepts``, ``captions``, ``sha256`` (of the pictures), an array
    ``VIEW/LAYER`` (n, d) for each view and layer, and ``provenance``, a text in JSON. The same bank
    gives the same bytes.

    Parameters
    ----------
    bank : FeatureBank
        May be memory-mapped; one array is held in memory at a time.
    path : path
        The file; an older one is replaced when all is written.

    Examples
    --------
    ::

        with np.load("features.npz") as file:
            vectors, ids = file["original/pool"], file["ids"]
    """
    file = Path(path)
    table = bank.stimuli
    index = {
        "format": FORMAT,
        "hash": bank.hash,
        "arrays": [list(pair) for pair in bank.arrays],
        "default_layer": bank.default_layer,
    }
    text = json.dumps(jsonable(bank.provenance), ensure_ascii=False, sort_keys=True)
    with atomic_path(file) as partial, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        _put(archive, "ids", np.array(bank.ids, dtype=np.str_))
        for column, name in COLUMNS.items():
            _put(archive, name, np.array(table[column].tolist(), dtype=np.str_))
        for (view, layer), array in bank.arrays.items():
            _put(archive, f"{view}/{layer}", np.asarray(array[:]))
        _put(archive, "provenance", np.array(text))
        _put(archive, "index", np.array(json.dumps(index)))
    return file


def import_npz(path: str | os.PathLike[str]) -> FeatureBank:
    """The bank that :func:`export_npz` wrote.

    Raises
    ------
    ArtefactError
        If the file is missing, damaged, changed, or not such a file.
    """
    from phosphene.stimuli.bank import FeatureBank

    file = Path(path)
    try:
        parts = read_npz(file)
        index = json.loads(str(parts["index"]))
        provenance = json.loads(str(parts["provenance"]))
        if index["format"] != FORMAT:
            raise ArtefactError(f"{file}: unknown format of an exported bank",
                                found=index["format"], expected=FORMAT)  # fmt: skip
        table = pd.DataFrame(
            {name: pd.Series(parts[key].tolist(), dtype="str") for name, key in COLUMNS.items()}
        ).set_axis(pd.Index(parts["ids"].tolist(), dtype="str"), axis=0)
        arrays = {(view, layer): parts[f"{view}/{layer}"] for view, layer in index["arrays"]}
        bank = FeatureBank(table, arrays, provenance, str(index["default_layer"]))
        stated = index["hash"]
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{file} is not a bank that export_npz wrote, or is damaged",
            found=getattr(error, "what", None) or f"{type(error).__name__}: {error}",
            fix="export it again; for other files use import_features",
        ) from error
    if bank.hash != stated:
        raise ArtefactError(f"{file} was changed after it was written",
                            found=f"hash {bank.hash}", expected=f"hash {stated}")  # fmt: skip
    return bank


def _put(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    # A member made by hand has no time of writing, so the same bank gives the same bytes.
    member = zipfile.ZipInfo(f"{name}.npy")
    member.external_attr = 0o644 << 16
    with archive.open(member, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def is_npz(file: Path) -> bool:
    """Whether a file is an archive of npy files."""
    try:
        with zipfile.ZipFile(file) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read_npz(file: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file, none of objects.

    Raises
    ------
    DataError
        If it is missing, damaged, holds objects, or far more than its size.
    """
    try:
        with zipfile.ZipFile(file) as members:
            total = sum(member.file_size for member in members.infolist())
        if total > max(MOST, MOST_RATIO * file.stat().st_size):
            raise ValueError(f"it would unpack to {total / 2**30:.0f} GB")
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever numpy and zipfile say to damaged files
        raise DataError(f"{file} cannot be read as npz",
                        found=f"{type(error).__name__}: {error}"[:300]) from error  # fmt: skip
