"""Miniatures of THINGS-MEG: epochs in several files, tables of images and trials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CONCEPTS = ("aardvark", "abacus", "aircraft_carrier", "bat1", "bat2", "boat", "cake", "drum")
CATCH = 999999
SFREQ, TMIN, SAMPLES = 200.0, -0.1, 281
PICTURE = 64


@dataclass(frozen=True)
class MegMiniature:
    """What was written, to compare with what a reader makes of it.

    Attributes
    ----------
    root : Path
        The data set's folder.
    ids : list of str
        Stimuli in order of their event number.
    events : ndarray of int, shape (trials,)
        Event of each trial, catch trials included.
    test : ndarray of bool, shape (trials,)
        Test trials.
    sessions : ndarray of int, shape (trials,)
        Session of each trial.
    signals : ndarray, shape (trials, channels, 281)
        As stored, in single precision.
    files : list of Path
        The parts of the epochs.
    """

    root: Path
    ids: list[str]
    events: NDArray[np.int64]
    test: NDArray[np.bool_]
    sessions: NDArray[np.int64]
    signals: NDArray[np.float32]
    files: list[Path]


def write_things_meg(
    folder: str | Path,
    *,
    subject: int = 1,
    concepts: int = 6,
    test_concepts: int = 2,
    images: int = 3,
    repetitions: int = 4,
    channels: int = 8,
    parts: int = 3,
    seed: int = 0,
) -> MegMiniature:
    """Write a small data set as OpenNeuro ds004212 has it.

    Of each concept ``images`` are shown once in one of two sessions, and of the first
    ``test_concepts`` one more image ``repetitions`` times, half of them in each session; catch
    trials lie between. Signals are a linear function of the colours of the pictures plus noise.

    Parameters
    ----------
    folder : path
        Where to; becomes the data set's root.
    subject : int
        Number of the person.
    concepts, test_concepts, images, repetitions : int
        At most 8 concepts.
    channels : int
        Magnetometers.
    parts : int
        Files that the epochs are split into.
    seed : int
        Seed of all that is drawn.

    Returns
    -------
    MegMiniature
    """
    root, rng = Path(folder), np.random.default_rng(seed)
    ids = [
        f"{name}/{name}_{k:02d}{'bsn'[k % 3]}.jpg"
        for name in CONCEPTS[:concepts]
        for k in range(1, images + 2)  # the last is shown only where it is a test image
    ]
    colours = rng.integers(0, 256, (len(ids), 4, 4, 3))
    _write_tables(root, ids, colours)
    first = np.arange(concepts) * (images + 1)
    once = (first[:, None] + np.arange(images)).ravel()
    probes = np.repeat(first[:test_concepts] + images, repetitions)
    shown = np.concatenate([once, probes, np.full(4, -1)])
    session = np.concatenate(
        [
            np.arange(len(once)) % 2,
            np.tile(np.arange(repetitions) * 2 // repetitions, test_concepts),
            [0, 0, 1, 1],
        ]
    )
    kind = np.repeat(["exp", "test", "catch"], [len(once), len(probes), 4])
    order = np.lexsort((rng.random(len(shown)), session))
    shown, session, kind = shown[order], session[order] + 1, kind[order]
    events = np.where(shown < 0, CATCH, shown + 1)
    mixing = rng.standard_normal((48, channels * SAMPLES)) / 7
    seen = (colours.reshape(-1, 48)[shown] / 74.0 - 1.7) @ mixing
    signals = seen.reshape(-1, channels, SAMPLES) + rng.standard_normal((len(shown), channels, 1))
    signals = (signals + rng.standard_normal(signals.shape)).astype(np.float32)
    files = _write_epochs(root, subject, signals, events, parts)
    _write_attributes(root, subject, ids, shown, session, kind)
    return MegMiniature(root, ids, events, kind == "test", session, signals, files)


def _write_tables(root: Path, ids: list[str], colours: NDArray[Any]) -> None:
    from PIL import Image

    numbers = {name: n for n, name in enumerate(dict.fromkeys(i.split("/")[0] for i in ids), 1)}
    metadata = root / "THINGS" / "Metadata"
    for name, lines in {
        "Image-specific/image_paths.csv": [f"images/{stimulus}" for stimulus in ids],
        "Concept-specific/image_concept_index.csv": [str(numbers[i.split("/")[0]]) for i in ids],
    }.items():
        (metadata / name).parent.mkdir(parents=True, exist_ok=True)
        (metadata / name).write_text("\n".join(lines) + "\n")
    for stimulus, pattern in zip(ids, colours, strict=True):
        path = root / "THINGS" / "images" / stimulus
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pattern.astype(np.uint8))
        picture.resize((PICTURE, PICTURE), Image.Resampling.NEAREST).save(path)


def _write_epochs(
    root: Path, subject: int, signals: NDArray[np.float32], events: NDArray[np.int64], parts: int
) -> list[Path]:
    import mne

    names = [f"M{'LRZ'[i % 3]}O{i // 3 + 11}-1609" for i in range(signals.shape[1])]
    info = mne.create_info(names, SFREQ, "mag", verbose=False)
    codes = np.stack([np.arange(1, len(events) + 1), np.zeros_like(events), events], axis=1)
    epochs = mne.EpochsArray(
        signals.astype(np.float64),
        info,
        codes,
        TMIN,
        {str(event): int(event) for event in np.unique(events)},
        baseline=None,
        proj=False,
        verbose=False,
    )
    path = root / "derivatives" / "preprocessed" / f"preprocessed_P{subject}-epo.fif"
    path.parent.mkdir(parents=True, exist_ok=True)
    if parts == 1:
        epochs.save(path, verbose=False)
        return [path]
    try:
        epochs.save(path, split_size=1, verbose=False)
    except ValueError as error:  # it says the smallest size, which holds one trial
        smallest = int(re.findall(r"\((\d+) bytes\)", str(error))[-1])
    splittable = signals.nbytes + 16 * len(events)  # samples, events and their selection
    reserve = smallest - splittable // len(events)
    epochs.save(path, split_size=reserve + -(-splittable // parts), verbose=False)
    return [path, *sorted(path.parent.glob(f"preprocessed_P{subject}-epo-*.fif"))]


def _write_attributes(
    root: Path,
    subject: int,
    ids: list[str],
    shown: NDArray[np.int64],
    session: NDArray[np.int64],
    kind: NDArray[np.str_],
) -> None:
    folders = {"exp": "images_meg/{}", "test": "images_test_meg/{}", "catch": "images_catch_meg/{}"}
    rows = []
    for number, (image, sort) in enumerate(zip(shown.tolist(), kind.tolist(), strict=True)):
        name = "catch_01.jpg" if image < 0 else ids[image]
        if sort == "test":
            name = name.split("/")[1]
        rows.append(
            {
                "subject_id": subject,
                "session_nr": int(session[number]),
                "run_nr": 1,
                "trial_type": sort,
                "image_nr": number + 1,
                "things_image_nr": CATCH if image < 0 else image + 1,
                "image_path": folders[sort].format(name),
            }
        )
    path = root / "sourcedata" / f"sample_attributes_P{subject}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def things_meg_example(folder: Path) -> dict[str, Any]:
    """Write a miniature and return the arguments that read it, for the public checks."""
    write_things_meg(folder)
    return {"root": folder, "subject": "1", "strict": False}
