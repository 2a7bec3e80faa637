"""THINGS-EEG2 in every layout in circulation, from the raw sessions to prepared arrays.

Gifford, Dwivedi, Roig and Cichy 2022, NeuroImage 264, 119754. Ten people saw 16540 training images
(1654 concepts x 10) four times and 200 test images (200 other concepts) eighty times in four
sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phosphene._registry import register
from phosphene.data.datasets import get_dataset
from phosphene.data.readers._things_assemble import (
    from_parts,
    from_raw,
    require_counts,
    require_raw_counts,
)
from phosphene.data.readers._things_find import Found, find_subject, subject_number
from phosphene.data.readers._things_images import find_images
from phosphene.data.readers._things_parts import read_part
from phosphene.data.readers._things_raw import RawSession, open_sessions
from phosphene.data.readers._things_store import cache_of
from phosphene.data.readers._things_verify import verified
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

__all__ = ["RawSession", "read_raw_things_eeg2", "read_things_eeg2"]

NAME = "things_eeg2"
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test",),
    "both": ("train", "test"),
}
SHUFFLED = "shuffled over sessions: the first k are a random draw from all sessions"
BY_SESSION = "session after session, within a session in an order of chance"
REPETITIONS = {
    "raw": "in the order in which they were shown",
    "preprocessed": SHUFFLED,
    "nice": SHUFFLED,
    "ubp": BY_SESSION,
    "neurobridge": f"{BY_SESSION}; the file does not say which session",
}
TRAIN_AND_TEST = "by its authors, per session, with covariances of training and test trials"
WHITENING = {
    "raw": "none",
    "preprocessed": TRAIN_AND_TEST,
    "nice": TRAIN_AND_TEST,
    "ubp": "by its authors, per session, with covariances of training trials, unless the folder "
    "is named no_whiten",
    "neurobridge": "by its authors, unless their settings left it out",
}


@register("reader", NAME)
def read_things_eeg2(
    root: str | Path,
    subject: str | int,
    part: Literal["train", "test", "both"] = "both",
    layout: str = "auto",
    channels: str | Sequence[str] | None = None,
    dtype: Literal["float32", "float16"] | None = None,
    *,
    images: str | Path | None = None,
    cache: str | Path | bool | None = None,
    strict: bool = True,
    check: bool = True,
    name: str | None = None,
) -> Recording:
    """Read the trials of one person from whichever layout is there.

    Parameters
    ----------
    root : path
        Folder of the data set, or of one layout of it; the subject's folder ``sub-01`` lies at most
        three levels below.
    subject : str or int
        Such as 1, "01" or "sub-01".
    part : {"train", "test", "both"}
        Training images, test images, or both, told apart by the column ``split``.
    layout : {"auto", "raw", "preprocessed", "nice", "ubp", "neurobridge"}
        "preprocessed" is the authors' own (17 channels, 100 Hz), "nice" that of NICE and ATM
        ("atm" is understood too), "ubp" that of UBP and BVSA ("bvsa"). Found out by default.
    channels : str or sequence of str, optional
        Names, "occipito-parietal-17" (of UBP, BVSA, NeuroBridge, SAMGA), or "all", the default.
    dtype : {"float32", "float16"}, optional
        Default: as the file has it, float64 becomes float32.
    images : path, optional
        ``image_metadata.npy`` or a folder with it (or with the folders of images); by default
        looked for in and beside ``root``. The layout "ubp" needs none.
    cache : path or True, optional
        Folder in which a converted copy is kept and mapped into memory; True for phosphene's cache.
        Without it, what must be converted (float64, or another ``dtype``) is held in memory. Files
        of the type asked for are mapped as they are. Not used for the layout "raw".
    strict : bool
        Refuse other numbers of images, repetitions, channels and samples than the data set has;
        False for miniatures and parts of the data, which then is only logged.
    check : bool
        Refuse NaN, infinite, constant and impossible values; reads all signals once.
    name : str, optional
        Name of the recording; default ``things_eeg2-01``.

    Returns
    -------
    Recording
        Signals (trials, channels, times), times in seconds from onset. Stimuli are paths relative
        to the image set (``training_images/00001_aardvark/aardvark_01b.jpg``), concepts are folders
        (``00001_aardvark``) and ``text`` is the concept in words. ``session`` is "1" to "4" where
        the layout says so and "" elsewhere. The history says how the repetitions are ordered, how
        the signals were whitened and whether a checksum vouches for the files. The layout "raw"
        comes in volts, cut as published (-0.2 to 1 s, baseline, 250 Hz, the last 250 samples) but
        not whitened; use `read_raw_things_eeg2` for anything else.

    Raises
    ------
    DataError
        If the subject or layout is not there, files are damaged, hold more than plain data, do not
        fit each other, or have other counts than the data set.

    Notes
    -----
    What "the first k repetitions" are differs between layouts, so results with fewer repetitions
    are comparable only within one layout.
    """
    root = Path(root)
    splits = _splits(part)
    found = find_subject(root, subject, layout)
    _require_files(found, splits)
    number = f"{subject_number(subject):02d}"
    wanted = _dtype(dtype)
    name = name or f"{NAME}-{number}"
    info = get_dataset(NAME)
    table = None if found.layout == "ubp" else find_images(root, found.folder, images)
    vouched = [verified(info, root, path) for s in splits for path in found.files[s].values()]
    left_out = 0
    if found.layout == "raw":
        assert table is not None
        sessions = [
            session
            for split in splits
            for session in open_sessions(found, number, (split,), table, strict=strict)
        ]
        recording, left_out = from_raw(sessions, channels, wanted, check)
        require_raw_counts(recording, sessions, info, strict)
    else:
        parts = {
            split: read_part(found.layout, split, path, table)
            for split in splits
            for path in found.files[split].values()
        }
        for split, one in parts.items():
            require_counts(one, found.layout, split, info, strict)
        vouched = [a or b.verified for a, b in zip(vouched, parts.values(), strict=True)]
        recording = from_parts(parts, number, channels, wanted, cache_of(cache), check)
    return replace(recording, name=name, history=()).with_history(
        {
            "op": "read",
            "dataset": NAME,
            "layout": found.layout,
            "files": [
                path.relative_to(root).as_posix()
                for split in splits
                for path in found.files[split].values()
            ],
            "images": "in the same files" if table is None else table.path.name,
            "repetitions": REPETITIONS[found.layout],
            "whitening": WHITENING[found.layout],
            "verified": all(vouched),
            "left_out": left_out,
        }
    )


def read_raw_things_eeg2(
    root: str | Path,
    subject: str | int,
    part: Literal["train", "test", "both"] = "both",
    *,
    sessions: Sequence[str | int] | None = None,
    images: str | Path | None = None,
    preload: bool = True,
    strict: bool = True,
) -> Iterator[RawSession]:
    """Read the continuous signals of one person, one session after the other.

    Parameters
    ----------
    root, subject, part, images, strict
        As in `read_things_eeg2`.
    sessions : sequence of str or int, optional
        Which of the sessions 1 to 4; default all.
    preload : bool
        Copy the signals into memory, so that they can be filtered in place. Without it they stay in
        the file and are not checked.

    Yields
    ------
    RawSession
        The training images of a session, then its test images; only one is in memory at a time.

    Raises
    ------
    DataError
        As `read_things_eeg2`; errors of a file come when its turn comes.
    """
    root = Path(root)
    splits = _splits(part)
    found = find_subject(root, subject, "raw")
    _require_files(found, splits)
    there = sorted({n for split in splits for n in found.files[split]}, key=int)
    only = None if sessions is None else tuple(str(int(number)) for number in sessions)
    if missing := [number for number in only or () if number not in there]:
        raise DataError(
            f"{found.folder} has no session {listing(missing)}",
            found=f"sessions {listing(there)}",
        )
    table = find_images(root, found.folder, images)
    number = f"{subject_number(subject):02d}"
    opened = open_sessions(found, number, splits, table, strict=strict, only=only)
    return (session.as_raw(preload=preload) for session in opened)


def _splits(part: str) -> tuple[str, ...]:
    if part not in SPLITS:
        raise DataError(f"there is no part {part!r}", expected=listing(SPLITS))
    return SPLITS[part]


def _dtype(dtype: str | None) -> np.dtype[Any] | None:
    if dtype is None:
        return None
    if dtype not in ("float32", "float16"):
        raise DataError(f"signals are not kept as {dtype!r}", expected="float32 or float16")
    return np.dtype(dtype)


def _require_files(found: Found, splits: tuple[str, ...]) -> None:
    for split in splits:
        if not found.files[split]:
            there = [path.name for files in found.files.values() for path in files.values()]
            raise DataError(
                f"{found.folder} lacks the {split} file of the layout {found.layout!r}",
                found=listing(dict.fromkeys(there)),
                fix=f"copy it there, or read part={'train' if split == 'test' else 'test'!r} only",
            )
