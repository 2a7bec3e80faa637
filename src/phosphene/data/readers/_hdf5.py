"""HDF5 files that others wrote: what is missing is named, what cannot be true is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._optional import require
from phosphene._registry import did_you_mean
from phosphene.data.readers._hdf5_heap import refuse_damaged_heaps
from phosphene.errors import DataError, PhospheneError, listing

SLAB = 32 * 2**20
# Deflate cannot shrink anything further.
MAX_RATIO = 1032
MAX_TEXTS = 1_000_000
REPEAT = "copy or download the file again"


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file; whatever a damaged one makes h5py raise becomes an error that names it.

    Raises
    ------
    DataError
        If the file is missing, damaged or no HDF5.
    MissingExtraError
        If h5py is not installed.
    """
    h5py = require("h5py", "h5", "reading HDF5 files")
    if not path.is_file():
        raise DataError(
            f"there is no file {path}",
            found="a folder" if path.is_dir() else "no such file",
            expected="an HDF5 file",
        )
    try:
        # Values that do not fit become infinite or NaN, and are named by the recording's checks.
        with np.errstate(over="ignore", invalid="ignore"), h5py.File(path, "r") as file:
            yield file
    except PhospheneError:
        raise
    except Exception as error:  # a damaged file raises OSError, KeyError, RuntimeError and others
        raise DataError(
            f"{path} is truncated, damaged or no HDF5 file",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            fix=REPEAT,
        ) from error


def dataset(
    parent: Any, names: str | Sequence[str], path: Path, *, ndim: int, kinds: str = "iuf"
) -> Any:
    """The first of several names that a file or group has, checked before anything is read.

    Parameters
    ----------
    parent : h5py.File or h5py.Group
        Where to look.
    names : str or sequence of str
        Spellings, the usual one first.
    path : Path
        The file, for messages.
    ndim : int
        Number of axes that it must have.
    kinds : str
        Letters of the NumPy types that it may hold.

    Raises
    ------
    DataError
        If there is none, or its axes, type or size cannot be.
    """
    names = [names] if isinstance(names, str) else list(names)
    name = next((name for name in names if name in parent), None)
    if name is None:
        known = [str(key) for key in parent]
        raise DataError(
            f"{path} has no {names[0]!r}",
            found=f"{parent.name}: {listing(known, 20)}" if known else f"{parent.name} is empty",
            expected=listing(names),
            fix=did_you_mean(names[0], known),
        )
    found = parent[name]
    if not hasattr(found, "dtype"):
        raise DataError(f"{path}: {name!r} is a group and no array")
    if found.dtype.kind not in kinds or len(found.shape or ()) != ndim:
        raise DataError(
            f"{path}: {name!r} is not the array that it should be",
            found=f"shape {found.shape}, type {found.dtype}",
            expected=f"{ndim} axes" + (", numbers" if kinds == "iuf" else ""),
        )
    _refuse_impossible_size(found, path, name)
    return found


def _refuse_impossible_size(found: Any, path: Path, name: str) -> None:
    """Refuse an array that the file cannot hold, before memory is reserved for it."""
    if found.is_virtual or found.external:
        raise DataError(
            f"{path}: the values of {name!r} lie in other files",
            fix="write them into one file (h5repack)",
        )
    needed = math.prod(int(n) for n in found.shape) * found.dtype.itemsize
    stored = int(found.id.get_storage_size())
    ratio = MAX_RATIO if found.chunks else 1
    if stored > path.stat().st_size or needed > stored * ratio or 0 in found.shape:
        raise DataError(
            f"{path} is truncated or damaged: {name!r} cannot be as large as it says",
            found=f"{stored} bytes for shape {found.shape} of {found.dtype}",
            expected=f"{needed} bytes" if needed else "no empty axis",
            fix=REPEAT,
        )


def texts(parent: Any, name: str, path: Path) -> list[str]:
    """A list of texts, of fixed or variable length; what is not UTF-8 is shown with ``?``."""
    found = dataset(parent, name, path, ndim=1, kinds="OSU")
    if found.shape[0] > MAX_TEXTS:
        raise DataError(f"{path}: {name!r} is too long for names", found=found.shape[0])
    return [as_text(value) for value in read_texts(found, path).tolist()]


def read_texts(found: Any, path: Path) -> NDArray[Any]:
    """Values of a dataset of texts, once the heap that they lie in has been checked."""
    if found.dtype.kind == "O":
        refuse_damaged_heaps(found, path)
    return np.asarray(found[()])


def as_text(value: Any) -> str:
    """Text of a value as h5py hands it over."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def slabs(found: Any, budget: int = SLAB) -> Iterator[slice]:
    """Slices of the first axis of about ``budget`` bytes, that do not cut through chunks."""
    n = int(found.shape[0])
    row = max(1, math.prod(int(k) for k in found.shape[1:]) * found.dtype.itemsize)
    step = max(1, budget // row)
    if found.chunks:
        chunk = int(found.chunks[0])
        step = max(chunk, step // chunk * chunk)
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def memory_map(found: Any, path: Path) -> NDArray[Any] | None:
    """The array as a memory map where it lies in the file in one piece, else None.

    The file is checked to reach as far as the map, because reading beyond its end would end the
    process.
    """
    offset = found.id.get_offset()
    if found.chunks or offset is None or not found.dtype.isnative:
        return None
    end = int(offset) + math.prod(int(n) for n in found.shape) * found.dtype.itemsize
    if end > path.stat().st_size:
        raise DataError(
            f"{path} is truncated", found=f"{path.stat().st_size} bytes", expected=f"{end} or more"
        )
    mapped: NDArray[Any] = np.memmap(
        path, dtype=found.dtype, mode="r", offset=int(offset), shape=tuple(found.shape)
    )
    return mapped
