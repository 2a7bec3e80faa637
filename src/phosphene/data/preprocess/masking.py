"""Between images and voxels: regions of an atlas, and values of voxels back into an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene._optional import require
from phosphene.data.preprocess._reliability import table_of
from phosphene.data.readers._images import read_volume, refuse_other_grid
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, listing

Grid = tuple[int, int, int]


def to_image(
    values: Recording | ArrayLike,
    like: Recording | Sensors | None = None,
    *,
    grid: Sequence[int] | None = None,
    fill: float = 0.0,
) -> Any:
    """Put values of voxels back where the voxels were: the inverse of masking.

    Parameters
    ----------
    values : Recording or array, shape (voxels,) or (maps, voxels)
        Signals, weights, scores: one value per voxel, or several maps of them.
    like : Recording or Sensors, optional
        Whose voxels an array's values belong to. Their table has grid indices ``i, j, k``.
    grid : sequence of three int, optional
        Size of the image. By default what the reader noted in the recording's history, else the
        smallest grid from the origin that holds all voxels; the affine is right in either case.
    fill : float
        Value outside the voxels.

    Returns
    -------
    nibabel.Nifti1Image
        float32, shape (x, y, z) for one map and (x, y, z, maps) for a recording or several maps.

    Raises
    ------
    DataError
        If the voxels have no grid indices or affine, the grid is too small, or the number of values
        is not that of the voxels.
    MissingExtraError
        If nibabel is not installed.
    """
    nibabel = require("nibabel", "fmri", "making NIfTI images")
    if isinstance(values, Recording):
        like = values if like is None else like
        maps: NDArray[Any] = np.asarray(values.signals)
        if maps.ndim != 2:
            raise DataError("an image is made of voxels", found=f"signals of shape {maps.shape}")
    else:
        maps = np.asarray(values)
    if like is None:
        raise DataError("whose voxels these are is not said", fix="give like=recording")
    sensors = like.sensors if isinstance(like, Recording) else like
    places, affine = _places(sensors)
    if maps.ndim not in (1, 2) or maps.shape[-1] != len(places) or maps.dtype.kind not in "iufb":
        raise DataError(
            "these are not values of the voxels",
            found=f"shape {maps.shape}, type {maps.dtype}",
            expected=f"({len(places)},) or (maps, {len(places)}) numbers",
        )
    shape = _grid(like, places, grid)
    image = np.full((*shape, *maps.shape[:-1]), fill, dtype=np.float32)
    image[tuple(places.T)] = np.moveaxis(maps, -1, 0)
    return nibabel.Nifti1Image(image, affine)


def mask_image(like: Recording | Sensors, *, grid: Sequence[int] | None = None) -> Any:
    """Image of the voxels: 1 inside, 0 outside, uint8.

    Parameters
    ----------
    like : Recording or Sensors
        Whose voxels.
    grid : sequence of three int, optional
        As for `to_image`.

    Returns
    -------
    nibabel.Nifti1Image, shape (x, y, z)
    """
    nibabel = require("nibabel", "fmri", "making NIfTI images")
    sensors = like.sensors if isinstance(like, Recording) else like
    places, affine = _places(sensors)
    image = np.zeros(_grid(like, places, grid), dtype=np.uint8)
    image[tuple(places.T)] = 1
    return nibabel.Nifti1Image(image, affine)


def add_atlas(
    recording: Recording,
    atlas: Any,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    *,
    resample: bool = False,
) -> Recording:
    """Add the regions of a label image to the table of voxels, as columns ``roi_<name>``.

    Parameters
    ----------
    recording : Recording
        With grid indices and affine.
    atlas : path or image
        One whole number per voxel; 0 and below is no region. nilearn's ``fetch_atlas_...().maps``
        is one.
    labels : mapping or sequence of str, optional
        Names by number, or one by one from 0 (as nilearn gives them, "Background" first). Numbers
        without a name are called ``label-<number>``.
    resample : bool
        Bring the atlas onto the recording's grid with nilearn (nearest neighbour); otherwise
        another grid is refused.

    Returns
    -------
    Recording
        The same signals; ``recording.pick(roi=name)`` takes a region.

    Raises
    ------
    DataError
        If the grids differ, the atlas holds other things than whole numbers, or no voxel lies in
        any region.
    MissingExtraError
        If nibabel, or nilearn for resampling, is not installed.
    """
    places, affine = _places(recording.sensors)
    grid = _grid(recording, places, None)
    if resample:
        atlas = _resampled(atlas, recording)
    values, own = load_volume(atlas)
    # Without a noted grid only a part of it is known.
    if _noted_grid(recording) is None and all(
        a >= b for a, b in zip(values.shape, grid, strict=True)
    ):
        grid = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    refuse_other_grid(describe(atlas), recording.name, (values.shape, own), (grid, affine))
    regions = atlas_regions(values[tuple(places.T)], labels, describe(atlas))
    table = table_of(recording).copy()
    for name, inside in regions.items():
        table[f"roi_{name}"] = inside
    return replace(recording, sensors=Sensors.fmri(table, affine))


def atlas_regions(
    values: NDArray[Any], labels: Mapping[int, str] | Sequence[str] | None, what: str
) -> dict[str, NDArray[np.bool_]]:
    """Masks by region of the labels of some voxels.

    Raises
    ------
    DataError
        If the labels are no whole numbers, or all are 0 or below.
    """
    if (values != np.round(values)).any():
        raise DataError(f"{what} holds other things than whole numbers", fix="give a label image")
    found = [int(v) for v in np.unique(values) if v > 0]
    if not found:
        raise DataError(f"no voxel lies in a region of {what}")
    names = dict(enumerate(labels)) if isinstance(labels, Sequence) else dict(labels or {})
    out: dict[str, NDArray[np.bool_]] = {}
    for number in found:
        name = str(names.get(number, f"label-{number}"))
        # Two numbers of one name, such as the halves of an area, are one region.
        out[name] = out[name] | (values == number) if name in out else values == number
    return out


def load_volume(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values (x, y, z) and affine of an image given by path or as a nibabel image.

    Raises
    ------
    DataError
        If it cannot be read or is no single volume.
    """
    if isinstance(image, (str, Path)):
        return read_volume(Path(image))
    if not hasattr(image, "affine") or not hasattr(image, "dataobj"):
        raise DataError("this is no image", found=type(image).__name__, expected="a path or image")
    values = np.asarray(image.dataobj)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise DataError("the image is no single volume", found=f"shape {values.shape}")
    return values, np.asarray(image.affine, dtype=np.float64)


