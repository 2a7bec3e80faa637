"""Dictionaries of arrays in pickles, opened without reading the large arrays in them.

The files of this field hold one array of gigabytes and a few names. `_unpickle` would read all of
it into memory; here long stretches of bytes stay in the file and come as memory maps, so that the
array can be converted piece by piece or used where it lies.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phosphene._pickle_machine import Machine, Reader, finished
from phosphene._pickle_values import LongText, RefusedError, Storage
from phosphene._unpickle import _guarded, load_npy, load_pt

NPY, ZIP, PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"
LEGACY_TORCH = b"\x80\x02\x8a\x0a"
NOT_LONG = object()
LONG = 2**20
Bytes = np.memmap[Any, np.dtype[np.uint8]]


def open_pickled(path: str | os.PathLike[str]) -> Any:
    """Plain data of an npy file, a bare pickle or a file of torch; large arrays stay in the file.

    Parameters
    ----------
    path : path
        From `numpy.save`, `pickle.dump` (which numpy reads under the name ``.npy`` too) or
        `torch.save`.

    Returns
    -------
    object
        Dicts, lists, text and numbers; arrays of more than a megabyte are read-only memory maps,
        which may start at any byte. All of a torch archive was compared with its checksums.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds more than plain data.
    """
    path = Path(path)
    start = _guarded(path, lambda file, _: file.read(8))
    if start.startswith(LEGACY_TORCH):
        return load_pt(path)
    if start.startswith(ZIP):
        return _guarded(path, lambda file, size: _archive(file, size, _map(path)))
    if start.startswith(PICKLE):
        return _guarded(path, lambda file, size: _bare(file, size, path))
    value = NOT_LONG
    if start.startswith(NPY):
        value = _guarded(path, lambda file, size: _npy(file, size, path))
    return load_npy(path) if value is NOT_LONG else value  # it says so where the file is no npy


def _map(path: Path) -> Bytes:
    return np.memmap(path, dtype=np.uint8, mode="r")


class _Mapping(Reader):
    """A reader that leaves long bytes in the file.

    Parameters
    ----------
    file : binary file
        At the first byte; positions in it are positions in ``memory``.
    size : int
        How many bytes there are.
    memory : memmap
        The whole file.
    """

    def __init__(self, file: BinaryIO, size: int, memory: Bytes) -> None:
        super().__init__(file, size)
        self._memory = memory
        self._as_text = False

    def take(self, n: int) -> Any:
        """The next ``n`` bytes; what is long comes as a stand-in for the memory of an array."""
        if n <= LONG or self._as_text:
            return super().take(n)
        ahead = len(self._buffer) - self._at
        if n - ahead > self._left:
            raise RefusedError("ends too early", f"{ahead + self._left} of {n} bytes")
        start = self._file.tell() - ahead
        self._file.seek(start + n)
        self._left -= n - ahead
        self._buffer, self._at = b"", 0
        # The class in which the machine hands long memory on to the array that is made of it.
        return LongText(self._memory[start : start + n])  # type: ignore[arg-type]

    def text(self, n: int) -> Any:
        """Text is read, however long."""
        self._as_text = True
        try:
            return super().text(n)
        finally:
            self._as_text = False


def _bare(file: BinaryIO, size: int, path: Path) -> Any:
    return finished(Machine(_Mapping(file, size, _map(path))).run())


def _npy(file: BinaryIO, size: int, path: Path) -> Any:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise RefusedError("is an npy file of an unknown version", version)
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if not dtype.hasobject:
        start, count = file.tell(), int(np.prod(shape, dtype=object)) if shape else 1
        if count * dtype.itemsize <= LONG or size - start < count * dtype.itemsize:
            return NOT_LONG  # or truncated, which is for the reader of small files to say
        order = "F" if fortran else "C"
        if dtype.names is not None or dtype.subdtype is not None:
            raise RefusedError("holds an array of records, not of plain numbers")
        return np.memmap(path, dtype, "r", start, tuple(shape), order)  # type: ignore[call-overload]
    start = file.tell()
    value = finished(Machine(_Mapping(file, size - start, _map(path))).run())
    if not isinstance(value, np.ndarray) or value.shape != tuple(shape):
        raise RefusedError("is damaged", f"the pickle does not hold an array of shape {shape}")
    return value.item() if value.shape == () else value


def _archive(file: BinaryIO, size: int, memory: Bytes) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
    roots = [n[:-8] for n in entries if n.count("/") == 1 and n.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedError("is not a file of torch.save", "no data.pkl in the archive")
    root = roots[0]

    def place(name: str) -> tuple[int, int]:
        if (info := entries.get(root + name)) is None:
            raise RefusedError("is damaged", f"the record {name} is missing")
        return _record(file, info, size)

    order = "<"
    if root + "byteorder" in entries:
        start, length = place("byteorder")
        order = ">" if bytes(memory[start : start + length]) == b"big" else "<"
    start, length = place("data.pkl")
    file.seek(start)
    value = Machine(_Mapping(file, length, memory)).run()
    ready: dict[str, NDArray[Any]] = {}

    def flat(storage: Storage) -> NDArray[Any]:
        if storage.key not in ready:
            start, length = place(f"data/{storage.key}")
            raw: Any = memory[start : start + length]
            ready[storage.key] = storage.values(raw, order)
        return ready[storage.key]

    return finished(value, flat)


def _record(file: BinaryIO, info: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """First byte and length of a record that is stored as it is, after a look at its checksum."""
    name = info.filename
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise RefusedError("is not a file of torch.save", f"the record {name} is compressed")
    file.seek(info.header_offset)
    head = file.read(30)
    if len(head) < 30 or head[:4] != ZIP:
        raise RefusedError("is damaged", f"the header of the record {name}")
    start = info.header_offset + 30 + int.from_bytes(head[26:28], "little")
    start += int.from_bytes(head[28:30], "little")
    if start + info.file_size > size:
        raise RefusedError("ends too early", f"the record {name}")
    file.seek(start)
    left, checksum = info.file_size, 0
    while left:
        piece = file.read(min(LONG, left))
        if not piece:
            raise RefusedError("ends too early", f"the record {name}")
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    if checksum != info.CRC:
        raise RefusedError("is damaged", f"the checksum of the record {name}")
    return start, info.file_size
