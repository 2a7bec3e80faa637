"""THINGS-fMRI (Hebart et al. 2023): one beta per trial and voxel, in tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._registry import register
from phosphene._validation import require_columns
from phosphene.data.datasets import get_dataset
from phosphene.data.readers._hdf5 import opened_hdf5
from phosphene.data.readers._images import read_volume
from phosphene.data.readers._pandas_hdf import Responses, find_responses
from phosphene.data.readers._source import check_counts, naming, one_of, read_op
from phosphene.data.recording import Recording, Sensors, concept_of
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

Part = Literal["all", "train", "test"]
FILES = ("ResponseData.h5", "VoxelMetadata.csv", "StimulusMetadata.csv")
# Columns of the voxel table that are no region.
NOT_REGIONS = frozenset(
    {"voxel_id", "subject_id", "voxel_x", "voxel_y", "voxel_z", "nc_singletrial", "nc_testset"}
    | {"splithalf_uncorrected", "splithalf_corrected"}
    | {f"prf-{name}" for name in ("eccentricity", "polarangle", "rsquared", "size")}
)
CEILINGS = ("nc_singletrial", "nc_testset")


@register("reader", "things_fmri")
def read_things_fmri(
    root: str | Path,
    subject: str | int,
    *,
    part: Part = "all",
    roi: str | Sequence[str] | None = None,
    min_noise_ceiling: float | None = None,
    drop_test_concepts: bool = True,
    brain_mask: str | Path | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    strict: bool = True,
    name: str | None = None,
) -> Recording:
    """Read one person's responses.

    All voxels are 8.3 GB in float32; ``roi`` and ``min_noise_ceiling`` read some of them.

    Parameters
    ----------
    root : path
        Folder ``betas_csv`` with ``sub-01_ResponseData.h5``, ``sub-01_VoxelMetadata.csv`` and
        ``sub-01_StimulusMetadata.csv``, or the folder that it lies in.
    subject : str or int
        "01" to "03".
    part : {"all", "train", "test"}
        Which trials.
    roi : str or sequence of str, optional
        Read only the voxels in any of these regions.
    min_noise_ceiling : float, optional
        Read only voxels whose noise ceiling of the test set (``nc_testset``) is at least this share
        of the variance. The ceilings come from the test images' repetitions: a choice by them has
        seen the test.
    drop_test_concepts : bool
        Leave out the training trials of concepts that the test shows, as zero-shot decoding needs.
    brain_mask : path, optional
        The brain mask in the person's T1w space: gives voxels their place in mm and an image to
        go back to.
    dtype : {"float32", "float16"}
        Type to keep.
    strict : bool
        Refuse another number of trials or images than the data set has; else log it.
    name : str, optional
        Name of the recording.

    Returns
    -------
    Recording
        Signals (trials, voxels). Trials: ``stimulus`` (``dog_12s.jpg``), ``concept``, ``session``,
        ``run``, ``trial`` (place in the file), ``split`` "train" or "test". Voxels: grid indices
        i, j, k, regions ``roi_V1`` and so on, ``nc_singletrial``, ``nc_testset`` and
        ``noise_ceiling`` (that of a single trial) as shares of the variance, the other columns
        of the table as they are.

    Raises
    ------
    DataError
        If a file is missing or damaged, the three do not fit each other, or counts are wrong.
    MissingExtraError
        If h5py is not installed.

    Notes
    -----
    doi:10.7554/eLife.82580; OpenNeuro ds004192, figshare 20492835. Catch trials are not in the
    tables.
    """
    one_of(part, get_args(Part), "part")
    one_of(dtype, ("float32", "float16"), "type")
    info = get_dataset("things_fmri")
    folder, person = _folder(Path(root), str(subject))
    files = [folder / f"sub-{person}_{what}" for what in FILES]
    trials = _trials(files[2], person)
    counts = {"trials": len(trials)}
    for split, rows in trials.groupby("split"):
        counts |= {f"{split}_trials": len(rows), f"{split}_stimuli": rows["stimulus"].nunique()}
    check_counts(counts, info, strict=strict, where=files[2])
    voxels = _read_csv(files[1])
    sensors = _voxels(voxels, files[1])
    kept = _kept_voxels(sensors, roi, min_noise_ceiling, files[1])
    op: dict[str, Any] = {}
    if brain_mask is not None:
        sensors, op["grid"] = _placed(sensors, Path(brain_mask))
    trials, op["left_out"] = _kept_trials(trials, part, drop_test_concepts)
    with opened_hdf5(files[0]) as file:
        responses = find_responses(file, files[0], files[2], n_trials=counts["trials"])
        rows_of_voxels = _rows_of(responses, voxels, files)[kept]
        columns = trials["trial"].to_numpy(dtype=np.int64)
        signals = responses.read(rows_of_voxels, columns, np.dtype(dtype))
    with naming(files[0]):
        recording = Recording.from_arrays(
            signals, trials, sensors=sensors.pick(kept), name=name or f"things-fmri-{person}"
        )
    op |= {"part": part, "drop_test_concepts": drop_test_concepts}
    if min_noise_ceiling is not None:
        op["min_noise_ceiling"] = float(min_noise_ceiling)
    return recording.with_history({**read_op("things_fmri", files, info), **op})


def _folder(root: Path, subject: str) -> tuple[Path, str]:
    number = subject.removeprefix("sub-")
    person = f"{int(number):02d}" if number.isdigit() else number
    for folder in (root, root / "betas_csv", root / "derivatives" / "betas_csv"):
        if all((folder / f"sub-{person}_{what}").is_file() for what in FILES):
            return folder, person
    for folder in (root, root / "betas_csv"):
        missing = [what for what in FILES if not (folder / f"sub-{person}_{what}").is_file()]
        if len(missing) < len(FILES):
            raise DataError(
                f"{folder} is incomplete for subject {person!r}",
                found=f"without {listing(f'sub-{person}_{what}' for what in missing)}",
                expected="ResponseData.h5, VoxelMetadata.csv and StimulusMetadata.csv",
            )
    present = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    raise DataError(
        f"there are no responses of subject {person!r} in {root}",
        found=listing(present, 10) or "no such folder, or an empty one",
        expected=f"sub-{person}_ResponseData.h5 there or in betas_csv",
    )


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        content = path.read_bytes()
        table = pd.read_csv(io.BytesIO(content))
    except Exception as error:  # pandas raises several kinds, and UnicodeDecodeError
        raise DataError(f"{path} cannot be read as a table", found=error) from error
    if table.empty:
        raise DataError(f"{path} is empty")
    # A value that is cut short is still a number.
    if not content.endswith((b"\n", b"\r")):
        raise DataError(f"{path} is truncated", found="no line break at its end")
    return table


def _trials(path: Path, subject: str) -> pd.DataFrame:
    table = _read_csv(path)
    require_columns(table, ["trial_type", "session", "run", "stimulus"], str(path))
    kinds = table["trial_type"].astype(str)
    if unknown := sorted(set(kinds) - {"train", "test"}):
        raise DataError(
            f"{path}: trial_type holds other things than train and test", found=listing(unknown)
        )
    if (gaps := table[["session", "run", "stimulus"]].isna().any(axis=1)).any():
        raise DataError(
            f"{path} lacks a session, run or stimulus in rows {listing(table.index[gaps].tolist())}"
        )
    names = table["stimulus"].astype(str)
    concepts = table["concept"].astype(str) if "concept" in table else names.map(concept_of)
    trial = np.arange(len(table))
    if "trial_id" in table:
        number = pd.to_numeric(table["trial_id"], errors="coerce").to_numpy(dtype=np.float64)
        if not np.array_equal(np.sort(number), trial):
            raise DataError(
                f"{path}: trial_id does not count the trials",
                found=listing(number.tolist()),
                expected=f"0 to {len(table) - 1}, each once",
            )
        trial = number.astype(np.int64)
    return pd.DataFrame(
        {
            "stimulus": names,
            "concept": concepts,
            "subject": subject,
            "session": table["session"],
            "run": table["run"],
            "trial": trial,
            "split": kinds,
        }
    )


def _kept_trials(
    trials: pd.DataFrame, part: str, drop_test_concepts: bool
) -> tuple[pd.DataFrame, int]:
    """Trials of a part, and how many of training show a concept of the test and were left out."""
    left_out = 0
    if drop_test_concepts:
        test = trials["split"] == "test"
        double = ~test & trials["concept"].isin(set(trials.loc[test, "concept"]))
        if double.any():
            logger.info(
                "%d training trials of %d test concepts are left out",
                int(double.sum()),
                trials.loc[double, "concept"].nunique(),
            )
        trials, left_out = trials[~double], int(double.sum())
    if part != "all":
        trials = trials[trials["split"] == part]
    if not len(trials):
        raise DataError(f"no trials of the part {part!r} are left")
    return trials.reset_index(drop=True), left_out


def _voxels(table: pd.DataFrame, path: Path) -> Sensors:
    places = ["voxel_x", "voxel_y", "voxel_z"]
    require_columns(table, ["voxel_id", *places, *CEILINGS], str(path))
    numbers = table[["voxel_id", *places]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None) or (numbers % 1 != 0).any(axis=None):
        raise DataError(f"{path}: voxel_id or places hold other things than whole numbers")
    if numbers.duplicated(places).any() or numbers["voxel_id"].duplicated().any():
        raise DataError(f"{path} names a voxel more than once")
    out = numbers[places].astype(np.int64).set_axis(list("ijk"), axis=1)
    for column in CEILINGS:
        percent = pd.to_numeric(table[column], errors="coerce")
        if not percent.between(0, 100).all():
            raise DataError(
                f"{path}: {column} is no percentage",
                found=f"{percent.min()} to {percent.max()}, {int(percent.isna().sum())} missing",
                expected="0 to 100",
            )
        out[column] = percent / 100
    out["noise_ceiling"] = out["nc_singletrial"]
    more: dict[str, Any] = {}
    for column in table.columns:
        if column in (*places, *CEILINGS, "voxel_id", "subject_id"):
            continue
        values = pd.to_numeric(table[column], errors="coerce")
        if values.isna().any() and not table[column].isna().all():
            raise DataError(
                f"{path}: {column} lacks numbers in rows "
                f"{listing(table.index[values.isna()].tolist())}"
            )
        if column in NOT_REGIONS:
            more[column] = values.astype(np.float64)
        elif values.isin([0, 1]).all():
            more[f"roi_{column}"] = values == 1
        else:
            logger.warning("%s: the column %r is no region of zeros and ones", path, column)
    out = pd.concat([out, pd.DataFrame(more)], axis=1)
    names = [f"v{i}-{j}-{k}" for i, j, k in out[["i", "j", "k"]].to_numpy().tolist()]
    return Sensors.fmri(out.set_axis(pd.Index(names, dtype="str"), axis=0))


def _kept_voxels(
    sensors: Sensors, roi: str | Sequence[str] | None, least: float | None, path: Path
) -> NDArray[np.int64]:
    keep = np.ones(len(sensors), dtype=bool) if roi is None else sensors.roi(roi)
    if least is not None:
        if not 0 <= least <= 1:
            raise DataError(
                "a noise ceiling is a share of the variance", found=least, expected="0 to 1"
            )
        assert sensors.voxels is not None
        keep &= (sensors.voxels["nc_testset"] >= least).to_numpy()
    if not keep.any():
        raise DataError(f"{path}: no voxel is left", found=f"roi {roi!r}, ceiling {least}")
    return np.flatnonzero(keep)


def _rows_of(
    responses: Responses, voxels: pd.DataFrame, files: Sequence[Path]
) -> NDArray[np.int64]:
    """Row in the responses of each voxel of the table, by its id; both have the same voxels."""
    wanted = voxels["voxel_id"].to_numpy(dtype=np.int64)
    where = {int(name): row for row, name in enumerate(responses.voxel_ids.tolist())}
    if odd := sorted(set(where) ^ set(wanted.tolist())):
        raise DataError(
            f"{files[0]} and {files[1].name} have other voxels",
            found=f"{len(where)} and {len(wanted)}, voxel_id {listing(odd)} in one only",
        )
    return np.array([where[int(name)] for name in wanted], dtype=np.int64)


def _placed(sensors: Sensors, path: Path) -> tuple[Sensors, list[int]]:
    """The voxels with their place in mm, from the affine of the brain mask."""
    mask, affine = read_volume(path)
    assert sensors.voxels is not None
    places = sensors.voxels[["i", "j", "k"]].to_numpy(dtype=np.int64)
    if (places < 0).any() or (places >= mask.shape).any():
        raise DataError(
            f"the brain mask {path} is smaller than the voxel table",
            found=mask.shape,
            expected=f"more than {places.max(axis=0).tolist()}",
        )
    table = sensors.voxels.copy()
    table[["x", "y", "z"]] = places @ affine[:3, :3].T + affine[:3, 3]
    return Sensors.fmri(table, affine), list(mask.shape)
