"""NIfTI images: opened so that damage is noticed, read inside a mask, on one grid."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._optional import require
from phosphene.data.recording import Sensors
from phosphene.errors import DataError, PhospheneError

GRID_TOLERANCE_MM = 1e-2
# Deflate cannot shrink anything further.
GZIP_MAX_RATIO = 1032
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
SLAB = 32 * 2**20


@contextmanager
def opened_image(path: Path) -> Iterator[Any]:
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
    except PhospheneError:
        raise
    except Exception as error:
        damaged = isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile))
        raise DataError(
            f"{path} is {'truncated or damaged' if damaged else 'not readable as an image'}",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            expected="a complete NIfTI file",
            fix="copy or download the file again",
        ) from error


def four_dimensions(image: Any, path: Path) -> tuple[int, ...]:
    """Shape (x, y, z, volumes) of a series of volumes.

    Raises
    ------
    DataError
        If the image has another number of axes or an empty one.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) != 4 or 0 in shape:
        raise DataError(
            f"{path} is no series of volumes",
            found=f"shape {shape}",
            expected="four dimensions (x, y, z, volumes)",
        )
    return shape


def read_volume(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values (x, y, z), scaled as the header says, and affine of an image of one volume.

    Raises
    ------
    DataError
        If the file is missing or damaged, has more than one volume, or holds NaN.
    """
    with opened_image(path) as image:
        values = np.asarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.dtype.kind not in "iufb":
        raise DataError(
            f"{path} is no single volume",
            found=f"shape {values.shape}, type {values.dtype}",
            expected="three dimensions (x, y, z) of numbers",
        )
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds NaN or infinite values")
    return values, affine


def refuse_other_grid(
    path: Path | str,
    other: Path | str,
    found: tuple[Any, NDArray[np.float64]],
    expected: tuple[Any, NDArray[np.float64]],
) -> None:
    """Raise unless two images (shape, affine) lie on the same grid.

    Raises
    ------
    DataError
        Naming both and how they differ.
    """
    fix = "resample it to the grid of the image (nilearn.image.resample_to_img)"
    if tuple(found[0]) != tuple(expected[0]):
        raise DataError(
            f"{path} has another shape than {other}",
            found=tuple(found[0]),
            expected=tuple(expected[0]),
            fix=fix,
        )
    if not np.allclose(found[1], expected[1], rtol=0, atol=GRID_TOLERANCE_MM):
        raise DataError(
            f"{path} lies elsewhere than {other}",
            found=f"affine {np.round(found[1], 3).tolist()}",
            expected=f"affine {np.round(expected[1], 3).tolist()}",
            fix=fix,
        )


def inside_of(
    path: Path, bold: Path | str, affine: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Voxels of a mask on the grid of an image: those that are not 0.

    Raises
    ------
    DataError
        If the mask lies on another grid or is empty.
    """
    values, own = read_volume(path)
    refuse_other_grid(path, bold, (values.shape, own), (shape[:3], affine))
    inside: NDArray[np.bool_] = values != 0
    if not inside.any():
        raise DataError(f"the mask {path} is empty", expected="voxels that are not 0")
    return inside


def voxel_signals(image: Any, inside: NDArray[np.bool_], path: Path) -> NDArray[np.float32]:
    """Signals (volumes, voxels), scaled as the header says, read some volumes at a time."""
    proxy = image.dataobj
    if proxy.dtype.kind not in "iuf":
        raise DataError(f"{path} does not hold real numbers", found=f"type {proxy.dtype}")
    n_volumes = int(image.shape[3])
    out = np.empty((n_volumes, int(inside.sum())), dtype=np.float32)
    # Scaled volumes are float64.
    step = max(1, SLAB // (8 * inside.size))
    for start in range(0, n_volumes, step):
        stop = min(n_volumes, start + step)
        block = np.asarray(proxy[..., start:stop])
        # What does not fit becomes infinite or NaN, and is named by the check.
        with np.errstate(over="ignore", invalid="ignore"):
            out[start:stop] = block[inside].T
    return out


def repetition_time(image: Any) -> float | None:
    zooms = image.header.get_zooms()
    if len(zooms) < 4 or not zooms[3] > 0:
        return None
    units = getattr(image.header, "get_xyzt_units", lambda: ("mm", "sec"))()
    return float(zooms[3]) * SECONDS.get(units[1], 1.0)


def voxel_sensors(places: NDArray[np.int64], affine: NDArray[np.float64]) -> Sensors:
    mm = places @ affine[:3, :3].T + affine[:3, 3]
    names = [f"v{i}-{j}-{k}" for i, j, k in places.tolist()]
    columns = np.concatenate([mm, places], axis=1)
    table = pd.DataFrame(columns, index=pd.Index(names, dtype="str"), columns=list("xyzijk"))
    return Sensors.fmri(table.astype(dict.fromkeys("ijk", np.int64)), affine)
