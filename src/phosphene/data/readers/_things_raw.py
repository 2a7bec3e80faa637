"""Raw sessions of THINGS-EEG2: continuous signals with the events that name the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data._ids import concept_of, concept_text
from phosphene.data.readers._things_find import Found
from phosphene.data.readers._things_images import ImageTable
from phosphene.data.readers._things_parts import CHANNELS, entries
from phosphene.data.readers._things_pickles import open_pickled
from phosphene.data.readers._things_store import check_values, read_rows
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

STIM = "stim"
CATCH = 99999
SFREQ = 1000.0
LARGEST_VOLTS = 1.0
PER_SESSION = {"train": 2, "test": 20}
TMIN, TMAX, RATE, SAMPLES = -0.2, 1.0, 250.0, 250
BLOCK = 16  # trials that are cut and resampled at a time


@dataclass(frozen=True)
class RawSession:
    """One continuous recording with what was shown in it.

    Attributes
    ----------
    subject, session : str
        Such as "01" and "1".
    split : {"train", "test"}
        Which images were shown.
    raw : mne.io.RawArray
        EEG channels in volts.
    events : ndarray of int, shape (n, 3)
        Sample of the onset, 0, and number of the image from 1; catch trials are left out.
    trials : DataFrame
        One row per event, for `Recording`: stimulus, concept, text, subject, session, repetition
        (in this session), split.
    path : Path
        The file.
    """

    subject: str
    session: str
    split: str
    raw: mne.io.RawArray
    events: NDArray[np.int64]
    trials: pd.DataFrame
    path: Path

    @property
    def table(self) -> pd.DataFrame:
        """The trials with ``sample`` and ``event``, as `make_epochs` takes its events."""
        return self.trials.assign(sample=self.events[:, 0], event=self.events[:, 2])


@dataclass(frozen=True)
class OpenSession:
    """As `RawSession`, with the signals in the file: ``data`` (channels and events, samples)."""

    subject: str
    session: str
    split: str
    data: NDArray[Any]
    names: list[str]
    sfreq: float
    edges: tuple[float, float]
    events: NDArray[np.int64]
    trials: pd.DataFrame
    path: Path

    def as_raw(self, *, preload: bool) -> RawSession:
        """With the EEG channels as MNE has them, copied into memory or mapped."""
        import mne

        n = len(self.names)
        eeg = self.data[:n]
        if preload:
            eeg = np.empty(eeg.shape)
            for row in range(n):  # read one by one, or the map's pages would take as much again
                eeg[row] = read_rows(self.data, slice(row, row + 1))[0]
            check_values(eeg[None], self.names, self.path, "volts", largest=LARGEST_VOLTS)
        info = mne.create_info(self.names, self.sfreq, "eeg", verbose=False)
        with info._unlock():
            info["highpass"], info["lowpass"] = self.edges
        raw = mne.io.RawArray(eeg, info, copy="auto", verbose=False)
        return RawSession(
            self.subject, self.session, self.split, raw, self.events, self.trials, self.path
        )


def open_sessions(
    found: Found,
    subject: str,
    splits: tuple[str, ...],
    table: ImageTable,
    *,
    strict: bool,
    only: tuple[str, ...] | None = None,
) -> Iterator[OpenSession]:
    """The sessions in order, in each the training before the test."""
    numbers = sorted({n for split in splits for n in found.files[split]}, key=int)
    for number in numbers if only is None else only:
        for split in splits:
            if (path := found.files[split].get(number)) is not None:
                yield _open(path, subject, number, split, table, strict)


def _open(
    path: Path, subject: str, session: str, split: str, table: ImageTable, strict: bool
) -> OpenSession:
    keys = {k: k for k in ("raw_eeg_data", "ch_names", "ch_types", "sfreq", "highpass", "lowpass")}
    value = entries(open_pickled(path), keys, path)
    data = value["raw_eeg_data"]
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f" or data.ndim != 2:
        kind = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else "no array"
        raise DataError(
            f"{path} does not hold the signals", found=kind, expected="float, (channels, samples)"
        )
    names = _names(value["ch_names"], value["ch_types"], data, path)
    sfreq = _number(value["sfreq"], "sfreq", path)
    if not 1 <= sfreq <= 1e5 or (strict and sfreq != SFREQ):
        raise DataError(f"{path} has another sampling rate", found=sfreq, expected=f"{SFREQ} Hz")
    low, high = (
        float(np.clip(_number(value[key], key, path), 0.0, sfreq / 2))
        for key in ("highpass", "lowpass")
    )
    stim = read_rows(data, slice(len(names), len(names) + 1))[0]
    events = _events(stim, sfreq, len(table.ids[split]), path)
    trials = _trials([table.ids[split][i - 1] for i in events[:, 2].tolist()])
    trials = trials.assign(subject=subject, session=session, split=split)
    edges = (low, high)
    return OpenSession(subject, session, split, data, names, sfreq, edges, events, trials, path)


def _trials(stimuli: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"stimulus": pd.Series(stimuli, dtype="str")})
    table["concept"] = [concept_of(s) for s in stimuli]
    table["text"] = [concept_text(c) for c in table["concept"]]
    return table.assign(repetition=table.groupby("stimulus").cumcount())


def _number(value: Any, key: str, path: Path) -> float:
    kind = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not kind or not np.isfinite(value):
        raise DataError(f"{path}: {key!r} is not a number", found=f"{value!r:.60}")
    return float(value)


def _names(names: Any, types: Any, data: NDArray[Any], path: Path) -> list[str]:
    """Names of the EEG channels; the stimulus channel is the last."""
    if not all(isinstance(part, (list, tuple, np.ndarray)) for part in (names, types)):
        raise DataError(f"{path}: 'ch_names' and 'ch_types' are no lists")
    found, kinds = [str(name) for name in names], [str(kind) for kind in types]
    if len(found) != len(data) or len(kinds) != len(data):
        raise DataError(
            f"{path}: names, types and signals have different numbers of channels",
            found=f"{len(found)} names, {len(kinds)} types, {len(data)} channels",
        )
    if not found or found[-1] != STIM or kinds[-1] != STIM:
        last = f"{found[-1]!r:.40} of type {kinds[-1]!r:.40}" if found else "no channel"
        raise DataError(f"{path}: the last channel is not the events", found=last, expected=STIM)
    eeg = found[:-1]
    unknown = [ascii(name)[:40] for name in eeg if name not in CHANNELS]
    if unknown or len(set(eeg)) < len(eeg) or set(kinds[:-1]) != {"eeg"}:
        raise DataError(
            f"{path} names channels that the recording does not have",
            found=listing(unknown or dict.fromkeys(ascii(k)[:40] for k in kinds)),
            expected="each of the EEG channels once, of type eeg",
        )
    return eeg


def _events(stim: NDArray[Any], sfreq: float, n_images: int, path: Path) -> NDArray[np.int64]:
    """Onsets without the catch trials, after a look at every number."""
    import mne

    if not np.isfinite(stim).all() or (stim % 1 != 0).any() or stim.min(initial=0) < 0:
        raise DataError(f"{path}: the channel of the events holds other things than numbers")
    if not stim.any():
        raise DataError(f"{path} has no events")
    info = mne.create_info([STIM], sfreq, STIM, verbose=False)
    raw = mne.io.RawArray(stim[None].astype(np.float64), info, verbose=False)
    found = mne.find_events(raw, stim_channel=STIM, verbose=False).astype(np.int64)
    events: NDArray[np.int64] = found[found[:, 2] != CATCH]
    beyond = events[events[:, 2] > n_images, 2]
    if beyond.size:
        raise DataError(
            f"{path} has events that stand for no image",
            found=listing(np.unique(beyond).tolist()),
            expected=f"1 to {n_images}, or {CATCH} for a catch trial",
        )
    if not len(events):
        raise DataError(f"{path} has only catch trials")
    return events


def choose_trials(session: OpenSession) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Onsets and rows of the trials to cut.

    Of an image at most 2 repetitions (training) or 20 (test) in a session, the first; none that
    reach beyond the recording.
    """
    before, after = _reach(session.sfreq)
    keep = session.trials["repetition"].to_numpy() < PER_SESSION[session.split]
    onsets = session.events[:, 0]
    keep &= (onsets >= before) & (onsets + after < session.data.shape[1])
    return onsets[keep], session.trials[keep]


