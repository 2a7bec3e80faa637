"""A miniature BIDS folder, written by hand: EEG and iEEG as BrainVision files, MEG as FIF."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import _random

TASK = "images"
CHANNELS = {
    "eeg": ("Fz", "P3", "P4", "O1", "Oz", "O2"),
    "ieeg": ("LA1", "LA2", "LA3", "LB1", "LB2", "LB3"),
    "meg": ("MEG0111", "MEG0121", "MEG0131", "MEG0141"),
}
STIMULI = ("cat/cat_1.png", "cat/cat_2.png", "cup/cup_1.png", "dog/dog_1.png")
Datatype = Literal["eeg", "meg", "ieeg"]


def write_bids(
    folder: str | Path,
    *,
    datatype: Datatype = "eeg",
    subjects: Sequence[str] = ("01", "02"),
    sessions: Sequence[str | None] = ("1",),
    runs: Sequence[str | None] = ("1", "2"),
    stimuli: Sequence[str] = STIMULI,
    stim_column: str = "stim_file",
    bads: Sequence[str] = (),
    sfreq: float = 100.0,
    seed: int = 0,
) -> Path:
    """Write a BIDS folder with the task "images", each stimulus once per run.

    Beside its stimuli a run has a catch trial, whose stimulus is ``n/a``. A response to a stimulus
    is a half sine of 10 microvolts (10 pT) from 0 to 0.2 s.

    Parameters
    ----------
    folder : path
        Where; made if it is not there.
    datatype : {"eeg", "meg", "ieeg"}
        What was measured.
    subjects, sessions, runs : sequence of str
        Entities; None leaves an entity out of the names.
    stimuli : sequence of str
        Shown in this order, a second apart.
    stim_column : str
        Column of ``events.tsv`` that names them.
    bads : sequence of str
        Channels marked as bad in the first run of the first subject.
    sfreq : float
        Sampling rate in Hz.
    seed : int
        Seed of the noise.

    Returns
    -------
    Path
        The folder.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    _json(root / "dataset_description.json", {"Name": "miniature", "BIDSVersion": "1.8.0"})
    rows = [["participant_id"], *([f"sub-{name}"] for name in subjects)]
    _tsv(root / "participants.tsv", rows)
    first = True
    for subject in subjects:
        for session in sessions:
            parts = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
            place = root.joinpath(*parts, datatype)
            place.mkdir(parents=True, exist_ok=True)
            if datatype != "meg":
                _places(place, "_".join(parts), datatype)
            for run in runs:
                stem = "_".join([*parts, f"task-{TASK}", *([f"run-{run}"] if run else [])])
                rng = _random.generator(seed, "bids", subject, session or "", run or "")
                _run(
                    place / stem, datatype, stimuli, stim_column, bads if first else (), sfreq, rng
                )
                first = False
    return root


def bids_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    write_bids(folder / "bids")
    return {"root": folder / "bids", "task": TASK, "tmin": -0.1, "tmax": 0.4}


def _run(
    stem: Path,
    datatype: Datatype,
    stimuli: Sequence[str],
    stim_column: str,
    bads: Sequence[str],
    sfreq: float,
    rng: np.random.Generator,
) -> None:
    names = CHANNELS[datatype]
    n = len(stimuli) + 1
    scale = 1e-11 if datatype == "meg" else 1e-5
    data = 0.3 * scale * rng.standard_normal((len(names), round((n + 2) * sfreq)))
    header = ["onset", "duration", "trial_type", stim_column]
    events: list[list[str]] = [header]
    shape = np.sin(np.pi * np.arange(round(0.2 * sfreq)) / (0.2 * sfreq))
    for i, stimulus in enumerate([*stimuli, "n/a"]):
        events.append([f"{i + 1}.0", "0.2", "image" if stimulus != "n/a" else "catch", stimulus])
        start = round((i + 1) * sfreq)
        data[:, start : start + len(shape)] += scale * shape
    _tsv(stem.with_name(f"{stem.name}_events.tsv"), events)
    kind = {"eeg": "EEG", "ieeg": "ECOG", "meg": "MEGMAG"}[datatype]
    unit = "T" if datatype == "meg" else "µV"
    table = [["name", "type", "units", "status"]]
    table += [[name, kind, unit, "bad" if name in bads else "good"] for name in names]
    _tsv(stem.with_name(f"{stem.name}_channels.tsv"), table)
    about = {"TaskName": TASK, "SamplingFrequency": sfreq, "PowerLineFrequency": 50}
    about["RecordingDuration"] = data.shape[1] / sfreq
    about |= {"eeg": {"EEGReference": "average"}, "ieeg": {"iEEGReference": "average"}}.get(
        datatype, {}
    )
    _json(stem.with_name(f"{stem.name}_{datatype}.json"), about)
    if datatype == "meg":
        _fif(stem.with_name(f"{stem.name}_meg.fif"), names, data, sfreq)
    else:
        _brainvision(stem.with_name(f"{stem.name}_{datatype}"), names, data, sfreq)


