"""Miniatures of THINGS-EEG2 in each layout: the same names, keys, types and quirks, few trials."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data.readers._things_parts import CHANNELS
from phosphene.data.sensors import OCCIPITO_PARIETAL

TRAIN_NAMES = ("aardvark", "abacus", "accordion", "bat1", "bat2", "boat", "cake", "drum")
TEST_NAMES = ("aircraft_carrier", "antelope", "backscratcher", "mouse1", "t-shirt", "yo-yo")
SESSIONS = 4
CATCH = 99999
SPACING = 200  # samples between onsets in the raw recording, as in the experiment
PICTURE = 64


@dataclass(frozen=True)
class ThingsMiniature:
    """What was written, to compare with what a reader makes of it.

    Attributes
    ----------
    root : Path
        The data set's folder.
    ids : dict of str to list of str
        Stimuli of "train" and "test", in order of their event number.
    signals : dict of str to ndarray, shape (images, repetitions, channels, times)
        As stored; for the layout "raw", continuous signals by "train-1" and so on.
    sessions : dict of str to ndarray of int, shape (images, repetitions)
        Sessions from 1, as stored in the layout "ubp".
    channels : list of str
        In the order of the signals.
    times : ndarray
        Seconds, one per sample.
    """

    root: Path
    ids: dict[str, list[str]]
    signals: dict[str, NDArray[Any]]
    sessions: dict[str, NDArray[np.int64]]
    channels: list[str]
    times: NDArray[np.float64]


def write_things_eeg2(
    folder: str | Path,
    layout: str,
    *,
    concepts: int = 4,
    test_concepts: int = 3,
    images: int = 2,
    repetitions: tuple[int, int] = (4, 8),
    channels: Sequence[str] | None = None,
    samples: int | None = None,
    subjects: Sequence[str] = ("01",),
    spelling: str = "training",
    tensors: bool = False,
    metadata: bool = True,
    seed: int = 0,
) -> ThingsMiniature:
    """Write a small data set in one of the layouts in which THINGS-EEG2 goes round.

    Signals are a linear function of the colours of the pictures plus noise, so that a decoder finds
    something.

    Parameters
    ----------
    folder : path
        Where to; becomes the data set's root.
    layout : {"raw", "preprocessed", "nice", "ubp", "neurobridge"}
        See `phosphene.data.readers.things_eeg2.read_things_eeg2`.
    concepts, test_concepts, images : int
        Concepts of the training (at most 8) and the test (at most 6), images per training concept.
    repetitions : tuple of int
        Of a training image and of a test image, both even.
    channels : sequence of str, optional
        Default: those of the layout.
    samples : int, optional
        Samples per trial; default 100 (preprocessed) or 250. Not used for "raw".
    subjects : sequence of str
        Ids such as "01".
    spelling : {"training", "train"}
        Which of the spellings ``training_images`` and ``train_images``, ``raw_eeg_training.npy``
        and ``raw_eeg_train.npy`` to use.
    tensors : bool
        Store torch tensors and lists instead of arrays in the layout "ubp".
    metadata : bool
        Write ``image_metadata.npy``.
    seed : int
        Seed of all that is drawn.

    Returns
    -------
    ThingsMiniature
    """
    root, rng = Path(folder), np.random.default_rng(seed)
    ids = {
        "train": _ids("training_images", TRAIN_NAMES[:concepts], images),
        "test": _ids("test_images", TEST_NAMES[:test_concepts], 1),
    }
    names = list(channels or (OCCIPITO_PARIETAL if layout == "preprocessed" else CHANNELS))
    n = samples or (100 if layout == "preprocessed" else SPACING if layout == "raw" else 250)
    colours = {split: rng.integers(0, 256, (len(i), 4, 4, 3)) for split, i in ids.items()}
    _write_images(root / "image_set", ids, colours, spelling, metadata)
    counts = dict(zip(("train", "test"), repetitions, strict=True))
    rate = 100.0 if layout == "preprocessed" else 250.0
    before = 0 if layout == "preprocessed" else 50  # 300 times are stated for 250 samples
    times = np.round(-0.2 + np.arange(n + before) / rate, 6)
    signals: dict[str, NDArray[Any]] = {}
    sessions: dict[str, NDArray[np.int64]] = {}
    for subject in subjects:
        mixing = rng.standard_normal((48, len(names), n)) / 7
        for split, count in counts.items():
            seen = (colours[split].reshape(-1, 48) / 74.0 - 1.7) @ mixing.reshape(48, -1)
            noise = rng.standard_normal((len(seen), count, len(names), n))
            signals[split] = seen.reshape(-1, 1, len(names), n) + noise
            sessions[split] = _sessions(split, len(seen), count)
        sub = f"sub-{subject}"
        if layout == "raw":
            signals = _write_raw(root / "raw_data" / sub, signals, sessions, names, rng, spelling)
        elif layout in ("preprocessed", "nice"):
            _write_dictionaries(root, sub, layout, signals, names, times, spelling)
        elif layout == "ubp":
            _write_torch(root, sub, signals, sessions, ids, names, times, tensors, spelling)
        else:
            _write_arrays(root / "preprocessed_eeg", sub, signals, images, names, times)
    return ThingsMiniature(root, ids, signals, sessions, names, times[-n:])


def _ids(folder: str, names: Sequence[str], images: int) -> list[str]:
    return [
        f"{folder}/{i:05d}_{name}/{name}_{k:02d}{'bsn'[k % 3]}.jpg"
        for i, name in enumerate(names, start=1)
        for k in range(1, images + 1)
    ]


def _sessions(split: str, images: int, repetitions: int) -> NDArray[np.int64]:
    """A training image is shown in two sessions, a test image in all four."""
    if split == "test":
        return np.tile(np.arange(repetitions) * SESSIONS // repetitions + 1, (images, 1))
    halves = np.arange(repetitions) * 2 // repetitions
    return 1 + np.arange(images)[:, None] % 2 + 2 * halves[None, :]


def _spelled(stimulus: str, spelling: str) -> str:
    return stimulus.replace("training_images/", f"{spelling}_images/", 1)


def _write_images(
    folder: Path,
    ids: dict[str, list[str]],
    colours: dict[str, NDArray[Any]],
    spelling: str,
    metadata: bool,
) -> None:
    from PIL import Image

    table: dict[str, list[str]] = {}
    for split, stimuli in ids.items():
        for stimulus, pattern in zip(stimuli, colours[split], strict=True):
            path = folder / _spelled(stimulus, spelling)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(pattern.astype(np.uint8))
            picture.resize((PICTURE, PICTURE), Image.Resampling.NEAREST).save(path)
        table[f"{split}_img_concepts"] = [stimulus.split("/")[1] for stimulus in stimuli]
        table[f"{split}_img_files"] = [stimulus.split("/")[2] for stimulus in stimuli]
    if metadata:
        _save_object(folder / "image_metadata.npy", table)


def _save_object(path: Path, value: Any) -> None:
    """Pickle a dict into an npy file: miniatures are like the real files, whose reader is safe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, value, allow_pickle=True)


