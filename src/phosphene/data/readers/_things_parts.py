"""One file of a prepared layout of THINGS-EEG2, opened and made sense of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data._ids import concept_of, concept_text
from phosphene.data.readers._things_images import ImageTable, canonical, check_ids
from phosphene.data.readers._things_pickles import open_pickled
from phosphene.errors import DataError, listing

# fmt: off
CHANNELS = (
    "Fp1", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8", "F7", "F5", "F3", "F1", "F2", "F4", "F6", "F8",
    "FT9", "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8", "FT10", "T7", "C5", "C3",
    "C1", "Cz", "C2", "C4", "C6", "T8", "TP9", "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4",
    "CP6", "TP8", "TP10", "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz",
    "PO4", "PO8", "O1", "Oz", "O2",
)
# fmt: on
INFO = "info.json"
MAX_JSON = 2**22


@dataclass(frozen=True)
class Part:
    """Training or test trials of one subject.

    Attributes
    ----------
    path : Path
        The file.
    data : ndarray, shape (images, repetitions, channels, times)
        Any numbers; usually a memory map.
    channels : list of str
        In the order of ``data``.
    times : ndarray, shape (times,)
        Seconds from stimulus onset.
    stimuli : list of str
        Id of each image.
    sessions : ndarray of str, shape (images, repetitions)
        "1" to "4", or "" where the file does not say.
    verified : bool
        Whether a checksum inside the file vouches for it.
    """

    path: Path
    data: NDArray[Any]
    channels: list[str]
    times: NDArray[np.float64]
    stimuli: list[str]
    sessions: NDArray[np.str_]
    verified: bool = False


def read_part(layout: str, split: str, path: Path, table: ImageTable | None) -> Part:
    """Open one file of a layout other than raw.

    Raises
    ------
    DataError
        If the file is damaged, lacks something, or does not fit the image table.
    """
    if layout == "ubp":
        return _torch(path, split)
    assert table is not None
    value = _plain_array(path) if layout == "neurobridge" else _dictionary(path)
    if "per_concept" in value:
        _check_grid(table.ids[split], value["per_concept"], path, table.path)
    data = _real(value["data"], path, layout)
    about = value.get("about", path)
    channels = _channels(value["ch_names"], data.shape[2], about)
    times = _times(value["times"], data.shape[3], about)
    stimuli = table.ids[split]
    if len(stimuli) != len(data):
        raise DataError(
            f"{path} and {table.path} do not fit",
            found=f"signals of {len(data)} images and names of {len(stimuli)}",
            expected="one name per image: both files of the same, whole data set",
        )
    sessions = np.full(data.shape[:2], "", dtype="<U1")
    return Part(path, data, channels, times, stimuli, sessions)


def _dictionary(path: Path) -> dict[str, Any]:
    value = open_pickled(path)
    keys = {"data": "preprocessed_eeg_data", "ch_names": "ch_names", "times": "times"}
    return entries(value, keys, path)


def _plain_array(path: Path) -> dict[str, Any]:
    data = open_pickled(path)
    places = [path.parent / INFO, path.parent.parent / INFO]
    info_path = next((place for place in places if place.is_file()), None)
    if info_path is None:
        raise DataError(
            f"{path} has no names of channels",
            found=f"no {INFO} in {listing(place.parent for place in places)}",
            expected=f"{INFO} with ch_names and times, beside or above the file",
        )
    if info_path.stat().st_size > MAX_JSON:
        raise DataError(f"{info_path} is too large for names and times")
    try:
        info = json.loads(info_path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{info_path} is not JSON", found=str(error)[:200]) from error
    about = entries(info, {"ch_names": "ch_names", "times": "times"}, info_path)
    if isinstance(data, np.ndarray) and data.ndim == 5:
        about["per_concept"] = data.shape[1]
        data = data.reshape(-1, *data.shape[2:])
    return {"data": data, "about": info_path, **about}


def _check_grid(stimuli: list[str], per_concept: int, path: Path, table: Path) -> None:
    """Rows of the file are concepts, so the names must come in equally long runs of a concept."""
    concepts = [concept_of(stimulus) for stimulus in stimuli]
    runs = [
        set(concepts[i : i + per_concept]) for i in range(0, len(concepts), max(per_concept, 1))
    ]
    if per_concept < 1 or any(len(run) > 1 for run in runs) or len(runs) != len(set(concepts)):
        raise DataError(
            f"{path} and {table} do not fit",
            found=f"{per_concept} images of each concept in the signals, and names of "
            f"{len(concepts)} images of {len(set(concepts))} concepts",
        )


def _torch(path: Path, split: str) -> Part:
    value = open_pickled(path)
    keys = {k: k for k in ("eeg", "img", "session", "ch_names", "times")}
    entry = entries(value, keys, path)
    data = _real(entry["eeg"], path, "ubp")
    shape = data.shape[:2]
    images = _per_trial(entry["img"], shape, path, "img")
    if not all(type(name) is str or isinstance(name, np.str_) for name in images[:, 0]):
        raise DataError(f"{path}: 'img' holds something else than names")
    if (images != images[:, :1]).any():
        row = int(np.flatnonzero((images != images[:, :1]).any(axis=1))[0])
        raise DataError(
            f"{path}: the repetitions in row {row} are of different images",
            found=listing(dict.fromkeys(map(str, images[row]))),
        )
    stimuli = check_ids({split: [canonical(name) for name in images[:, 0]]}, path)[split]
    if "label" in value:
        _check_labels(_per_trial(value["label"], shape, path, "label"), stimuli, path)
    if "text" in value:
        _check_text(_per_trial(value["text"], shape, path, "text"), stimuli, path)
    sessions = _sessions(_per_trial(entry["session"], shape, path, "session"), path)
    channels = _channels(entry["ch_names"], data.shape[2], path)
    times = _times(entry["times"], data.shape[3], path)
    return Part(path, data, channels, times, stimuli, sessions, verified=True)


def entries(value: Any, keys: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Some entries of a dict, under the names given."""
    if not isinstance(value, dict):
        raise DataError(
            f"{path} holds no dict", found=type(value).__name__, expected=listing(keys.values(), 9)
        )
    if missing := [key for key in keys.values() if key not in value]:
        raise DataError(
            f"{path} lacks {listing(map(repr, missing))}", found=listing(map(repr, value), 9)
        )
    return {name: value[key] for name, key in keys.items()}


