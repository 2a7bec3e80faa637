"""fMRI: NIfTI runs with tables of events, to one response per trial or condition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._registry import register
from phosphene.data.preprocess.voxels import DetrendZScore
from phosphene.data.readers._glm import glm_betas, window_means
from phosphene.data.readers._images import (
    four_dimensions,
    opened_image,
    repetition_time,
    voxel_signals,
)
from phosphene.data.readers._masked_grid import MaskedGrid
from phosphene.data.readers._nifti_tables import read_events, shown, stimulus_column
from phosphene.data.readers._source import one_of, read_op
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

Method = Literal["average", "glm_trial", "glm_condition", "betas"]
Table = str | Path | pd.DataFrame


@register("reader", "nifti_events")
def read_nifti_events(
    bold: str | Path | Sequence[str | Path],
    events: Table | Sequence[Table],
    mask: Any = None,
    *,
    method: Method = "average",
    atlas: Any = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    stimulus: str | None = None,
    concept: str | None = None,
    drop: Sequence[str] = (),
    delay: float = 5.0,
    standardize: bool = True,
    hrf_model: str = "glover",
    drift_model: str | None = "cosine",
    high_pass: float = 0.01,
    noise_model: str = "ols",
    confounds: Table | Sequence[Table] | None = None,
    tr: float | None = None,
    slice_time_ref: float = 0.0,
    runs: Sequence[str] | None = None,
    subject: str = "01",
    session: str = "1",
    split: str | None = None,
    name: str | None = None,
) -> Recording:
    """Read one response per event, condition or beta.

    Parameters
    ----------
    bold : path or sequence of path
        One image (x, y, z, volumes) per run.
    events : path, DataFrame or sequence of them
        ``events.tsv`` per run: ``onset`` and ``duration`` in seconds and the stimulus. For
        ``method="betas"`` one row per volume, and no times.
    mask : path, image or fitted or unfitted nilearn masker, optional
        Voxels that are not 0 are read. A masker gives its mask only; its smoothing and cleaning do
        not take place. Without a mask, the voxels of the atlas.
    method : {"average", "glm_trial", "glm_condition", "betas"}
        "average": mean of the volumes from ``onset + delay`` for ``duration`` seconds.
        "glm_trial": one beta per event, all in one model per run (LSA), by nilearn.
        "glm_condition": one beta per stimulus and run. "betas": the volumes are betas already, one
        per row of the table, as GLMsingle or BOLD5000 release them.
    atlas : path or image, optional
        Label image on the same grid, for regions ``roi_<name>``.
    labels : mapping or sequence of str, optional
        Names of the atlas' labels by number.
    stimulus, concept : str, optional
        Columns with the picture and its concept. By default the first of stim_file, stimulus,
        stim, image, trial_type, and the concept from the picture's path.
    drop : sequence of str
        Events that are no stimulus; "rest", "fixation", "n/a" and the like are left out anyway.
    delay : float
        Seconds from onset to the blood response ("average").
    standardize : bool
        Remove each run's linear trend and divide by its standard deviation before averaging.
    hrf_model, drift_model, high_pass, noise_model
        Of nilearn's first-level model; ``high_pass`` in Hz, ``noise_model`` "ols" or "ar1".
    confounds : path, DataFrame or sequence of them, optional
        Regressors per run, one row per volume (models only); missing values become 0.
    tr : float, optional
        Seconds between volumes; from the header by default.
    slice_time_ref : float
        Part of the repetition time that a volume's time stamp lies after its start.
    runs : sequence of str, optional
        Names of the runs; from ``run-`` in the file names by default, else numbers.
    subject, session, split : str
        For the trial table.
    name : str, optional
        Name of the recording.

    Returns
    -------
    Recording
        Signals (trials, voxels), float32. Trials have ``onset``, ``duration``, ``event`` (row of
        the run's table), ``n_volumes`` (averages) or ``n_events`` (conditions), and the table's
        further columns of text.

    Raises
    ------
    DataError
        If a file is missing or damaged, grids differ, or events do not fit the run.
    MissingExtraError
        If nibabel, or nilearn for a model, is not installed.

    Examples
    --------
    See :doc:`/datasets/nifti`.
    """
    one_of(method, get_args(Method), "method")
    paths = [Path(path) for path in _each(bold)]
    tables = _each(events)
    n = len(paths)
    if len(tables) != n:
        raise DataError("one table of events per run", found=f"{len(tables)} for {n} runs")
    regressors = [None] * n if confounds is None else _each(confounds)
    if len(regressors) != n:
        raise DataError("one table of confounds per run", found=f"{len(regressors)} for {n} runs")
    timed = method != "betas"
    model = {
        "hrf_model": hrf_model,
        "drift_model": drift_model,
        "high_pass": high_pass,
        "noise_model": noise_model,
    }
    parts, volumes, voxels = [], [], None
    for run, path, table, more in zip(
        _run_names(paths, runs), paths, tables, regressors, strict=True
    ):
        listed, source = read_events(table, timed=timed)
        column = stimulus_column(listed, stimulus, source)
        with opened_image(path) as image:
            shape = four_dimensions(image, path)
            affine = np.asarray(image.affine, dtype=np.float64)
            if voxels is None:
                voxels = MaskedGrid(mask, atlas, labels, path, shape, affine)
            voxels.refuse_other(path, shape, affine)
            signals = voxel_signals(image, voxels.inside, path)
            seconds = float(tr) if tr is not None else repetition_time(image)
        voxels.refuse_not_finite(path, signals)
        if not timed:
            if len(listed) != shape[3]:
                raise DataError(
                    f"{source} does not fit {path}",
                    found=f"{len(listed)} rows",
                    expected=f"{shape[3]}, one per volume",
                )
            trials = shown(listed, column, concept, tuple(drop), source)
            values = signals[trials["event"].to_numpy()]
        else:
            if not seconds or seconds <= 0:
                raise DataError(f"{path} does not say its repetition time", fix="give tr=seconds")
            times = (np.arange(shape[3], dtype=np.float64) + slice_time_ref) * seconds
            trials = shown(listed, column, concept, tuple(drop), source)
            if method == "average":
                ready = _standardized(signals, path) if standardize else signals
                onset = trials["onset"].to_numpy(dtype=np.float64) + delay
                values, counts = window_means(
                    ready, times, onset, trials["duration"].to_numpy(dtype=np.float64), source
                )
                trials["n_volumes"] = counts
            else:
                trials, single = _regressors(trials, method)
                values = glm_betas(
                    signals, times, single, _confounds(more, shape[3]), model, source
                )
        parts.append(_table(trials, column, run))
        volumes.append(values)
    assert voxels is not None
    trials = pd.concat(parts, ignore_index=True).assign(subject=str(subject), session=str(session))
    if split is not None:
        trials["split"] = split
    return _recording(
        np.concatenate(volumes), trials, voxels, name or _stem(paths[0])
    ).with_history(
        {
            **read_op("nifti_events", paths),
            "grid": list(voxels.shape),
            "method": method,
            **({"delay": float(delay), "standardize": standardize} if method == "average" else {}),
            **(model if method.startswith("glm") else {}),
        }
    )


def _recording(
    signals: NDArray[np.float32], trials: pd.DataFrame, voxels: MaskedGrid, name: str
) -> Recording:
    sensors = voxels.sensors()
    # Not "> 0": a voxel with NaN is for the checks of the recording, which name it.
    varies = ~(np.ptp(signals, axis=0) == 0) if len(signals) > 1 else np.ones(len(sensors), bool)
    if not varies.all():
        if not varies.any():
            raise DataError(f"{voxels.bold}: no voxel's response differs between trials")
        logger.warning(
            "%s: %d of %d voxels never change and are left out",
            voxels.bold,
            int((~varies).sum()),
            len(varies),
        )
        signals, sensors = np.ascontiguousarray(signals[:, varies]), sensors.pick(varies)
    return Recording.from_arrays(signals, trials, sensors=sensors, name=name)


def _standardized(signals: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    volumes = Recording.from_arrays(
        signals, {"stimulus": [str(path)] * len(signals)}, modality="fmri", check=False
    )
    flat = np.ptp(signals, axis=0) == 0
    if flat.all():
        return np.zeros_like(signals)
    out = np.zeros_like(signals)
    moving = volumes if not flat.any() else volumes.pick(~flat)
    out[:, ~flat] = DetrendZScore().transform(moving).signals
    return out


def _regressors(trials: pd.DataFrame, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that come out, and the events with the regressor that each belongs to."""
    if method == "glm_trial":
        return trials, trials.assign(regressor=[f"trial {i}" for i in range(len(trials))])
    single = trials.assign(regressor="condition " + trials["stimulus"])
    merged = trials.drop_duplicates("stimulus").reset_index(drop=True)
    merged["n_events"] = merged["stimulus"].map(trials["stimulus"].value_counts())
    return merged.drop(columns=["onset", "event"]), single


def _confounds(table: Table | None, n_volumes: int) -> pd.DataFrame | None:
    if table is None:
        return None
    found, source = read_events(table, timed=False)
    numbers = found.replace({"n/a": np.nan, "": np.nan}).apply(pd.to_numeric, errors="coerce")
    if len(numbers) != n_volumes:
        raise DataError(
            f"{source} does not fit the run",
            found=f"{len(numbers)} rows",
            expected=f"{n_volumes}, one per volume",
        )
    filled: pd.DataFrame = numbers.fillna(0.0)
    return filled


def _table(trials: pd.DataFrame, column: str, run: str) -> pd.DataFrame:
    """Standard columns, and those of the events' that say something of the trials."""
    taken = {"subject", "session", "run", "repetition", "split", "n_averaged"}
    kept = [name for name in trials.columns if name not in taken and name != column]
    kept += [column] if column == "stimulus" else []
    return trials[list(dict.fromkeys(kept))].assign(run=run)


def _run_names(paths: Sequence[Path], runs: Sequence[str] | None) -> list[str]:
    if runs is not None:
        names = [str(run) for run in runs]
    else:
        found = [re.search(r"run-([A-Za-z0-9]+)", path.name) for path in paths]
        names = [match.group(1) if match else "" for match in found]
        if "" in names or len(set(names)) < len(names):
            names = [str(number + 1) for number in range(len(paths))]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise DataError(
            "runs need one name each", found=listing(names), expected=f"{len(paths)} names"
        )
    return names


def _each(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, Path, pd.DataFrame)) else list(value)


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]
