"""Recordings of THINGS-EEG2 from opened files: channels chosen, trials named, counts compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene.data._ids import concept_of, concept_text
from phosphene.data.datasets import DatasetInfo
from phosphene.data.preprocess.channels import CHANNEL_SETS
from phosphene.data.readers._things_parts import Part
from phosphene.data.readers._things_raw import (
    LARGEST_VOLTS,
    RATE,
    SAMPLES,
    OpenSession,
    choose_trials,
    cut_trials,
)
from phosphene.data.readers._things_store import Source, as_signals, fill, require_range
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

UNIT = "microvolts or standard deviations"
COUNTS = {"preprocessed": ("channels_preprocessed", "samples_preprocessed")}


def require_counts(part: Part, layout: str, split: str, info: DatasetInfo, strict: bool) -> None:
    """Compare a file with what the data set has."""
    images, repetitions, n_channels, n_times = part.data.shape
    names = COUNTS.get(layout, ("channels", "samples"))
    expected = {
        "images": (images, info.expected[f"{split}_images"]),
        "repetitions": (repetitions, info.expected[f"{split}_repetitions"]),
        "channels": (n_channels, info.expected[names[0]]),
        "samples": (n_times, info.expected[names[1]]),
    }
    report(str(part.path), expected, info.title, strict)


def report(where: str, counts: dict[str, tuple[int, int]], title: str, strict: bool) -> None:
    """Refuse, or only log, counts (found, expected) that differ."""
    wrong = {what: pair for what, pair in counts.items() if pair[0] != pair[1]}
    if not wrong:
        return
    found = ", ".join(f"{n} {what}" for what, (n, _) in wrong.items())
    expected = ", ".join(f"{n} {what}" for what, (_, n) in wrong.items())
    if strict:
        raise DataError(
            f"{where} is not the whole of {title}",
            found=found,
            expected=expected,
            fix="copy or download it again; pass strict=False for a part or a miniature",
        )
    logger.warning("%s is not the whole of %s: %s instead of %s", where, title, found, expected)


def _names(channels: str | Sequence[str] | None, there: Sequence[str], where: Path) -> list[str]:
    if channels is None or channels == "all":
        return list(there)
    if isinstance(channels, str):
        if channels not in CHANNEL_SETS:
            raise DataError(
                f"there is no set of channels {channels!r}",
                expected=listing(["all", *CHANNEL_SETS, "or a list of names"]),
            )
        channels = CHANNEL_SETS[channels]
    if missing := [name for name in channels if name not in there]:
        raise DataError(
            f"{where} has no channels {listing(map(repr, missing))}", found=listing(there, 63)
        )
    if not len(channels):
        raise DataError("no channels are asked for")
    return list(channels)


def from_parts(
    parts: dict[str, Part],
    subject: str,
    channels: str | Sequence[str] | None,
    dtype: np.dtype[Any] | None,
    cache: Path | None,
    check: bool,
) -> Recording:
    """Trials of prepared files by split, mapped where they have the type asked for.

    What is converted in memory goes into one array, so that a split is a view of it.
    """
    wanted = _common_channels(list(parts.values()), channels)
    times = _common_times(list(parts.values()))
    sfreq = round((len(times) - 1) / float(np.ptp(times)), 6) if len(times) > 1 else 1.0
    kept = dtype or np.result_type(*(_kept_type(part.data) for part in parts.values()))
    tables = [_trials(part, subject, split) for split, part in parts.items()]
    if cache is None and any(part.data.dtype != kept for part in parts.values()):
        store = _converted(list(parts.values()), wanted, kept, check)
        trials = pd.concat(tables, ignore_index=True)
        sensors = Sensors.eeg(wanted, sfreq)
        # check=False here and below: done already, in the pass that converted
        return Recording.from_arrays(store, trials, times=times, sensors=sensors, check=False)
    recordings = []
    for part, trials in zip(parts.values(), tables, strict=True):
        store = as_signals(
            Source(part.data, kept),
            part.channels,
            part.path,
            about={},
            cache=cache,
            unit=UNIT,
            check=check,
        )
        sensors = Sensors.eeg(part.channels, sfreq)
        one = Recording.from_arrays(store, trials, times=times, sensors=sensors, check=False)
        recordings.append(one if part.channels == wanted else one.pick(wanted))
    return recordings[0] if len(recordings) == 1 else Recording.concat(recordings)


def _kept_type(data: NDArray[Any]) -> np.dtype[Any]:
    native = data.dtype.newbyteorder("=")
    return native if native in (np.float16, np.float32) else np.dtype(np.float32)


def _converted(
    parts: list[Part], wanted: list[str], kept: np.dtype[Any], check: bool
) -> NDArray[Any]:
    sources = []
    for part in parts:
        picks = np.array([part.channels.index(name) for name in wanted])
        sources.append(Source(part.data, kept, None if part.channels == wanted else picks))
    out = np.empty((sum(map(len, sources)), *sources[0].shape[1:]), kept)
    start = 0
    for part, source in zip(parts, sources, strict=True):
        piece = out[start : start + len(source)]
        fill(piece, source)
        require_range(piece, wanted, part.path, UNIT, check)
        start += len(source)
    return out


def _common_channels(parts: list[Part], channels: str | Sequence[str] | None) -> list[str]:
    """The channels to take, matched by name between training and test."""
    first, *others = parts
    wanted = _names(channels, first.channels, first.path)
    for other in others:
        odd = sorted(set(first.channels) ^ set(other.channels))
        if odd and (channels is None or channels == "all"):
            raise DataError(
                f"{first.path} and {other.path} have different channels",
                found=f"only on one side: {listing(odd, 20)}",
                fix="choose those that both have with channels=",
            )
        _names(wanted, other.channels, other.path)
    return wanted


def _common_times(parts: list[Part]) -> NDArray[np.float64]:
    first, *others = (part.times for part in parts)
    for other in others:
        if len(first) != len(other) or np.abs(first - other).max() > 1e-6:
            raise DataError(
                f"{' and '.join(str(part.path) for part in parts)} have different times",
                found=f"{len(first)} from {first[0]:g} s and {len(other)} from {other[0]:g} s",
            )
    return first


def _trials(part: Part, subject: str, split: str) -> pd.DataFrame:
    images, repetitions = part.sessions.shape
    table = pd.DataFrame({"stimulus": pd.Series(part.stimuli, dtype="str")})
    table["concept"] = [concept_of(stimulus) for stimulus in part.stimuli]
    table["text"] = [concept_text(concept) for concept in table["concept"]]
    table = table.loc[np.repeat(np.arange(images), repetitions)].reset_index(drop=True)
    return table.assign(
        subject=subject,
        session=part.sessions.ravel(),
        repetition=np.tile(np.arange(repetitions), images),
        split=split,
    )


def from_raw(
    sessions: list[OpenSession],
    channels: str | Sequence[str] | None,
    dtype: np.dtype[Any] | None,
    check: bool,
) -> tuple[Recording, int]:
    """Trials cut from raw sessions into one array, and how many trials were left out."""
    names: list[str] = []
    for session in sessions:
        # By name, so that another order of channels in another session does no harm.
        names = _names(names or channels, session.names, session.path)
    chosen = [choose_trials(session) for session in sessions]
    ends = np.cumsum([len(trials) for _, trials in chosen])
    signals = np.empty((int(ends[-1]), len(names), SAMPLES), dtype or np.float32)
    for session, (onsets, _), end in zip(sessions, chosen, ends.tolist(), strict=True):
        piece = signals[end - len(onsets) : end]
        cut_trials(session, onsets, names, piece)
        require_range(piece, names, session.path, "volts", check, LARGEST_VOLTS)
    table = pd.concat([trials for _, trials in chosen], ignore_index=True)
    table["repetition"] = table.groupby("stimulus").cumcount()
    recording = Recording.from_arrays(
        signals,
        table,
        times=np.arange(SAMPLES) / RATE,
        sensors=Sensors.eeg(names, RATE),
        check=False,  # done above
    )
    return recording, sum(len(session.trials) for session in sessions) - len(table)


def require_raw_counts(
    recording: Recording, sessions: list[OpenSession], info: DatasetInfo, strict: bool
) -> None:
    """Compare trials cut from raw sessions with what the data set has."""
    for split, rows in recording.trials.groupby("split", sort=False):
        counts = rows.groupby("stimulus").size()
        mine = [session for session in sessions if session.split == split]
        expected = {
            "sessions": (len(mine), info.expected["sessions"]),
            "images": (len(counts), info.expected[f"{split}_images"]),
            "repetitions": (int(counts.min()), info.expected[f"{split}_repetitions"]),
            "channels": (len(mine[0].names), info.expected["channels"]),
        }
        report(f"{mine[0].path.parent.parent} ({split})", expected, info.title, strict)
