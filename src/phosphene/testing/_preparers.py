"""Checks of preparations: from files of a data set to recordings that are ready."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phosphene import _registry
from phosphene.data.recording import Recording
from phosphene.errors import PhospheneError
from phosphene.testing._layouts_bids import write_bids
from phosphene.testing._layouts_eeg2 import write_things_eeg2
from phosphene.testing._layouts_fmri import write_god, write_things_fmri
from phosphene.testing._layouts_meg import write_things_meg
from phosphene.testing._layouts_nsd import write_nsd
from phosphene.testing._runner import Suite, fail, info_of, raise_first

# Writes small files of the data set into a folder; returns the settings that suit them.
RawExample = Callable[[Path], Mapping[str, Any]]
# Steps that learn something, by their name in the history.
LEARNED = ("whitening", "zscore", "standardise")


@dataclass(frozen=True)
class PreparerPart:
    """A preparation under test, with a function that writes small files for it."""

    name: str
    kind: Any
    example: RawExample

    def parts(self, folder: Path) -> dict[str, Recording]:
        """What it makes of the example's first person."""
        settings = self.example(folder)
        made = self.kind(**settings)
        people = made.subjects(folder)
        if not people or not all(isinstance(name, str) for name in people):
            fail("a preparation names the people whose files are there", found=people)
        return dict(made.parts(folder, people[0]))


def _loose(write: Callable[[Path], Any]) -> RawExample:
    def example(folder: Path) -> Mapping[str, Any]:
        write(folder)
        return {"strict": False}

    return example


def bids_raw_example(folder: Path) -> Mapping[str, Any]:
    """A BIDS folder with one task."""
    write_bids(folder)
    return {"tmin": -0.1, "tmax": 0.4}


EXAMPLES: dict[str, RawExample] = {
    "bids": bids_raw_example,
    "god": _loose(write_god),
    "nsd": _loose(write_nsd),
    "things_eeg2": _loose(lambda f: write_things_eeg2(f, "raw", concepts=3, test_concepts=2)),
    "things_fmri": _loose(write_things_fmri),
    "things_meg": _loose(write_things_meg),
}


def prepare(name: str, part: Any) -> PreparerPart:
    """Find the example: given at registration (``example=``) or known here."""
    if isinstance(part, PreparerPart):
        return part
    example = info_of("preparer", name).get("example") or EXAMPLES.get(name)
    if example is None:
        fail(
            f"there is no example for the preparation {name!r}",
            fix="register it with example=function, which writes small files of the data set into "
            "a folder and returns the settings that suit them",
        )
    assert example is not None
    return PreparerPart(name, part, example)


def settings_have_defaults_and_words(part: PreparerPart) -> None:
    """A frozen dataclass whose fields have defaults and are described."""
    frozen = getattr(getattr(part.kind, "__dataclass_params__", None), "frozen", False)
    if not frozen:
        fail("a preparation is a frozen dataclass of settings", found=part.kind)
    part.kind()
    text = inspect.getdoc(part.kind) or ""
    missing = [f.name for f in dataclasses.fields(part.kind) if f.name not in text]
    if missing:
        fail("every setting is described in the docstring", found=f"not {missing}")


def recordings_come_out(part: PreparerPart) -> None:
    """Recordings of finite numbers, by names that can be folders, of one person each."""
    with tempfile.TemporaryDirectory() as folder:
        found = part.parts(Path(folder))
        if not found:
            fail("nothing came out")
        for name, recording in found.items():
            if not name.isidentifier():
                fail("parts have simple names", found=name)
            if not recording.n_trials or not np.isfinite(np.asarray(recording.signals)).all():
                fail(f"{name} has finite trials", found=recording.shape)
            if len(recording.subjects) != 1:
                fail("people are prepared one by one", found=recording.subjects)


def training_is_apart(part: PreparerPart) -> None:
    """Training and test share no image, and what was learned was learned from training."""
    with tempfile.TemporaryDirectory() as folder:
        found = part.parts(Path(folder))
    train = found.get("train")
    if train is None:
        return
    if (train.trials["split"] == "test").any():
        fail("the training part holds test trials")
    for name, recording in found.items():
        if name == "train":
            continue
        if shared := set(recording.stimuli) & set(train.stimuli):
            fail(f"{name} and training share images", found=sorted(shared)[:3])
        learned = [
            [entry.get("fitted_on") for entry in r.history if entry.get("op") in LEARNED]
            for r in (train, recording)
        ]
        if learned[0] != learned[1]:
            fail(f"{name} was treated otherwise than training", found=learned)


def preparing_is_repeatable(part: PreparerPart) -> None:
    """The same files give the same recordings, also after saving and loading."""
    prints = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            found = part.parts(Path(folder))
            for name, recording in found.items():
                saved = recording.save(Path(folder) / f".saved-{name}")
                if Recording.load(saved).fingerprint != recording.fingerprint:
                    fail(f"{name} differs after saving and loading")
            prints.append({name: recording.fingerprint for name, recording in found.items()})
    if prints[0] != prints[1]:
        fail("two preparations of the same files differ")


def an_empty_folder_is_an_error(part: PreparerPart) -> None:
    """A folder without the data set's files is an error of phosphene."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            people = part.kind().subjects(Path(folder))
        except PhospheneError:
            return
        except Exception as error:
            fail("an error of phosphene was expected", found=f"{type(error).__name__}: {error}")
        if people:
            fail("people were found in an empty folder", found=people)


SUITE: Suite[PreparerPart] = Suite(
    "preparer",
    prepare,
    (
        settings_have_defaults_and_words,
        recordings_come_out,
        training_is_apart,
        preparing_is_repeatable,
        an_empty_folder_is_an_error,
    ),
)
_registry.add("check", "preparer", SUITE)


def check_preparer(preparer: Any, example: RawExample | None = None) -> None:
    """Check a preparation on a small example.

    Parameters
    ----------
    preparer : str or class
        A registered name, or a frozen dataclass with ``subjects`` and ``parts``.
    example : callable, optional
        Writes small files into a folder and returns the settings that suit them; needed where
        none is registered.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.
    """
    if example is not None:
        kind = _registry.get("preparer", preparer) if isinstance(preparer, str) else preparer
        name = preparer if isinstance(preparer, str) else preparer.__name__
        preparer = PreparerPart(name, kind, example)
    raise_first(SUITE, preparer)