def describe(image: Any) -> str:
    """How messages call an image."""
    if isinstance(image, (str, Path)):
        return str(image)
    return str(getattr(image, "get_filename", lambda: None)() or "the image")


def _resampled(atlas: Any, recording: Recording) -> Any:
    image = require("nilearn.image", "fmri", "resampling an atlas")
    source = str(atlas) if isinstance(atlas, Path) else atlas
    return image.resample_to_img(
        source,
        mask_image(recording),
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )


def _places(sensors: Sensors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    table = pd.DataFrame() if sensors.voxels is None else sensors.voxels
    if missing := [axis for axis in "ijk" if axis not in table]:
        raise DataError(
            "the voxels have no place in an image",
            found=f"columns {listing(table.columns, 8)}" if len(table.columns) else "no columns",
            expected=f"grid indices i, j, k (without {listing(missing)})",
            fix="read the recording from images, or with the image of its mask",
        )
    if sensors.affine is None:
        raise DataError(
            "the affine of the voxels' grid is not known",
            fix="give the reader the mask's image (brain_mask)",
        )
    return table[["i", "j", "k"]].to_numpy(dtype=np.int64), sensors.affine


def _noted_grid(like: Recording | Sensors) -> Grid | None:
    entries = like.history if isinstance(like, Recording) else ()
    for entry in entries:
        if entry.get("grid"):
            x, y, z = entry["grid"]
            return int(x), int(y), int(z)
    return None


def _grid(like: Recording | Sensors, places: NDArray[np.int64], grid: Sequence[int] | None) -> Grid:
    least = tuple(int(n) + 1 for n in places.max(axis=0))
    noted = _noted_grid(like)
    chosen = tuple(map(int, grid)) if grid is not None else (noted or least)
    if len(chosen) != 3 or any(a < b for a, b in zip(chosen, least, strict=True)):
        raise DataError("the grid does not hold the voxels", found=chosen, expected=f"{least}")
    return chosen[0], chosen[1], chosen[2]
