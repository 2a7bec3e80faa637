"""The pictures of the Natural Scenes Dataset, read one at a time out of one HDF5 file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.readers._hdf5 import dataset, opened_hdf5
from phosphene.data.readers._nsd_design import stimulus_id
from phosphene.data.stimuli import Source, StimulusSet
from phosphene.errors import DataError, listing


class _Bricks(Mapping[str, Source]):
    """From stimulus id to a function that reads its picture."""

    def __init__(self, path: Path, rows: Iterable[int]) -> None:
        self.path = path
        self.rows = {stimulus_id(row): row for row in rows}

    def __getitem__(self, name: str) -> Source:
        return partial(_picture, self.path, self.rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def read_nsd_stimuli(path: str | Path, ids: Iterable[str] | None = None) -> StimulusSet:
    """The pictures as a stimulus set; a picture is read when it is asked for.

    Parameters
    ----------
    path : path
        ``nsd_stimuli.hdf5`` with ``imgBrick`` (73000, 425, 425, 3), uint8.
    ids : iterable of str, optional
        Only these, e.g. ``recording.stimuli``; all by default.

    Returns
    -------
    StimulusSet
        Ids are ``nsd-00000`` to ``nsd-72999``, the row of ``imgBrick`` counted from 0. Every
        picture is a concept of its own: the data set names no concepts.

    Raises
    ------
    DataError
        If the file is missing, damaged or holds something else, or an id is unknown.
    """
    path = Path(path)
    with opened_hdf5(path) as file:
        shape = _brick(file, path).shape
    rows: Iterable[int] = range(int(shape[0]))
    if ids is not None:
        known = {stimulus_id(row): row for row in rows}
        wanted = list(dict.fromkeys(map(str, ids)))
        if missing := [name for name in wanted if name not in known]:
            raise DataError(
                f"{path} has no pictures for {len(missing)} of {len(wanted)} stimuli",
                found=listing(missing),
                expected=f"{stimulus_id(0)} to {stimulus_id(int(shape[0]) - 1)}",
            )
        rows = [known[name] for name in wanted]
    sources = _Bricks(path, rows)
    names = list(sources)
    table = pd.DataFrame(
        {"concept": names, "nsd_id": list(sources.rows.values())},
        index=pd.Index(names, dtype="str"),
    )
    return StimulusSet(table, sources)


def _brick(file: Any, path: Path) -> Any:
    found = dataset(file, "imgBrick", path, ndim=4, kinds="u")
    if found.dtype != np.uint8 or found.shape[3] != 3:
        raise DataError(
            f"{path}: imgBrick holds no pictures",
            found=f"shape {found.shape}, {found.dtype}",
            expected="(pictures, height, width, 3), uint8",
        )
    return found


def _picture(path: Path, row: int) -> NDArray[np.uint8]:
    with opened_hdf5(path) as file:
        picture: NDArray[np.uint8] = np.asarray(_brick(file, path)[row])
    return picture