def _reach(sfreq: float) -> tuple[int, int]:
    return round(-TMIN * sfreq), round(TMAX * sfreq)


def cut_trials(
    session: OpenSession, onsets: NDArray[np.int64], names: list[str], out: NDArray[Any]
) -> None:
    """Trials as the published preprocessing cuts them, without whitening.

    -0.2 to 1 s around the onset less the mean before it, resampled to 250 Hz, the last 250 samples.

    Parameters
    ----------
    session : OpenSession
        What they are cut from.
    onsets : ndarray of int, shape (n,)
        Samples.
    names : list of str
        Channels to take.
    out : ndarray, shape (n, channels, 250)
        Takes the signals, in volts.
    """
    before, after = _reach(session.sfreq)
    for start in range(0, len(onsets), BLOCK):
        block = onsets[start : start + BLOCK]
        first = int(block.min()) - before
        piece = _samples(session, names, first, int(block.max()) + after + 1)
        with np.errstate(all="ignore"):  # of damaged values; the check on the result names them
            out[start : start + BLOCK] = _cut(piece, session.sfreq, block - first)


def _samples(session: OpenSession, names: list[str], start: int, stop: int) -> NDArray[np.float64]:
    flat, n = session.data.reshape(-1), session.data.shape[1]
    out = np.empty((len(names), stop - start))
    for row, name in enumerate(names):
        place = session.names.index(name) * n
        out[row] = read_rows(flat, slice(place + start, place + stop))
    return out


def _cut(piece: NDArray[np.float64], sfreq: float, onsets: NDArray[np.int64]) -> NDArray[Any]:
    import mne

    info = mne.create_info(len(piece), sfreq, "eeg", verbose=False)
    epochs = mne.Epochs(
        mne.io.RawArray(piece, info, copy="auto", verbose=False),
        np.stack([onsets, np.zeros_like(onsets), np.ones_like(onsets)], axis=1),
        tmin=TMIN,
        tmax=TMAX,
        baseline=(None, 0),
        picks="all",
        proj=False,
        preload=True,
        reject_by_annotation=False,
        verbose=False,
    )
    if sfreq != RATE:
        epochs.resample(RATE, verbose=False)
    cut: NDArray[Any] = epochs.get_data(copy=False)[..., -SAMPLES:]
    return cut
