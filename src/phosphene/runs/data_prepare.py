"""What ``phosphene data prepare`` does: raw to ready, person by person, with a quality page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene._logging import get_logger, progress
from phosphene.config import read_value
from phosphene.errors import ArtefactError, DataError, PhospheneError, StorageError, listing

if TYPE_CHECKING:
    from phosphene.data.recording import Recording

logger = get_logger(__name__)

STATE = "prepared.json"
PAGE = "quality.html"
FIGURES = "quality"
KIND = "prepared"
VERSION = 1
GRID = "display:grid;grid-template-columns:repeat(auto-fit,minmax(27rem,1fr));gap:0 1.2rem"


@dataclass(frozen=True)
class Prepared:
    """What became of the recordings of one person.

    Attributes
    ----------
    subject : str
        Who.
    folder : Path
        Where the parts are.
    parts : dict of str to dict
        Facts of each part, by its folder's name.
    outcome : {"prepared", "already there"}
        What was done.
    """

    subject: str
    folder: Path
    parts: dict[str, dict[str, Any]]
    outcome: str


def prepare_data(
    name: str,
    root: str | Path,
    out: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    show: bool = True,
) -> list[Prepared]:
    """Prepare a data set: ``out/sub-01/train`` and so on, as saved Recordings, and a quality page.

    People who are finished, whose files are as they were written, are left as they are; so the same
    call goes on after an interruption.

    Parameters
    ----------
    name : str
        A registered preparation; see ``phosphene list preparers``.
    root : path
        Folder of the data set.
    out : path
        Folder for the recordings.
    subjects : sequence of str, optional
        Only these.
    settings : mapping, optional
        Settings of the preparation.
    show : bool
        Show a bar when someone is watching.

    Returns
    -------
    list of Prepared
        One per person.

    Raises
    ------
    DataError
        If files are missing or unreadable, or ``out`` was prepared with other settings. One
        person's files do not keep the others from being prepared: it is raised at the end.
    StorageError
        If it cannot be written.
    """
    from phosphene.data.prepare._base import settings_of, with_settings

    preparer = with_settings(name, settings or {})
    root, out = Path(root), Path(out)
    about = {"version": VERSION, "dataset": name, "settings": settings_of(preparer)}
    people = _people(preparer, root, name, subjects)
    _claim(out, about)
    done: list[Prepared] = []
    failed: list[tuple[str, PhospheneError]] = []
    for subject in progress(people, total=len(people), desc=name, unit="subject", enabled=show):
        folder = out / f"sub-{subject}"
        try:
            facts = _finished(folder, about, subject)
            outcome = "already there"
            if facts is None:
                facts, outcome = _prepare(preparer, root, folder, about, subject), "prepared"
        except StorageError:
            raise  # a full disk stops all of them
        except PhospheneError as error:
            logger.warning("subject %s: %s", subject, error.what)
            failed.append((subject, error))
            continue
        done.append(Prepared(subject, folder, facts, outcome))
    if done:
        write_quality_page(name, out)
    if len(failed) == 1 and not done:
        raise failed[0][1]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(people)} subjects could not be prepared",
            found="; ".join(f"{who}: {error.what}" for who, error in failed[:5]),
            fix=failed[0][1].fix
            or f"{len(done)} are finished; mend the files and run the same command again",
        )
    return done


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Values of ``key=value`` words, read as YAML.

    Examples
    --------
    >>> parse_settings(["tmax=0.8", "whiten=true", "task=images", "picks=[Oz, O1]"])
    {'tmax': 0.8, 'whiten': True, 'task': 'images', 'picks': ['Oz', 'O1']}

    Raises
    ------
    DataError
        If a word has another form.
    """
    import yaml

    out: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise DataError(f"{word!r} is no setting", expected="key=value")
        try:
            out[key.strip()] = read_value(value)
        except yaml.YAMLError as error:
            raise DataError(f"the value of {word!r} cannot be read", found=error) from error
    return out


def write_quality_page(name: str, out: str | Path) -> Path:
    """Write ``quality.html`` from the figures and facts of all finished people.

    Parameters
    ----------
    name : str
        Registered name of the data set or preparation.
    out : path
        Folder that `prepare_data` wrote.

    Returns
    -------
    Path
        The page.
    """
    from phosphene._saving import read_json
    from phosphene.reports._markup import table_html
    from phosphene.reports.html import Report, Section

    out = Path(out)
    about = read_json(out / STATE)
    info = _registry.get("dataset", name) if name in _registry.names("dataset") else None
    title = info.title if info else f"Prepared recordings: {name}"
    subtitle = ", ".join(f"{k} = {v}" for k, v in about["settings"].items() if v != "")
    report = Report(f"Quality of {title}" if info else title, subtitle)
    people = [(f, read_json(f / STATE)) for f in sorted(out.glob("sub-*")) if (f / STATE).is_file()]
    rows = [
        {"subject": state["subject"], "part": part, **{k: _cell(v) for k, v in facts.items()}}
        for _, state in people
        for part, facts in state["parts"].items()
    ]
    columns = {"subject": "subject", "part": "part", "trials": "trials", "stimuli": "stimuli",
               "concepts": "concepts", "repetitions": "repetitions", "size": "signals",
               "findings": "findings"}  # fmt: skip
    numbers = ("trials", "stimuli", "concepts")
    report.add(Section("What was prepared", table_html(rows, columns, numbers=numbers)))
    for folder, state in people:
        body = "".join(
            _picture(folder / FIGURES / f"{figure}.png", caption)
            for figure, caption in state["figures"].items()
        )
        grid = f'<div style="{GRID}">{body}</div>'
        report.add(Section(f"Subject {state['subject']}", grid))
    return report.save(out / PAGE)


