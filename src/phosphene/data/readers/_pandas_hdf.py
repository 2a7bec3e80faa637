"""Tables of responses that pandas wrote into HDF5, read without PyTables and without pickle.

pandas keeps a DataFrame as one group: columns of one type together as ``block0_values`` (rows,
columns), with ``block0_items`` for their names. Names of several types are pickled by pandas; they
are not read, and the columns of a block are then taken to be in the order of the table, which is
how pandas writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data.readers._hdf5 import SLAB, dataset
from phosphene.errors import DataError, listing


@dataclass(frozen=True, eq=False)
class Responses:
    """A table (voxels, trials) that is not read yet.

    Attributes
    ----------
    path : Path
        The file.
    values : h5py.Dataset
        (voxels, columns), or (columns, voxels) where ``transposed`` is False.
    voxel_ids : ndarray of int, shape (voxels,)
        Id of each row.
    columns : ndarray of int, shape (trials,)
        Column of ``values`` that each trial has.
    rows_first : bool
        Whether voxels are the first axis.
    """

    path: Path
    values: Any
    voxel_ids: NDArray[np.int64]
    columns: NDArray[np.int64]
    rows_first: bool

    def read(
        self, voxels: NDArray[np.int64], trials: NDArray[np.int64], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Signals (trials, voxels) of some rows and trials, read some voxels at a time."""
        out = np.empty((len(trials), len(voxels)), dtype=dtype)
        columns = self.columns[trials]
        axis = 0 if self.rows_first else 1
        n, width = int(self.values.shape[axis]), int(self.values.shape[1 - axis])
        step = max(1, SLAB // (width * self.values.dtype.itemsize))
        if self.values.chunks:
            chunk = int(self.values.chunks[axis])
            step = max(chunk, step // chunk * chunk)
        for start in range(0, n, step):
            mine = np.flatnonzero((voxels >= start) & (voxels < start + step))
            if not len(mine):
                continue
            slab = slice(start, min(n, start + step))
            block = self.values[slab] if self.rows_first else self.values[:, slab].T
            out[:, mine] = block[voxels[mine] - start][:, columns].T
        return out


def find_responses(file: Any, path: Path, trials: Path, n_trials: int) -> Responses:
    """The table of a file: ids of voxels and one column per trial.

    Parameters
    ----------
    file : h5py.File
        Open file.
    path : Path
        Its name, for messages.
    trials : Path
        The stimulus table, for messages.
    n_trials : int
        Trials that it has.

    Raises
    ------
    DataError
        If there is no such table, or it has another number of trials.
    """
    found = []
    for group in _groups(file):
        numbers = sorted(int(k[5:-7]) for k in group if _is_block(str(k)))
        blocks = [_block(group, number, path) for number in numbers]
        wide = [block for block in blocks if block[0].shape[block[2]] in (n_trials, n_trials + 1)]
        ids = [block for block in blocks if block[0].shape[block[2]] == 1]
        if ids:  # voxel_id has a block of its own, so that all of the other is trials
            wide = [block for block in wide if block[0].shape[block[2]] == n_trials]
        if len(wide) == 1:
            found.append((wide[0], ids))
    if len(found) != 1:
        shapes = [f"{g.name}: {list(g)}" for g in _groups(file)]
        raise DataError(
            f"{path} holds no table of voxels by the {n_trials} trials of {trials.name}",
            found=listing(shapes, 3) or listing(map(str, file)),
            expected=f"a pandas table with voxel_id and {n_trials} columns",
        )
    (values, items, axis), ids = found[0]
    width, n_voxels = int(values.shape[axis]), int(values.shape[1 - axis])
    if width == n_trials + 1:  # voxel_id has the type of the responses, and comes first
        first = values[:, 0] if axis == 1 else values[0]
        columns = np.arange(1, width)
    elif len(ids) == 1:
        first = np.asarray(ids[0][0][()]).ravel()
        columns = np.arange(width)
    else:
        raise DataError(f"{path} has no column voxel_id")
    if items is not None and width == n_trials:
        columns = np.empty(n_trials, dtype=np.int64)
        columns[items] = np.arange(n_trials)
    numbers_of = np.asarray(first, dtype=np.float64)
    whole = np.isfinite(numbers_of) & (numbers_of == np.round(numbers_of))
    if len(numbers_of) != n_voxels or not whole.all() or np.abs(numbers_of).max() > 2**40:
        raise DataError(f"{path}: voxel_id holds other things than one whole number per voxel")
    voxel_ids = numbers_of.astype(np.int64)
    if len(np.unique(voxel_ids)) < n_voxels:
        raise DataError(f"{path}: a voxel_id occurs more than once")
    return Responses(path, values, voxel_ids, columns, rows_first=axis == 1)


def _groups(file: Any) -> Iterator[Any]:
    for name in file:
        group = file.get(name)
        if group is not None and hasattr(group, "keys"):
            yield group


def _is_block(name: str) -> bool:
    return name[:5] == "block" and name[-7:] == "_values" and name[5:-7].isdigit()


def _block(group: Any, number: int, path: Path) -> tuple[Any, NDArray[np.int64] | None, int]:
    """Values of a block, the places of its columns where they are numbers, and its column axis."""
    values = dataset(group, f"block{number}_values", path, ndim=2)
    axis = 1 if bool(values.attrs.get("transposed", True)) else 0
    name = f"block{number}_items"
    items: NDArray[np.int64] | None = None
    if name in group and group[name].dtype.kind in "iu" and group[name].ndim == 1:
        stored = np.asarray(group[name][()], dtype=np.int64)
        width = int(values.shape[axis])
        # A pickled list of names is stored as bytes; only a permutation can be columns.
        if len(stored) == width and np.array_equal(np.sort(stored), np.arange(width)):
            items = stored
    return values, items, axis
