"""How well a voxel's responses repeat: agreement of repetitions, and noise ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data._average import plan
from phosphene.data.recording import Recording
from phosphene.errors import DataError

CHUNK = 64 * 2**20


def repetition_rows(recording: Recording, repetitions: int | None) -> NDArray[np.int64]:
    """Rows of the trials of repeated stimuli, shape (repetitions, stimuli).

    In order of session, run and repetition within each person and stimulus. By default as many
    repetitions as keep most trials; stimuli with fewer are left out, further ones too.

    Raises
    ------
    DataError
        If signals have a time axis, or fewer than two stimuli have so many repetitions.
    """
    if len(recording.shape) != 2:
        raise DataError(
            "this step is for one value per trial and voxel",
            found=f"signals of shape {recording.shape}",
            expected="(trials, voxels)",
        )
    rows, groups = plan(recording.trials, ["subject", "stimulus"], None)
    counts = np.bincount(groups)
    if repetitions is None:
        sizes = np.unique(counts[counts > 1])
        kept = [int(size * (counts >= size).sum()) for size in sizes]
        repetitions = int(sizes[int(np.argmax(kept))]) if len(sizes) else 2
    if repetitions < 2:
        raise DataError("repetitions are two or more", found=repetitions)
    enough = np.flatnonzero(counts >= repetitions)
    if len(enough) < 2:
        raise DataError(
            f"{len(enough)} stimuli have {repetitions} repetitions or more",
            found=f"{len(counts)} stimuli with up to {counts.max()} repetitions",
            expected="two or more stimuli",
            fix="choose voxels before averaging, with fewer repetitions, or by region",
        )
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[enough]
    return np.stack([rows[starts + r] for r in range(repetitions)])


def stability(recording: Recording, repetitions: int | None = None) -> NDArray[np.float64]:
    """Mean correlation, over all pairs of repetitions, of a voxel's responses to the stimuli.

    With z_r the standardised responses (mean 0, sum of squares 1 over stimuli) of repetition r out
    of R, the mean over pairs is ``(|sum_r z_r|^2 - sum_r |z_r|^2) / (R (R - 1))``.

    Parameters
    ----------
    recording : Recording
        Single trials (trials, voxels).
    repetitions : int, optional
        Use the first so many of each stimulus.

    Returns
    -------
    ndarray, shape (voxels,)
        -1 to 1; NaN where a repetition does not vary.

    Notes
    -----
    Mitchell et al. 2008, doi:10.1126/science.1152876.

    Examples
    --------
    >>> x = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 2.0], [5.0, 1.0]])
    >>> trials = {"stimulus": ["a", "b", "a", "b"]}
    >>> stability(Recording.from_arrays(x, trials, modality="fmri")).round(6).tolist()
    [1.0, -1.0]
    """
    rows = repetition_rows(recording, repetitions)
    n = len(rows)
    total = np.zeros((rows.shape[1], recording.shape[1]))
    own = np.zeros(recording.shape[1])
    for row in rows:
        z = recording.take(row).astype(np.float64)
        z -= z.mean(axis=0)
        length = np.sqrt((z**2).sum(axis=0))
        with np.errstate(invalid="ignore", divide="ignore"):
            z /= length
        total += z
        own += (z**2).sum(axis=0)
    result: NDArray[np.float64] = ((total**2).sum(axis=0) - own) / (n * (n - 1))
    return result


def noise_ceiling(
    recording: Recording, n_averaged: int = 1, repetitions: int | None = None
) -> NDArray[np.float64]:
    """Share of the variance that the stimulus explains in an average of so many trials.

    One-way analysis of variance over S stimuli with R repetitions each: with the mean squares B
    between and W within stimuli, the variances of noise and signal are ``W`` and
    ``max(0, (B - W) / R)``, and the ceiling is ``signal / (signal + noise / n_averaged)``.

    Parameters
    ----------
    recording : Recording
        Single trials (trials, voxels).
    n_averaged : int
        Trials that are averaged into one response.
    repetitions : int, optional
        Use the first so many of each stimulus.

    Returns
    -------
    ndarray, shape (voxels,)
        0 to 1; NaN where a voxel does not vary.

    Notes
    -----
    Allen et al. 2022, doi:10.1038/s41593-021-00962-x, which takes the total variance less the
    noise's for the signal's; the two agree for many stimuli.
    """
    if n_averaged < 1:
        raise DataError("at least one trial is averaged", found=n_averaged)
    rows = repetition_rows(recording, repetitions)
    n, n_stimuli = rows.shape
    mean = np.zeros((n_stimuli, recording.shape[1]))
    for row in rows:
        mean += recording.take(row)
    mean /= n
    within = np.zeros(recording.shape[1])
    for row in rows:
        within += ((recording.take(row).astype(np.float64) - mean) ** 2).sum(axis=0)
    within /= n_stimuli * (n - 1)
    between = n * ((mean - mean.mean(axis=0)) ** 2).sum(axis=0) / (n_stimuli - 1)
    signal = np.maximum(0.0, (between - within) / n)
    with np.errstate(invalid="ignore", divide="ignore"):
        ceiling: NDArray[np.float64] = signal / (signal + within / n_averaged)
    return ceiling


def table_of(recording: Recording) -> pd.DataFrame:
    """The voxel table of a recording.

    Raises
    ------
    DataError
        If it has none.
    """
    if recording.sensors.voxels is None:
        raise DataError(
            "the recording has no table of voxels", found=f"{recording.modality} channels"
        )
    return recording.sensors.voxels
