"""fMRI: a 4-D NIfTI image, a brain mask and a table with the label and run of every volume."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._optional import require
from phosphene._registry import register
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, MissingExtraError, listing

logger = get_logger(__name__)

LABEL_NAMES = ("label", "labels", "stimulus", "concept", "category", "condition", "trial_type")
RUN_NAMES = ("run", "runs", "chunk", "chunks")
GRID_TOLERANCE_MM = 1e-2
# Deflate cannot shrink anything further.
GZIP_MAX_RATIO = 1032
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


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
    with _opened(bold) as image:
        shape = tuple(int(n) for n in image.shape)
        if len(shape) != 4:
            raise DataError(
                f"{bold} is no series of volumes",
                found=f"shape {shape}",
                expected="four dimensions (x, y, z, volumes)",
            )
        if len(table) != shape[3]:
            raise DataError(
                f"{source} does not fit {bold}",
                found=f"{len(table)} labels",
                expected=f"{shape[3]}, one per volume",
            )
        affine = np.asarray(image.affine, dtype=np.float64)
        inside = _mask(mask, bold, affine, shape)
        signals = _voxels(image, inside, bold)
        seconds = float(tr) if tr is not None else _repetition_time(image)
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
    return Recording.from_arrays(
        signals,
        table,
        sensors=_sensors(places, affine),
        name=name or bold.name.partition(".")[0],
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Image of a file; on leaving, what was not read of a compressed file is checked too."""
    nibabel = require("nibabel", "fmri", "reading NIfTI images")
    if not path.is_file():
        raise DataError(
            f"there is no image {path}",
            found="a folder" if path.is_dir() else "no such file",
            expected="a NIfTI file (.nii or .nii.gz)",
        )
    with _readable(path):
        if not path.name.endswith(".nii.gz"):
            yield nibabel.load(path)
            return
        # One stream from the first byte to the last: only its end holds the checksum.
        with gzip.open(path) as stream:
            size = int.from_bytes(stream.peek(4)[:4], "little")
            second = 540 in (size, int.from_bytes(size.to_bytes(4, "little"), "big"))
            kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
            image = kind.from_stream(stream)
            _refuse_impossible_size(path, image)
            yield image
            while stream.read(1 << 20):
                pass


def _refuse_impossible_size(path: Path, image: Any) -> None:
    """Refuse a header that asks for more than the file can hold, before memory is reserved."""
    needed = math.prod(int(n) for n in image.shape) * int(image.get_data_dtype().itemsize)
    available = path.stat().st_size * GZIP_MAX_RATIO
    if needed > available:
        raise DataError(
            f"{path} is truncated or its header is damaged",
            found=f"{path.stat().st_size} bytes",
            expected=f"an image of shape {tuple(image.shape)}, {needed} bytes",
            fix="copy or download the file again",
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into an error that names the file."""
    try:
        yield
    except (DataError, MissingExtraError):
        raise
    except Exception as error:
        damaged = isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile))
        raise DataError(
            f"{path} is {'truncated or damaged' if damaged else 'not readable as an image'}",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            expected="a complete NIfTI file",
            fix="copy or download the file again",
        ) from error


def _mask(
    path: Path, bold: Path, affine: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    with _opened(path) as mask:
        values = np.asarray(mask.dataobj)
        own = np.asarray(mask.affine, dtype=np.float64)
    grid = tuple(int(n) for n in values.shape)
    if len(grid) == 4 and grid[3] == 1:
        values, grid = values[..., 0], grid[:3]
    if grid != shape[:3]:
        raise DataError(
            f"the mask {path} has another shape than {bold}",
            found=grid,
            expected=shape[:3],
            fix="resample the mask to the grid of the image",
        )
    if not np.allclose(own, affine, rtol=0, atol=GRID_TOLERANCE_MM):
        raise DataError(
            f"the mask {path} lies elsewhere than {bold}",
            found=f"affine {np.round(own, 3).tolist()}",
            expected=f"affine {np.round(affine, 3).tolist()}",
            fix="resample the mask to the grid of the image",
        )
    if not np.isfinite(values).all():
        raise DataError(f"the mask {path} holds NaN or infinite values")
    inside: NDArray[np.bool_] = values != 0
    if not inside.any():
        raise DataError(f"the mask {path} is empty", expected="voxels that are not 0")
    return inside


def _voxels(image: Any, inside: NDArray[np.bool_], path: Path) -> NDArray[np.float32]:
    """Signals (volumes, voxels), scaled as the header says, without a scaled copy of the image."""
    proxy = image.dataobj
    raw = np.asarray(proxy.get_unscaled())
    if raw.dtype.kind not in "iuf":
        raise DataError(f"{path} does not hold real numbers", found=f"type {raw.dtype}")
    slope, intercept = float(proxy.slope), float(proxy.inter)
    signals = np.ascontiguousarray(raw[inside].T, dtype=np.float32)
    if (slope, intercept) != (1.0, 0.0):
        signals *= np.float32(slope)
        signals += np.float32(intercept)
    return signals


def _repetition_time(image: Any) -> float | None:
    zooms = image.header.get_zooms()
    if len(zooms) < 4 or not zooms[3] > 0:
        return None
    units = getattr(image.header, "get_xyzt_units", lambda: ("mm", "sec"))()
    return float(zooms[3]) * SECONDS.get(units[1], 1.0)


def _sensors(places: NDArray[np.int64], affine: NDArray[np.float64]) -> Sensors:
    mm = places @ affine[:3, :3].T + affine[:3, 3]
    names = [f"v{i}-{j}-{k}" for i, j, k in places.tolist()]
    columns = np.concatenate([mm, places], axis=1)
    table = pd.DataFrame(columns, index=pd.Index(names, dtype="str"), columns=list("xyzijk"))
    return Sensors.fmri(table.astype(dict.fromkeys("ijk", np.int64)), affine)


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
