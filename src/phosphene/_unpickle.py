"""Files of other people that hold pickles, read without running them.

Data sets and features of this field come as pickled ``.npy`` files and as torch's ``.pt`` files.
`numpy.load` with pickles allowed and `torch.load` run whatever code such a file names; these
functions give plain data (numbers, text, lists, tuples, dicts, arrays) or an error that names what
else was found. Tensors come as numpy arrays, bfloat16 as float32; torch is not needed.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from phosphene._pickle_machine import Machine, Reader, finished
from phosphene._pickle_values import RefusedError, Storage, from_bytes
from phosphene.errors import DataError

T = TypeVar("T")

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_PLAIN = "numbers, text, lists, tuples, dicts, numpy arrays and torch tensors"


def load_npy(path: str | os.PathLike[str]) -> Any:
    """Content of an npy file, pickled or not.

    Parameters
    ----------
    path : path
        Written by `numpy.save`.

    Returns
    -------
    ndarray or object
        The array, which may be read-only; what a 0-d array of objects holds, usually a dict.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds more than plain data.
    """
    return _guarded(Path(path), _read_npy)


def load_pt(path: str | os.PathLike[str]) -> Any:
    """Content of a file that `torch.save` wrote; tensors come as numpy arrays.

    Parameters
    ----------
    path : path
        A zip archive, as torch writes since 1.6, or the older format.

    Returns
    -------
    object
        Dicts, lists and arrays, which may be read-only.

    Raises
    ------
    DataError
        If the file is missing, damaged, or holds more than plain data.
    """
    return _guarded(Path(path), _read_pt)


def _guarded(path: Path, read: Callable[[BinaryIO, int], T]) -> T:
    try:
        with path.open("rb") as file:
            return read(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise DataError(f"the file {path} does not exist") from None
    except RefusedError as error:
        hostile = "not plain data" in error.what
        raise DataError(
            f"{path} {error.what}",
            found=error.found,
            expected=_PLAIN if hostile else None,
            fix="it is not read, because opening it could run code; ask its authors for arrays"
            if hostile
            else "copy or download it again",
        ) from error
    except Exception as error:  # whatever numpy and zipfile say to headers that make no sense
        raise DataError(
            f"{path} cannot be read",
            found=f"{type(error).__name__}: {error}"[:300],
            fix="copy or download it again",
        ) from error


# -- npy --------------------------------------------------------------------------------------


def _read_npy(file: BinaryIO, size: int) -> Any:
    if file.read(len(_NPY)) != _NPY:
        raise RefusedError("is not an npy file")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # names of fields in other alphabets: of records, which nobody stores features as
        raise RefusedError("is an npy file of an unknown version", version)
    left = size - file.tell()
    if not dtype.hasobject:
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if min((*shape, 0)) < 0 or count * dtype.itemsize > left:
            raise RefusedError("ends too early", f"{left} of {count * dtype.itemsize} bytes")
        if dtype.names is not None or dtype.itemsize == 0:
            raise RefusedError("holds an array of records, not of plain numbers")
        flat = from_bytes(Reader(file, left).take(count * dtype.itemsize), dtype, count)
        return flat.reshape(shape, order="F" if fortran else "C")
    value = finished(Machine(Reader(file, left)).run())
    if not isinstance(value, np.ndarray) or value.shape != tuple(shape):
        raise RefusedError("is damaged", f"the pickle does not hold an array of shape {shape}")
    return value.item() if value.shape == () else value


# -- torch ------------------------------------------------------------------------------------


def _read_pt(file: BinaryIO, size: int) -> Any:
    start = file.read(4)
    file.seek(0)
    return _read_archive(file, size) if start == _ZIP else _read_legacy(file, size)


def _read_archive(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        roots = [name[:-8] for name in entries if name.endswith("data.pkl") and _top(name)]
        if len(roots) != 1:
            raise RefusedError("is not a file of torch.save", "no data.pkl in the archive")
        root, budget = roots[0], size

        def opened(name: str) -> tuple[BinaryIO, int]:
            nonlocal budget
            info = entries.get(root + name)
            if info is None:
                raise RefusedError("is damaged", f"the record {name} is missing")
            budget -= info.file_size
            if budget < 0:  # torch does not compress, so a file holds no more than its size
                raise RefusedError("is damaged", f"the record {name} is larger than the file")
            return archive.open(info), info.file_size  # type: ignore[return-value]

        def content(name: str) -> bytes | bytearray:
            stream, length = opened(name)
            with stream:  # which compares the checksum when it comes to the end
                return Reader(stream, length).take(length)

        order = ">" if root + "byteorder" in entries and content("byteorder") == b"big" else "<"
        pickle, length = opened("data.pkl")
        with pickle:
            value = Machine(Reader(pickle, length)).run()
            while pickle.read(2**20):
                pass  # to the end, for the checksum
        ready: dict[str, NDArray[Any]] = {}

        def flat(storage: Storage) -> NDArray[Any]:
            if storage.key not in ready:
                ready[storage.key] = storage.values(content(f"data/{storage.key}"), order)
            return ready[storage.key]

        return finished(value, flat)


def _top(name: str) -> bool:
    return name.count("/") <= 1 and name.rpartition("/")[2] == "data.pkl"


def _read_legacy(file: BinaryIO, size: int) -> Any:
    reader = Reader(file, size)
    try:
        magic = Machine(reader).run()
    except RefusedError:
        magic = None
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise RefusedError("is not a file of torch.save", "neither a zip archive nor torch's magic")
    _protocol, about = Machine(reader).run(), finished(Machine(reader).run())
    machine = Machine(reader)
    value, keys = machine.run(), finished(Machine(reader).run())
    if type(about) is not dict or type(keys) is not list:
        raise RefusedError("is damaged", "torch's header")
    order = "<" if about.get("little_endian", True) else ">"
    ready: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = machine.storages.get(key) if type(key) is str else None
        if storage is None or struct.unpack("<q", reader.take(8))[0] != storage.numel:
            raise RefusedError("is damaged", "the list of tensor storages")
        ready[storage.key] = storage.values(reader.take(storage.nbytes), order)
    return finished(value, lambda storage: ready[storage.key])
