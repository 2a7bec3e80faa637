"""Which voxels of a series of images are read: those of a mask, of a masker or of an atlas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from phosphene._optional import require
from phosphene.data.preprocess.masking import atlas_regions, describe, load_volume
from phosphene.data.readers._images import refuse_other_grid, voxel_sensors
from phosphene.data.recording import Sensors
from phosphene.errors import DataError, listing


class MaskedGrid:
    """The voxels that are read, and the grid that all runs share."""

    def __init__(
        self,
        mask: Any,
        atlas: Any,
        labels: Mapping[int, str] | Sequence[str] | None,
        bold: Path,
        shape: tuple[int, ...],
        affine: NDArray[np.float64],
    ) -> None:
        self.bold, self.shape, self.affine = bold, shape[:3], affine
        self.inside = np.zeros(self.shape, dtype=bool)
        if mask is None and atlas is None:
            raise DataError("which voxels to read is not said", fix="give mask or atlas")
        here = (self.shape, affine)
        regions: NDArray[Any] | None = None
        if atlas is not None:
            regions, own = load_volume(atlas)
            refuse_other_grid(describe(atlas), bold, (regions.shape, own), here)
            self.inside = regions > 0
        if mask is not None:
            mask = _mask_of(mask, bold)
            values, own = load_volume(mask)
            refuse_other_grid(describe(mask), bold, (values.shape, own), here)
            self.inside = values != 0
        if not self.inside.any():
            raise DataError(f"{describe(mask if mask is not None else atlas)} is empty")
        self.regions = (
            {} if regions is None else atlas_regions(regions[self.inside], labels, describe(atlas))
        )

    def refuse_other(self, path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
        refuse_other_grid(path, self.bold, (shape[:3], affine), (self.shape, self.affine))

    def refuse_not_finite(self, path: Path, signals: NDArray[np.float32]) -> None:
        """Raise if a voxel of a run holds NaN or infinite values, naming it."""
        bad = np.flatnonzero(~np.isfinite(signals).all(axis=0))
        if bad.size:
            names = self.sensors().names
            raise DataError(
                f"{path} holds NaN or infinite values in {bad.size} of {len(names)} voxels",
                found=listing(names[i] for i in bad.tolist()),
                fix="take these voxels out of the mask",
            )

    def sensors(self) -> Sensors:
        table = voxel_sensors(np.argwhere(self.inside), self.affine)
        assert table.voxels is not None
        columns = {f"roi_{name}": inside for name, inside in self.regions.items()}
        return Sensors.fmri(table.voxels.assign(**columns), self.affine)


def _mask_of(mask: Any, bold: Path) -> Any:
    """The mask of a nilearn masker; anything else as it is."""
    if not hasattr(mask, "fit") or not hasattr(mask, "mask_img"):
        return mask
    require("nilearn", "fmri", "a masker of nilearn")
    fitted = getattr(mask, "mask_img_", None)
    if fitted is None:
        try:
            # A copy, so that the user's masker stays as it is; a mask of its own needs no images.
            copy = clone(mask)
            copy.fit() if mask.mask_img is not None else copy.fit(str(bold))
        except Exception as error:  # nilearn raises several kinds
            raise DataError(f"the {type(mask).__name__} cannot be fitted", found=error) from error
        fitted = getattr(copy, "mask_img_", None)
    if fitted is None:
        raise DataError(
            f"a {type(mask).__name__} has no mask of voxels",
            fix="give NiftiMasker, or the label image as atlas",
        )
    return fitted
