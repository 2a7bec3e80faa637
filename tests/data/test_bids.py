"""BIDS folders of EEG, MEG and iEEG: what was shown comes from events.tsv."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene import _registry
from phosphene.data.readers.bids import bids_subjects, bids_tasks, read_bids
from phosphene.data.recording import Recording
from phosphene.errors import DataError, PhospheneError
from phosphene.testing import _layouts_bids as layout
from phosphene.testing._layouts_bids import write_bids
from phosphene.testing._readers import check_reader

pytest.importorskip("mne_bids", reason="the extra bids is not installed")

WINDOW: dict[str, Any] = {"tmin": -0.1, "tmax": 0.4}


def edit_events(root: Path, change: Any, pattern: str = "*") -> None:
    """Rewrite the tables of events with a function from table to table."""
    for path in sorted(root.rglob(f"{pattern}_events.tsv")):
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        change(table).to_csv(path, sep="\t", index=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bids(tmp_path / "study")


@pytest.mark.parametrize(
    ("datatype", "modality", "scale"), [("eeg", "eeg", 1e-5), ("meg", "meg", 1e-11),
                                        ("ieeg", "ecog", 1e-5)],
)  # fmt: skip
def test_what_was_written_comes_back(
    tmp_path: Path, datatype: Any, modality: str, scale: float
) -> None:
    root = write_bids(tmp_path / "study", datatype=datatype)
    recording = Recording.from_bids(root, "images", **WINDOW)
    assert recording.shape == (2 * 2 * 4, len(layout.CHANNELS[datatype]), 51)
    assert recording.modality == modality
    assert recording.channel_names == list(layout.CHANNELS[datatype])
    assert recording.name == "study"
    assert recording.sfreq == 100.0
    trials = recording.trials
    assert trials["subject"].tolist() == ["01"] * 8 + ["02"] * 8
    assert trials["run"].tolist() == (["1"] * 4 + ["2"] * 4) * 2
    assert trials["stimulus"].tolist() == list(layout.STIMULI) * 4  # no catch trials
    assert trials["concept"].unique().tolist() == ["cat", "cup", "dog"]
    assert trials["repetition"].tolist() == ([0] * 4 + [1] * 4) * 2
    assert trials["trial_type"].unique().tolist() == ["image"]
    # The response is at its place in time: nothing before the onset, its peak at 0.1 s.
    assert recording.times is not None
    mean = recording.signals.mean(axis=(0, 1)) / scale
    assert recording.times[int(np.argmax(mean))] == pytest.approx(0.1, abs=0.03)
    assert np.abs(mean[recording.times < 0]).max() < 0.2 < 0.8 < mean.max() < 1.2
    assert np.isfinite(recording.sensors.positions()).all()
    assert np.ptp(recording.sensors.positions(), axis=0).max() > 0.01
    recording.save(tmp_path / "saved")
    again = Recording.load(tmp_path / "saved")
    assert again.fingerprint == recording.fingerprint
    np.testing.assert_allclose(again.sensors.positions(), recording.sensors.positions())


def test_the_values_are_those_of_the_file(root: Path) -> None:
    recording = read_bids(root, "images", subjects="02", runs="2", **WINDOW)
    path = root / "sub-02" / "ses-1" / "eeg" / "sub-02_ses-1_task-images_run-2_eeg.eeg"
    stored = np.fromfile(path, "<f4").reshape(-1, 6).T * 1e-6
    np.testing.assert_allclose(recording.signals[1], stored[:, 190:241], rtol=1e-5)


def test_the_public_checks(tmp_path: Path) -> None:
    assert _registry.get("reader", "bids") is read_bids
    check_reader("bids")
    root = write_bids(tmp_path / "other", sessions=(None,), runs=(None,))
    trials = read_bids(root, "images", **WINDOW).trials
    assert set(trials["session"]) == set(trials["run"]) == {"1"}
    assert bids_tasks(root) == {"images": ["eeg"]}
    assert bids_subjects(root, "images") == ["01", "02"]


def test_some_of_the_subjects_sessions_runs_and_channels(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", sessions=("1", "2"))
    some = read_bids(
        root, "images", subjects=["sub-02"], sessions="2", picks=["O2", "Oz"], **WINDOW
    )
    assert some.subjects == ["02"]
    assert some.trials["session"].unique().tolist() == ["2"]
    assert some.channel_names == ["O2", "Oz"]
    whole = read_bids(root, "images", **WINDOW)
    np.testing.assert_array_equal(
        some.signals[:, 1], whole.select(subject="02", session="2").signals[:, 4]
    )
    for words, entity in (({"subjects": "3"}, "subject '3'"), ({"sessions": "9"}, "session '9'")):
        with pytest.raises(DataError, match=f"(?s)has no {entity}.*found: "):
            read_bids(root, "images", **words)
    with pytest.raises(DataError, match=r"(?s)no eeg channels 'Ozz'.*did you mean 'Oz'"):
        read_bids(root, "images", picks=["Ozz"])


def test_bad_channels_are_dropped_interpolated_or_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_bids(tmp_path / "study", bads=["P4"])
    kept = read_bids(root, "images", bads="keep", **WINDOW)
    dropped = read_bids(root, "images", **WINDOW)
    assert "P4" in kept.channel_names
    assert dropped.channel_names == [n for n in kept.channel_names if n != "P4"]
    assert "bad and dropped: P4" in caplog.text
    filled = read_bids(root, "images", bads="interpolate", **WINDOW)
    assert filled.channel_names == kept.channel_names
    differs = (filled.signals != kept.signals).any(axis=2)
    # Only where it was marked: in the first run of the first subject.
    assert differs[:4].nonzero()[1].tolist() == [2] * 4
    assert not differs[4:].any()
    assert dropped.history[-1]["bads"] == "drop"
    with pytest.raises(DataError, match="bads has another value"):
        read_bids(root, "images", bads="repair")  # type: ignore[arg-type]


def test_baseline_filter_and_resampling(root: Path) -> None:
    plain = read_bids(root, "images", subjects="01", **WINDOW)
    levelled = read_bids(root, "images", subjects="01", baseline=(None, 0), **WINDOW)
    before = plain.signals[:, :, :11].mean(axis=2, keepdims=True)
    np.testing.assert_allclose(levelled.signals, plain.signals - before, atol=1e-9)
    slow = read_bids(root, "images", subjects="01", lowpass=20.0, sfreq=50.0, **WINDOW)
    assert slow.shape == (8, 6, 26)
    assert slow.sfreq == 50.0
    assert slow.signals.std() < plain.signals.std()
    with pytest.raises(DataError, match="epoch is empty"):
        read_bids(root, "images", tmin=0.4, tmax=-0.1)


def test_tasks_that_are_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no EEG.*'image'.*tasks 'images'.*did you mean"):
        read_bids(root, "image")
    with pytest.raises(DataError, match="there is no BIDS folder"):
        read_bids(tmp_path / "nowhere", "images")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such recordings"):
        read_bids(tmp_path / "empty", "images")
    write_bids(root, datatype="meg")
    with pytest.raises(DataError, match=r"(?s)several modalities.*eeg, meg.*datatype='eeg'"):
        read_bids(root, "images")
    assert read_bids(root, "images", datatype="meg", **WINDOW).modality == "meg"
    with pytest.raises(DataError, match=r"(?s)no ieeg.*eeg, meg"):
        read_bids(root, "images", datatype="ieeg")


def test_stimulus_columns(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", stim_column="stimulus_id")
    with pytest.raises(DataError, match=r"(?s)no column 'stim_file'.*'onset'.*stimulus_id"):
        read_bids(root, "images")
    edit_events(root, lambda t: t.assign(kind=t["stimulus_id"].str[:3], split="train"))
    recording = read_bids(
        root, "images", stim_column="stimulus_id", concept_column="kind", **WINDOW
    )
    assert recording.concepts == ["cat", "cup", "dog"]
    assert set(recording.trials["split"]) == {"train"}
    assert "stimulus_id" not in recording.trials
    with pytest.raises(DataError, match="lacks the column 'kinds'"):
        read_bids(root, "images", stim_column="stimulus_id", concept_column="kinds")
    edit_events(root, lambda t: t.assign(stimulus_id="n/a"))
    with pytest.raises(DataError, match="no event of task 'images'"):
        read_bids(root, "images", stim_column="stimulus_id")


def test_columns_of_different_kinds_are_kept_as_text(root: Path, tmp_path: Path) -> None:
    edit_events(root, lambda t: t.assign(answer="2", rt="0.5"), "*run-1")
    edit_events(root, lambda t: t.assign(answer="left"), "*run-2")
    recording = read_bids(root, "images", **WINDOW)
    assert recording.trials["answer"].tolist() == (["2"] * 4 + ["left"] * 4) * 2
    assert recording.trials["rt"].isna().tolist() == ([False] * 4 + [True] * 4) * 2
    recording.save(tmp_path / "saved")


def test_pictures_of_badgers_are_no_bad_segments(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", subjects=("01",))
    edit_events(root, lambda t: t.assign(trial_type="badger"))
    assert read_bids(root, "images", **WINDOW).n_trials == 8
    edit_events(root, lambda t: t.assign(trial_type=["BAD_movement", *["image"] * 4]), "*run-1")
    assert read_bids(root, "images", **WINDOW).n_trials == 7


def test_trials_outside_of_the_recording(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_events(root, lambda t: t.assign(onset=["0.05", *t["onset"][1:]]), "sub-01*run-1")
    recording = read_bids(root, "images", **WINDOW)
    assert recording.n_trials == 15
    assert "run-1_eeg.vhdr: 1 of 4 trials" in caplog.text
    assert recording.trials["stimulus"][0] == layout.STIMULI[1]
    edit_events(root, lambda t: t.assign(onset=["70", *t["onset"][1:]]), "sub-01*run-1")
    with pytest.raises(DataError, match="outside of the recording"):
        read_bids(root, "images", **WINDOW)
    edit_events(root, lambda t: t.assign(onset=["soon", *t["onset"][1:]]), "sub-01*run-1")
    with pytest.raises(DataError, match=r"run-1_events\.tsv has trials without an onset"):
        read_bids(root, "images", **WINDOW)


def test_channels_are_matched_by_name(root: Path) -> None:
    whole = read_bids(root, "images", **WINDOW)
    eeg = root / "sub-02" / "ses-1" / "eeg"
    stem = "sub-02_ses-1_task-images_run-1"
    header = eeg / f"{stem}_eeg.vhdr"
    names = list(layout.CHANNELS["eeg"])
    swapped = header.read_text(encoding="utf-8").replace("=Fz,", "=X,").replace("=O2,", "=Fz,")
    header.write_text(swapped.replace("=X,", "=O2,"), encoding="utf-8")
    table = eeg / f"{stem}_channels.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[1], lines[-1] = lines[-1], lines[1]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    other = read_bids(root, "images", **WINDOW)
    assert other.channel_names == names
    run = (whole.trials["subject"] == "02") & (whole.trials["run"] == "1")
    np.testing.assert_array_equal(
        other.select(run.to_numpy()).signals[:, 0], whole.select(run.to_numpy()).signals[:, 5]
    )
    header.write_text(swapped.replace("=X,", "=O9,"), encoding="utf-8")
    table.write_text("\n".join(lines).replace("O2\t", "O9\t") + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)run-1_eeg\.vhdr lacks channels.*missing O2"):
        read_bids(root, "images", **WINDOW)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", subjects=("01",), runs=("1",))
    folder = root / "sub-01" / "ses-1" / "eeg"
    rng = np.random.default_rng(0)
    n = 0
    for path in sorted(folder.glob("*task*")):
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:size])
            if path.suffix not in (".tsv", ".vmrk"):  # half a table is a table
                with pytest.raises(PhospheneError, match="task-images"):
                    read_bids(root, "images", **WINDOW)
            n += 1
        for position in rng.integers(0, len(whole), 32):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            with contextlib.suppress(PhospheneError):
                read_bids(root, "images", **WINDOW)
            n += 1
        path.unlink()
        if path.suffix not in (".json", ".vmrk") and "channels" not in path.name:
            with pytest.raises(PhospheneError):
                read_bids(root, "images", **WINDOW)
        path.write_bytes(whole)
    assert n > 200
    assert read_bids(root, "images", **WINDOW).n_trials == 4


def test_a_recording_that_is_shorter_than_stated(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", subjects=("01",), runs=("1",))
    folder = root / "sub-01" / "ses-1" / "eeg"
    data = next(folder.glob("*_eeg.eeg"))
    whole = data.read_bytes()
    data.write_bytes(whole[: 6 * 4 * 550])
    with pytest.raises(DataError, match=r"(?s)was cut off.*5\.5 s.*7 s"):
        read_bids(root, "images", **WINDOW)
    data.write_bytes(whole[:-6])
    with pytest.raises(DataError, match=r"(?s)was cut off.*bytes"):
        read_bids(root, "images", **WINDOW)
    next(folder.glob("*_eeg.json")).write_text(json.dumps([1]))
    with pytest.raises(PhospheneError, match=r"(vhdr|json)"):
        read_bids(root, "images", **WINDOW)
