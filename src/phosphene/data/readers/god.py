"""Generic Object Decoding (Horikawa & Kamitani 2017): one BData file per person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._registry import register
from phosphene.data.datasets import get_dataset
from phosphene.data.readers._bdata import BData, opened_bdata
from phosphene.data.readers._god_features import GodFeatures, feature_table, read_god_features
from phosphene.data.readers._god_labels import LABELS, stimuli_of
from phosphene.data.readers._source import check_counts, naming, one_of, read_op
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, listing

__all__ = ["GodFeatures", "Part", "read_god", "read_god_features"]

Part = Literal["train", "test", "imagery", "seen", "all"]
PARTS = {"train": 1, "test": 2, "imagery": 3}


@register("reader", "god")
def read_god(
    path: str | Path,
    part: Part = "seen",
    *,
    roi: str | Sequence[str] | None = None,
    features: str | Path | None = None,
    subject: str | None = None,
    strict: bool = True,
    name: str | None = None,
) -> Recording:
    """Read one person's recording.

    Parameters
    ----------
    path : path
        ``Subject1.h5`` to ``Subject5.h5``.
    part : {"seen", "train", "test", "imagery", "all"}
        "seen" is training and test. In the imagery part nothing is shown: the person imagines what
        a word names.
    roi : str or sequence of str, optional
        Read only the voxels of any of these regions, e.g. "V1" or "VC".
    features : path, optional
        ``ImageFeatures.h5``: refuse stimuli that it has no vector for.
    subject : str, optional
        Id for the trial table; the number in the file's name by default.
    strict : bool
        Refuse a file with another number of trials, images or categories than the data set has
        (150 categories x 8 images, 50 images x 35, 50 categories x 10); else log it.
    name : str, optional
        Name of the recording.

    Returns
    -------
    Recording
        Signals (trials, voxels), float32, as in the file (block averages in percent signal
        change). Trials: ``stimulus`` is the picture's file name (``n01443537_22563.JPEG``) for
        what was seen and the category for what was imagined; ``concept`` the category
        (``n01443537``); ``split`` "train" or "test", which the imagery belongs to; ``condition``
        "seen" or "imagined"; ``image`` the picture of the label in either case. ``session`` is the
        part, ``run`` the part and its run, because runs are numbered anew in each part. Voxels:
        places in mm as ``x, y, z`` and regions ``roi_V1`` and so on.

    Raises
    ------
    DataError
        If the file is missing, damaged or no BData, lacks a key or region, or holds other counts.
    MissingExtraError
        If h5py is not installed.

    Notes
    -----
    doi:10.1038/ncomms15037; figshare 7387130.
    """
    one_of(part, get_args(Part), "part")
    path = Path(path)
    with opened_bdata(path) as data:
        kind = data.column("DataType")
        if unknown := sorted(set(kind.tolist()) - {1.0, 2.0, 3.0}):
            raise DataError(
                f"{path}: DataType holds other values than 1, 2 and 3", found=listing(unknown)
            )
        trials = _trials(data, kind)
        check_counts(_counts(trials), get_dataset("god"), strict=strict, where=path)
        columns, sensors = _voxels(data)
        if roi is not None:
            kept = np.flatnonzero(sensors.roi(roi))
            if not len(kept):
                raise DataError(f"{path}: no voxel lies in {roi!r}")
            columns, sensors = columns[kept], sensors.pick(kept)
        wanted = {"seen": ["train", "test"], "all": list(PARTS)}.get(part, [part])
        rows = np.flatnonzero(trials["session"].isin(wanted).to_numpy())
        if not len(rows):
            raise DataError(f"{path} has no trials of the part {part!r}")
        signals = data.read(columns, rows)
    if subject is None:
        number = re.search(r"\d+", path.stem)
        subject = f"{int(number.group()):02d}" if number else "01"
    table = trials.iloc[rows].reset_index(drop=True).assign(subject=subject)
    with naming(path):
        recording = Recording.from_arrays(signals, table, sensors=sensors, name=name or path.stem)
    if features is not None:
        _refuse_missing_vectors(recording, Path(features))
    return recording.with_history({**read_op("god", [path], get_dataset("god")), "part": part})


def _trials(data: BData, kind: NDArray[np.float64]) -> pd.DataFrame:
    category, image = stimuli_of(data, LABELS)
    imagined = kind == PARTS["imagery"]
    part = np.array(["", *PARTS])[kind.astype(int)]
    table = pd.DataFrame(
        {
            "stimulus": np.where(imagined, category, image),
            "concept": category,
            "session": part,
            "split": np.where(kind == 1, "train", "test"),
            "condition": np.where(imagined, "imagined", "seen"),
            "image": image,
        }
    )
    if data.find(("Session", "session")):
        number = _whole(data.column(("Session", "session")), data.path, "Session")
        table["scan_session"] = number
    if key := data.find(("Run", "run")):
        table["run"] = [
            f"{p}-{n:02d}"
            for p, n in zip(part, _whole(data.column(key), data.path, key), strict=True)
        ]
    else:
        table["run"] = part
    return table


def _whole(values: NDArray[np.float64], path: Path, key: str) -> list[int]:
    if not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise DataError(f"{path}: {key} holds other things than whole numbers")
    if np.abs(values).max(initial=0) > 1e6:
        raise DataError(f"{path}: {key} holds numbers that cannot be", found=np.abs(values).max())
    return [int(value) for value in values]


def _voxels(data: BData) -> tuple[NDArray[np.int64], Sensors]:
    """Columns of the voxels, and what the file says of them."""
    regions = [key for key in data.keys if key.startswith("ROI_")]
    if not regions:
        raise DataError(
            f"{data.path} has no regions",
            found=listing(data.keys, 20),
            expected="keys such as ROI_V1",
        )
    if data.find("VoxelData"):
        columns = data.columns("VoxelData")
    else:
        columns = np.flatnonzero(np.any([data.metadata(key) == 1 for key in regions], axis=0))
    if not len(columns):
        raise DataError(f"{data.path} has no voxels", expected="columns of VoxelData or ROI_...")
    table = pd.DataFrame(index=range(len(columns)))
    for axis in "xyz":
        if key := data.find((f"voxel_{axis}", axis)):
            table[axis] = data.metadata(key)[columns]
    for key in regions:
        table[f"roi_{key.removeprefix('ROI_')}"] = data.metadata(key)[columns] == 1
    return columns, Sensors.fmri(table)


def _counts(trials: pd.DataFrame) -> dict[str, int]:
    found = {}
    for part in PARTS:
        rows = trials[trials["session"] == part]
        found[f"{part}_trials"] = len(rows)
        found[f"{part}_concepts"] = rows["concept"].nunique()
        found[f"{part}_stimuli"] = rows["stimulus"].nunique()
    return found


def _refuse_missing_vectors(recording: Recording, path: Path) -> None:
    known = set(feature_table(path)["stimulus"])
    if missing := [name for name in recording.stimuli if name not in known]:
        raise DataError(
            f"{path} has no vector for {len(missing)} of {len(recording.stimuli)} stimuli",
            found=listing(missing),
        )
