"""Room for the arrays of a bank: in memory, or in files that are mapped into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import DataError, StorageError, listing

IN_MEMORY = 2**30
"""Banks of more bytes are put together on disk and mapped."""
Shape = tuple[int, int]


class Room:
    """Where the arrays of one bank go.

    Parameters
    ----------
    dtype : dtype
        Number format of all of them.
    total : int
        Bytes of all that will be taken; above ``IN_MEMORY`` the disk is used.
    scratch : Path
        Folder for arrays that do not outlive the process; nothing of them can be seen there.
    folder : Path, optional
        Where the bank's own arrays become npy files; else memory or scratch.
    """

    def __init__(
        self, dtype: np.dtype[Any], total: int, scratch: Path, folder: Path | None = None
    ) -> None:
        self.dtype = dtype
        self.scratch = None if total <= IN_MEMORY else scratch
        self.folder = folder

    def own(self, name: str, shape: Shape) -> NDArray[Any]:
        """An array (n, d) of the bank; ``name`` is that of its file."""
        if self.folder is None:
            return self.passing(shape)
        path = self.folder / name
        array = np.lib.format.open_memmap(path, mode="w+", dtype=self.dtype, shape=shape)
        with path.open("r+b") as file:
            _reserve(file.fileno(), path.stat().st_size)
        return array

    def passing(self, shape: Shape) -> NDArray[Any]:
        """An array (n, d) that no file has to be left of."""
        if self.scratch is None:
            return np.empty(shape, self.dtype)
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.scratch) as file:
                _reserve(file.fileno(), shape[0] * shape[1] * self.dtype.itemsize)
                return np.memmap(file, dtype=self.dtype, mode="r+", shape=shape)
        except OSError as error:
            raise StorageError(
                f"no room in {self.scratch} to put the bank together",
                found=error,
                fix="free some space, or choose another cache folder",
            ) from error


def _reserve(handle: int, size: int) -> None:
    # Writing to a mapped file on a full disk kills the process; asking first is an error instead.
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)


def read_into(out: NDArray[np.float32], array: Any, rows: NDArray[np.intp] | None) -> None:
    """Rows of a bank's array (n, d), all for None, as float32.

    Parameters
    ----------
    out : ndarray of float32, shape (rows, d)
        Contiguous.
    array : array-like, shape (n, d)
        Possibly memory-mapped or checked block by block.
    rows : ndarray of int, optional
        Within range.
    """
    if rows is None:
        out[:] = array[:]
    elif isinstance(array, np.ndarray) and array.dtype == out.dtype:
        # Without a copy between; the mode only says that the range need not be checked again.
        np.take(np.asarray(array), rows, axis=0, out=out, mode="clip")
    elif array.dtype == np.float16:
        # Four times faster than numpy's conversion, and as exact.
        torch.from_numpy(out).copy_(torch.from_numpy(np.asarray(array[rows])))
    else:
        out[:] = array[rows]


def pick_rows(arrays: Sequence[Any], rows: ArrayLike, which: ArrayLike) -> NDArray[np.float32]:
    """Of each wanted row the array that is named for it; see :meth:`FeatureBank.rows`.

    Parameters
    ----------
    arrays : sequence of array-like, shape (n, d)
        One per view.
    rows : array of int, shape (k,)
        Positions of stimuli.
    which : int or array of int, shape (k,)
        Positions in ``arrays``.
    """
    wanted = np.asarray(rows, dtype=np.intp)
    chosen = np.broadcast_to(np.asarray(which, dtype=np.intp), wanted.shape)
    count, width = arrays[0].shape
    for what, values, stop in (("stimuli", wanted, count), ("views", chosen, len(arrays))):
        if values.size and not (values.min() >= 0 and values.max() < stop):
            raise DataError(f"positions of {what} are out of range",
                            found=f"{values.min()} to {values.max()}",
                            expected=f"0 to {stop - 1}")  # fmt: skip
    taken = np.empty((len(wanted), width), dtype=np.float32)
    for number in np.unique(chosen).tolist():
        places = np.flatnonzero(chosen == number)
        part = np.empty((len(places), width), dtype=np.float32)
        read_into(part, arrays[number], wanted[places])
        taken[places] = part
    return taken


def check_arrays(arrays: Mapping[tuple[str, str], Any], count: int) -> None:
    """Raise unless every view has every layer, with one width per layer.

    Parameters
    ----------
    arrays : mapping of (view, layer) to array-like, shape (n, d)
        Of a bank.
    count : int
        How many stimuli it has.
    """
    views = list(dict.fromkeys(view for view, _ in arrays))
    layers = list(dict.fromkeys(layer for _, layer in arrays))
    if absent := [(view, layer) for view in views for layer in layers
                  if (view, layer) not in arrays]:  # fmt: skip
        raise DataError("every view needs every layer", found=f"none for {listing(absent)}")
    for layer in layers:
        shapes = {view: tuple(arrays[view, layer].shape) for view in views}
        good = (count, shapes[views[0]][-1])
        if wrong := {view: shape for view, shape in shapes.items() if shape != good}:
            raise DataError(f"vectors of layer {layer!r} differ in shape", found=wrong,
                            expected=f"{good}: stimuli x width")  # fmt: skip


def narrow(
    array: NDArray[np.float32], dtype: np.dtype[Any], ids: Any, view: str, layer: str
) -> NDArray[Any]:
    """Vectors in another number format; those that it cannot hold are named.

    Parameters
    ----------
    array : ndarray, shape (n, d)
        Finite vectors.
    dtype : dtype
        ``float32`` or ``float16``.
    ids : sequence of str, length n
        Stimuli, for the message.
    view, layer : str
        For the message.
    """
    with np.errstate(over="ignore"):  # reported below, by name
        cast = np.asarray(array, dtype=dtype)
    if cast.dtype != array.dtype and not np.isfinite(cast).all():
        bad = np.flatnonzero(~np.isfinite(cast).all(axis=1)).tolist()
        raise DataError(
            f"vectors of view {view!r}, layer {layer!r} exceed {dtype}",
            found=listing(ids[row] for row in bad),
            expected=f"at most {np.finfo(dtype).max:g}",
            fix="keep them as float32",
        )
    return cast


class Narrowed:
    """An array (n, d) in another number format, converted row by row as it is read.

    Parameters
    ----------
    array : array-like, shape (n, d)
        Vectors, possibly memory-mapped.
    dtype : dtype
        ``float32`` or ``float16``.
    ids : sequence of str, length n
        Stimuli, for messages.
    view, layer : str
        For messages.
    """

    def __init__(self, array: Any, dtype: np.dtype[Any], ids: Any, view: str, layer: str) -> None:
        self._array = array
        self._about = (np.asarray(ids, dtype=object), view, layer)
        self.dtype = dtype
        self.shape: tuple[int, ...] = tuple(array.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        ids, view, layer = self._about
        return narrow(np.asarray(self._array[rows]), self.dtype, ids[rows], view, layer)