def _write_dictionaries(
    root: Path,
    sub: str,
    layout: str,
    signals: dict[str, NDArray[Any]],
    names: list[str],
    times: NDArray[np.float64],
    spelling: str,
) -> None:
    folder = root / ("Preprocessed_data_250Hz" if layout == "nice" else "preprocessed_data") / sub
    for split, data in signals.items():
        value = {"preprocessed_eeg_data": data, "ch_names": names, "times": times}
        path = folder / f"preprocessed_eeg_{spelling if split == 'train' else split}.npy"
        if layout == "preprocessed":
            _save_object(path, value)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # NICE's files are bare pickles under the name npy, because numpy could not write 8 GB.
        path.write_bytes(pickle.dumps(value, protocol=4))


def _write_arrays(
    folder: Path,
    sub: str,
    signals: dict[str, NDArray[Any]],
    images: int,
    names: list[str],
    times: NDArray[np.float64],
) -> None:
    (folder / sub).mkdir(parents=True)
    (folder / "info.json").write_text(json.dumps({"ch_names": names, "times": times.tolist()}))
    for split, data in signals.items():
        per_concept = images if split == "train" else 1
        made = data.reshape(-1, per_concept, *data.shape[1:]).astype(np.float32)
        np.save(folder / sub / f"{split}.npy", made)


