"""EEG, MEG and iEEG in BIDS, through mne-bids: ``events.tsv`` says what was shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger, progress
from phosphene._optional import require
from phosphene._registry import did_you_mean, register
from phosphene.data._bids_events import image_events
from phosphene.data._bids_files import (
    BidsRun,
    bids_subjects,
    bids_tasks,
    find_runs,
    only,
    open_run,
    readable,
)
from phosphene.data.preprocess.epochs import Epoch
from phosphene.data.readers._source import naming
from phosphene.data.recording import Recording
from phosphene.data.sensors import CHANNEL_TYPES, Modality
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

__all__ = ["bids_subjects", "bids_tasks", "read_bids"]

logger = get_logger(__name__)

Datatype = Literal["eeg", "meg", "ieeg"]
Bads = Literal["drop", "interpolate", "keep"]
MODALITY: dict[str, Modality] = {"eeg": "eeg", "meg": "meg", "ieeg": "ecog"}


@register("reader", "bids")
def read_bids(
    root: str | Path,
    task: str,
    *,
    subjects: str | Sequence[str] | None = None,
    sessions: str | Sequence[str] | None = None,
    runs: str | Sequence[str] | None = None,
    stim_column: str = "stim_file",
    concept_column: str | None = None,
    tmin: float = -0.2,
    tmax: float = 1.0,
    baseline: tuple[float | None, float | None] | None = None,
    datatype: Datatype | None = None,
    picks: str | Sequence[str] | None = None,
    bads: Bads = "drop",
    highpass: float | None = None,
    lowpass: float | None = None,
    notch: float | Sequence[float] | None = None,
    sfreq: float | None = None,
    reject: float | Mapping[str, float] | None = None,
    name: str | None = None,
) -> Recording:
    """Cut the trials out of the continuous recordings of a BIDS folder.

    Parameters
    ----------
    root : path
        The BIDS folder; ``derivatives`` and ``sourcedata`` are not read.
    task : str
        Entity ``task`` of the files.
    subjects, sessions, runs : str or sequence of str, optional
        Without ``sub-``, ``ses-``, ``run-``; all of them by default.
    stim_column : str
        Column of ``events.tsv`` with the image, such as ``stim_file`` or ``stimulus_id``. Events
        without one (``n/a``) are no trials.
    concept_column : str, optional
        Column with the concept; taken from the image's path by default.
    tmin, tmax : float
        Window around an event's onset in seconds, both ends included.
    baseline : pair of float, optional
        Interval whose mean is subtracted from each trial; None subtracts nothing.
    datatype : {"eeg", "meg", "ieeg"}, optional
        Needed only if the task was recorded with several.
    picks : str or sequence of str, optional
        Channels, by name or MNE's type ("mag", "seeg"); all of the modality by default.
    bads : {"drop", "interpolate", "keep"}
        What happens to channels that are marked as bad: a channel that is bad anywhere is dropped
        everywhere; or it is interpolated where it is bad (needs positions); or it is kept as it is.
    highpass, lowpass, notch, sfreq, reject : optional
        Filtering, resampling and rejection, as in `phosphene.data.preprocess.epochs.Epoch`.
    name : str, optional
        Name of the recording; the folder's by default.

    Returns
    -------
    Recording
        In MNE's units (volts, tesla), float32. Sessions and runs that have no name are "1". Other
        columns of ``events.tsv`` are kept as columns of the trials, ``onset`` among them. Places
        of the channels are those of the first file.

    Raises
    ------
    DataError
        If there is no such folder, task, subject, column or event, files disagree about channels
        or sampling rate, or one cannot be read; it names the file and says what there is.
    MissingExtraError
        If mne-bids is not installed.
    """
    require("mne_bids", "bids", "reading BIDS folders")
    root = Path(root)
    if bads not in ("drop", "interpolate", "keep"):
        raise DataError("bads has another value", found=bads, expected="drop, interpolate or keep")
    found, kind = find_runs(root, task, datatype)
    for entity, wanted in (("subject", subjects), ("session", sessions), ("run", runs)):
        found = only(found, entity, wanted, root)
    tables = [_events(run, stim_column, concept_column) for run in found]
    if not any(len(table) for table in tables):
        raise DataError(
            f"no event of task {task!r} in {root} names a stimulus",
            found=f"{len(found)} runs, {found[0].label} first; column {stim_column!r} is n/a or "
            "there are no events",
            fix="name another column with stim_column",
        )
    kinds = {"highpass": highpass, "lowpass": lowpass, "notch": notch, "reject": reject}
    cut = Epoch(
        tmin,
        tmax,
        baseline=baseline,
        sfreq=sfreq,
        modality=MODALITY[kind],
        bads="interpolate" if bads == "interpolate" else "keep",
        outside="drop",
        **kinds,  # type: ignore[arg-type]
    )
    parts = list(_cut(found, tables, cut, picks, bads))
    recording = _together(parts, name or root.resolve().name, concept_column is not None)
    settings = {k: v for k, v in cut.get_params().items() if k not in ("channels", "drop", "bads")}
    return recording.with_history(
        {"op": "epochs", "format": "bids", "task": task, **settings, "bads": bads}
    )


def _events(run: BidsRun, stim_column: str, concept_column: str | None) -> pd.DataFrame:
    stem = run.path.name.rsplit("_", 1)[0]
    # The parts of a split recording share one table.
    stem = "_".join(part for part in stem.split("_") if not part.startswith("split-"))
    table = image_events(run.path.with_name(f"{stem}_events.tsv"), stim_column, concept_column)
    return table.assign(subject=run.subject, session=run.session, run=run.run)


def _cut(
    found: Sequence[BidsRun],
    tables: Sequence[pd.DataFrame],
    cut: Epoch,
    picks: Any,
    bads: Bads,
) -> Iterator[Recording]:
    """Trials of each run."""
    opened = [open_run(run) for run in found]
    kind = found[0].datatype
    names = _common_channels(found, opened, kind, picks, bads)
    cut.set_params(channels=names)
    steps = zip(found, opened, tables, strict=True)
    for run, raw, table in progress(steps, total=len(found), desc="epochs", unit="run"):
        if not len(table):
            continue
        _refuse_late(run, raw, table)
        if not _inside(raw, table, cut).any():
            logger.warning("%s: all trials reach beyond the recording", run.label)
            continue
        with readable(run), naming(run.path):
            part = cut.transform(raw, events=table, name=run.label)
        if "event" not in table:
            part = part.with_trials(part.trials.drop(columns="event"))
        raw.close()
        _refuse_other_units(run, part.signals, names, kind)
        if lost := len(table) - part.n_trials:
            logger.warning(
                "%s: %d of %d trials reach beyond the recording, into a bad segment or were "
                "rejected",
                run.label,
                lost,
                len(table),
            )
        yield part


def _together(parts: list[Recording], name: str, has_concepts: bool) -> Recording:
    """All runs in one recording, repetitions counted over all of them."""
    if not parts:
        raise DataError(
            "no trial is left",
            found="all reach beyond the recordings",
            fix="choose a narrower window with tmin and tmax",
        )
    first = parts[0]
    for part in parts:
        if part.sfreq != first.sfreq or part.shape[1:] != first.shape[1:]:
            raise DataError(
                f"{part.name} has another sampling rate than {first.name}",
                found=f"{part.sfreq:g} Hz",
                expected=f"{first.sfreq:g} Hz",
                fix="resample all of them with sfreq=",
            )
    counted = ["repetition", *([] if has_concepts else ["concept"])]
    trials = pd.concat([p.trials.drop(columns=counted) for p in parts], ignore_index=True)
    for column in trials.columns:
        # What is a number in one run and a text, or absent, in another becomes text.
        if not pd.api.types.is_numeric_dtype(trials[column].dtype):
            trials[column] = [v if isinstance(v, str) else _plain(v) for v in trials[column]]
    # Run by run into one array, so that the pieces need not all be there twice.
    signals = np.empty((len(trials), *first.shape[1:]), dtype=np.float32)
    info = first.sensors.info
    assert info is not None
    info["bads"] = sorted({n for p in parts if p.sensors.info for n in p.sensors.info["bads"]})
    sensors, times = first.sensors, first.times
    start = 0
    while parts:
        part = parts.pop(0)
        signals[start : start + part.n_trials] = part.signals
        start += part.n_trials
    return Recording.from_arrays(signals, trials, times=times, sensors=sensors, name=name)


def _refuse_late(run: BidsRun, raw: mne.io.BaseRaw, table: pd.DataFrame) -> None:
    """Notice trials outside of the recording, which MNE would drop in silence."""
    outside = (table["onset"] < 0) | (table["onset"] > raw.times[-1])
    if outside.any():
        raise DataError(
            f"{run.path}: {int(outside.sum())} trials lie outside of the recording",
            found=f"onsets from {table['onset'].min():g} to {table['onset'].max():g} s",
            expected=f"0 to {raw.times[-1]:g} s",
            fix="the recording was cut off, or the events belong to another one",
        )


def _inside(raw: mne.io.BaseRaw, table: pd.DataFrame, cut: Epoch) -> pd.Series[bool]:
    half = 0.5 / float(raw.info["sfreq"])
    begin, end = table["onset"] + cut.tmin, table["onset"] + cut.tmax
    inside: pd.Series[bool] = (begin >= -half) & (end <= raw.times[-1] + half)
    return inside


def _refuse_other_units(
    run: BidsRun, values: NDArray[Any], names: Sequence[str], kind: str
) -> None:
    """Notice a wrong unit: no head moves an electrode by a tenth of a volt, nor a SQUID by 1 uT."""
    limit, unit = (1e-6, "T") if kind == "meg" else (0.1, "V")
    spread = values.std(axis=2, dtype=np.float64).max(axis=0, initial=0.0)
    if (wrong := np.flatnonzero(spread > limit)).size:
        raise DataError(
            f"{run.path}: values of {listing(names[i] for i in wrong.tolist())} are not in {unit}",
            found=f"deviations up to {spread.max():.3g} {unit} within a trial",
            expected=f"below {limit:g} {unit}",
            fix="mend the units in the header or in channels.tsv",
        )


def _plain(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def _common_channels(
    found: Sequence[BidsRun], opened: Sequence[mne.io.BaseRaw], kind: str, picks: Any, bads: Bads
) -> list[str]:
    """Names of the channels to take, in the order of the first file."""
    first = opened[0]
    kinds = CHANNEL_TYPES[MODALITY[kind]]
    types = dict(zip(first.ch_names, first.get_channel_types(), strict=True))
    mine = [name for name, channel in types.items() if channel in kinds]
    wanted = [picks] if isinstance(picks, str) else list(picks or [])
    if wanted:
        of_type = [name for name in mine if types[name] in wanted]
        named = [name for name in wanted if name not in (*kinds, kind)]
        if unknown := [name for name in named if name not in mine]:
            raise DataError(
                f"{found[0].label} has no {kind} channels {listing(map(repr, unknown))}",
                found=listing(mine, 20),
                fix=did_you_mean(unknown[0], mine),
            )
        mine = mine if kind in wanted else [*of_type, *(n for n in named if n not in of_type)]
    if bads == "drop":
        bad = {name for raw in opened for name in raw.info["bads"]} & set(mine)
        if bad:
            logger.warning("marked as bad and dropped: %s", listing(sorted(bad), 20))
        mine = [name for name in mine if name not in bad]
    if not mine:
        raise DataError(
            f"{found[0].label}: no {kind} channel is left",
            found=f"channel types {listing(sorted(set(types.values())))}",
            fix='keep bad channels with bads="keep", or choose others with picks',
        )
    for run, raw in zip(found, opened, strict=True):
        if missing := [name for name in mine if name not in raw.ch_names]:
            raise DataError(
                f"{run.label} lacks channels that {found[0].label} has",
                found=f"missing {listing(missing, 10)}",
                expected=f"the same {len(mine)} channels, in any order",
                fix="read these subjects one by one, or name common channels with picks",
            )
    return mine
