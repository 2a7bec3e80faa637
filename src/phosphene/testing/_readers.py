"""Checks of readers: functions from files to a recording."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phosphene import _registry
from phosphene._optional import require
from phosphene.data.recording import Recording
from phosphene.errors import DataError, MissingExtraError, PhospheneError
from phosphene.testing._layouts_bids import bids_example
from phosphene.testing._layouts_eeg2 import things_eeg2_example
from phosphene.testing._layouts_fmri import (
    god_example,
    miyawaki2008_example,
    nifti_events_example,
    things_fmri_example,
)
from phosphene.testing._layouts_meg import things_meg_example
from phosphene.testing._layouts_nsd import nsd_example
from phosphene.testing._runner import CheckFailure, Suite, fail, info_of, raise_first

Example = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class ReaderPart:
    """A reader under test with a function that writes a small example."""

    name: str
    read: Callable[..., Any]
    example: Example


def nifti_example(folder: Path) -> Mapping[str, Any]:
    """Write 24 volumes of 30 voxels in two runs of alternating blocks."""
    nibabel = require("nibabel", "fmri", "the example of the NIfTI reader")
    rng = np.random.default_rng(0)
    shape = (5, 6, 2)
    volumes, affine = 24, np.diag([3.0, 3.0, 3.0, 1.0])
    mask = np.zeros(shape, dtype=np.uint8)
    mask[:, :, 0] = 1
    bold = rng.normal(100.0, 5.0, (*shape, volumes)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(bold, affine), folder / "bold.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "mask.nii.gz")
    names = ["rest", "face", "house"]
    rows = [f"{names[i // 4 % 3]} {i // 12}" for i in range(volumes)]
    (folder / "labels.txt").write_text("\n".join(["labels chunks", *rows]) + "\n")
    return {
        "bold": folder / "bold.nii.gz",
        "mask": folder / "mask.nii.gz",
        "labels": folder / "labels.txt",
    }


EXAMPLES: dict[str, Example] = {
    "nifti": nifti_example,
    "bids": bids_example,
    "god": god_example,
    "nsd": nsd_example,
    "things_fmri": things_fmri_example,
    "nifti_events": nifti_events_example,
    "miyawaki2008": miyawaki2008_example,
    "things_eeg2": things_eeg2_example,
    "things_meg": things_meg_example,
}


def prepare(name: str, part: Any) -> ReaderPart:
    """Find the example: given at registration (``example=``) or known here."""
    if isinstance(part, ReaderPart):
        return part
    example = info_of("reader", name).get("example") or EXAMPLES.get(name)
    if example is None:
        fail(
            f"there is no example for the reader {name!r}",
            fix="register it with example=function, which writes a small file into a folder and "
            "returns the arguments that read it",
        )
    assert example is not None
    return ReaderPart(name, part, example)


def a_recording_comes_out(part: ReaderPart) -> None:
    """Reading gives a recording of finite numbers whose ids are text."""
    with tempfile.TemporaryDirectory() as folder:
        recording = part.read(**part.example(Path(folder)))
        if not isinstance(recording, Recording):
            raise CheckFailure("a reader returns a Recording", found=type(recording).__name__)
        if recording.n_trials < 1 or not np.isfinite(np.asarray(recording.signals)).all():
            fail("a reader returns finite signals", found=recording.shape)
        for column in ("stimulus", "concept", "subject", "session", "run"):
            if column not in recording.trials:
                fail(f"the trials lack the column {column!r}", found=list(recording.trials))
            values = recording.trials[column].tolist()
            if not all(isinstance(value, str) for value in values):
                fail(f"ids in the column {column!r} are text", found=values[:3])


def reading_is_repeatable(part: ReaderPart) -> None:
    """Reading twice gives the same recording."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = part.example(Path(folder))
        first, second = part.read(**arguments), part.read(**arguments)
        if first.fingerprint != second.fingerprint:
            fail("two readings of the same files differ")


def recordings_survive_saving(part: ReaderPart) -> None:
    """What was read is the same after saving and loading."""
    with tempfile.TemporaryDirectory() as folder:
        recording = part.read(**part.example(Path(folder)))
        recording.save(Path(folder) / "saved")
        if Recording.load(Path(folder) / "saved").fingerprint != recording.fingerprint:
            fail("the recording differs after saving and loading")


def bad_files_are_named(part: ReaderPart) -> None:
    """A missing and a truncated file are errors of phosphene that name the file."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = part.example(Path(folder))
        files = {k: v for k, v in arguments.items() if isinstance(v, Path) and v.is_file()}
        for path in files.values():
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            if path.suffix not in (".txt", ".csv", ".tsv"):  # half a table is a table
                _refused(part, arguments, path, "a truncated file")
            path.unlink()
            _refused(part, arguments, path, "a missing file")
            path.write_bytes(content)


def _refused(part: ReaderPart, arguments: Mapping[str, Any], path: Path, what: str) -> None:
    try:
        part.read(**arguments)
    except MissingExtraError:
        raise
    except PhospheneError as error:
        if path.name not in str(error):
            fail(f"the error about {what} must name it", found=str(error), expected=path.name)
        return
    except Exception as error:
        fail(f"{what} must be a {DataError.__name__}", found=f"{type(error).__name__}: {error}")
    fail(f"{what} was accepted", found=path.name)


SUITE: Suite[ReaderPart] = Suite(
    "reader",
    prepare,
    (
        a_recording_comes_out,
        reading_is_repeatable,
        recordings_survive_saving,
        bad_files_are_named,
    ),
)
_registry.add("check", "reader", SUITE)


def check_reader(reader: Any, example: Example | None = None) -> None:
    """Check a reader on a small example.

    Parameters
    ----------
    reader : str or callable
        A registered name, or a function that returns a recording.
    example : callable, optional
        Writes small files into a folder and returns the reader's arguments; needed for readers
        that are not registered.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.
    MissingExtraError
        If a package of the reader is not installed.
    """
    if example is not None:
        read = _registry.get("reader", reader) if isinstance(reader, str) else reader
        name = reader if isinstance(reader, str) else getattr(reader, "__name__", "reader")
        reader = ReaderPart(name, read, example)
    raise_first(SUITE, reader)
