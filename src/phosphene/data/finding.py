"""What a path holds: which reader fits, and what to pass to it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phosphene import _registry
from phosphene.errors import DataError, listing

FORMATS = (
    "a saved Recording or a folder of them, -epo.fif or .npz files, a BIDS folder, a folder with a "
    "NIfTI series, its mask and a table of labels, or the files of THINGS-EEG2, THINGS-MEG, GOD, "
    "NSD or THINGS-fMRI"
)
DEPTH = 3
# Read by `phosphene.runs.reading`, not by a registered reader.
OWN = ("recording", "epochs", "npz")
_ENTITY = re.compile(r"(?:^|[_/])(sub|ses|run)-([A-Za-z0-9]+)")
_EEG2 = ("raw_eeg_*.npy", "preprocessed_eeg_*.npy", "train*.pt", "train*.npy", "test.pt")


@dataclass(frozen=True)
class Source:
    """One recording to be read.

    Attributes
    ----------
    reader : str
        Registered name, or "recording", "epochs" or "npz", which are read without one.
    label : str
        How messages call it.
    arguments : dict
        What the reader is called with.
    """

    reader: str
    label: str
    arguments: dict[str, Any] = field(default_factory=dict)


def find_sources(
    path: str | Path,
    *,
    reader: str | None = None,
    subjects: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Source]:
    """Find out what a path holds.

    Parameters
    ----------
    path : path
        A file or a folder.
    reader : str, optional
        Registered name of a reader, where the files could be several things.
    subjects : sequence of str, optional
        Read only these, where a reader takes subjects one by one.
    options : mapping, optional
        Further arguments of the reader.

    Returns
    -------
    list of Source
        One per file or per subject.

    Raises
    ------
    DataError
        If nothing is there that can be read, or an option is not known to the reader.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"there is nothing at {path}", expected=FORMATS)
    given = dict(options or {})
    finders = _FINDERS if reader is None else {reader: _finder(reader)}
    for find in finders.values():
        found = find(path, subjects)
        if found:
            return [_with_options(source, given) for source in found]
    inside = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else [path.name]
    raise DataError(
        f"{path} holds nothing that phosphene reads" + (f" as {reader!r}" if reader else ""),
        found=listing(inside, 8) or "an empty folder",
        expected=FORMATS,
        fix="name a reader and its arguments with --reader and --set key=value",
    )


def _finder(reader: str) -> Callable[[Path, Sequence[str] | None], list[Source]]:
    known = _FINDERS.get(reader)
    if known is not None:
        return known
    read = _registry.get("reader", reader)

    def plain(path: Path, subjects: Sequence[str] | None) -> list[Source]:
        """The path goes to the reader's first parameter."""
        return [Source(reader, path.name, {next(iter(inspect.signature(read).parameters)): path})]

    return plain


def _with_options(source: Source, options: Mapping[str, Any]) -> Source:
    if not options:
        return source
    if source.reader in OWN:
        known: list[str] = ["stimulus", "concept"]
    else:
        known = list(inspect.signature(_registry.get("reader", source.reader)).parameters)
    for name in options:
        if name not in known:
            raise DataError(
                f"{source.label} is read by {source.reader!r}, which has no option {name!r}",
                expected=listing(known, 30),
                fix="leave it out: there are no published counts to compare these files with"
                if name == "strict"
                else _registry.did_you_mean(name, known),
            )
    return Source(source.reader, source.label, {**source.arguments, **options})


