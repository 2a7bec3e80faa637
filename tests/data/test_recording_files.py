"""Recordings on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest

from phosphene import _manifest
from phosphene._manifest import CheckedArray
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import ArtefactError, StorageError


def make(dtype: str = "float32", n: int = 8) -> Recording:
    x = np.random.default_rng(0).normal(size=(n, 3, 20)).astype(dtype)
    table = pd.DataFrame({"stimulus": [f"{i:02d}" for i in range(n)], "rt": np.arange(n) / 3})
    table.loc[0, "rt"] = np.nan
    sensors = Sensors.eeg(["O1", "Oz", "O2"], 100)
    times = np.arange(20) / 100 - 0.05
    return Recording.from_arrays(x, table, times=times, sensors=sensors, name="saved")


def assert_same(one: Recording, other: Recording) -> None:
    np.testing.assert_array_equal(one.signals, other.signals)
    assert one.dtype == other.dtype
    pd.testing.assert_frame_equal(one.trials, other.trials, check_exact=True)
    assert one.sensors.names == other.sensors.names
    assert (one.name, one.history, one.modality) == (other.name, other.history, other.modality)
    if one.times is None:
        assert other.times is None
    else:
        np.testing.assert_array_equal(one.times, other.times)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mmap", [True, False])
def test_round_trip(tmp_path: Path, dtype: str, mmap: bool) -> None:
    recording = make(dtype).crop(0).average()
    recording.save(tmp_path / "r")
    again = Recording.load(tmp_path / "r", mmap=mmap)
    assert_same(again, recording)
    assert again.in_memory is not mmap
    assert again.fingerprint == recording.fingerprint
    del again.__dict__["fingerprint"]
    assert again.fingerprint == recording.fingerprint  # computed from the file, not only quoted
    np.testing.assert_array_equal(again.sensors.positions(), recording.sensors.positions())
    np.testing.assert_array_equal(again.to_epochs().get_data(), recording.to_epochs().get_data())


def test_only_the_selected_trials_are_written(tmp_path: Path) -> None:
    picked = make().select([6, 1]).pick(["Oz"])
    picked.save(tmp_path / "r")
    assert np.load(tmp_path / "r" / "signals.npy").shape == (2, 1, 20)
    assert_same(Recording.load(tmp_path / "r"), picked)


def test_voxels_come_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.5, 2.5], "y": 0.1, "z": 1e-17, "roi_V1": [True, False]})
    affine = np.diag([2.0, 2, 2.5, 1]) + 1e-9
    x = np.random.default_rng(0).normal(size=(3, 2))
    sensors = Sensors.fmri(table, affine)
    recording = Recording.from_arrays(x, {"stimulus": list("abc")}, sensors=sensors)
    recording.save(tmp_path / "r")
    again = Recording.load(tmp_path / "r")
    assert_same(again, recording)
    assert again.sensors.voxels is not None
    assert again.sensors.affine is not None
    pd.testing.assert_frame_equal(again.sensors.voxels, sensors.voxels, check_exact=True)
    np.testing.assert_array_equal(again.sensors.affine, affine)


def test_the_info_comes_back_without_the_person(tmp_path: Path) -> None:
    recording = make()
    info = recording.sensors.info
    assert info is not None
    info["bads"] = ["Oz"]
    info["line_freq"] = 50
    info["subject_info"] = {"his_id": "Jane", "birthday": None}
    with info._unlock():
        info["lowpass"], info["highpass"] = 40.0, 0.1
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4) + 0.01)
    recording.save(tmp_path / "r")
    assert all(b"Jane" not in p.read_bytes() for p in (tmp_path / "r").iterdir())
    again = Recording.load(tmp_path / "r").sensors.info
    assert again is not None
    assert again["bads"] == ["Oz"]
    assert (again["line_freq"], again["lowpass"], again["highpass"]) == (50, 40.0, 0.1)
    np.testing.assert_array_equal(again["dev_head_t"]["trans"], info["dev_head_t"]["trans"])
    assert again.get_channel_types() == info.get_channel_types()
    for ours, theirs in zip(again["chs"], info["chs"], strict=True):
        np.testing.assert_array_equal(ours["loc"], theirs["loc"])
        assert {k: v for k, v in ours.items() if k != "loc"} == {
            k: v for k, v in theirs.items() if k != "loc"
        }
    assert len(again["dig"]) == len(info["dig"])
    again._check_consistency()


def test_meg_sensors_keep_coil_and_place(tmp_path: Path) -> None:
    info = mne.create_info(["M1", "M2"], 100.0, ["grad", "mag"])
    for i, channel in enumerate(info["chs"]):
        channel["loc"][:] = np.arange(12) + i
        channel["coil_type"] = mne.io.constants.FIFF.FIFFV_COIL_CTF_GRAD
    x = np.random.default_rng(0).normal(size=(2, 2, 5))
    sensors = Sensors("meg", ("M1", "M2"), info)
    Recording.from_arrays(x, {"stimulus": ["a", "b"]}, sensors=sensors).save(tmp_path / "r")
    again = Recording.load(tmp_path / "r").sensors.info
    assert again is not None
    assert again.get_channel_types() == info.get_channel_types()
    np.testing.assert_array_equal(again["chs"][1]["loc"], np.arange(12) + 1)
    assert again["chs"][0]["coil_type"] == mne.io.constants.FIFF.FIFFV_COIL_CTF_GRAD


def files_of(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_one_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "r")
    assert files_of(folder) == [
        "manifest.json",
        "recording.json",
        "signals.npy",
        "trials.csv",
        "trials.schema.json",
    ]
    for name in files_of(folder):
        original = (folder / name).read_bytes()
        changed = bytearray(original)
        changed[len(changed) // 2] ^= 4
        (folder / name).write_bytes(bytes(changed))
        with pytest.raises(ArtefactError, match=name):
            Recording.load(folder)
        (folder / name).write_bytes(original[:-2])
        with pytest.raises(ArtefactError, match=name):
            Recording.load(folder)
        (folder / name).unlink()
        with pytest.raises(ArtefactError, match=name):
            Recording.load(folder)
        (folder / name).write_bytes(original)
    Recording.load(folder)


def test_damage_in_a_large_file_is_found_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_manifest, "CHECK_ON_LOAD", 1000)
    monkeypatch.setattr(_manifest, "BLOCK", 256)
    recording = make()
    folder = recording.save(tmp_path / "r")
    content = bytearray((folder / "signals.npy").read_bytes())
    content[-1] ^= 1
    (folder / "signals.npy").write_bytes(bytes(content))
    again = Recording.load(folder)
    assert isinstance(again.store, CheckedArray)
    np.testing.assert_array_equal(again.take([0, 3]), recording.signals[[0, 3]])
    cut = again.crop(0).pick(["Oz"])
    np.testing.assert_array_equal(cut.take([2]), recording.signals[[2], 1:2, 5:])
    with pytest.raises(ArtefactError, match=r"signals\.npy"):
        again.take([7])
    with pytest.raises(ArtefactError, match=r"signals\.npy"):
        Recording.load(folder, mmap=False)


def test_another_kind_of_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"manifest\.json is missing"):
        Recording.load(tmp_path)
    _manifest.write_manifest(tmp_path, kind="bank")
    with pytest.raises(ArtefactError, match=r"something else[\s\S]*bank[\s\S]*recording"):
        Recording.load(tmp_path)


def test_a_full_disk_leaves_the_older_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make().save(tmp_path / "r")
    calls = 0
    real = os.fsync

    def full(handle: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space is left"):
            make(n=5).save(folder)
    assert_same(Recording.load(folder), make())
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_recording_can_be_saved_over_the_one_it_reads_from(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "r")
    mapped = Recording.load(folder)
    mapped.select([3, 4]).save(folder)
    assert_same(Recording.load(folder), make().select([3, 4]))
    np.testing.assert_array_equal(mapped.take([7]), make().signals[[7]])
