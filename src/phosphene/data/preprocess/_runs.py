"""Runs of a recording of volumes, and the order of the volumes in each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.recording import Recording
from phosphene.errors import DataError

RUN_KEYS = ("subject", "session", "run")


def runs(recording: Recording) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Name, rows and volume numbers of each run.

    The volume numbers come from the trial column ``volume`` (position in the run) and, without
    one, from the order of the rows.

    Raises
    ------
    DataError
        If the signals are not voxels (volumes x voxels), or volumes are not in order.
    """
    if len(recording.shape) != 2:
        raise DataError(
            "this step is for volumes of voxels",
            found=f"signals of shape {tuple(recording.shape)}",
            expected="(volumes, voxels)",
        )
    trials = recording.trials
    keys = [key for key in RUN_KEYS if key in trials]
    for key, rows in trials.groupby(keys, sort=False).indices.items():
        values = key if isinstance(key, tuple) else (key,)
        name = ", ".join(f"{k} {v}" for k, v in zip(keys, values, strict=True))
        index = np.sort(np.asarray(rows, dtype=np.int64))
        yield name, index, _volumes(trials, index, name)


def _volumes(trials: pd.DataFrame, rows: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    if "volume" not in trials:
        return np.arange(len(rows), dtype=np.int64)
    numbers = trials["volume"].to_numpy()[rows]
    volumes: NDArray[np.int64] = numbers.astype(np.int64)
    if (np.diff(volumes) <= 0).any():
        raise DataError(
            f"the volumes of {name} are not in the order of recording",
            found=f"trial column 'volume': {numbers[:6].tolist()} ...",
            expected="rising numbers",
        )
    return volumes