def _recordings(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    if path.is_dir() and (path / "recording.json").is_file():
        return [Source("recording", path.name, {"source": path})]
    folders = [p.parent for p in _below(path, "recording.json")]
    return [
        Source("recording", folder.relative_to(path).as_posix(), {"source": folder})
        for folder in folders
        if not subjects
        or subject_key(_entities(folder).get("sub", "")) in map(subject_key, subjects)
    ]


def _single_files(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    if path.is_file() and path.name.endswith((".fif", ".fif.gz")):
        return [Source("epochs", path.name, {"source": path})]
    if path.suffix == ".npz" and path.is_file():
        return [Source("npz", path.name, {"source": path})]
    if not path.is_dir():
        return []
    files = [p for p in sorted(path.iterdir()) if p.name.endswith((".fif", ".fif.gz", ".npz"))]
    # The parts of a split file come with its first.
    files = [p for p in files if not re.search(r"-epo-\d+\.fif(\.gz)?$", p.name)]
    out = []
    for file in files:
        kind = "npz" if file.suffix == ".npz" else "epochs"
        entities = _entities(file)
        if subjects and subject_key(entities.get("sub", "")) not in map(subject_key, subjects):
            continue
        ids = {"subject": entities.get("sub"), "session": entities.get("ses")}
        if len(files) > 1 and not any(ids.values()):
            ids["session"] = file.name.partition(".")[0].removesuffix("-epo")
        arguments = {"source": file, "ids": {k: v for k, v in ids.items() if v}}
        out.append(Source(kind, file.name, arguments))
    return out


def _bids(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    if not path.is_dir() or not any(path.glob("sub-*")):
        return []
    from phosphene.data.readers.bids import bids_tasks

    tasks = bids_tasks(path)
    more = {"subjects": list(subjects)} if subjects else {}
    return [
        Source("bids", f"task {task}", {"root": path, "task": task, **more})
        for task, kinds in tasks.items()
        if len(tasks) == 1 or kinds
    ]


def _nifti(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    if not path.is_dir():
        return []
    images = [p for p in sorted(path.iterdir()) if p.name.endswith((".nii", ".nii.gz"))]
    masks = [p for p in images if "mask" in p.name.lower()]
    series = [p for p in images if p not in masks]
    tables = [p for p in sorted(path.iterdir()) if p.suffix in (".tsv", ".csv", ".txt")]
    likely = [p for p in tables if re.search(r"event|label|attribut", p.name.lower())] or tables
    if not series:
        return []
    if len(masks) != 1 or len(series) != 1 or len(likely) != 1:
        raise DataError(
            f"{path}: which of these are the series, its mask and the labels?",
            found=listing([p.name for p in (*images, *tables)], 10),
            expected="one 4-D image, one image with 'mask' in its name, one table of labels",
            fix="name them: --reader nifti --set bold=... --set mask=... --set labels=...",
        )
    return [Source("nifti", series[0].name,
                   {"bold": series[0], "mask": masks[0], "labels": likely[0]})]  # fmt: skip


def _nifti_events(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    """Runs with a table of events each, in one folder or in a BIDS folder."""
    if not path.is_dir():
        return []
    files = [p for p in _walk(path, DEPTH + 1) if p.name.endswith(("_bold.nii.gz", "_bold.nii"))]
    runs: dict[str, list[tuple[Path, Path]]] = {}
    for bold in files:
        events = bold.with_name(f"{bold.name.rpartition('_bold.nii')[0]}_events.tsv")
        subject = _entities(bold).get("sub", "01")
        if events.is_file() and (
            not subjects or subject_key(subject) in map(subject_key, subjects)
        ):
            runs.setdefault(subject, []).append((bold, events))
    out = []
    for subject, pairs in runs.items():
        near = [p for p in _walk(path, DEPTH + 1) if "mask" in p.name and ".nii" in p.name]
        own = [p for p in near if f"sub-{subject}" in p.as_posix()] or near
        arguments: dict[str, Any] = {
            "bold": [bold for bold, _ in pairs],
            "events": [events for _, events in pairs],
            "subject": subject,
        }
        if len(own) == 1:
            arguments["mask"] = own[0]
        out.append(Source("nifti_events", f"subject {subject}", arguments))
    return out


def _god(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    out = []
    for file in _files(path, r"Subject\d+\.(h5|hdf5|mat)"):
        number = re.sub(r"\D", "", file.stem)
        if not subjects or subject_key(number) in map(subject_key, subjects):
            arguments = {"path": file, "subject": f"{int(number):02d}"}
            out.append(Source("god", file.name, arguments))
    return out


def _things_fmri(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    return _by_subject("things_fmri", path, subjects, r"sub-?(\d+)_ResponseData\.h5")


def _things_meg(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    return _by_subject("things_meg", path, subjects, r"preprocessed_P(\d+)-epo\.fif")


def _nsd(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    found = _by_subject("nsd", path, subjects, r"betas_all_subj(\d+).*\.hdf5")
    if found or not path.is_dir():
        return found
    people = {p.parent.parent.parent for p in _below(path, "betas_session01.hdf5", 6)}
    numbers = sorted({m[1] for p in _folders(path, 3) if (m := re.fullmatch(r"subj(\d+)", p.name))})
    if not people or not numbers:
        return []
    return _of(Source("nsd", "", {"root": path}), numbers, subjects)


def _things_eeg2(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    if not path.is_dir():
        return []
    numbers = set()
    for folder in [path, *_folders(path, DEPTH)]:
        match = re.fullmatch(r"sub[-_]?(\d+)", folder.name, re.IGNORECASE)
        places = [folder, *(p for p in folder.glob("ses*") if p.is_dir())]
        if match and any(next(p.glob(pattern), None) for p in places for pattern in _EEG2):
            numbers.add(match[1])
    root = path.parent if re.fullmatch(r"sub[-_]?\d+", path.name, re.IGNORECASE) else path
    return _of(Source("things_eeg2", "", {"root": root}), sorted(numbers), subjects)


def _miyawaki(path: Path, subjects: Sequence[str] | None) -> list[Source]:
    files = _files(path, r"miyawaki.*\.mat")
    if not files or "miyawaki2008" not in _registry.names("reader"):
        return []
    first = next(iter(inspect.signature(_registry.get("reader", "miyawaki2008")).parameters))
    return [Source("miyawaki2008", file.name, {first: file}) for file in files]


# In this order: the derivatives of THINGS-MEG lie in a BIDS folder.
_FINDERS: dict[str, Callable[[Path, Sequence[str] | None], list[Source]]] = {
    "recording": _recordings,
    "things_meg": _things_meg,
    "things_fmri": _things_fmri,
    "god": _god,
    "nsd": _nsd,
    "things_eeg2": _things_eeg2,
    "bids": _bids,
    "epochs": _single_files,
    "miyawaki2008": _miyawaki,
    "nifti_events": _nifti_events,
    "nifti": _nifti,
}


def _by_subject(
    reader: str, path: Path, subjects: Sequence[str] | None, pattern: str
) -> list[Source]:
    files = _files(path, pattern)
    numbers = [m[1] for file in files if (m := re.fullmatch(pattern, file.name))]
    root = path if path.is_dir() else path.parent
    return _of(Source(reader, "", {"root": root}), sorted(set(numbers)), subjects)


def _of(source: Source, numbers: Sequence[str], subjects: Sequence[str] | None) -> list[Source]:
    """One source per subject; the argument has the type that the reader's default form takes."""
    if not numbers or source.reader not in _registry.names("reader"):
        return []
    wanted = [n for n in numbers if not subjects or subject_key(n) in map(subject_key, subjects)]
    if subjects and len(wanted) < len(set(map(subject_key, subjects))):
        raise DataError(
            f"{source.arguments['root']} does not have all subjects {listing(subjects)}",
            found=listing(numbers, 30),
        )
    return [
        Source(source.reader, f"subject {n}", {**source.arguments, "subject": int(n)})
        for n in wanted
    ]


def _files(path: Path, pattern: str) -> list[Path]:
    """A file, or the files below a folder, whose name fits."""
    if path.is_file():
        return [path] if re.fullmatch(pattern, path.name) else []
    return [p for p in _walk(path, DEPTH) if p.is_file() and re.fullmatch(pattern, p.name)]


def _below(path: Path, name: str, depth: int = DEPTH) -> list[Path]:
    return [p for p in _walk(path, depth) if p.name == name] if path.is_dir() else []


def _folders(path: Path, depth: int) -> list[Path]:
    return [p for p in _walk(path, depth) if p.is_dir()]


def _walk(path: Path, depth: int) -> Iterator[Path]:
    """Files and folders at most so many levels below, hidden ones left out."""
    for child in sorted(path.iterdir()):
        if child.name.startswith("."):
            continue
        yield child
        # Folders of images hold thousands of files and no recording.
        if depth > 1 and child.is_dir() and "image" not in child.name.lower():
            yield from _walk(child, depth - 1)


def _entities(path: Path) -> dict[str, str]:
    return dict(_ENTITY.findall(path.as_posix()))


def subject_key(subject: str) -> str:
    """A subject's number without prefix and leading zeros, so that sub-01, 01 and 1 are the same.

    Examples
    --------
    >>> subject_key("sub-01"), subject_key("1"), subject_key("CSI1")
    ('1', '1', 'CSI1')
    """
    return str(subject).removeprefix("sub-").lstrip("0")
