"""Responses to events in the volumes of one run: means of delayed volumes, or a linear model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._optional import require
from phosphene.errors import DataError, listing


def window_means(
    volumes: NDArray[np.float32],
    times: NDArray[np.float64],
    onset: NDArray[np.float64],
    duration: NDArray[np.float64],
    source: str,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean of the volumes from each onset (delay included) for its duration.

    An event too short to hold a volume has the one nearest to its middle.

    Parameters
    ----------
    volumes : ndarray, shape (volumes, voxels)
        Signals of a run.
    times : ndarray, shape (volumes,)
        Seconds.
    onset, duration : ndarray, shape (events,)
        Seconds; onsets already moved by the delay.
    source : str
        How messages call the events.

    Returns
    -------
    means : ndarray, shape (events, voxels)
    counts : ndarray of int, shape (events,)
        Volumes in each mean.

    Raises
    ------
    DataError
        If an event lies outside the run.
    """
    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    # A volume stands for the time around it.
    early, late = onset + duration < times[0] - step / 2, onset > times[-1] + step / 2
    if (outside := np.flatnonzero(early | late)).size:
        raise DataError(
            f"{source}: events {listing(outside.tolist())} lie outside the run",
            found=f"{onset[outside[0]]:g} s, delay included",
            expected=f"{times[0]:g} to {times[-1]:g} s",
            fix="check the repetition time, or drop these events",
        )
    means = np.empty((len(onset), volumes.shape[1]), dtype=np.float32)
    counts = np.empty(len(onset), dtype=np.int64)
    for event, (start, length) in enumerate(zip(onset, duration, strict=True)):
        # Half open; a small tolerance, because 0.3 is not a multiple of 0.1 in floating point.
        inside = (times >= start - 1e-6) & (times < start + length - 1e-6)
        rows = np.flatnonzero(inside)
        if not len(rows):
            rows = np.array([int(np.argmin(np.abs(times - (start + length / 2))))])
        means[event] = volumes[rows].mean(axis=0, dtype=np.float64)
        counts[event] = len(rows)
    return means, counts


def glm_betas(
    volumes: NDArray[np.float32],
    times: NDArray[np.float64],
    events: pd.DataFrame,
    confounds: pd.DataFrame | None,
    options: dict[str, Any],
    source: str,
) -> NDArray[np.float32]:
    """One beta per value of ``events["regressor"]``, all in one model (LSA), by nilearn.

    Parameters
    ----------
    volumes : ndarray, shape (volumes, voxels)
        Signals of a run.
    times : ndarray, shape (volumes,)
        Seconds.
    events : DataFrame
        ``onset``, ``duration`` and ``regressor``.
    confounds : DataFrame, optional
        One row per volume.
    options : dict
        ``hrf_model``, ``drift_model``, ``high_pass`` (Hz) and ``noise_model``.
    source : str
        How messages call the events.

    Returns
    -------
    ndarray, shape (regressors, voxels)
        In order of their first event, in the unit of the signals.

    Raises
    ------
    DataError
        If there are as many regressors as volumes or more, or an event leaves no trace.
    """
    first_level = require("nilearn.glm.first_level", "fmri", "a general linear model")
    names = list(dict.fromkeys(events["regressor"]))
    design = first_level.make_first_level_design_matrix(
        times,
        events[["onset", "duration"]].assign(trial_type=events["regressor"]),
        hrf_model=options["hrf_model"],
        drift_model=options["drift_model"],
        high_pass=options["high_pass"],
        add_regs=None if confounds is None else confounds.to_numpy(dtype=np.float64),
        add_reg_names=None if confounds is None else [f"confound {c}" for c in confounds.columns],
    )
    if design.shape[1] >= len(times):
        raise DataError(
            f"{source}: the model has as many regressors as volumes",
            found=f"{design.shape[1]} regressors ({len(names)} of events), {len(times)} volumes",
            fix="model conditions rather than trials, average volumes, or use GLMsingle's betas",
        )
    if silent := [name for name in names if not np.abs(design[name].to_numpy()).max() > 1e-6]:
        raise DataError(
            f"{source}: events leave no trace in the run", found=listing(silent), fix="drop them"
        )
    labels, results = first_level.run_glm(
        volumes.astype(np.float64), design.to_numpy(), noise_model=options["noise_model"]
    )
    columns = [design.columns.get_loc(name) for name in names]
    betas = np.empty((len(names), volumes.shape[1]), dtype=np.float32)
    for label, result in results.items():
        betas[:, labels == label] = np.asarray(result.theta)[columns]
    return betas
