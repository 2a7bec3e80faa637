"""Recordings on the disk: one folder with npy, CSV and JSON, and a manifest over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from phosphene import _saving
from phosphene.data._info import info_from_dict, info_to_dict
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import ArtefactError

VERSION = 1
KIND = "recording"


def save(recording: Recording, path: Path) -> Path:
    """See `Recording.save`."""
    sensors = recording.sensors
    about: dict[str, Any] = {
        "version": VERSION,
        "name": recording.name,
        "modality": recording.modality,
        "shape": recording.shape,
        "times": recording.times,
        "history": recording.history,
        "fingerprint": recording.fingerprint,
        "names": sensors.names,
        "info": None if sensors.info is None else info_to_dict(sensors.info),
        "affine": sensors.affine,
    }
    with _saving.atomic_folder(path) as folder:
        # Reading in slices, so that a selection of a memory map is copied without loading it whole.
        _saving.write_array(folder / "signals.npy", recording.source)
        _saving.write_table(folder / "trials.csv", recording.trials)
        if sensors.voxels is not None:
            _saving.write_table(folder / "voxels.csv", sensors.voxels)
        _saving.write_json(folder / "recording.json", about)
        _saving.write_manifest(folder, kind=KIND)
    return path


def load(path: Path, *, mmap: bool) -> Recording:
    """See `Recording.load`."""
    _saving.verify_folder(path, kind=KIND)
    about = _saving.read_json(path / "recording.json")
    if about["version"] != VERSION:
        raise ArtefactError(
            f"{path / 'recording.json'} is of another version",
            found=about["version"],
            expected=VERSION,
        )
    voxels = path / "voxels.csv"
    sensors = Sensors(
        about["modality"],
        tuple(about["names"]),
        None if about["info"] is None else info_from_dict(about["info"]),
        _saving.read_table(voxels) if voxels.exists() else None,
        None if about["affine"] is None else np.array(about["affine"], dtype=np.float64),
    )
    signals = _saving.read_array(path / "signals.npy", mmap=mmap)
    times = about["times"]
    recording = Recording(
        signals,
        slice(0, len(signals)),
        _saving.read_table(path / "trials.csv"),
        sensors,
        None if times is None else np.array(times, dtype=np.float64),
        about["name"],
        tuple(about["history"]),
    )
    # The manifest has vouched for the content, so it need not be read to know its fingerprint.
    recording.__dict__["fingerprint"] = about["fingerprint"]
    return recording
