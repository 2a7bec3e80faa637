"""Betas of the Natural Scenes Dataset: a volume per trial, read inside a mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data.readers._hdf5 import SLAB, dataset, opened_hdf5
from phosphene.data.readers._images import read_volume, refuse_other_grid, voxel_sensors
from phosphene.data.recording import Sensors
from phosphene.errors import DataError

UNITS_PER_PERCENT = 300
# prf-visualrois, as in the data set's label files.
VISUAL_ROIS = {1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4"}


def betas_shape(path: Path) -> tuple[int, int, int, int]:
    """Trials and grid (x, y, z) of a session's file; h5py sees it as (trials, z, y, x)."""
    with opened_hdf5(path) as file:
        trials, z, y, x = map(int, _betas(file, path).shape)
    return trials, x, y, z


def _betas(file: Any, path: Path) -> Any:
    found = dataset(file, "betas", path, ndim=4, kinds="if")
    if found.dtype.kind == "i" and found.dtype.itemsize != 2:
        raise DataError(f"{path}: betas are of another type", found=found.dtype, expected="int16")
    return found


def read_session(path: Path, places: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Read the voxels of one session into ``out`` (trials, voxels), in percent signal change.

    Parameters
    ----------
    path : Path
        ``betas_session01.hdf5`` with ``betas`` (trials, z, y, x): int16 in units of 1/300 percent,
        or floats in percent.
    places : ndarray of int, shape (voxels, 3)
        Grid indices x, y, z.
    out : ndarray, shape (trials, voxels)
        Filled in place.
    """
    low, high = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(slice(int(low[axis]), int(high[axis])) for axis in (1, 0))
    with opened_hdf5(path) as file:
        betas = _betas(file, path)
        scale = 1 / UNITS_PER_PERCENT if betas.dtype.kind == "i" else 1.0
        slice_bytes = betas.dtype.itemsize * int(np.prod([s.stop - s.start for s in box]))
        # Chunks decide what is cheap: whole trials where they lie apart, else slices of all trials.
        per_trial = betas.chunks is None or betas.chunks[0] <= max(1, len(out) // 4)
        depth = max(1, SLAB // (slice_bytes * (1 if per_trial else len(out))))
        n = max(1, SLAB // (slice_bytes * int(high[2] - low[2]))) if per_trial else len(out)
        for start in range(0, len(out), n):
            rows = slice(start, min(len(out), start + n))
            for z in range(int(low[2]), int(high[2]), depth):
                mine = np.flatnonzero((places[:, 2] >= z) & (places[:, 2] < z + depth))
                if len(mine):
                    stop = min(int(high[2]), z + depth)
                    block = betas[(rows, slice(z, stop), *box)]
                    x, y, k = (places[mine] - [low[0], low[1], z]).T
                    out[rows, mine] = block[:, k, y, x] * np.float32(scale)


def nsd_voxels(
    mask: Path,
    grid: tuple[int, int, int],
    rois: Sequence[Path] = (),
    ncsnr: Path | None = None,
    roi: str | Sequence[str] | None = None,
) -> Sensors:
    """Voxels of a mask, with regions and noise ceiling where there are files of them.

    Parameters
    ----------
    mask : Path
        ``nsdgeneral.nii.gz``; voxels above 0 are inside (-1 is off the cortex).
    grid : tuple of int
        Grid of the betas, which the mask must have.
    rois : sequence of Path
        Label images such as ``prf-visualrois.nii.gz``: 0 and below is no region.
    ncsnr : Path, optional
        Signal-to-noise ratio s of each voxel; the noise ceiling of a single trial is
        s^2 / (s^2 + 1) (Allen et al. 2022).
    roi : str or sequence of str, optional
        Only voxels in any of these regions.
    """
    values, affine = read_volume(mask)
    refuse_other_grid(mask, "the betas", (values.shape, affine), (grid, affine))
    places = np.argwhere(values > 0)
    if not len(places):
        raise DataError(f"the mask {mask} is empty", expected="voxels above 0")
    sensors = voxel_sensors(places, affine)
    assert sensors.voxels is not None
    table = sensors.voxels.copy()
    for path in rois:
        labels, own = read_volume(path)
        refuse_other_grid(path, mask, (labels.shape, own), (values.shape, affine))
        for name, inside in _regions(path, labels[tuple(places.T)]).items():
            table[f"roi_{name}"] = inside
    if ncsnr is not None:
        ratio, own = read_volume(ncsnr)
        refuse_other_grid(ncsnr, mask, (ratio.shape, own), (values.shape, affine))
        table["ncsnr"] = ratio[tuple(places.T)].astype(np.float64)
        if (table["ncsnr"] < 0).any():
            raise DataError(f"{ncsnr} holds negative ratios", found=table["ncsnr"].min())
        power = table["ncsnr"] ** 2
        table["noise_ceiling"] = power / (power + 1)
    sensors = Sensors.fmri(table, affine)
    return sensors if roi is None else sensors.pick(np.flatnonzero(sensors.roi(roi)))


def _regions(path: Path, labels: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Regions of a label image; two halves of V1 to V3 also make a whole."""
    stem = path.name.partition(".")[0]
    found = sorted(int(v) for v in np.unique(labels) if v > 0 and v == int(v))
    if stem.removeprefix("lh.").removeprefix("rh.") == "prf-visualrois":
        out = {VISUAL_ROIS[v]: labels == v for v in found if v in VISUAL_ROIS}
        for area in ("V1", "V2", "V3"):
            halves = [out[f"{area}{half}"] for half in "vd" if f"{area}{half}" in out]
            if halves:
                out[area] = np.any(halves, axis=0)
        return out
    names = _label_names(path.parent, stem)
    if found == [1] and not names:
        return {stem: labels == 1}
    return {names.get(value, f"{stem}-{value}"): labels == value for value in found}


def _label_names(folder: Path, stem: str) -> dict[int, str]:
    """Names out of ``<stem>.mgz.ctab`` beside the image: a number and a name a line."""
    path = folder / f"{stem}.mgz.ctab"
    if not path.is_file():
        return {}
    names = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdigit() and name.strip():
            names[int(number)] = name.strip()
    return names
