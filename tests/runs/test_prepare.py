"""`prepare_data` on miniatures: raw to ready, resumed, verified, with a page that shows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene import _registry
from phosphene.data.prepare import _base
from phosphene.data.recording import Recording
from phosphene.errors import DataError, StorageError, UnknownNameError
from phosphene.runs import data_prepare
from phosphene.runs.data_check import check_data
from phosphene.runs.data_prepare import parse_settings, prepare_data
from phosphene.testing import CheckFailure, check_preparer, layouts
from phosphene.testing._layouts_bids import STIMULI, write_bids

LOOSE: dict[str, Any] = {"strict": False}
BIDS: dict[str, Any] = {"tmin": -0.1, "tmax": 0.4}


def prepare(name: str, root: Path, out: Path, settings: dict[str, Any] | None = None) -> Any:
    return prepare_data(name, root, out, settings=settings or LOOSE, show=False)


def load(out: Path, subject: str = "01") -> dict[str, Recording]:
    return {p.parent.name: Recording.load(p.parent)
            for p in sorted((out / f"sub-{subject}").glob("*/recording.json"))}  # fmt: skip


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    pytest.importorskip("mne_bids", reason="the extra bids is not installed")
    return write_bids(tmp_path / "bids")


def with_split(root: Path) -> None:
    """Mark the last stimulus as test in every table of events."""
    for path in root.rglob("*_events.tsv"):
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        test = table["stim_file"] == STIMULI[-1]
        table.assign(split=np.where(test, "test", "train")).to_csv(path, sep="\t", index=False)


def test_every_known_data_set_that_can_be_read_can_be_prepared() -> None:
    readers = set(_registry.names("reader")) & set(_registry.names("dataset"))
    small = {"miyawaki2008"}  # ready as it is
    assert readers - small <= set(_registry.names("preparer"))


@pytest.mark.parametrize(
    ("name", "write", "parts", "op"),
    [
        ("things_eeg2", lambda p: layouts.write_things_eeg2(p, "raw", concepts=3, test_concepts=2),
         {"train", "test"}, "whitening"),
        ("things_meg", layouts.write_things_meg, {"train", "test"}, "baseline_zscore"),
        ("god", layouts.write_god, {"train", "test", "imagery"}, "zscore"),
        ("things_fmri", layouts.write_things_fmri, {"train", "test"}, "zscore"),
        ("nsd", layouts.write_nsd, {"train", "test"}, "zscore"),
        ("nsd", layouts.write_mindeye2, {"train", "test"}, "zscore"),
    ],
    ids=["things_eeg2", "things_meg", "god", "things_fmri", "nsd", "mindeye2"],
)  # fmt: skip
def test_miniatures(
    tmp_path: Path, name: str, write: Callable[[Path], Any], parts: set[str], op: str
) -> None:
    write(tmp_path / "raw")
    (done,) = prepare(name, tmp_path / "raw", tmp_path / "out")
    assert (done.subject, done.outcome) == ("01", "prepared")
    found = load(tmp_path / "out")
    assert set(found) == set(done.parts) == parts
    for part, recording in found.items():
        assert recording.n_trials == done.parts[part]["trials"] > 0
        assert op in {entry["op"] for entry in recording.history}
        assert set(recording.trials["split"]) == {"train" if part == "train" else "test"}
    train = found["train"]
    assert not set(train.concepts) & set(found["test"].concepts)
    x = np.asarray(train.signals, dtype=np.float64)
    if op == "zscore":
        assert np.abs(x.mean(axis=0)).max() < 1e-4
    assert 0.3 < x.std() < 4
    page = (tmp_path / "out" / "quality.html").read_text()
    assert page.count("<img") >= 3
    assert name == "things_meg" or "Subject 01" in page
    report = check_data(tmp_path / "out", show=False)
    assert report.passed
    assert report.facts["verified"]


def test_whitening_was_learned_from_training_trials_only(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    layouts.write_things_eeg2(root, "raw", concepts=3, test_concepts=2)
    prepare("things_eeg2", root, tmp_path / "out")
    prepare("things_eeg2", root, tmp_path / "plain", {**LOOSE, "whiten": "no"})
    train, plain = load(tmp_path / "out")["train"], load(tmp_path / "plain")["train"]
    entry = next(e for e in train.history if e["op"] == "whitening")
    assert entry["fitted_on"] == plain.fingerprint
    assert load(tmp_path / "out")["test"].history[-1]["fitted_on"] == plain.fingerprint
    assert not any(e["op"] == "whitening" for e in plain.history)


def test_bids_with_and_without_a_split(bids: Path, tmp_path: Path) -> None:
    done = prepare("bids", bids, tmp_path / "out", BIDS)
    assert [p.subject for p in done] == ["01", "02"]
    found = load(tmp_path / "out", "02")
    assert set(found) == {"all"}
    assert found["all"].shape == (8, 6, 51)
    with pytest.raises(DataError, match=r"(?s)which trials are for training.*whiten=false"):
        prepare("bids", bids, tmp_path / "white", {**BIDS, "whiten": True})
    with_split(bids)
    prepare("bids", bids, tmp_path / "split", {**BIDS, "whiten": True, "dtype": "float16"})
    found = load(tmp_path / "split")
    assert {name: part.n_trials for name, part in found.items()} == {"test": 2, "train": 6}
    assert found["train"].dtype == np.float16
    with pytest.raises(DataError, match=r"(?s)float16 cannot hold.*dtype=float32"):
        prepare("bids", bids, tmp_path / "volts", {**BIDS, "dtype": "float16"})


def test_ieeg_becomes_high_gamma_power(tmp_path: Path) -> None:
    pytest.importorskip("mne_bids", reason="the extra bids is not installed")
    root = write_bids(tmp_path / "ieeg", datatype="ieeg", subjects=("01",), sfreq=500.0)
    prepare("bids", root, tmp_path / "out", {"high_gamma": True})
    found = load(tmp_path / "out")["all"]
    assert (found.modality, found.shape, found.times) == ("ecog", (8, 6), None)
    assert {"common_average_reference", "high_gamma"} <= {e["op"] for e in found.history}


def test_finished_people_are_left_as_they_are(bids: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare_data("bids", bids, out, subjects=["1"], settings=BIDS, show=False)
    assert [p.subject for p in first] == ["01"]
    signals = out / "sub-01" / "all" / "signals.npy"
    written = signals.stat().st_mtime_ns
    done = prepare("bids", bids, out, BIDS)
    assert [(p.subject, p.outcome) for p in done] == [("01", "already there"), ("02", "prepared")]
    assert signals.stat().st_mtime_ns == written
    assert (out / "quality.html").read_text().count("<h2") == 3
    # Neither a changed byte nor a missing figure counts as finished.
    data = bytearray(signals.read_bytes())
    data[-5] ^= 1
    signals.write_bytes(data)
    (out / "sub-02" / "quality" / "evoked.png").unlink()
    done = prepare("bids", bids, out, BIDS)
    assert [p.outcome for p in done] == ["prepared", "prepared"]
    assert load(out)["all"].n_trials == 8


def test_a_killed_run_goes_on(bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_split(bids)
    out = tmp_path / "out"
    save, saved = Recording.save, []

    def killed(self: Recording, path: Any) -> Any:
        if len(saved) == 3:  # both parts of the first person and one of the second
            raise KeyboardInterrupt
        saved.append(path)
        return save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Recording, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare("bids", bids, out, BIDS)
    assert not (out / "sub-02" / "prepared.json").exists()
    done = prepare("bids", bids, out, BIDS)
    assert [(p.subject, p.outcome) for p in done] == [("01", "already there"), ("02", "prepared")]
    whole = tmp_path / "whole"
    prepare("bids", bids, whole, BIDS)
    for subject in ("01", "02"):
        for part, recording in load(out, subject).items():
            assert recording.fingerprint == load(whole, subject)[part].fingerprint


def test_one_persons_damage_does_not_keep_the_others(bids: Path, tmp_path: Path) -> None:
    next(bids.glob("sub-01/**/*run-2_events.tsv")).unlink()
    with pytest.raises(DataError, match=r"(?s)1 of 2 subjects.*01: there are no events"):
        prepare("bids", bids, tmp_path / "out", BIDS)
    assert load(tmp_path / "out", "02")["all"].n_trials == 8
    assert "Subject 02" in (tmp_path / "out" / "quality.html").read_text()


def test_other_settings_other_files_and_wrong_words(bids: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("bids", bids, out, BIDS)
    with pytest.raises(DataError, match=r"(?s)prepared in another way.*tmax was 0\.4, now 0\.3"):
        prepare("bids", bids, out, {**BIDS, "tmax": 0.3})
    with pytest.raises(DataError, match=r"(?s)no setting 'tmaks'.*did you mean 'tmax'"):
        prepare("bids", bids, tmp_path / "new", {"tmaks": 1})
    with pytest.raises(UnknownNameError, match="no preparer named 'things_eeg'"):
        prepare("things_eeg", bids, tmp_path / "new")
    with pytest.raises(DataError, match=r"(?s)no files of subject '7'.*01, 02"):
        prepare_data("bids", bids, tmp_path / "new", subjects=["7"], show=False)
    with pytest.raises(DataError, match="there is no folder"):
        prepare("bids", tmp_path / "nowhere", tmp_path / "new", BIDS)
    shutil.copytree(bids, tmp_path / "full")
    with pytest.raises(StorageError, match="do not belong to a preparation"):
        prepare("bids", bids, tmp_path / "full", BIDS)
    assert not (tmp_path / "new").exists()


def test_a_baseline_is_needed_and_used() -> None:
    rng = np.random.default_rng(0)
    x = 5 + 2 * rng.standard_normal((300, 2, 40))
    trials = {"stimulus": [f"a/{i}.png" for i in range(300)]}
    r = Recording.from_arrays(x, trials, times=np.arange(-20, 20) / 100)
    z = _base.baseline_zscore(r)
    before = z.signals[:, :, :20]
    np.testing.assert_allclose(before.mean(axis=2), 0, atol=1e-5)
    np.testing.assert_allclose(before.std(axis=2), 1, atol=1e-5)
    literal = (x - x[:, :, :20].mean(2, keepdims=True)) / x[:, :, :20].std(2, keepdims=True)
    np.testing.assert_allclose(z.signals, literal, atol=1e-4)
    np.testing.assert_allclose(_base.baseline_zscore(z).signals, z.signals, atol=1e-4)
    with pytest.raises(DataError, match="no baseline"):
        _base.baseline_zscore(r.crop(0, None))


def test_settings_are_words_of_yaml() -> None:
    assert parse_settings(["reject=1e-4"]) == {"reject": 1e-4}  # YAML 1.1 would make it text
    assert parse_settings(["a=1", "b=[x, y]", "c=", "d=no way"]) == {
        "a": 1, "b": ["x", "y"], "c": None, "d": "no way",
    }  # fmt: skip
    for word in ("alone", "=1", "a=[1"):
        with pytest.raises(DataError, match=r"no setting|cannot be read"):
            parse_settings([word])


def test_the_state_says_how_it_came_about(bids: Path, tmp_path: Path) -> None:
    prepare("bids", bids, tmp_path / "out", BIDS)
    state = json.loads((tmp_path / "out" / "sub-01" / data_prepare.STATE).read_text())
    assert state["about"]["dataset"] == "bids"
    assert state["about"]["settings"]["tmax"] == 0.4
    assert set(state["manifests"]) == {"all"}
    assert "evoked" in state["figures"]


def test_the_public_checks_notice_a_leak_and_a_setting_without_words() -> None:
    @dataclass(frozen=True)
    class Leaky:
        """Prepare.

        Parameters
        ----------
        scale : float
            Unused.
        """

        scale: float = 1.0

        def subjects(self, root: Path) -> list[str]:
            """One."""
            return ["01"] if any(root.iterdir()) else []

        def parts(self, root: Path, subject: str) -> Any:
            """The same trials twice."""
            trials = {"stimulus": ["a/1.png", "b/1.png"]}
            r = Recording.from_arrays(np.eye(2, 3), trials, modality="fmri", check=False)
            yield "train", r
            yield "test", r

    @dataclass(frozen=True)
    class Silent(Leaky):
        """Prepare."""

    def example(folder: Path) -> dict[str, Any]:
        (folder / "raw").write_text("x")
        return {}

    with pytest.raises(CheckFailure, match="test and training share images"):
        check_preparer(Leaky, example)
    with pytest.raises(CheckFailure, match="described in the docstring"):
        check_preparer(Silent, example)
    with pytest.raises(CheckFailure, match="no example for the preparation"):
        check_preparer(Leaky)
    check_preparer("bids")
