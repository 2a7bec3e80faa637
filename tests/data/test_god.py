"""GOD: columns by key, parts, labels, regions, counts, features, memory and damage."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz, same_recording

from phosphene.data.datasets import get_dataset
from phosphene.data.readers._source import verifiable
from phosphene.data.readers.god import read_god, read_god_features
from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing.layouts import write_god

h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_god(tmp_path)


def stored(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["dataset"][()]


def change(path: Path, edit: Callable[[Any], None]) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)


def rename(path: Path, old: str, new: str) -> None:
    def edit(file: Any) -> None:
        keys = [key.decode() for key in file["metadata/key"][()]]
        keys[keys.index(old)] = new
        file["metadata/key"][...] = keys

    change(path, edit)


def test_parts_values_and_names(path: Path) -> None:
    seen = read_god(path, strict=False)
    table = stored(path)
    assert seen.shape == (62, 60)
    assert seen.signals.dtype == np.float32
    np.testing.assert_array_equal(seen.signals, table[:62, 3:].astype(np.float32))
    trials = seen.trials
    assert trials["split"].tolist() == ["train"] * 32 + ["test"] * 30
    assert set(trials["condition"]) == {"seen"}
    assert trials["stimulus"][0] == "n01440000_3.JPEG"
    assert trials["concept"][0] == "n01440000"
    assert trials["stimulus"][32] == "n02440000_22563.JPEG"
    assert set(trials["subject"]) == {"01"}
    assert trials["repetition"].max() == 5
    # Runs are numbered anew in each part, so that equal numbers must not meet.
    assert trials["run"][[0, 31, 32]].tolist() == ["train-01", "train-04", "test-01"]


def test_what_is_imagined_is_no_picture(path: Path) -> None:
    imagery = read_god(path, "imagery", strict=False)
    assert imagery.shape == (10, 60)
    trials = imagery.trials
    assert set(trials["split"]) == {"test"}
    assert set(trials["condition"]) == {"imagined"}
    assert (trials["stimulus"] == trials["concept"]).all()
    assert trials["image"][0] == "n02440000_22563.JPEG"
    everything = read_god(path, "all", strict=False)
    assert everything.shape[0] == 72
    # Averages never mix what was seen with what was imagined.
    assert everything.average().trials["condition"].ne("").all()
    assert read_god(path, "train", strict=False).shape[0] == 32
    assert read_god(path, "test", strict=False).shape[0] == 30


def test_regions_and_places(path: Path) -> None:
    recording = read_god(path, strict=False)
    assert recording.sensors.rois == ["V1", "V2", "LOC", "VC"]
    some = read_god(path, roi=["V2", "LOC"], strict=False)
    assert some.shape == (62, 40)
    np.testing.assert_array_equal(some.signals, recording.signals[:, 20:])
    assert some.sensors.roi("V2").sum() == 20
    with h5py.File(path) as file:
        keys = [key.decode() for key in file["metadata/key"][()]]
        x = file["metadata/value"][keys.index("voxel_x")][3:]
    np.testing.assert_array_equal(recording.sensors.positions()[:, 0], x)
    with pytest.raises(DataError, match=r"(?s)'V11'.*V1, V2, LOC, VC.*'V1'"):
        read_god(path, roi="V11", strict=False)


def test_older_spellings_and_names_of_values(tmp_path: Path) -> None:
    old = write_god(tmp_path / "old", label="Label")

    def edit(file: Any) -> None:
        file.move("dataset", "dataSet")
        file.move("metadata", "metaData")

    change(old, edit)
    new = write_god(tmp_path / "new")
    assert read_god(old, strict=False).fingerprint == read_god(new, strict=False).fingerprint

    def name(file: Any) -> None:
        for number in np.unique(file["dataset"][:, 2]).tolist():
            category, _, image = f"{number:.6f}".partition(".")
            label = f"n{int(category):08d}_{int(image)}"
            file.create_dataset(f"vmap/stimulus_id/{number!r}", data=label)

    change(new, name)
    assert read_god(new, strict=False).fingerprint == read_god(old, strict=False).fingerprint


def test_counts_are_those_of_the_data_set(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"(?s)Subject1.h5.*train_trials 32.*train_trials 1200"):
        read_god(path)
    read_god(path, strict=False)
    assert "train_trials 1200" in caplog.text
    expected = get_dataset("god").expected
    assert expected["train_trials"] == 150 * 8
    assert expected["test_trials"] == 50 * 35
    assert expected["imagery_trials"] == 50 * 10
    assert get_dataset("god").files[0].path == "Subject1.h5"


def test_labels_at_the_edge_of_a_double() -> None:
    from phosphene.data.readers._bdata import BData
    from phosphene.data.readers._god_labels import stimuli_of

    labels = [float(f"{c}.{i:06d}") for c in (1, 1443537, 15075141) for i in (1, 22563, 999999)]
    value = np.ones((1, 1))
    data = BData(Path("x.h5"), np.array(labels)[:, None], ("Label",), value)
    categories, images = stimuli_of(data, "Label")
    assert images.tolist() == [
        f"n{c:08d}_{i}.JPEG" for c in (1, 1443537, 15075141) for i in (1, 22563, 999999)
    ]
    assert categories[-1] == "n15075141"
    for wrong in (1443537.0, 1443537.0000005, np.nan, -1.5, 1e9):
        bad = BData(Path("x.h5"), np.array([[wrong]]), ("Label",), value)
        with pytest.raises(DataError, match=r"x\.h5"):
            stimuli_of(bad, "Label")


def test_features_by_kind(path: Path) -> None:
    file = path.with_name("ImageFeatures.h5")
    features = read_god_features(file, "cnn8")
    assert features.vectors.shape == (32 + 5 + 5, 12)
    assert features.table["kind"].value_counts().to_dict() == {
        "train": 32,
        "test": 5,
        "category": 5,
    }
    np.testing.assert_array_equal(features.vectors, stored(file)[:42, 11:23].astype(np.float32))
    everything = read_god(path, "all", strict=False, features=file)
    bank = FeatureBank.from_arrays(
        features.ids, {"original": features.vectors}, concepts=features.concepts
    )
    assert len(bank.resolve(everything.stimuli)) == len(everything.stimuli)
    # A candidate that is a test category gives way to the mean that was asked for before it.
    both = read_god_features(file, "cnn1", ["category", "candidate"])
    assert both.vectors.shape == (5 + 6, 8)
    assert len(set(both.ids)) == 11
    with pytest.raises(DataError, match=r"(?s)'cnn9'.*cnn1.*cnn8"):
        read_god_features(file, "cnn9")
    with pytest.raises(DataError, match="no layer"):
        read_god_features(file, "CatID")
    with pytest.raises(DataError, match="kind of vector 'tests'"):
        read_god_features(file, "cnn1", ["tests"])  # type: ignore[list-item]


def test_stimuli_without_vectors_are_named(path: Path) -> None:
    file = path.with_name("ImageFeatures.h5")

    def edit(opened: Any) -> None:
        opened["dataset"][0, 2] += 1e-5

    change(file, edit)
    with pytest.raises(DataError, match=r"(?s)1 of 37.*n01440000_3\.JPEG"):
        read_god(path, strict=False, features=file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DataType", "DataTipe", r"(?s)no key 'DataType'.*'DataTipe'"),
        ("stimulus_id", "stimulus", r"(?s)no key 'stimulus_id'.*expected: stimulus_id, Label"),
        ("V1", "V1", "no regions"),
        ("Run", "VoxelData", "more than once: VoxelData"),
    ],
)
def test_missing_keys_are_named_with_the_nearest(
    path: Path, old: str, new: str, message: str
) -> None:
    if old == "V1":
        for region in ("V1", "V2", "LOC", "VC"):
            rename(path, f"ROI_{region}", f"Roy_{region}")
    else:
        rename(path, old, new)
    with pytest.raises(DataError, match=message):
        read_god(path, strict=False)


def set_value(row: int, column: int, value: float) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        file["dataset"][row, column] = value

    return edit


def replace_dataset(**options: Any) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        del file["dataset"]
        file.create_dataset("dataset", **options)

    return edit


def cut_values(file: Any) -> None:
    values = file["metadata/value"][:, :-1]
    del file["metadata/value"]
    file["metadata/value"] = values


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_value(3, 0, 7.0), r"(?s)DataType.*7\.0"),
        (set_value(3, 1, 1.5), "Run holds other things"),
        (set_value(3, 2, 5.0), r"(?s)no category\.image.*5\.0"),
        (set_value(3, 5, np.nan), r"NaN or infinite(?s:.*)'voxel_2' \(1 of 62"),
        (set_value(3, 5, 1e300), "NaN or infinite"),
        (replace_dataset(data=np.array([["a", "b"]], dtype="S1")), "not the array"),
        (replace_dataset(data=np.zeros(5)), r"(?s)shape \(5,\).*2 axes"),
        (replace_dataset(shape=(10**6, 10**5), chunks=(10, 10), dtype="f8"), "cannot be as large"),
        (cut_values, r"(?s)does not fit.*62"),
        (lambda file: file.move("metadata", "other"), "no BData"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, edit: Callable[[Any], None], message: str) -> None:
    change(path, edit)
    with pytest.raises(DataError, match=message):
        read_god(path, strict=False)


def test_values_in_other_files_are_refused(path: Path) -> None:
    raw = path.with_name("raw.bin")
    raw.write_bytes(np.zeros(100).tobytes())
    change(path, replace_dataset(shape=(10, 10), external=[(str(raw), 0, 800)], dtype="f8"))
    with pytest.raises(DataError, match="in other files"):
        read_god(path, strict=False)


@pytest.mark.parametrize("size", [0, 2**64 - 16, 2**64 - 9, 2**62, 5000])
def test_a_heap_of_texts_that_would_never_end(path: Path, size: int) -> None:
    content = bytearray(path.read_bytes())
    # The first object of the heap that holds the keys: index, references, reserved, size.
    place = content.find(b"GCOL\x01") + 16
    content[place : place + 16] = struct.pack("<HHIQ", 0 if size == 0 else 1, 1, 0, size)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"Subject1\.h5"):
        read_god(path, strict=False)


def test_keys_of_fixed_length_and_in_chunks(path: Path, tmp_path: Path) -> None:
    good = read_god(path, strict=False)
    for options in ({"dtype": "S16"}, {"dtype": h5py.string_dtype(), "chunks": (3,)}):
        other = tmp_path / "other" / path.name
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(path.read_bytes())

        def edit(file: Any, options: dict[str, Any] = options) -> None:
            keys = file["metadata/key"][()].tolist()
            del file["metadata/key"]
            file["metadata"].create_dataset("key", data=keys, **options)

        change(other, edit)
        assert read_god(other, strict=False).fingerprint == good.fingerprint


def fuzz_god(path: Path, n: int, seed: int) -> None:
    good = read_god(path, strict=False)
    assert not verifiable(good)
    outcomes = fuzz(
        path,
        lambda: read_god(path, strict=False),
        lambda found: same_recording(found, good),
        n=n,
        seed=seed,
        unverifiable=lambda found: not verifiable(found),
    )
    assert outcomes["refused"] > n / 3


def test_damaged_files(path: Path) -> None:
    fuzz_god(path, 40, seed=1)


@pytest.mark.slow
def test_many_damaged_files(path: Path) -> None:
    fuzz_god(path, 240, seed=2)


def test_a_known_digest_vouches_for_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from phosphene._manifest import sha256_file
    from phosphene.data.readers import god

    info = dataclasses.replace(get_dataset("god"), sha256={path.name: sha256_file(path)})
    monkeypatch.setattr(god, "get_dataset", lambda name: info)
    assert verifiable(read_god(path, strict=False))
    change(path, set_value(3, 5, 0.125))
    with pytest.raises(DataError, match="is not the file that the data set holds"):
        read_god(path, strict=False)


PEAK = """
import resource, sys
import h5py, pandas, torch, sklearn
from phosphene.data.readers.god import read_god
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
read_god(sys.argv[1], strict=False)
before = peak()
kept = read_god(sys.argv[2], strict=False)
print((peak() - before) / kept.nbytes)
"""


@pytest.mark.slow
def test_peak_memory(tmp_path: Path) -> None:
    small = write_god(tmp_path / "small")
    large = tmp_path / "Subject2.h5"
    with h5py.File(small) as source, h5py.File(large, "w") as file:
        source.copy("metadata/key", file.create_group("metadata"), "key")
        wide = 60_000
        values = np.full((len(source["metadata/key"]), 3 + wide), np.nan)
        values[:3, :3] = np.eye(3)
        values[3:, 3:] = 1
        values[4:7, 3:] = np.arange(wide)
        file["metadata/value"] = values
        rows = source["dataset"][:, :3]
        rows = np.tile(rows, (20, 1))
        target = file.create_dataset("dataset", (len(rows), 3 + wide), dtype="f8")
        target[:, :3] = rows
        for start in range(0, len(rows), 60):
            size = target[start : start + 60, 3:].shape
            target[start : start + 60, 3:] = np.random.default_rng(start).normal(size=size)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 1.3, done.stdout
