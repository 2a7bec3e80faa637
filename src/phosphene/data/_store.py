"""Where the signals of a recording lie: in memory, in a memory map, or in several of them.

A store is anything with ``shape``, ``dtype`` and ``store[rows]`` for a slice or an array of
integers on the first axis: a numpy array, a memory map, a `CheckedArray`, or one of the two classes
here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._manifest import CheckedArray, row_chunks
from phosphene.errors import DataError

Rows = slice | NDArray[np.int64]


class StoreView:
    """Some channels and times of a store, cut out when rows are read."""

    def __init__(self, base: Any, channels: Rows, window: slice | None = None) -> None:
        self.base, self.channels, self.window = base, channels, window
        self.dtype: np.dtype[Any] = base.dtype
        sizes = [len(np.arange(base.shape[1])[channels])]
        if window is not None:
            sizes.append(len(range(*window.indices(base.shape[2]))))
        sizes.extend(base.shape[1 + len(sizes) :])
        self.shape: tuple[int, ...] = (base.shape[0], *sizes)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        block = np.asarray(self.base[rows])
        if self.window is not None:
            block = block[:, :, self.window]
        return block[:, self.channels]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype)


class StoreChain:
    """Several stores behind one another, read as one."""

    def __init__(self, stores: Sequence[Any], rows: Sequence[NDArray[np.int64]]) -> None:
        self.stores, self.rows = list(stores), list(rows)
        self.ends = np.cumsum([len(part) for part in self.rows])
        self.dtype: np.dtype[Any] = np.result_type(*(store.dtype for store in self.stores))
        self.shape: tuple[int, ...] = (int(self.ends[-1]), *self.stores[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        wanted = np.arange(self.shape[0])[rows]
        part = np.searchsorted(self.ends, wanted, side="right")
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        for number in np.unique(part).tolist():
            mine = np.flatnonzero(part == number)
            start = self.ends[number] - len(self.rows[number])
            out[mine] = gather(self.stores[number], self.rows[number][wanted[mine] - start])
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype)


def gather(store: Any, rows: Rows) -> NDArray[Any]:
    """Rows of a store; a view where the rows are contiguous and the store is an array."""
    if not isinstance(rows, slice):
        rows = contiguous(rows)
    return np.asarray(store[rows])


def contiguous(rows: NDArray[np.int64]) -> Rows:
    """A slice in place of the index array when it counts up by one, because slices are views."""
    n = len(rows)
    if n == 0:
        return slice(0, 0)
    first = int(rows[0])
    if int(rows[-1]) - first == n - 1 and bool((np.diff(rows) == 1).all()):
        return slice(first, first + n)
    return rows


def in_memory(store: Any) -> bool:
    """Whether the values are in memory already, rather than in a file."""
    if isinstance(store, StoreView):
        return in_memory(store.base)
    if isinstance(store, StoreChain):
        return all(in_memory(part) for part in store.stores)
    base = store
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return False
        base = base.base
    return not isinstance(store, CheckedArray)


def cut(store: Any, channels: Rows, window: slice | None) -> Any:
    """Channels and times of a store, as a view and without reading anything."""
    if isinstance(store, np.ndarray) and isinstance(channels, slice):
        return store[:, channels] if window is None else store[:, channels, window]
    return StoreView(store, channels, window)


def nbytes(store: Any, n_rows: int) -> int:
    """Size in bytes of so many rows."""
    return int(n_rows * math.prod(store.shape[1:]) * np.dtype(store.dtype).itemsize)


def as_store(signals: Any) -> Any:
    """A store of float32 or float16; other real numbers are converted to float32 in pieces.

    Raises
    ------
    DataError
        If the values are not real numbers or the array has another number of axes.
    """
    if not isinstance(signals, (np.ndarray, CheckedArray, StoreView, StoreChain)):
        signals = np.asarray(signals)
    dtype = np.dtype(signals.dtype)
    if signals.ndim not in (2, 3):
        raise DataError(
            "signals have another number of axes",
            found=f"shape {tuple(signals.shape)}",
            expected="(trials, channels, times) or (trials, voxels)",
        )
    if 0 in signals.shape[1:]:
        raise DataError("signals have an empty axis", found=f"shape {tuple(signals.shape)}")
    if dtype.kind not in "fiub":
        raise DataError("signals are not real numbers", found=f"dtype {dtype}")
    if dtype in (np.dtype(np.float32), np.dtype(np.float16)):
        return signals
    out = np.empty(signals.shape, dtype=np.float32)
    start = 0
    for chunk in row_chunks(signals, 64 * 2**20):
        with np.errstate(over="ignore"):  # what does not fit becomes inf and is named by the check
            out[start : start + len(chunk)] = chunk
        start += len(chunk)
    return out