def _write_torch(
    root: Path,
    sub: str,
    signals: dict[str, NDArray[Any]],
    sessions: dict[str, NDArray[np.int64]],
    ids: dict[str, list[str]],
    names: list[str],
    times: NDArray[np.float64],
    tensors: bool,
    spelling: str,
) -> None:
    import torch

    folder = root / "Preprocessed_data_250Hz_whiten" / sub
    folder.mkdir(parents=True)
    for split, data in signals.items():
        shape = data.shape[:2]
        numbers = [int(stimulus.split("/")[1][:5]) - 1 for stimulus in ids[split]]
        words = [stimulus.split("/")[2].rsplit("_", 1)[0] for stimulus in ids[split]]
        paths = [_spelled(stimulus, spelling) for stimulus in ids[split]]
        value: dict[str, Any] = {
            "eeg": data.astype(np.float16),
            "label": np.tile(np.array(numbers)[:, None], (1, shape[1])),
            "img": np.tile(np.array(paths)[:, None], (1, shape[1])),
            "text": np.tile(np.array(words)[:, None], (1, shape[1])),
            "session": (sessions[split] - 1).astype(np.float64),
            "ch_names": names,
            "times": times,
        }
        if tensors:
            value = {
                key: torch.from_numpy(item)
                if isinstance(item, np.ndarray) and item.dtype.kind in "if"
                else np.asarray(item).tolist()
                for key, item in value.items()
            }
        # As its authors wrote them; we read such files without torch.
        torch.save(value, folder / f"{split}.pt", pickle_protocol=5)


def _write_raw(
    folder: Path,
    signals: dict[str, NDArray[Any]],
    sessions: dict[str, NDArray[np.int64]],
    names: list[str],
    rng: np.random.Generator,
    spelling: str,
) -> dict[str, NDArray[Any]]:
    written: dict[str, NDArray[Any]] = {}
    for session in range(1, SESSIONS + 1):
        for split, data in signals.items():
            shown = np.argwhere(sessions[split] == session)
            rng.shuffle(shown)
            codes = [int(image) + 1 for image, _ in shown]
            codes.insert(len(codes) // 2, CATCH)
            n = 500 + SPACING * len(codes) + 1500
            recorded = np.zeros((len(names) + 1, n))
            recorded[:-1] = 5e-6 * rng.standard_normal((len(names), n)) + 1e-3
            order = iter(shown.tolist())
            for number, code in enumerate(codes):
                start = 500 + SPACING * number
                recorded[-1, start] = code
                if code != CATCH:
                    image, repetition = next(order)
                    evoked = 5e-6 * data[image, repetition]
                    recorded[:-1, start : start + evoked.shape[1]] += evoked
            written[f"{split}-{session}"] = recorded
            value = {
                "raw_eeg_data": recorded,
                "ch_names": [*names, "stim"],
                "ch_types": ["eeg"] * len(names) + ["stim"],
                "sfreq": 1000.0,
                "highpass": 0.01,
                "lowpass": 100.0,
            }
            name = f"raw_eeg_{spelling if split == 'train' else split}.npy"
            _save_object(folder / f"ses-{session:02d}" / name, value)
    return written


def things_eeg2_example(folder: Path) -> dict[str, Any]:
    """Write a miniature and return the arguments that read it, for the public checks."""
    write_things_eeg2(folder, "nice")
    return {"root": folder, "subject": "01", "strict": False}
