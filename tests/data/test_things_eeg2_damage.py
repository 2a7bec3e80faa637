"""THINGS-EEG2: files that make no sense, hostile pickles, damage; large arrays stay in the file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, only_values_differ, same_recording
from things_files import FEW, edit, read, the, write

from phosphene.data.datasets import get_dataset
from phosphene.data.readers._things_pickles import open_pickled
from phosphene.data.readers._things_verify import verified
from phosphene.data.recording import Recording
from phosphene.errors import DataError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sfreq": 0}, "sampling rate"),
        ({"sfreq": "fast"}, "not a number"),
        ({"ch_names": ["a"]}, "different numbers"),
        ({"ch_types": None}, "no lists"),
        ({"raw_eeg_data": np.zeros((7, 9), int)}, "signals"),
        ({"raw_eeg_data": [1.0]}, "no array"),
    ],
)
def test_raw_files_that_make_no_sense(tmp_path: Path, change: Any, message: str) -> None:
    write(tmp_path, "raw")
    path = sorted(tmp_path.rglob("raw_eeg_training.npy"))[0]
    np.save(path, {**open_pickled(path), **change}, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_raw_events_that_stand_for_no_image(tmp_path: Path) -> None:
    write(tmp_path, "raw")
    path = sorted(tmp_path.rglob("raw_eeg_training.npy"))[0]
    value = open_pickled(path)
    for code, message in ((777, "no image"), (0.5, "other things"), (-3, "other things")):
        data = np.array(value["raw_eeg_data"])
        data[-1, np.flatnonzero(data[-1])[0]] = code
        np.save(path, {**value, "raw_eeg_data": data}, allow_pickle=True)
        with pytest.raises(DataError, match=message):
            read(tmp_path)
    np.save(path, {**value, "raw_eeg_data": data * 0}, allow_pickle=True)
    with pytest.raises(DataError, match="no events"):
        read(tmp_path)


def test_nan_and_flat_channels_are_named(tmp_path: Path) -> None:
    write(tmp_path, "nice")

    def spoil(value: dict[str, Any]) -> None:
        value["preprocessed_eeg_data"][2, 1, 3, 5] = np.nan

    path = edit(tmp_path, "nice", spoil)
    with pytest.raises(DataError, match="NaN or infinite") as error:
        read(tmp_path)
    assert "'O1' (1 of 32 trials)" in str(error.value)
    assert path.name in str(error.value)
    assert np.isnan(read(tmp_path, check=False).signals).sum() == 1

    def flatten(value: dict[str, Any]) -> None:
        value["preprocessed_eeg_data"][2, 1, 3, 5] = 0.0
        value["preprocessed_eeg_data"][:, :, 2] = 3.0

    edit(tmp_path, "nice", flatten)
    with pytest.raises(DataError, match="constant") as error:
        read(tmp_path, cache=tmp_path / "cache")
    assert "'P8'" in str(error.value)
    assert not list((tmp_path / "cache").glob("*"))


def test_impossible_values_are_named(tmp_path: Path) -> None:
    write(tmp_path, "neurobridge")
    path = the(tmp_path, "train.npy")
    np.save(path, np.load(path).astype(">f4").view("<f4"))  # the wrong byte order
    with pytest.raises(DataError, match=r"no recording has|NaN or infinite"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("nice", {"times": np.arange(3.0)}, "'times' do not fit"),
        ("nice", {"times": np.arange(70) ** 2.0}, "'times' are not those"),
        ("nice", {"times": "never"}, "'times' are not numbers"),
        ("nice", {"ch_names": ["Oz"] * 6}, "twice"),
        ("nice", {"ch_names": ["Oz"]}, "different numbers of channels"),
        ("nice", {"ch_names": ["Qz", *FEW[1:]]}, "'Qz'"),
        ("nice", {"preprocessed_eeg_data": np.zeros((8, 4, 6, 20), int)}, "does not hold the sig"),
        ("nice", {"preprocessed_eeg_data": np.ones((7, 4, 6, 20))}, "do not fit"),
        ("ubp", {"session": np.full((8, 4), 4.0)}, "something else than sessions"),
        ("ubp", {"session": np.zeros(3)}, "'session' does not fit"),
        ("ubp", {"label": np.zeros((8, 4))}, "disagree about the concepts"),
        ("ubp", {"text": ["cat"] * 8}, "'text' and 'img' disagree"),
        ("ubp", {"img": ["images/a.png"] * 8}, "something else than images"),
        ("ubp", {"img": [1] * 8}, "something else than names"),
        ("ubp", {"img": [["a"], ["b", "c"]]}, "uneven"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, layout: str, change: Any, message: str) -> None:
    write(tmp_path, layout)
    path = edit(tmp_path, layout, lambda value: value.update(change))
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path)
    assert path.name in str(error.value)


@pytest.mark.parametrize("key", ["eeg", "img", "session", "times"])
def test_missing_entries_are_named(tmp_path: Path, key: str) -> None:
    write(tmp_path, "ubp")
    edit(tmp_path, "ubp", lambda value: value.pop(key))
    with pytest.raises(DataError, match=f"lacks '{key}'"):
        read(tmp_path)


def test_repetitions_of_different_images(tmp_path: Path) -> None:
    write(tmp_path, "ubp")

    def mix(value: dict[str, Any]) -> None:
        value["img"][1, 2] = value["img"][0, 0]

    edit(tmp_path, "ubp", mix)
    with pytest.raises(DataError, match="row 1 are of different images"):
        read(tmp_path)


def metadata(root: Path, **change: Any) -> None:
    path = the(root, "image_metadata.npy")
    np.save(path, {**open_pickled(path), **change}, allow_pickle=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_img_files": ["a_01.jpg"]}, "differ in length"),
        ({"train_img_files": None}, "no list of names"),
        ({"test_img_concepts": [1, 2, 3]}, "something else than names"),
        ({"test_img_concepts": ["00001_a", "00001_a", "b"]}, "something else than images"),
        ({"test_img_files": ["x.txt"] * 3}, "something else than images"),
        (
            {"test_img_concepts": [f"0000{i}_{n}" for i, n in ((2, "a"), (1, "b"), (3, "c"))]},
            "order of their numbers",
        ),
        (
            {"test_img_concepts": ["00001_aardvark", "00002_y", "00003_z"]},
            "concepts of the test are among",
        ),
        ({"train_img_concepts": ["00001_x"] * 8, "train_img_files": ["x.jpg"] * 8}, "twice"),
    ],
)
def test_image_tables_that_make_no_sense(tmp_path: Path, change: Any, message: str) -> None:
    write(tmp_path, "nice")
    metadata(tmp_path, **change)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path)
    assert "image_metadata.npy" in str(error.value)


def test_names_are_never_given_by_position_alone(tmp_path: Path) -> None:
    write(tmp_path, "neurobridge")
    concepts = [f"{i:05d}_{n}" for i, n in ((1, "a"), (1, "a"), (1, "a"), (2, "b"))] * 1
    concepts += [f"0000{i}_{n}" for i, n in ((3, "c"), (3, "c"), (4, "d"), (4, "d"))]
    files = [f"x_0{i}.jpg" for i in range(8)]
    metadata(tmp_path, train_img_concepts=concepts, train_img_files=files)
    with pytest.raises(DataError, match="do not fit"):  # as many names, but not two per concept
        read(tmp_path)


def test_channels_of_test_are_matched_by_name(tmp_path: Path) -> None:
    made = write(tmp_path, "nice")
    turned = list(reversed(FEW))

    def turn(value: dict[str, Any]) -> None:
        value["ch_names"] = turned
        value["preprocessed_eeg_data"] = value["preprocessed_eeg_data"][:, :, ::-1]

    edit(tmp_path, "nice", turn)
    recording = read(tmp_path)
    assert recording.channel_names == turned
    test = recording.select(split="test").signals
    expected = made.signals["test"][:, :, ::-1].reshape(test.shape)
    np.testing.assert_array_equal(test, expected.astype(np.float32))
    edit(tmp_path, "nice", lambda value: value.update(ch_names=["POz", *turned[1:]]))
    with pytest.raises(DataError, match="different channels") as error:
        read(tmp_path)
    assert "O2, POz" in str(error.value)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("layout", ["raw", "preprocessed", "nice", "ubp", "images"])
def test_hostile_pickles_are_refused_by_name(tmp_path: Path, layout: str) -> None:
    import torch

    write(tmp_path, "nice" if layout == "images" else layout)
    marker = tmp_path / "was_here"
    value = {"preprocessed_eeg_data": np.ones(3), "eeg": np.ones(3), "x": [Hostile(marker)]}
    if layout == "images":
        path = the(tmp_path, "image_metadata.npy")
    else:
        path = sorted(p for p in tmp_path.rglob("*train*") if p.suffix in (".npy", ".pt"))[0]
    if layout == "nice":
        path.write_bytes(pickle.dumps(value, 4))
    elif layout == "ubp":
        torch.save(value, path, pickle_protocol=5)
    else:
        np.save(path, value, allow_pickle=True)
    with pytest.raises(DataError, match=rf"{path.name}.*not plain data") as error:
        read(tmp_path)
    assert f"{os.name}.system" in str(error.value)
    assert not marker.exists()


def test_known_checksums_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "sub-01" / "train.npy"
    path.parent.mkdir()
    path.write_bytes(b"content")
    info = get_dataset("things_eeg2")
    assert not verified(info, tmp_path, path)
    digest = hashlib.sha256(b"content").hexdigest()
    known = dataclasses.replace(info, sha256={"sub-01/train.npy": digest})
    assert verified(known, tmp_path, path)
    path.write_bytes(b"contend")
    with pytest.raises(DataError, match="not the file"):
        verified(known, tmp_path, path)


# -- pickles ----------------------------------------------------------------------------------


def test_large_arrays_stay_in_the_file(tmp_path: Path) -> None:
    import torch

    rng = np.random.default_rng(0)
    value = {"big": rng.random((300, 600)), "small": rng.random(3), "names": ["a"], "n": 3}
    np.save(tmp_path / "a.npy", value, allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "b.npy").write_bytes(pickle.dumps(value, 4))
    torch.save(value, tmp_path / "c.pt", pickle_protocol=5)
    torch.save({**value, "big": torch.from_numpy(value["big"])}, tmp_path / "d.pt")
    torch.save(value, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "f.npy", value["big"])
    for name in "abcdef":
        (path,) = tmp_path.glob(f"{name}.*")
        found = open_pickled(path)
        big = found if name == "f" else found["big"]
        np.testing.assert_array_equal(big, value["big"])
        if name != "f":
            assert (found["names"], found["n"]) == (["a"], 3)
        base = big
        while base is not None and not isinstance(base, np.memmap):
            base = getattr(base, "base", None)
        assert (base is not None) == (name != "e"), name  # torch's older format is read whole
    with pytest.raises(DataError, match="does not exist"):
        open_pickled(tmp_path / "none.npy")


# -- fuzz -------------------------------------------------------------------------------------

FUZZED = {
    "preprocessed": ("preprocessed", "preprocessed_eeg_training.npy"),
    "nice": ("nice", "preprocessed_eeg_test.npy"),
    "ubp": ("ubp", "train.pt"),
    "ubp tensors": ("ubp", "test.pt"),
    "neurobridge": ("neurobridge", "train.npy"),
    "neurobridge info": ("neurobridge", "info.json"),
    "raw": ("raw", "raw_eeg_training.npy"),
    "images": ("nice", "image_metadata.npy"),
}


def try_damage(tmp_path: Path, what: str, n: int, seed: int) -> None:
    layout, name = FUZZED[what]
    write(tmp_path, layout, repetitions=(2, 4), tensors="tensors" in what, concepts=2, images=1)
    path = sorted(tmp_path.rglob(name))[0]
    good = read(tmp_path)
    good_trials, good_print = good.trials, good.fingerprint

    def silent(found: Recording) -> bool:
        """Damage that nothing can see: other values, or another letter in a name."""
        if found.history[0]["verified"]:
            return False
        return what == "images" or only_values_differ(found, good)

    outcomes = fuzz(
        path,
        lambda: read(tmp_path),
        lambda found: found.fingerprint == good_print,
        n=n,
        seed=seed,
        unverifiable=silent,
    )
    assert outcomes["refused"] > n / 3
    assert same_recording(read(tmp_path), good)  # the file was put back
    pd.testing.assert_frame_equal(read(tmp_path).trials, good_trials)


@pytest.mark.parametrize("what", FUZZED)
def test_damaged_files_are_refused_or_read_right(tmp_path: Path, what: str) -> None:
    try_damage(tmp_path, what, n=40, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("what", FUZZED)
def test_many_damaged_files_are_refused_or_read_right(tmp_path: Path, what: str) -> None:
    try_damage(tmp_path, what, n=260, seed=1)
