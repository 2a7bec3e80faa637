"""fMRI: a 4-D NIfTI image, a brain mask and a table with the label and run of every volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from phosphene._logging import get_logger
from phosphene._registry import register
from phosphene.data.readers._images import (
    four_dimensions,
    inside_of,
    opened_image,
    repetition_time,
    voxel_sensors,
    voxel_signals,
)
from phosphene.data.readers._source import naming, read_op
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

LABEL_NAMES = ("label", "labels", "stimulus", "concept", "category", "condition", "trial_type")
RUN_NAMES = ("run", "runs", "chunk", "chunks")


@register("reader", "nifti")
def read_nifti(
    bold: str | Path,
    mask: str | Path,
    labels: str | Path | pd.DataFrame,
    *,
    subject: str = "01",
    session: str = "1",
    tr: float | None = None,
    concepts: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Recording:
    """Read volumes of voxels with what was seen during each.

    Parameters
    ----------
    bold : path
        Image of shape (x, y, z, volumes).
    mask : path
        Image of shape (x, y, z) on the same grid; voxels that are not 0 are read. Voxels that
        never change are left out, with a warning.
    labels : path or DataFrame
        One row per volume: label and run. A CSV, TSV or blank-separated file, with or without a
        header; without one the columns are label and run.
    subject, session : str
        Ids for the trial table.
    tr : float, optional
        Seconds between volumes; from the header by default.
    concepts : mapping of str to str, optional
        Concept for each label; a label that is not mentioned is its own concept.
    name : str, optional
        Name of the recording; the file's by default.

    Returns
    -------
    Recording
        Signals (volumes, voxels), float32. Trials are volumes: ``stimulus`` is the label,
        ``volume`` the position in its run and ``onset`` its time in the run, in seconds. The voxel
        table has the grid indices i, j, k and the place x, y, z in mm.

    Raises
    ------
    DataError
        If a file is missing, damaged or no image, the grids differ, or the number of labels is not
        the number of volumes.
    MissingExtraError
        If nibabel is not installed.
    """
    bold, mask = Path(bold), Path(mask)
    table, source = _label_table(labels)
    with opened_image(bold) as image:
        shape = four_dimensions(image, bold)
        if len(table) != shape[3]:
            raise DataError(
                f"{source} does not fit {bold}",
                found=f"{len(table)} labels",
                expected=f"{shape[3]}, one per volume",
            )
        affine = np.asarray(image.affine, dtype=np.float64)
        inside = inside_of(mask, bold, affine, shape)
        signals = voxel_signals(image, inside, bold)
        seconds = float(tr) if tr is not None else repetition_time(image)
    # Not "> 0": a voxel with NaN is for the checks of the recording, which name it.
    varies = ~(np.ptp(signals, axis=0) == 0)
    places = np.argwhere(inside)
    if not varies.all():
        if not varies.any():
            raise DataError(f"{bold}: no voxel inside {mask} changes over the volumes")
        logger.warning(
            "%s: %d of %d voxels inside %s never change and are left out",
            bold,
            int((~varies).sum()),
            len(varies),
            mask.name,
        )
        signals, places = np.ascontiguousarray(signals[:, varies]), places[varies]
    table = table.assign(subject=str(subject), session=str(session))
    table["concept"] = table["stimulus"].map(lambda label: (concepts or {}).get(label, label))
    table["volume"] = table.groupby("run", sort=False).cumcount()
    if seconds is not None:
        table["onset"] = table["volume"] * seconds
    with naming(bold):
        recording = Recording.from_arrays(
            signals,
            table,
            sensors=voxel_sensors(places, affine),
            name=name or bold.name.partition(".")[0],
        )
    # The grid is what an image of these voxels is made of again.
    return recording.with_history({**read_op("nifti", [bold, mask]), "grid": list(shape[:3])})


def _label_table(labels: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Columns ``stimulus`` and ``run``, with how messages call the source."""
    if isinstance(labels, pd.DataFrame):
        table, source = labels, "the table of labels"
    else:
        source = str(labels)
        table = _read_table(Path(labels))
    label = next((c for c in LABEL_NAMES if c in table), None)
    run = next((c for c in RUN_NAMES if c in table), None)
    if label is None or run is None:
        raise DataError(
            f"{source} has no column with the {'labels' if label is None else 'runs'}",
            found=f"columns {listing(table.columns)}",
            expected=f"one of {listing(LABEL_NAMES if label is None else RUN_NAMES, limit=9)}",
        )
    found = pd.DataFrame({"stimulus": table[label], "run": table[run]}).reset_index(drop=True)
    empty = found.isna() | (found.astype(str).apply(lambda column: column.str.strip()) == "")
    if (bad := np.flatnonzero(empty.any(axis=1).to_numpy())).size:
        raise DataError(f"{source} lacks a label or a run in rows {listing(bad.tolist())}")
    return found.astype(str), source


def _read_table(path: Path) -> pd.DataFrame:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"there is no table of labels {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text", found=str(error)) from error
    rows = [(number, _cells(line)) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DataError(f"{path} is empty", expected="one row per volume: label and run")
    head = [cell.lower() for cell in rows[0][1]]
    has_header = not {*LABEL_NAMES, *RUN_NAMES}.isdisjoint(head)
    header = head if has_header else ["label", "run"]
    body = rows[1:] if has_header else rows
    if uneven := [number for number, cells in body if len(cells) != len(header)]:
        cells = dict(body)[uneven[0]]
        raise DataError(
            f"{path}: lines {listing(uneven)} have another number of columns than the table",
            found=f"{len(cells)} in line {uneven[0]}: {' '.join(cells)[:60]!r}",
            expected=f"{len(header)}: {listing(header)}",
        )
    return pd.DataFrame([cells for _, cells in body], columns=header, dtype="str")


def _cells(line: str) -> list[str]:
    separator = next((mark for mark in ("\t", ",") if mark in line), None)
    return [cell.strip().strip('"') for cell in line.split(separator)]
