"""Signals of foreign files as a store: checked, converted piece by piece, kept in a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phosphene import _saving
from phosphene._device import cache_folder
from phosphene._logging import get_logger
from phosphene._validation import check_signals
from phosphene.errors import ArtefactError, DataError, listing

logger = get_logger(__name__)

PIECE = 4 * 2**20
KIND = "converted signals"
VERSION = 1
LARGEST = 1e6
"""More than a volt in microvolts, or a million standard deviations."""
SMALLEST_HALF = 2.0**-9  # below, float16 keeps fewer than six binary digits of the largest value


class Convertible(Protocol):
    """Trials of a file as an array-like; slices of its first axis come converted."""

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> NDArray[Any]: ...

    def as_it_is(self) -> NDArray[Any] | None:
        """The file's own array where nothing is to be converted or cut."""


class Source:
    """Trials of an array in a file, converted as they are read.

    Parameters
    ----------
    data : ndarray, shape (..., channels, times)
        Any numbers, usually a memory map; all axes before the last two are trials.
    dtype : dtype
        float16 or float32.
    channels : ndarray of int, optional
        Positions of the channels to take; default all.
    window : slice
        Times to take.
    """

    def __init__(
        self,
        data: NDArray[Any],
        dtype: Any,
        channels: NDArray[np.int64] | None = None,
        window: slice | None = None,
    ) -> None:
        self._data = data.reshape(-1, *data.shape[-2:])
        self._channels, self._window = channels, window or slice(None)
        times = len(range(*self._window.indices(data.shape[-1])))
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, int, int] = (len(self._data), len(self._columns), times)
        self.ndim = 3

    @property
    def _columns(self) -> NDArray[np.int64]:
        every = np.arange(self._data.shape[1])
        return every if self._channels is None else self._channels

    def __len__(self) -> int:
        return self.shape[0]

    def as_it_is(self) -> NDArray[Any] | None:
        """The file's own array where nothing is to be converted or cut."""
        same = self._data.dtype == self.dtype and self._data.shape == self.shape
        return self._data if same else None

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        block = read_rows(self._data, rows)[:, :, self._window]
        if self._channels is not None:
            block = block[:, self._channels]
        with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are named by the check
            return np.asarray(block, dtype=self.dtype)


def read_rows(data: NDArray[Any], rows: slice) -> NDArray[Any]:
    """Rows of an array; those of a memory map without leaving its pages in memory."""
    base: Any = data
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    while isinstance(base, np.memmap) and isinstance(base.base, np.memmap):
        base = base.base
    name = getattr(base, "filename", None)
    if not isinstance(base, np.memmap) or name is None or not data.flags.c_contiguous:
        return np.asarray(data[rows])
    start, stop, step = rows.indices(len(data))
    if step != 1 or stop <= start:
        return np.asarray(data[rows])
    # The map's own offset is not what numpy remembers of it, so addresses tell the place.
    first = data.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    count = (stop - start) * int(np.prod(data.shape[1:]))
    offset = int(base.offset) + first + start * data.strides[0]
    with Path(name).open("rb") as file:
        found = np.fromfile(file, data.dtype, count, offset=offset)
    if len(found) != count:
        raise DataError(f"{name} became shorter while it was read", fix="copy it again")
    return found.reshape(stop - start, *data.shape[1:])


def check_values(
    signals: Any, names: Sequence[str], where: Path | str, unit: str, *, largest: float = LARGEST
) -> None:
    """Look at every value, in pieces.

    Raises
    ------
    DataError
        Naming channels with NaN, infinite, constant or impossible values.
    """
    low, high, whole = _extremes(signals, len(names))
    if not whole or (low == high).any():
        check_signals(signals, names, f"the signals of {where}")  # names the channels
    peaks = np.maximum(np.abs(low), np.abs(high))
    if (beyond := np.flatnonzero(peaks > largest)).size:
        found = [f"{names[i]!r} ({peaks[i]:.3g})" for i in beyond.tolist()]
        raise DataError(
            f"the signals of {where} hold values that no recording has",
            found=listing(found),
            expected=f"at most {largest:g} in {unit}",
            fix="the file is damaged or of another byte order: copy or download it again",
        )


