"""The files of a BIDS folder: which recordings there are, and opening one of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene._registry import did_you_mean
from phosphene.data._bids_events import read_json_file, read_table
from phosphene.errors import DataError, PhospheneError, listing

if TYPE_CHECKING:
    import mne

logger = get_logger(__name__)

# What holds signals; other files of the same stem belong to them.
SUFFIXES = {
    "eeg": (".vhdr", ".edf", ".bdf", ".set"),
    "meg": (".fif", ".ds", ".con", ".sqd", ".kdf"),
    "ieeg": (".vhdr", ".edf", ".set", ".mefd", ".nwb"),
}
SAMPLE_BYTES = {"short": 2, "int": 4, "single": 4, "double": 8}


@dataclass(frozen=True)
class BidsRun:
    """One continuous recording of a BIDS folder."""

    path: Path
    subject: str
    session: str
    run: str
    datatype: str
    entities: Any

    @property
    def label(self) -> str:
        """Name of the file, for messages."""
        return self.path.name


def bids_tasks(root: str | Path) -> dict[str, list[str]]:
    """Tasks of a BIDS folder that have signals, with the datatypes of each."""
    tasks: dict[str, list[str]] = {}
    for kind in SUFFIXES:
        for path in _signal_files(Path(root), kind):
            if task := _entity(path, "task"):
                known = tasks.setdefault(task, [])
                if kind not in known:
                    known.append(kind)
    return dict(sorted(tasks.items()))


def bids_subjects(root: str | Path, task: str) -> list[str]:
    """Subjects of a BIDS folder who have signals of a task."""
    files = [path for kind in SUFFIXES for path in _signal_files(Path(root), kind)]
    mine = {_entity(path, "sub") for path in files if _entity(path, "task") == task}
    return sorted(mine)


def _signal_files(root: Path, kind: str) -> list[Path]:
    """Files with signals, of split ones the first."""
    found = [*root.glob(f"sub-*/{kind}/*_{kind}.*"), *root.glob(f"sub-*/ses-*/{kind}/*_{kind}.*")]
    kept = [path for path in found if path.suffix.lower() in SUFFIXES[kind]]
    return sorted(path for path in kept if _entity(path, "split") in ("", "1", "01"))


def _entity(path: Path, key: str) -> str:
    parts = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
    return parts.get(key, "")


def find_runs(root: Path, task: str, datatype: str | None) -> tuple[list[BidsRun], str]:
    """The recordings of a task, and their datatype."""
    from mne_bids import get_bids_path_from_fname

    if not root.is_dir():
        raise DataError(f"there is no BIDS folder {root}")
    tasks = bids_tasks(root)
    if task not in tasks:
        raise DataError(
            f"{root} has no EEG, MEG or iEEG of a task {task!r}",
            found=f"tasks {listing(map(repr, tasks), 20)}" if tasks else "no such recordings",
            expected="files such as sub-01/eeg/sub-01_task-NAME_eeg.vhdr" if not tasks else None,
            fix=did_you_mean(task, tasks),
        )
    kinds = tasks[task]
    if datatype is not None and datatype not in kinds:
        raise DataError(f"task {task!r} has no {datatype}", found=listing(kinds))
    if datatype is None and len(kinds) > 1:
        raise DataError(
            f"task {task!r} was recorded with several modalities",
            found=listing(kinds),
            fix=f"choose one with datatype={kinds[0]!r}",
        )
    kind = datatype or kinds[0]
    files = [path for path in _signal_files(root, kind) if _entity(path, "task") == task]
    return [
        BidsRun(
            path,
            _entity(path, "sub"),
            _entity(path, "ses") or "1",
            _entity(path, "run") or "1",
            kind,
            get_bids_path_from_fname(path, verbose="ERROR"),
        )
        for path in files
    ], kind


def only(
    found: list[BidsRun], entity: str, wanted: str | Iterable[str] | None, root: Path
) -> list[BidsRun]:
    """Those with the wanted values of an entity."""
    if wanted is None:
        return found
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    prefix = {"subject": "sub-", "session": "ses-", "run": "run-"}[entity]
    names = [str(name).removeprefix(prefix) for name in names]
    known = list(dict.fromkeys(getattr(run, entity) for run in found))
    if absent := [name for name in names if name not in known]:
        raise DataError(
            f"{root} has no {entity} {listing(map(repr, absent))} of this task",
            found=listing(map(repr, known), 30),
            fix=did_you_mean(absent[0], known),
        )
    return [run for run in found if getattr(run, entity) in names]


def open_run(run: BidsRun) -> mne.io.BaseRaw:
    """Open a recording, not read yet, without the annotations that repeat its events."""
    import mne_bids

    listed = _listed_channels(run)
    with readable(run), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        raw = mne_bids.read_raw_bids(run.entities, verbose="ERROR")
    for warning in said:
        logger.info("%s: %s", run.label, warning.message)
    _refuse_truncated(run, raw)
    if listed is not None:
        _refuse_unlisted(run, raw, *listed)
    # Annotations repeat the events, and MNE takes every one that begins with "bad" for a bad
    # segment: pictures of a badger would be lost.
    marks = raw.annotations
    real = [i for i, text in enumerate(marks.description) if _marks_a_segment(str(text))]
    raw.set_annotations(marks[real] if real else None, verbose="ERROR")
    return raw


def _refuse_truncated(run: BidsRun, raw: mne.io.BaseRaw) -> None:
    """Notice a recording that was cut off, which MNE takes for a shorter one."""
    stated = read_json_file(run.path.with_name(f"{run.path.name.rpartition('.')[0]}.json"))
    duration = stated.get("RecordingDuration")
    seconds = len(raw.times) / raw.info["sfreq"]
    # Some state whole seconds.
    if isinstance(duration, (int, float)) and seconds < duration - max(1.0, 0.01 * duration):
        raise _truncated(run, f"{seconds:g} s", f"{duration:g} s as stated")
    if run.path.suffix == ".vhdr":
        size = Path(raw.filenames[0]).stat().st_size
        width = len(raw.ch_names) * SAMPLE_BYTES.get(str(raw.orig_format), 1)
        if size % width:
            raise _truncated(run, f"{size} bytes", f"a multiple of {width}: whole samples")


def _listed_channels(run: BidsRun) -> tuple[Path, set[str]] | None:
    """Where there is a ``channels.tsv``, which it is and the names in it."""
    place = run.entities.find_matching_sidecar(
        suffix="channels", extension=".tsv", on_error="ignore"
    )
    if place is None:
        return None
    return Path(place), set(read_table(Path(place)).get("name", ()))


def _refuse_unlisted(run: BidsRun, raw: mne.io.BaseRaw, path: Path, listed: set[str]) -> None:
    """Notice channels that ``channels.tsv`` does not list: types and marks of theirs are unknown.

    mne-bids takes intracranial ones for EEG then, and they would be lost.
    """
    kinds = zip(raw.ch_names, raw.get_channel_types(), strict=True)
    # MNE makes stim channels of its own for some formats.
    if unlisted := [name for name, kind in kinds if kind != "stim" and name not in listed]:
        raise DataError(
            f"{path} does not list all channels of {run.label}",
            found=f"{len(listed)} channels; missing {listing(unlisted, 20)}",
            expected=f"{len(raw.ch_names)}",
            fix="it was cut off, or belongs to another recording: copy it again or complete it",
        )


def _truncated(run: BidsRun, found: str, stated: str) -> DataError:
    return DataError(
        f"{run.path} was cut off",
        found=f"{found}, not {stated}",
        fix="copy or download it again",
    )


def _marks_a_segment(description: str) -> bool:
    return description.upper().startswith(("BAD_", "BAD ", "EDGE")) or description.upper() == "BAD"


@contextmanager
def readable(run: BidsRun) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into an error that names the file."""
    try:
        yield
    except PhospheneError:
        raise
    except Exception as error:
        raise DataError(
            f"{run.path} cannot be read",
            found=f"{type(error).__name__}: {error}",
            fix="copy it and its sidecar files again, or try the BIDS validator on the folder",
        ) from error
