"""fMRI volumes run by run: linear trends removed, voxels standardised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene.data.preprocess._base import WithinRun
from phosphene.data.preprocess._runs import runs
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

# A voxel whose residual is this small next to its values is constant up to rounding.
FLAT = 1e-6


class DetrendZScore(WithinRun):
    """Remove each run's mean and linear trend, and divide by its standard deviation.

    With the orthonormal basis Q of (1, t) over the volumes of a run, the residual of all voxels at
    once is ``Y - Q Q'Y``. A voxel that is constant within a run becomes 0 there.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend; the mean goes in any case.
    zscore : bool
        Divide by the standard deviation (of the residual, divisor n).

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> drift = np.linspace(0, 9, 10)[:, None] + np.tile([[1.0], [-1.0]], (5, 1))
    >>> volumes = Recording.from_arrays(
    ...     drift.astype("float32"), {"stimulus": ["a", "b"] * 5}, modality="fmri")
    >>> float(np.abs(DetrendZScore().transform(volumes).signals).max()) < 1.5
    True
    """

    step = "detrend_zscore"

    def __init__(self, *, detrend: bool = True, zscore: bool = True) -> None:
        self.detrend = detrend
        self.zscore = zscore

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        out = np.empty(recording.shape, dtype=np.float32)
        flat = np.zeros(recording.shape[1], dtype=bool)
        needed = 3 if self.detrend else 2
        for name, rows, volumes in runs(recording):
            if len(rows) < needed:
                raise DataError(
                    f"{name} is too short to be standardised",
                    found=f"{len(rows)} volumes",
                    expected=f"{needed} or more",
                )
            values = recording.take(rows).astype(np.float64)
            out[rows], still = self._run(values, volumes)
            flat |= still
        if flat.any():
            names = [recording.sensors.names[i] for i in np.flatnonzero(flat)]
            logger.warning("constant within a run, set to 0 there: voxels %s", listing(names))
        return recording.with_signals(out, op=op)

    def _run(
        self, values: NDArray[np.float64], volumes: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        size = np.abs(values).max(axis=0)
        design = np.ones((len(values), 2 if self.detrend else 1))
        if self.detrend:
            design[:, 1] = volumes
        basis, _ = np.linalg.qr(design)
        values -= basis @ (basis.T @ values)
        deviation = values.std(axis=0)
        flat = deviation <= FLAT * size
        values[:, flat] = 0.0
        if self.zscore:
            values /= np.where(flat, 1.0, deviation)
        return values, flat
