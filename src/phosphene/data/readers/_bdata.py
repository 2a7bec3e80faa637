"""BData, the format of the Kamitani laboratory: one matrix whose columns are chosen by keys.

``dataset`` is (samples, columns); ``metadata/key`` names the rows of ``metadata/value`` (keys,
columns), which are 1 for the columns that belong to a key, or hold a number per column such as a
voxel's place, and NaN elsewhere; ``vmap/<key>/<value>`` gives a name to a value. Files of before
2019 write ``dataSet`` and ``metaData``. https://github.com/KamitaniLab/bdpy
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._registry import did_you_mean
from phosphene.data.readers._hdf5 import as_text, dataset, opened_hdf5, read_texts, slabs, texts
from phosphene.errors import DataError, listing

MAX_KEYS = 10_000


@dataclass(frozen=True)
class BData:
    """An open BData file.

    Attributes
    ----------
    path : Path
        The file.
    matrix : h5py.Dataset, shape (samples, columns)
        The values, not read yet.
    keys : tuple of str
        What columns are chosen by.
    values : ndarray, shape (keys, columns)
        What each key says of each column.
    vmap : dict
        Names of values, by key.
    """

    path: Path
    matrix: Any
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    vmap: dict[str, dict[float, str]] = field(default_factory=dict)

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    def find(self, names: str | Sequence[str]) -> str | None:
        """The first of several spellings that the file has."""
        names = [names] if isinstance(names, str) else names
        return next((name for name in names if name in self.keys), None)

    def require(self, names: str | Sequence[str]) -> str:
        """The first of several spellings that the file has.

        Raises
        ------
        DataError
            If it has none; the nearest keys are listed.
        """
        names = [names] if isinstance(names, str) else list(names)
        name = self.find(names)
        if name is None:
            raise DataError(
                f"{self.path} has no key {names[0]!r}",
                found=listing(self.keys, 20) or "no keys",
                expected=listing(names),
                fix=did_you_mean(names[0], self.keys),
            )
        return name

    def metadata(self, key: str) -> NDArray[np.float64]:
        """What a key says of each column, shape (columns,)."""
        values: NDArray[np.float64] = self.values[self.keys.index(self.require(key))]
        return values

    def columns(self, key: str) -> NDArray[np.int64]:
        """Positions of the columns that belong to a key."""
        return np.flatnonzero(self.metadata(key) == 1)

    def column(self, names: str | Sequence[str]) -> NDArray[np.float64]:
        """Values of a key that has one column, shape (samples,)."""
        key = self.require(names)
        where = self.columns(key)
        if len(where) != 1:
            raise DataError(f"{self.path}: {key!r} has {len(where)} columns", expected="one")
        values: NDArray[np.float64] = np.asarray(
            self.matrix[:, int(where[0])], dtype=np.float64
        ).ravel()
        return values

    def read(
        self, columns: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Values of some columns and rows (all by default), read in slabs, as float32.

        Returns
        -------
        ndarray, shape (rows, columns)
        """
        rows = np.arange(self.n_samples) if rows is None else rows
        out = np.empty((len(rows), len(columns)), dtype=np.float32)
        if not len(columns):
            return out
        low, high = int(columns.min()), int(columns.max()) + 1
        for slab in slabs(self.matrix):
            mine = np.flatnonzero((rows >= slab.start) & (rows < slab.stop))
            if len(mine):
                block = self.matrix[slab, low:high]
                out[mine] = block[rows[mine] - slab.start][:, columns - low]
        return out

    def names(self, key: str, values: NDArray[np.float64]) -> list[str] | None:
        """Names that the file gives to values of a key, or None where it names none."""
        named = self.vmap.get(key)
        if not named:
            return None
        if missing := sorted({float(v) for v in values if float(v) not in named}):
            raise DataError(
                f"{self.path}: vmap has no name for values of {key!r}", found=listing(missing)
            )
        return [named[float(value)] for value in values]


@contextmanager
def opened_bdata(path: Path) -> Iterator[BData]:
    """Open a BData file.

    Raises
    ------
    DataError
        If it is missing, damaged or no BData.
    """
    with opened_hdf5(path) as file:
        matrix = dataset(file, ["dataset", "dataSet"], path, ndim=2)
        group = next((file[name] for name in ("metadata", "metaData") if name in file), None)
        if group is None or not hasattr(group, "keys"):
            raise DataError(
                f"{path} is no BData: it has no metadata",
                found=listing(map(str, file), 20),
                expected="/dataset and /metadata/key, /metadata/value",
            )
        keys = texts(group, "key", path)
        values = dataset(group, "value", path, ndim=2)
        if values.shape != (len(keys), matrix.shape[1]) or not 0 < len(keys) <= MAX_KEYS:
            raise DataError(
                f"{path}: /metadata/value does not fit its keys and columns",
                found=f"shape {values.shape}",
                expected=f"({len(keys)}, {matrix.shape[1]})",
            )
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise DataError(f"{path}: keys occur more than once: {listing(twice)}")
        table = np.asarray(values[()], dtype=np.float64)
        yield BData(path, matrix, tuple(keys), table, _vmap(file, path))


def _vmap(file: Any, path: Path) -> dict[str, dict[float, str]]:
    out: dict[str, dict[float, str]] = {}
    for key in file.get("vmap", {}):
        group = file["vmap"][key]
        if not hasattr(group, "keys"):
            raise DataError(f"{path}: /vmap/{key} is no group")
        names: dict[float, str] = {}
        for value in group:
            stored = group[value]
            try:
                number = float(value)
            except ValueError as error:
                raise DataError(f"{path}: /vmap/{key} names no number", found=value) from error
            if not hasattr(stored, "dtype") or stored.size != 1 or stored.dtype.kind not in "OSU":
                raise DataError(f"{path}: /vmap/{key}/{value} is no name")
            names[number] = as_text(read_texts(stored, path))
        out[str(key)] = names
    return out
