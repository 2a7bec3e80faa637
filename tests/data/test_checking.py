"""What the check of a recording finds: planted defects by name, and nothing in sound data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phosphene.data import checking
from phosphene.data.finding import find_sources
from phosphene.data.overlaps import overlap_table
from phosphene.data.recording import Recording, Sensors
from phosphene.data.splits import split_leave_one_out, split_leave_one_out_zero_shot
from phosphene.errors import DataError, LeakError, UnknownNameError
from phosphene.runs.data_check import UNLABELLED, DataReport, check_data

NAMES = ["Fz", "Cz", "Pz", "P3", "P4", "PO3", "PO4", "O1", "Oz", "O2"]
CONCEPTS = ["cat", "cup", "dog", "hat", "key", "owl"]


def table(sessions: int = 2, repetitions: int = 2) -> pd.DataFrame:
    """Each of 6 x 2 pictures, so many times in each session."""
    rows = [
        (f"{concept}/{concept}_{e}.png", str(s + 1), str(r + 1))
        for s in range(sessions)
        for r in range(repetitions)
        for concept in CONCEPTS
        for e in (1, 2)
    ]
    return pd.DataFrame(rows, columns=["stimulus", "session", "run"])


def recording(trials: pd.DataFrame | None = None, seed: int = 0, **more: Any) -> Recording:
    trials = table() if trials is None else trials
    x = np.random.default_rng(seed).standard_normal((len(trials), len(NAMES), 20))
    return Recording.from_arrays(
        1e-5 * x, trials, sensors=Sensors.eeg(NAMES, sfreq=100.0), check=False, **more
    )


def broken(change: Callable[[Any], None]) -> Recording:
    sound = recording()
    signals = np.array(sound.signals)
    change(signals)
    return sound.with_signals(signals, check=False)


def check(source: Recording, folder: Path, **more: Any) -> DataReport:
    return check_data(source.save(folder / "saved"), show=False, **more)


def found(report: DataReport, level: str) -> dict[str, str]:
    return {f.what: f.evidence for f in report.findings if f.level == level}


def test_sound_data_pass_with_the_steps_that_are_left(tmp_path: Path) -> None:
    report = check(recording(), tmp_path)
    assert report.passed
    assert not found(report, "error")
    assert not found(report, "warning")
    assert list(found(report, "step")) == [
        "whiten the noise (MVNN)", "average repetitions", "hold out concepts for the test",
    ]  # fmt: skip
    facts = report.facts
    assert facts["modality"] == ["eeg"]
    assert (facts["trials"], facts["stimuli"], facts["concepts"]) == (48, 12, 6)
    assert (facts["sessions"], facts["runs"]) == (2, 4)
    assert facts["repetitions"] == {"min": 4, "median": 4.0, "max": 4}
    assert (facts["channels"], facts["positions_known"]) == ([10], 10)
    assert facts["times"] == {"first": 0.0, "last": 0.19}
    assert facts["verified"] is True


def test_a_ready_recording_has_no_steps_left(tmp_path: Path) -> None:
    trials = table()
    trials["split"] = np.where(trials["stimulus"].str.startswith(("cat", "owl")), "test", "train")
    ready = recording(trials).with_history({"op": "whitening"})
    report = check(ready.average(("subject", "stimulus", "split")), tmp_path)
    assert list(found(report, "step")) == ["average repetitions"]  # of averages that count four
    assert report.facts["trials_by_split"] == {"train": 8, "test": 4}
    assert {row["what"] for row in report.overlaps if row["n_shared"]} == {
        "subject", "session", "run",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "level", "what", "evidence"),
    [
        (lambda x: x.__setitem__((3, 4, 5), np.nan), "error",
         "channels with NaN or infinite values", "1 of 10: P4"),
        (lambda x: x.__setitem__((slice(None), 1), np.inf), "error",
         "channels with NaN or infinite values", "1 of 10: Cz"),
        (lambda x: x.__setitem__((slice(None), [0, 9]), 7.0), "error",
         "channels with constant values", "2 of 10: Fz, O2"),
        (lambda x: x.__setitem__((slice(None), 8), 30 * x[:, 8]), "warning",
         "channels with a spread far from that of the others", "1 of 10: Oz"),
        (lambda x: x.__setitem__((slice(None), 2), x[:, 2] / 50), "warning",
         "channels with a spread far from that of the others", "1 of 10: Pz"),
        (lambda x: x.__setitem__(slice(24, 48), x[:24]), "error",
         "the same signals in several recordings (subject/session/run)",
         "01/1/1 = 01/2/1 (12 trials), 01/1/2 = 01/2/2 (12 trials)"),
        (lambda x: x.__setitem__(5, x[4]), "error",
         "trials of one run whose signals are the same to the bit", "01/1/1 (1 trials)"),
    ],
)  # fmt: skip
def test_planted_defects_are_named(
    tmp_path: Path, change: Any, level: str, what: str, evidence: str
) -> None:
    report = check(broken(change), tmp_path)
    assert found(report, level)[what] == evidence
    assert report.passed == (level != "error")


def test_an_offset_is_no_spread() -> None:
    scan = checking.scan_signals(broken(lambda x: x.__setitem__((slice(None), 2), x[:, 2] + 5)))
    assert scan.bad == {}


def test_magnetometers_and_gradiometers_are_judged_apart() -> None:
    kinds = ["mag"] * 10 + ["grad"] * 10
    info = mne.create_info([f"M{i}" for i in range(20)], 100.0, kinds)
    x = np.random.default_rng(0).standard_normal((30, 20, 10))
    x[:, :10] *= 1e-12
    x[:, 10:] *= 1e-10
    x[:, 15] *= 20
    sensors = Sensors("meg", tuple(info["ch_names"]), info)
    trials = {"stimulus": [f"a/{i}.png" for i in range(30)]}
    meg = Recording.from_arrays(x, trials, times=np.arange(10) / 100, sensors=sensors)
    assert checking.scan_signals(meg).bad == {"extreme spread": ["M15"]}


def test_labels_that_coincide_with_sessions_or_runs(tmp_path: Path) -> None:
    for column in ("session", "run"):
        trials = table(sessions=2, repetitions=3)
        block = trials["session"] + (trials["run"] if column == "run" else "")
        trials["label"] = "class " + block
        report = check(recording(trials), tmp_path / column, label="label")
        assert f"label: labels coincide with {column}s" in found(report, "error")
        # Another label of the same trials is sound.
        assert check_data(tmp_path / column / "saved", show=False).passed
    with pytest.raises(DataError, match="no column 'colour'"):
        check_data(tmp_path / "run" / "saved", label="colour", show=False)


def test_partial_block_designs_are_warnings(tmp_path: Path) -> None:
    trials = table(sessions=2, repetitions=1)
    trials = trials[(trials["session"] == "1") | ~trials["stimulus"].str.startswith("cat")]
    report = check(recording(trials.reset_index(drop=True)), tmp_path)
    what = "block design, concept: class in a single session"
    assert found(report, "warning")[what] == "1 of 6 classes: 01:1 cat"
    # Test concepts in test sessions are no confound.
    trials = table(sessions=3, repetitions=1)
    test = trials["stimulus"].str.startswith("cat")
    trials = trials[test == (trials["session"] == "3")]
    trials["split"] = np.where(trials["session"] == "3", "test", "train")
    assert not found(check(recording(trials.reset_index(drop=True)), tmp_path / "b"), "warning")


def test_overlaps_of_training_and_test(tmp_path: Path) -> None:
    trials = table()
    trials["split"] = np.where(trials["stimulus"].str.endswith("_2.png"), "test", "train")
    report = check(recording(trials), tmp_path / "concept")
    assert report.passed
    assert found(report, "warning")["test concepts are trained on"].startswith("6 in train/test")
    trials["split"] = np.where(trials["session"] == "2", "test", "train")
    report = check(recording(trials), tmp_path / "stimulus")
    assert found(report, "error")["test images are trained on"].startswith("12 in train/test")


def test_classes_without_images_may_be_on_both_sides(tmp_path: Path) -> None:
    trials = table()
    trials["stimulus"] = trials["stimulus"].str.split("/").str[0]
    trials["split"] = np.where(trials["session"] == "2", "test", "train")
    trials["repetition"] = np.arange(len(trials))
    assert check(recording(trials), tmp_path).passed


def test_missing_and_equal_pictures(tmp_path: Path) -> None:
    trials = table()
    trials["split"] = np.where(trials["stimulus"].str.startswith("owl"), "test", "train")
    pictures = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for name in trials["stimulus"].unique():
        (pictures / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / "all" / name)
    saved = recording(trials).save(tmp_path / "saved")
    assert check_data(saved, images=pictures, show=False).passed
    (pictures / "all" / "owl" / "owl_1.png").write_bytes(
        (pictures / "all" / "dog" / "dog_2.png").read_bytes()
    )
    report = check_data(saved, images=pictures, show=False)
    evidence = found(report, "error")["test images are trained on under another name"]
    assert evidence == "1 in train/test: dog/dog_2.png = owl/owl_1.png"
    (pictures / "all" / "key" / "key_1.png").unlink()
    report = check_data(saved, images=pictures, show=False)
    assert found(report, "error")["stimuli without a picture"].startswith("1 of 12: key/key_1.png")


def test_archives_and_epochs_with_defects_are_read_all_the_same(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 8))
    x[2, 1, 4] = np.nan
    np.savez(tmp_path / "a.npz", signals=x, stimulus=[f"c{i}/1.png" for i in range(6)],
             sfreq=100.0, channel_names=["A", "B", "C"])  # fmt: skip
    report = check_data(tmp_path / "a.npz", show=False)
    assert found(report, "error") == {"channels with NaN or infinite values": "1 of 3: B"}
    np.savez(tmp_path / "b.npz", signals=x[:, [0, 2]], sfreq=100.0)
    report = check_data(tmp_path / "b.npz", show=False)
    assert list(found(report, "error")) == [UNLABELLED]
    assert report.facts["trials"] == 6
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    report = check_data(tmp_path / "c.npz", show=False)
    assert not report.passed
    assert not report.facts
    assert "c.npz" in next(iter(found(report, "error")))


def write_epochs(path: Path, seed: int, bads: tuple[str, ...] = (), **columns: str) -> None:
    info = mne.create_info(NAMES, 100.0, "eeg")
    info["bads"] = list(bads)
    metadata = pd.DataFrame({"stimulus": [f"{c}/{c}_1.png" for c in CONCEPTS]}).assign(**columns)
    x = np.random.default_rng(seed).standard_normal((len(CONCEPTS), len(NAMES), 20))
    epochs = mne.EpochsArray(1e-6 * x, info, metadata=metadata, verbose="error")
    epochs.save(path, overwrite=True, verbose="error")


def test_a_folder_of_epochs(tmp_path: Path) -> None:
    for subject in ("01", "02"):
        for session in ("1", "2"):
            write_epochs(tmp_path / f"sub-{subject}_ses-{session}-epo.fif", int(subject + session))
    report = check_data(tmp_path, show=False)
    assert report.passed
    assert report.facts["subjects"] == ["01", "02"]
    assert (report.facts["sessions"], report.facts["trials"]) == (2, 24)
    assert check_data(tmp_path, subjects=["2"], show=False).facts["subjects"] == ["02"]
    write_epochs(tmp_path / "sub-02_ses-3-epo.fif", 11, bads=("O1",))  # sub-01's session again
    report = check_data(tmp_path, show=False)
    evidence = found(report, "error")[
        "the same signals in several recordings (subject/session/run)"
    ]
    assert evidence == "01/1/1 = 02/3/1 (6 trials)"
    marked = found(report, "warning")["channels that the file marks as bad"]
    assert marked == "sub-02_ses-3-epo.fif: 1 of 10: O1"


def test_files_without_ids_do_not_collide(tmp_path: Path) -> None:
    write_epochs(tmp_path / "anna-epo.fif", 1)
    write_epochs(tmp_path / "ben-epo.fif", 2)
    report = check_data(tmp_path, show=False)
    assert report.passed
    assert report.facts["runs"] == 2
    for name in ("anna-epo.fif", "ben-epo.fif"):
        write_epochs(tmp_path / name, len(name), session="1")
    assert "several trials have the same key" in found(check_data(tmp_path, show=False), "error")


def test_recordings_that_do_not_fit_each_other(tmp_path: Path) -> None:
    recording().save(tmp_path / "sub-01" / "train")
    other = recording(seed=1).pick(NAMES[:-1])
    other.with_trials(other.trials.assign(subject="02")).save(tmp_path / "sub-02" / "train")
    report = check_data(tmp_path, show=False)
    assert found(report, "warning")["recordings with different channels"] == (
        "missing O2; extra none"
    )
    other = recording(seed=1).crop(0, 0.1)
    other.with_trials(other.trials.assign(subject="02")).save(tmp_path / "sub-02" / "train")
    report = check_data(tmp_path, show=False)
    assert found(report, "warning")["recordings of different kinds or lengths"] == (
        "eeg (10, 20) and eeg (10, 11)"
    )
    order = recording(seed=1).pick(NAMES[::-1])
    order.with_trials(order.trials.assign(subject="02")).save(tmp_path / "sub-02" / "train")
    report = check_data(tmp_path, show=False)
    assert found(report, "warning")["recordings with different channels"] == (
        "the same names in another order"
    )


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is nothing at .*nowhere"):
        check_data(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"(?s)holds nothing that phosphene reads.*notes\.txt"):
        check_data(tmp_path)
    with pytest.raises(UnknownNameError, match="no reader named 'nonsense'"):
        check_data(tmp_path, reader="nonsense")
    np.savez(tmp_path / "a.npz", signals=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"(?s)has no option 'stimulis'.*did you mean 'stimulus'"):
        find_sources(tmp_path / "a.npz", options={"stimulis": "image"})
    with pytest.raises(DataError, match=r"(?s)a\.npz is read by 'npz'.*'strict'.*leave it out"):
        find_sources(tmp_path / "a.npz", options={"strict": False})


def test_real_recording_of_haxby(shared_data: Path) -> None:
    pytest.importorskip("nibabel", reason="the extra fmri is not installed")
    folder = shared_data / "haxby2001_slice"
    if not folder.is_dir():
        pytest.skip(f"the recording is not at {folder}")
    report = check_data(folder, show=False)
    assert report.reader == "nifti"
    assert report.passed
    assert not found(report, "warning")
    assert (report.facts["trials"], report.facts["voxels"], report.facts["runs"]) == (
        1452, [530], 12,
    )  # fmt: skip
    assert "average the volumes of a block" in found(report, "step")


def test_real_labels_of_miyawaki_are_sessions(shared_data: Path) -> None:
    folder = shared_data / "miyawaki2008"
    if not folder.is_dir():
        pytest.skip(f"the recording is not at {folder}")
    report = check_data(folder, label="label", show=False)
    assert not report.passed
    evidence = found(report, "error")["label: labels coincide with sessions"]
    assert evidence.startswith("12 classes, 12 sessions")
    assert check_data(folder, show=False).passed


# Overlaps and the split that leaves out people and concepts together


def test_the_overlap_table_says_what_is_shared() -> None:
    trials = recording().trials
    trials["split"] = np.where(trials["run"] == "2", "test", "train")
    shared = overlap_table(trials).set_index("what")["n_shared"].to_dict()
    assert shared == {"stimulus": 12, "concept": 6, "subject": 1, "session": 2, "run": 0}


def test_leaving_out_a_person_and_the_concepts() -> None:
    trials = pd.concat([table().assign(subject=s) for s in ("1", "2", "3")], ignore_index=True)
    whole = recording(trials)
    splits = split_leave_one_out_zero_shot(whole, test=2, random_state=3)
    assert len(splits) == 3
    for split, subject in zip(splits, ("1", "2", "3"), strict=True):
        train, _, test = split.apply(whole)
        assert test.subjects == [subject]
        assert subject not in train.subjects
        assert not set(test.concepts) & set(train.concepts)
        assert (train.n_trials, test.n_trials) == (2 * 32, 16)
    plain = split_leave_one_out(whole, "subject")[0]
    assert plain.overlaps(whole).set_index("what").loc["stimulus", "n_shared"] == 12
    marked = trials.assign(split=np.where(trials["stimulus"].str.startswith("owl"), "test", ""))
    by_column = split_leave_one_out_zero_shot(recording(marked), "session")
    assert [len(split.test) for split in by_column] == [12, 12]
    with pytest.raises(DataError, match="no trial is marked as test"):
        split_leave_one_out_zero_shot(whole)
    leaky = trials.assign(split=np.where(trials["stimulus"] == "owl/owl_1.png", "test", ""))
    with pytest.raises(LeakError, match="concept"):
        split_leave_one_out_zero_shot(recording(leaky))