def _brainvision(stem: Path, names: Sequence[str], data: NDArray[np.float64], sfreq: float) -> None:
    """Header, empty marker file and float32 values in microvolts, sample by sample."""
    channels = "\n".join(f"Ch{i}={name},,1,µV" for i, name in enumerate(names, start=1))
    header = (
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}.eeg\nMarkerFile={stem.name}.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(names)}\n"
        f"SamplingInterval={1e6 / sfreq:g}\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
        f"[Channel Infos]\n{channels}\n"
    )
    markers = (
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}.eeg\n\n[Marker Infos]\nMk1=New Segment,,1,1,0,0\n"
    )
    stem.with_name(f"{stem.name}.vhdr").write_text(header, encoding="utf-8")
    stem.with_name(f"{stem.name}.vmrk").write_text(markers, encoding="utf-8")
    values = np.ascontiguousarray(1e6 * data.T).astype("<f4")
    stem.with_name(f"{stem.name}.eeg").write_bytes(values.tobytes())


def _fif(path: Path, names: Sequence[str], data: NDArray[np.float64], sfreq: float) -> None:
    import mne

    info = mne.create_info(list(names), sfreq, "mag", verbose=False)
    with info._unlock():
        for i, channel in enumerate(info["chs"]):
            channel["loc"][:3] = [0.02 * i, 0.05, 0.08]
            channel["loc"][3:] = np.eye(3).ravel()
            channel["coil_type"] = 3022
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the name is that of BIDS, not of MNE
        mne.io.RawArray(data, info, verbose="ERROR").save(path, overwrite=True, verbose="ERROR")


def _places(folder: Path, prefix: str, datatype: Datatype) -> None:
    space, system = {"eeg": ("CapTrak", "EEG"), "ieeg": ("fsaverage", "iEEG")}[datatype]
    stem = folder / f"{prefix}_space-{space}"
    rows = [["name", "x", "y", "z"]]
    for i, name in enumerate(CHANNELS[datatype]):
        rows.append([name, f"{0.01 * i:.3f}", f"{0.05 - 0.02 * i:.3f}", f"{0.06 + 0.005 * i:.3f}"])
    if datatype == "ieeg":
        rows = [[*row, "size"] if row[0] == "name" else [*row, "2"] for row in rows]
    _tsv(stem.with_name(f"{stem.name}_electrodes.tsv"), rows)
    about: dict[str, Any] = {
        f"{system}CoordinateSystem": space,
        f"{system}CoordinateUnits": "m",
        f"{system}CoordinateSystemDescription": "as stated",
    }
    if datatype == "eeg":
        about["AnatomicalLandmarkCoordinates"] = {
            "NAS": [0.0, 0.1, 0.0],
            "LPA": [-0.08, 0.0, 0.0],
            "RPA": [0.08, 0.0, 0.0],
        }
        about["AnatomicalLandmarkCoordinateSystem"] = space
        about["AnatomicalLandmarkCoordinateUnits"] = "m"
    _json(stem.with_name(f"{stem.name}_coordsystem.json"), about)


def _tsv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=1), encoding="utf-8")