def _real(data: Any, path: Path, layout: str) -> NDArray[Any]:
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f" or data.ndim != 4:
        found = type(data).__name__
        if isinstance(data, np.ndarray):
            found = f"{data.dtype} of shape {data.shape}"
        axes = "(images, repetitions, channels, times)"
        if layout == "neurobridge":
            axes = "(concepts, images, repetitions, channels, times)"
        raise DataError(f"{path} does not hold the signals", found=found, expected=f"float, {axes}")
    if 0 in data.shape:
        raise DataError(f"{path} holds no signals", found=f"shape {data.shape}")
    return data


def _channels(names: Any, n: int, path: Path) -> list[str]:
    if isinstance(names, np.ndarray):
        names = names.tolist()
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: 'ch_names' is no list of names", found=type(names).__name__)
    found = [str(name) for name in names]
    if len(found) != n:
        raise DataError(
            f"{path}: names and signals have different numbers of channels",
            found=f"{len(found)} names for {n} channels",
        )
    if unknown := [ascii(name)[:40] for name in found if name not in CHANNELS]:
        raise DataError(
            f"{path} names channels that the recording does not have",
            found=listing(unknown),
            expected=listing(CHANNELS, 63),
        )
    if len(set(found)) < n:
        twice = sorted({name for name in found if found.count(name) > 1})
        raise DataError(f"{path} names channels twice", found=listing(twice))
    return found


def _times(times: Any, n: int, path: Path) -> NDArray[np.float64]:
    """The last ``n`` of the times stated: files of 250 samples state the 300 before the cut."""
    try:
        found = np.array(times, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: 'times' are not numbers", found=str(error)[:120]) from error
    if found.ndim != 1 or len(found) < n or not np.isfinite(found).all():
        raise DataError(
            f"{path}: 'times' do not fit the signals",
            found=f"shape {found.shape} for {n} samples",
            expected="one per sample, or more, of which the last are those of the samples",
        )
    steps = np.diff(found)
    even = len(found) > 1 and steps.min() > 0 and np.ptp(steps) < 1e-3 * steps.mean()
    if not even or not (-2 < found[0] < found[-1] < 5):
        raise DataError(
            f"{path}: 'times' are not those of trials",
            found=f"{found[0]:g} to {found[-1]:g} s in {len(found)} steps",
            expected="evenly spaced, rising, in seconds around the onset at 0",
        )
    return found[len(found) - n :]


def _per_trial(value: Any, shape: tuple[int, ...], path: Path, key: str) -> NDArray[Any]:
    """One value per image and repetition; one per image stands for all its repetitions."""
    try:
        found = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"{path}: {key!r} is uneven", found=str(error)[:120]) from error
    if found.shape == (shape[0],):
        found = np.repeat(found[:, None], shape[1], axis=1)
    if found.shape != shape:
        raise DataError(
            f"{path}: {key!r} does not fit the signals",
            found=f"shape {found.shape}",
            expected=f"{shape[0]} images x {shape[1]} repetitions",
        )
    return found


def _check_labels(labels: NDArray[Any], stimuli: list[str], path: Path) -> None:
    """Each number stands for one concept, and each concept has one number."""
    pairs = {(str(label), concept_of(s)) for label, s in zip(labels[:, 0], stimuli, strict=True)}
    concepts = {concept for _, concept in pairs}
    if (labels != labels[:, :1]).any() or not len(pairs) == len(concepts) == len(dict(pairs)):
        raise DataError(
            f"{path}: 'label' and 'img' disagree about the concepts",
            found=f"{len({label for label, _ in pairs})} labels for {len(concepts)} concepts",
        )


def _check_text(texts: NDArray[Any], stimuli: list[str], path: Path) -> None:
    def plain(text: Any) -> str:
        return concept_text(str(text)).lower()

    for row, stimulus in enumerate(stimuli):
        said, named = plain(texts[row, 0]), plain(concept_of(stimulus))
        if said != named or (texts[row] != texts[row, 0]).any():
            raise DataError(
                f"{path}: 'text' and 'img' disagree in row {row}",
                found=f"{ascii(said)[:80]} for {stimulus}",
            )


def _sessions(values: NDArray[Any], path: Path) -> NDArray[np.str_]:
    """Text from numbers that count from 0."""
    if values.dtype.kind not in "iuf" or not np.isin(values, np.arange(4)).all():
        raise DataError(
            f"{path}: 'session' holds something else than sessions",
            found=listing(map(str, np.unique(values)[:5])),
            expected="0 to 3",
        )
    names: NDArray[np.str_] = (values.astype(np.int64) + 1).astype("<U1")
    return names