def _extremes(signals: Any, n: int) -> tuple[NDArray[Any], NDArray[Any], bool]:
    """Smallest and largest value of each channel, and whether all are finite."""
    low, high, whole = np.full(n, np.inf), np.full(n, -np.inf), True
    for chunk in _pieces(signals):
        chunk_low, chunk_high = chunk.min(axis=(0, 2)), chunk.max(axis=(0, 2))
        whole &= bool(np.isfinite(chunk_low).all() and np.isfinite(chunk_high).all())
        low, high = np.fmin(low, chunk_low), np.fmax(high, chunk_high)
    return low, high, whole


def _pieces(signals: Any) -> Any:
    from phosphene._manifest import row_chunks

    if isinstance(signals, np.memmap) or isinstance(getattr(signals, "base", None), np.memmap):
        per_row = signals.dtype.itemsize * int(np.prod(signals.shape[1:]))
        step = max(1, PIECE // per_row)
        for start in range(0, len(signals), step):
            yield read_rows(signals, slice(start, min(start + step, len(signals))))
        return
    yield from row_chunks(signals, PIECE)


def as_signals(
    source: Convertible,
    names: Sequence[str],
    where: Path,
    *,
    about: Mapping[str, Any],
    cache: Path | None,
    unit: str,
    check: bool,
    label: str = "",
) -> Any:
    """The store of a recording: the file itself where it has the type asked for, else a copy.

    Parameters
    ----------
    source : Convertible
        What to read.
    names : sequence of str
        Channel names of ``source``.
    where : Path
        The file.
    about : mapping
        What the copy in the cache depends on besides the file.
    cache : Path, optional
        Folder for converted copies; without one a copy is kept in memory.
    unit : str
        Unit of the values, for messages.
    check : bool
        Look for NaN, infinite, constant and impossible values.
    label : str
        How messages call the file; its path by default.

    Raises
    ------
    DataError
        If values are impossible, or too small for float16.
    """
    label = label or str(where)
    if (mapped := source.as_it_is()) is not None:
        if check:
            check_values(mapped, names, label, unit)
        return mapped
    if cache is None:
        out = np.empty(source.shape, source.dtype)
        fill(out, source)
        require_range(out, names, label, unit, check)
        return out
    facts = where.stat()
    key = {
        "version": VERSION,
        "file": str(where.resolve()),
        "size": facts.st_size,
        "changed": facts.st_mtime_ns,
        "dtype": source.dtype.str,
        "shape": source.shape,
        **about,
    }
    folder = cache / f"{where.parent.name}-{where.stem}-{_saving.sha256_json(key)[:16]}"
    if (folder / "manifest.json").exists():
        try:
            _saving.verify_folder(folder, kind=KIND)
            return _saving.read_array(folder / "signals.npy", mmap=True)
        except ArtefactError as error:
            logger.warning("%s is damaged and made anew: %s", folder, error.what)
    with _saving.atomic_folder(folder) as partial:
        _saving.write_array(partial / "signals.npy", source)
        made = np.load(partial / "signals.npy", mmap_mode="r", allow_pickle=False)
        require_range(made, names, label, unit, True)
        del made
        _saving.write_json(partial / "source.json", {**key, "file": where.name})
        _saving.write_manifest(partial, kind=KIND)
    return _saving.read_array(folder / "signals.npy", mmap=True)


def fill(out: NDArray[Any], source: Convertible) -> None:
    """Read all trials of a source into an array, piece by piece."""
    per_row = 8 * int(np.prod(source.shape[1:]))
    step = max(1, PIECE // per_row)
    for start in range(0, len(source), step):
        out[start : start + step] = source[start : start + step]


def require_range(
    signals: Any,
    names: Sequence[str],
    where: Path | str,
    unit: str,
    check: bool,
    largest: float = LARGEST,
) -> None:
    """Check values, and refuse float16 for those that it cannot hold.

    Raises
    ------
    DataError
        As `check_values`, or if the values are too small for float16.
    """
    if signals.dtype == np.float16:
        low, high, whole = _extremes(signals, len(names))
        peak = max(float(np.abs(low).max()), float(np.abs(high).max()))
        if whole and peak < SMALLEST_HALF:
            raise DataError(
                f"the values of {where} are too small for float16",
                found=f"at most {peak:.3g}",
                expected=f"more than {SMALLEST_HALF:.3g}, as whitened signals have",
                fix='read them with dtype="float32"',
            )
    if check:
        check_values(signals, names, where, unit, largest=largest)


def cache_of(cache: str | Path | bool | None) -> Path | None:
    """Folder for converted copies: a path, True for the cache of phosphene, or none."""
    if cache is None or cache is False:
        return None
    return cache_folder() / "recordings" if cache is True else Path(cache)
