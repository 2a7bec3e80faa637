"""Matrices of numbers in MATLAB's version 5 files (what ``save`` writes by default, up to ``-v7``).

Only plain numeric matrices are read; cells, structures, texts and sparse matrices are passed over.
Every size is checked against what is left of the file before it is used: a damaged file is refused,
where general readers have been seen to end the process.

A file is a header of 128 bytes and elements of (type, size, data), padded to 8 bytes; an element
may be compressed (zlib). A matrix is an element that holds others: flags, dimensions, name, values.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import DataError

HEADER = 128
MATRIX, COMPRESSED = 14, 15
# Types of stored values, and classes of matrices, by their numbers in the format.
STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8"}
CLASSES[15] = "u8"
COMPLEX = 0x0800
MAX_ELEMENTS = 10_000


def read_mat5(
    path: Path, names: Collection[str], limit: int = 512 * 2**20
) -> dict[str, NDArray[Any]]:
    """The named matrices that a file has.

    Parameters
    ----------
    path : path
        File of version 5.
    names : collection of str
        Which matrices to read; others are passed over.
    limit : int
        Bytes that the file, and all matrices together, may have.

    Raises
    ------
    DataError
        If the file is missing, damaged or of another version.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}", expected="a MATLAB file (.mat)")
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"{path} is too large", found=f"{size} bytes", expected=f"{limit} at most")
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[:4] == b"\x00" * 4:
        raise _damaged(path, "no MATLAB file of version 5", content[:16])
    if content[:10] == b"MATLAB 7.3" or content[512:516] == b"\x89HDF":
        raise DataError(f"{path} is of version 7.3", fix="save it with -v7 in MATLAB")
    out: dict[str, NDArray[Any]] = {}
    left = limit
    try:
        for kind, data in _elements(memoryview(content)[HEADER:], order):
            if kind == COMPRESSED:
                unpacked = _inflate(bytes(data), left)
                left -= len(unpacked)
                inner = list(_elements(memoryview(unpacked), order))
                if len(inner) != 1:
                    raise ValueError("a compressed element holds other than one")
                kind, data = inner[0]
            if kind != MATRIX:
                raise ValueError(f"an element of type {kind} at the top")
            name, array = _matrix(data, order, names)
            if array is not None:
                if name in out:
                    raise ValueError(f"{name!r} occurs twice")
                out[name] = array
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError, OverflowError) as error:
        raise _damaged(path, "truncated or damaged", error) from error
    return out


def _damaged(path: Path, what: str, found: object) -> DataError:
    return DataError(
        f"{path} is {what}",
        found=f"{path.stat().st_size} bytes; {found!r}",
        fix="copy or download the file again",
    )


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and data of each element; small ones keep both in eight bytes."""
    place, count = 0, 0
    while place < len(data):
        count += 1
        if len(data) - place < 8 or count > MAX_ELEMENTS:
            raise ValueError("an element is cut off, or there are too many")
        kind, size = struct.unpack(order + "II", data[place : place + 8])
        if kind >> 16:
            size, kind = kind >> 16, kind & 0xFFFF
            if size > 4:
                raise ValueError("a small element is too large")
            start, after = place + 4, place + 8
        else:
            start = place + 8
            # Compressed elements are not padded.
            after = start + (size if kind == COMPRESSED else (size + 7) // 8 * 8)
        if start + size > len(data):
            raise ValueError("an element reaches beyond the end")
        yield kind, data[start : start + size]
        place = after


def _inflate(data: bytes, limit: int) -> bytes:
    machine = zlib.decompressobj()
    out = machine.decompress(data, limit + 1)
    if len(out) > limit:
        raise ValueError("a compressed element is too large")
    if not machine.eof:  # its end holds the checksum
        raise ValueError("a compressed element is cut off")
    return out


def _matrix(
    data: memoryview, order: str, names: Collection[str]
) -> tuple[str, NDArray[Any] | None]:
    """Name and values of a matrix; no values where it is not wanted or not of numbers."""
    parts = _elements(data, order)
    kind, flags = next(parts, (0, memoryview(b"")))
    if kind != 6 or len(flags) != 8:
        raise ValueError("a matrix without flags")
    bits = struct.unpack(order + "I", flags[:4])[0]
    dims_kind, dims = next(parts, (0, memoryview(b"")))
    name_kind, label = next(parts, (0, memoryview(b"")))
    if dims_kind != 5 or name_kind not in (1, 2, 16) or len(dims) % 4 or not 8 <= len(dims) <= 128:
        raise ValueError("a matrix without dimensions or name")
    name = bytes(label).decode("utf-8")
    if name not in names:
        return name, None
    shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
    if (bits & 0xFF) not in CLASSES or bits & COMPLEX:
        raise ValueError(f"{name!r} is no matrix of real numbers")
    stored, values = next(parts, (0, memoryview(b"")))
    if stored not in STORED or min(shape) < 0:
        raise ValueError(f"{name!r} holds no numbers")
    array = np.frombuffer(values, dtype=np.dtype(order + STORED[stored]))
    if array.size != math.prod(shape):
        raise ValueError(f"{name!r} has {array.size} values for {shape}")
    target = np.dtype(CLASSES[bits & 0xFF])
    # MATLAB stores whole numbers in the smallest type that holds them.
    with np.errstate(over="ignore", invalid="ignore"):
        return name, array.reshape(shape, order="F").astype(target)
