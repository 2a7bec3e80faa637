"""MindEye2's behaviour tables: one array, or one small array per trial in tar archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.errors import DataError, PhospheneError, listing

MAX_MEMBER = 2**20
SUFFIX = ".behav.npy"


def read_behaviour(path: Path) -> NDArray[Any]:
    """Rows (trials, columns) of one ``.npy`` file, or of every ``*.behav.npy`` in a ``.tar``.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds no such array.
    """
    if not path.is_file():
        raise DataError(f"there is no behaviour table {path}")
    try:
        if path.suffix == ".npy":
            return _rows(np.load(path, allow_pickle=False), path)
        parts = []
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.name.endswith(SUFFIX) and member.isfile():
                    if member.size > MAX_MEMBER:
                        raise DataError(f"{path}: {member.name} is too large", found=member.size)
                    content = archive.extractfile(member)
                    assert content is not None
                    parts.append(_rows(_small_npy(content.read()), path))
        _refuse_missing_end(path)
    except PhospheneError:
        raise
    except (Exception, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is truncated, damaged or no behaviour table",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            fix="copy or download the file again",
        ) from error
    if not parts or len({part.shape[1] for part in parts}) > 1:
        raise DataError(
            f"{path} holds no arrays {SUFFIX} of one width", found=f"{len(parts)} arrays"
        )
    return np.concatenate(parts)


def _small_npy(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _refuse_missing_end(path: Path) -> None:
    """Two blocks of zeros end an archive; tarfile takes one that was cut between members."""
    with path.open("rb") as file:
        file.seek(-min(1024, path.stat().st_size), 2)
        if file.read() != bytes(1024):
            raise DataError(f"{path} is truncated", fix="copy or download the file again")


def _rows(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype.kind not in "iuf" or array.ndim < 1 or not array.size:
        raise DataError(
            f"{path} holds no numbers", found=f"shape {array.shape}, type {array.dtype}"
        )
    return array.reshape(-1, array.shape[-1])


def mindeye_trials(behaviour: NDArray[Any], n_rows: int, where: str | Path) -> pd.DataFrame:
    """Image, row of the betas and shared flag of each trial of MindEye2's behaviour table.

    Parameters
    ----------
    behaviour : ndarray, shape (trials, 17 or more)
        Column 0 is the row of the image, 5 the row of the betas, 16 whether all people share the
        image; counted from 0.
    n_rows : int
        Rows that the betas have.
    where : str or path
        How messages call it.
    """
    if behaviour.ndim != 2 or behaviour.shape[1] < 17 or behaviour.dtype.kind not in "iuf":
        raise DataError(
            f"{where} is no behaviour table",
            found=f"shape {behaviour.shape}, {behaviour.dtype}",
            expected="(trials, 17) numbers",
        )
    picked = behaviour[:, [0, 5, 16]]
    if not ((np.abs(picked) < 2**40) & (picked == np.round(picked))).all():
        raise DataError(f"{where}: columns 0, 5 and 16 are no whole numbers")
    image, row, shared = picked.astype(np.int64).T
    if image.min() < 0 or row.min() < 0 or row.max() >= n_rows or not set(shared) <= {0, 1}:
        raise DataError(
            f"{where} does not fit the betas",
            found=f"images {image.min()} to {image.max()}, rows {row.min()} to {row.max()}, "
            f"shared {sorted(set(shared.tolist()))[:5]}",
            expected=f"rows 0 to {n_rows - 1}, shared 0 or 1",
        )
    table = pd.DataFrame({"nsd_id": image, "row": row, "shared": shared == 1})
    if (double := table.duplicated("row")).any():
        rows = table.loc[double, "row"].tolist()
        raise DataError(f"{where} names rows of the betas more than once: {listing(rows)}")
    return table
