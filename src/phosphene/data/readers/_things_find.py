"""Where the files of THINGS-EEG2 lie, and which of the layouts in circulation they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phosphene.data.readers._things_pickles import NPY, open_pickled
from phosphene.errors import DataError, listing

LOOKS = {
    "raw": "sub-01/ses-01/raw_eeg_training.npy and raw_eeg_test.npy, ... ses-04",
    "preprocessed": "sub-01/preprocessed_eeg_training.npy and ..._test.npy: a pickled dict with "
    "preprocessed_eeg_data, ch_names, times; 17 channels at 100 Hz",
    "nice": "the same names and keys; 63 channels at 250 Hz (NICE, ATM)",
    "ubp": "sub-01/train.pt and test.pt: dicts with eeg, img, label, session (UBP, BVSA)",
    "neurobridge": "sub-01/train.npy and test.npy: plain arrays of five axes, and info.json "
    "beside or above them",
}
ALIASES = {"atm": "nice", "bvsa": "ubp"}
FILES = {
    "preprocessed": {
        "train": ("preprocessed_eeg_training.npy", "preprocessed_eeg_train.npy"),
        "test": ("preprocessed_eeg_test.npy",),
    },
    "ubp": {"train": ("train.pt", "training.pt"), "test": ("test.pt",)},
    "neurobridge": {"train": ("train.npy", "training.npy"), "test": ("test.npy",)},
    "raw": {
        "train": ("raw_eeg_training.npy", "raw_eeg_train.npy"),
        "test": ("raw_eeg_test.npy",),
    },
}
FILES["nice"] = FILES["preprocessed"]
IMAGE_FOLDERS = ("training_images", "train_images", "test_images")
DEPTH = 3
_SUBJECT = re.compile(r"sub[-_]?0*(\d+)", re.IGNORECASE)
_SESSION = re.compile(r"ses[-_]?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """Files of one subject in one layout.

    Attributes
    ----------
    layout : str
        One of `LOOKS`.
    folder : Path
        The subject's folder.
    files : dict of str to dict of str to Path
        By "train" and "test", by session ("" where the layout has one file for all).
    """

    layout: str
    folder: Path
    files: dict[str, dict[str, Path]]


def subject_number(subject: str | int) -> int:
    """Number of a subject given as 1, "1", "01" or "sub-01".

    Examples
    --------
    >>> subject_number("sub-03"), subject_number("3"), subject_number(3)
    (3, 3, 3)

    Raises
    ------
    DataError
        If it is none of these.
    """
    match = re.fullmatch(r"(?:sub[-_]?)?0*(\d+)", str(subject).strip(), re.IGNORECASE)
    if match is None:
        raise DataError(
            f"there is no subject {subject!r}", expected='a number, such as 1, "01" or "sub-01"'
        )
    return int(match[1])


def find_subject(root: Path, subject: str | int, layout: str) -> Found:
    """The files of one subject.

    Raises
    ------
    DataError
        If there are none, of more than one layout, or in more than one folder.
    """
    layout = ALIASES.get(layout, layout)
    if layout != "auto" and layout not in LOOKS:
        raise DataError(f"there is no layout {layout!r}", expected=listing(["auto", *LOOKS], 9))
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", found="a file" if root.exists() else None)
    number = subject_number(subject)
    folders: dict[int, list[Path]] = {}
    for folder in _subject_folders(root):
        match = _SUBJECT.fullmatch(folder.name)
        assert match is not None
        folders.setdefault(int(match[1]), []).append(folder)
    if number not in folders:
        raise DataError(
            f"there is no subject {number:02d} in {root}",
            found=f"subjects {listing((f'{n:02d}' for n in sorted(folders)), 20)}"
            if folders
            else f"no folder sub-XX; {_contents(root)}",
            expected=f"a folder sub-{number:02d}, at most {DEPTH} levels below",
        )
    found: list[Found] = []
    for folder in folders[number]:
        found += _layouts_in(folder, None if layout == "auto" else layout)
    if not found:
        looks = "\n    ".join(f"{name}: {look}" for name, look in LOOKS.items())
        wanted = "a layout" if layout == "auto" else f"the layout {layout!r}"
        raise DataError(
            f"the files of subject {number:02d} are not in {wanted} of THINGS-EEG2",
            found="; ".join(f"{f}: {_contents(f)}" for f in folders[number]),
            expected=f"one of\n    {looks}",
        )
    if len(found) > 1:
        raise DataError(
            f"subject {number:02d} is there more than once in {root}",
            found=listing((f"{one.layout} in {one.folder}" for one in found), 9),
            fix="choose one with layout=, or give the folder above it as root",
        )
    return found[0]


def _subject_folders(root: Path) -> Iterator[Path]:
    level = [root]
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if _SUBJECT.fullmatch(folder.name):
                yield folder
            elif folder.name not in IMAGE_FOLDERS:
                below += sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        level = below


def _layouts_in(folder: Path, wanted: str | None) -> list[Found]:
    out = []
    for layout in ("raw", "ubp", "neurobridge", "preprocessed"):
        dictionary = layout == "preprocessed"
        if wanted not in (None, layout) and not (dictionary and wanted == "nice"):
            continue
        files = _raw_files(folder) if layout == "raw" else _named(folder, layout)
        if any(files.values()):
            kind = _kind(next(iter(files["train"].values() or files["test"].values())), layout)
            if wanted in (None, kind):
                out.append(Found(kind, folder, files))
    return out


def _named(folder: Path, layout: str) -> dict[str, dict[str, Path]]:
    out: dict[str, dict[str, Path]] = {}
    for split, names in FILES[layout].items():
        there = [folder / name for name in names if (folder / name).is_file()]
        out[split] = {"": there[0]} if there else {}
    return out


def _raw_files(folder: Path) -> dict[str, dict[str, Path]]:
    files: dict[str, dict[str, Path]] = {"train": {}, "test": {}}
    sessions = {}
    for path in folder.iterdir():
        if path.is_dir() and (match := _SESSION.fullmatch(path.name)):
            sessions[int(match[1])] = path
    for number, path in sorted(sessions.items()):
        for split, one in _named(path, "raw").items():
            if one:
                files[split][str(number)] = one[""]
    return files


def _kind(path: Path, layout: str) -> str:
    """Which of the layouts that share their file names it is."""
    if layout != "preprocessed":
        return layout
    with path.open("rb") as file:
        plain = file.read(6) == NPY and b"'descr': '|O'" not in file.read(128)
    if plain:  # NeuroBridge's code takes its arrays under these names too
        return "neurobridge"
    value = open_pickled(path)
    times = value.get("times") if isinstance(value, dict) else None
    rate = 0.0
    if isinstance(times, np.ndarray) and times.ndim == 1 and len(times) > 1:
        rate = 1 / max(float(np.median(np.diff(times.astype(float)))), 1e-9)
    return "nice" if rate > 175 else "preprocessed"


def _contents(folder: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if p.name[0] != ".")
    return f"files {listing(names, 8)}" if names else "an empty folder"