def _people(preparer: Any, root: Path, name: str, subjects: Sequence[str] | None) -> list[str]:
    from phosphene.data.finding import subject_key

    if not root.is_dir():
        raise DataError(f"there is no folder {root}", fix="give the data set's folder with --root")
    known: list[str] = preparer.subjects(root)
    if not known:
        raise DataError(f"{root} holds no subject of {name}")
    if not subjects:
        return known
    short = {subject_key(subject): subject for subject in known}
    if absent := [subject for subject in subjects if subject_key(subject) not in short]:
        raise DataError(
            f"{root} has no files of subject {listing(map(repr, absent))}", found=listing(known, 30)
        )
    return [short[subject_key(subject)] for subject in subjects]


def _claim(out: Path, about: Mapping[str, Any]) -> None:
    """Take a new or empty folder, or go on with one of the same settings."""
    from phosphene._saving import jsonable, read_json, write_json

    if (out / STATE).is_file():
        there = read_json(out / STATE)
        if there != jsonable(about):
            old = there.get("settings", {}) if isinstance(there, dict) else {}
            new = jsonable(about)["settings"]
            differ = [
                f"{k} was {old.get(k)!r}, now {v!r}" for k, v in new.items() if old.get(k) != v
            ]
            raise DataError(
                f"{out} was prepared in another way",
                found=listing(differ) or f"data set {there.get('dataset')!r}",
                fix="choose another folder with --out, or the same settings",
            )
        return
    if out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise StorageError(
            f"{out} holds files that do not belong to a preparation",
            fix="choose a new or empty folder with --out",
        )
    write_json(out / STATE, about)


def _finished(folder: Path, about: Mapping[str, Any], subject: str) -> dict[str, Any] | None:
    """Facts of a person who is finished and whose files are intact, else None."""
    from phosphene._saving import jsonable, read_json, read_manifest, verify_folder

    if not (folder / STATE).is_file():
        return None
    try:
        state = read_json(folder / STATE)
        same = state["about"] == jsonable(about) and state["subject"] == subject
        for part, stated in state["manifests"].items():
            verify_folder(folder / part, kind="recording")
            same = same and read_manifest(folder / part)["sha256"] == stated
        for figure in state["figures"]:
            same = same and (folder / FIGURES / f"{figure}.png").is_file()
    except (ArtefactError, KeyError, TypeError, AttributeError) as error:
        logger.warning("subject %s is prepared again: %s", subject, error)
        return None
    parts: dict[str, Any] = state["parts"]
    return parts if same else None


def _prepare(
    preparer: Any, root: Path, folder: Path, about: Mapping[str, Any], subject: str
) -> dict[str, Any]:
    from phosphene._saving import read_manifest, write_json
    from phosphene.data.recording import Recording

    (folder / STATE).unlink(missing_ok=True)
    saved: dict[str, Recording] = {}
    for part, recording in preparer.parts(root, subject):
        recording.save(folder / part)
        # From the file: the next part need not find this one in memory.
        saved[part] = Recording.load(folder / part)
    if not saved:
        raise DataError(f"there are no trials of subject {subject}")
    facts = {part: part_facts(recording) for part, recording in saved.items()}
    figures = _draw(saved, folder / FIGURES)
    manifests = {part: read_manifest(folder / part)["sha256"] for part in saved}
    # Last of all: with this file the person counts as finished.
    write_json(
        folder / STATE,
        {"about": about, "subject": subject, "parts": facts, "manifests": manifests,
         "figures": figures},
    )  # fmt: skip
    return facts


def part_facts(recording: Recording) -> dict[str, Any]:
    """What the quality page says about a part."""
    from phosphene.data import checking

    trials = recording.trials
    low, middle, high = checking.repetitions(trials)
    scan = checking.scan_signals(recording)
    found = [
        *checking.channel_findings(recording, scan),
        *checking.duplicate_findings(trials, scan.digests),
    ]
    size = " x ".join(map(str, recording.shape[1:]))
    rate = "" if recording.sfreq is None else f", {recording.sfreq:g} Hz"
    return {
        "trials": len(trials),
        "stimuli": int(trials["stimulus"].nunique()),
        "concepts": int(trials["concept"].nunique()),
        "repetitions": str(low) if low == high else f"{low} to {high}, median {middle:g}",
        "size": f"{size}{rate}, {recording.dtype}",
        "findings": "; ".join(f"{f.what}: {f.evidence}" for f in found) or "none",
    }


def _draw(parts: Mapping[str, Recording], folder: Path) -> dict[str, str]:
    """Draw the figures of one person; returns their captions by name."""
    from phosphene._saving import atomic_path
    from phosphene.reports.quality import quality_figures

    captions = {}
    for name, (figure, caption) in quality_figures(parts).items():
        with atomic_path(folder / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=110)
        captions[name] = caption
    return captions


def _picture(path: Path, caption: str) -> str:
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption, quote=True)
    return f'<figure><img src="{uri}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _cell(value: Any) -> str:
    return str(value)
