"""THINGS-EEG2 on miniatures of every layout: values, ids, sessions, counts, copies in a cache."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import same_recording
from things_files import FEW, PREPARED, edit, read, the, write

from phosphene import _registry
from phosphene.data.datasets import get_dataset
from phosphene.data.preprocess.epochs import make_epochs
from phosphene.data.readers._things_images import canonical, find_images
from phosphene.data.readers._things_parts import CHANNELS
from phosphene.data.readers._things_pickles import open_pickled
from phosphene.data.readers.things_eeg2 import read_raw_things_eeg2, read_things_eeg2
from phosphene.data.sensors import OCCIPITO_PARIETAL
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.testing import check_reader
from phosphene.testing.layouts import write_things_eeg2

# -- what comes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", PREPARED)
def test_values_and_ids_of_prepared_layouts(tmp_path: Path, layout: str) -> None:
    made = write_things_eeg2(tmp_path, layout)
    recording = read(tmp_path)
    for split, count in (("train", 4), ("test", 8)):
        part = recording.select(split=split)
        expected = made.signals[split].reshape(-1, *made.signals[split].shape[2:])
        assert part.dtype == (np.float16 if layout == "ubp" else np.float32)
        np.testing.assert_array_equal(part.signals, expected.astype(part.dtype))
        assert part.trials["stimulus"].tolist() == list(np.repeat(made.ids[split], count))
        assert part.trials["repetition"].tolist() == list(range(count)) * len(made.ids[split])
    assert recording.channel_names == list(
        OCCIPITO_PARIETAL if layout == "preprocessed" else CHANNELS
    )
    assert np.isfinite(recording.sensors.positions()).all()
    assert recording.times is not None
    np.testing.assert_allclose(recording.times, made.times, atol=1e-9)
    first = recording.trials.iloc[0]
    assert first["stimulus"] == "training_images/00001_aardvark/aardvark_01s.jpg"
    assert (first["concept"], first["text"]) == ("00001_aardvark", "aardvark")
    assert set(recording.trials["text"]) >= {"bat", "aircraft carrier"}
    assert (recording.subjects, recording.name) == (["01"], "things_eeg2-01")
    (read_op,) = recording.history
    assert (read_op["op"], read_op["layout"]) == ("read", layout)
    assert json.loads(json.dumps(read_op)) == read_op


def test_250_samples_take_the_last_of_300_times(tmp_path: Path) -> None:
    write_things_eeg2(tmp_path, "nice")
    stated = open_pickled(the(tmp_path, "preprocessed_eeg_training.npy"))["times"]
    recording = read(tmp_path, "train")
    assert recording.times is not None
    assert (len(stated), stated[0], recording.shape[2]) == (300, -0.2, 250)
    np.testing.assert_allclose(recording.times[[0, -1]], [0.0, 0.996], atol=1e-9)


def test_authors_files_keep_their_baseline(tmp_path: Path) -> None:
    write_things_eeg2(tmp_path, "preprocessed")
    recording = read(tmp_path, "test")
    assert recording.times is not None
    assert (recording.times[0], recording.times[-1], recording.sfreq) == (-0.2, 0.79, 100.0)


@pytest.mark.parametrize("tensors", [False, True])
def test_sessions_where_the_layout_says_so(tmp_path: Path, tensors: bool) -> None:
    made = write(tmp_path, "ubp", tensors=tensors)
    recording = read(tmp_path)
    for split in ("train", "test"):
        found = recording.select(split=split).trials["session"].astype(int)
        np.testing.assert_array_equal(found, made.sessions[split].ravel())
    assert recording.history[0]["verified"] is True  # by the checksums of the archive
    shutil.rmtree(tmp_path)
    write(tmp_path, "neurobridge")
    other = read(tmp_path)
    assert set(other.trials["session"]) == {""}
    assert "does not say which session" in other.history[0]["repetitions"]
    assert other.history[0]["verified"] is False


def test_order_of_repetitions_and_whitening_are_noted(tmp_path: Path) -> None:
    notes = {}
    for layout in PREPARED:
        write(tmp_path / layout, layout)
        notes[layout] = read(tmp_path / layout, "train").history[0]
    assert "shuffled" in notes["nice"]["repetitions"]
    assert "session after session" in notes["ubp"]["repetitions"]
    assert "test trials" in notes["nice"]["whitening"]
    assert "training trials" in notes["ubp"]["whitening"]


@pytest.mark.parametrize("layout", [*PREPARED, "raw"])
def test_both_spellings_give_the_same(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "a", layout)
    write(tmp_path / "b", layout, spelling="train")
    assert list((tmp_path / "b").rglob("train_images"))
    assert same_recording(read(tmp_path / "a"), read(tmp_path / "b"))
    assert canonical("x/train_images/00001_a/a_1.jpg") == "training_images/00001_a/a_1.jpg"


@pytest.mark.parametrize("spelling", ["training", "train"])
def test_the_image_set_holds_the_images_of_the_trials(tmp_path: Path, spelling: Any) -> None:
    write(tmp_path / "a", "nice", metadata=False, spelling=spelling)
    wanted = read(tmp_path / "a").stimuli
    images = StimulusSet.from_folder(tmp_path / "a" / "image_set")
    assert {name.split("/")[0] for name in images.ids} == {f"{spelling}_images", "test_images"}
    found = images.select(wanted)
    assert [name.split("/")[1:] for name in found.ids] == [name.split("/")[1:] for name in wanted]
    assert [name.split("/")[0] for name in found.ids] == [
        name.split("/")[0].replace("training", spelling) for name in wanted
    ]
    # One level up or down, the same files are found.
    assert StimulusSet.from_folder(tmp_path / "a").select(wanted).concepts.tolist() == [
        name.split("/")[1] for name in wanted
    ]


def test_images_are_named_by_their_folders_when_there_is_no_table(tmp_path: Path) -> None:
    write(tmp_path / "a", "nice")
    write(tmp_path / "b", "nice", metadata=False, spelling="train")
    a, b = read(tmp_path / "a"), read(tmp_path / "b")
    assert same_recording(a, b)
    assert (a.history[0]["images"], b.history[0]["images"]) == ("image_metadata.npy", "image_set")
    (tmp_path / "b" / "image_set").rename(tmp_path / "elsewhere")
    (tmp_path / "c").mkdir()
    (tmp_path / "b").rename(tmp_path / "c" / "b")
    with pytest.raises(DataError, match="nothing says which image") as error:
        read(tmp_path / "c" / "b")
    assert "y63gw" in str(error.value)
    assert same_recording(read(tmp_path / "c" / "b", images=tmp_path / "elsewhere"), a)
    table = find_images(tmp_path / "a", tmp_path / "a", None)
    assert table.path == tmp_path / "a" / "image_set" / "image_metadata.npy"


def test_channels(tmp_path: Path) -> None:
    write_things_eeg2(tmp_path, "nice", samples=20)
    everything = read(tmp_path, channels="all")
    for options in ({}, {"cache": tmp_path / "cache"}):
        some = read(tmp_path, channels="occipito-parietal-17", **options)
        assert some.channel_names == list(OCCIPITO_PARIETAL)
        expected = everything.pick(list(OCCIPITO_PARIETAL)).signals
        np.testing.assert_array_equal(some.signals, expected)
    assert read(tmp_path, channels=["Oz", "Pz"]).channel_names == ["Oz", "Pz"]
    for channels, message in (("visual", "set of channels"), (["Oz", "X1"], "'X1'"), ([], "no ch")):
        with pytest.raises(DataError, match=message):
            read(tmp_path, channels=channels)


def test_types_of_the_values(tmp_path: Path) -> None:
    write(tmp_path, "nice")
    single, half = read(tmp_path), read(tmp_path, dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half.signals, single.signals.astype(np.float16))
    with pytest.raises(DataError, match="float64"):
        read(tmp_path, dtype="float64")


def test_averaging_stays_in_the_file(tmp_path: Path) -> None:
    made = write_things_eeg2(tmp_path, "neurobridge")  # large enough to be mapped
    recording = read(tmp_path)
    assert not recording.in_memory
    assert "signals" not in recording.__dict__
    means = recording.average(["split", "stimulus"])
    assert not recording.in_memory
    expected = np.concatenate([made.signals[s].mean(1) for s in ("train", "test")])
    np.testing.assert_allclose(means.signals, expected, atol=1e-5)


def test_layouts_and_subjects_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "nice", subjects=("01", "02"))
    write(tmp_path, "ubp", seed=1)
    with pytest.raises(DataError, match="more than once") as error:
        read(tmp_path)
    assert "nice in" in str(error.value)
    assert read(tmp_path, layout="bvsa").history[0]["layout"] == "ubp"
    assert read(tmp_path / "Preprocessed_data_250Hz").history[0]["layout"] == "nice"
    second = read_things_eeg2(tmp_path, 2, strict=False)
    assert second.subjects == ["02"]
    with pytest.raises(DataError, match="no subject 03") as error:
        read_things_eeg2(tmp_path, "sub-03")
    assert "01, 02" in str(error.value.found)
    with pytest.raises(DataError, match="no layout 'matlab'"):
        read(tmp_path, layout="matlab")
    with pytest.raises(DataError, match="no subject 'P1'"):
        read_things_eeg2(tmp_path, "P1")
    with pytest.raises(DataError, match="no part"):
        read(tmp_path, "validation")
    with pytest.raises(DataError, match="no folder"):
        read(tmp_path / "nowhere")


def test_unknown_files_are_listed_with_what_layouts_look_like(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "brain.mat").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    message = str(error.value)
    assert "brain.mat" in message
    assert all(name in message for name in ("train.pt", "info.json", "raw_eeg_training.npy"))
    with pytest.raises(DataError, match="layout 'raw'"):
        read(tmp_path, layout="raw")


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path, "ubp")
    the(tmp_path, "test.pt").unlink()
    with pytest.raises(DataError, match="lacks the test file") as error:
        read(tmp_path)
    assert "train.pt" in str(error.value.found)
    assert set(read(tmp_path, "train").trials["split"]) == {"train"}


@pytest.mark.parametrize("layout", [*PREPARED, "raw"])
def test_counts_of_the_data_set_are_compared(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, layout)
    with pytest.raises(DataError, match="not the whole") as error:
        read(tmp_path, strict=True)
    assert "16540 images" in str(error.value.expected)
    assert "8 images" in str(error.value.found)
    with caplog.at_level(logging.WARNING, logger="phosphene"):
        read(tmp_path)
    assert "not the whole of THINGS-EEG2: 8 images" in caplog.text


def test_registered_with_an_example() -> None:
    assert _registry.get("reader", "things_eeg2") is read_things_eeg2
    check_reader("things_eeg2")
    assert get_dataset("things_eeg2").expected["test_repetitions"] == 80


# -- raw --------------------------------------------------------------------------------------


def test_raw_sessions_with_their_events(tmp_path: Path) -> None:
    made = write(tmp_path, "raw")
    sessions = list(read_raw_things_eeg2(tmp_path, 1, strict=False))
    order = [(s.session, s.split) for s in sessions]
    assert order == [(str(n), split) for n in range(1, 5) for split in ("train", "test")]
    for one in sessions:
        recorded = made.signals[f"{one.split}-{one.session}"]
        np.testing.assert_array_equal(one.raw.get_data(), recorded[:-1])
        assert one.raw.ch_names == list(FEW)
        assert one.raw.info["lowpass"] == 100.0
        codes = recorded[-1, one.events[:, 0]].astype(int)
        np.testing.assert_array_equal(codes, one.events[:, 2])
        assert 99999 not in codes
        assert (recorded[-1] == 99999).sum() == 1
        assert one.trials["stimulus"].tolist() == [made.ids[one.split][c - 1] for c in codes]
        one.raw.filter(1.0, None, verbose=False)  # in place, so it must be a copy
    some = list(read_raw_things_eeg2(tmp_path, 1, "test", sessions=["3", 1], strict=False))
    assert [s.session for s in some] == ["3", "1"]
    with pytest.raises(DataError, match="no session 9"):
        read_raw_things_eeg2(tmp_path, 1, sessions=[9])


def test_raw_trials_are_cut_as_published(tmp_path: Path) -> None:
    import mne

    write(tmp_path, "raw", repetitions=(4, 4))
    recording = read(tmp_path)
    counts = recording.trials.groupby("stimulus").size()
    assert set(counts) == {4}
    assert recording.trials.groupby("stimulus")["repetition"].apply(set).map(len).eq(4).all()
    for session in read_raw_things_eeg2(tmp_path, 1, strict=False):
        epochs = mne.Epochs(
            session.raw, session.events, tmin=-0.2, tmax=1.0, baseline=(None, 0), preload=True,
            verbose=False,
        )  # fmt: skip
        epochs.resample(250, verbose=False)
        part = recording.select(session=session.session, split=session.split)
        assert session.table["sample"].tolist() == session.events[:, 0].tolist()
        ours = make_epochs(session.raw, events=session.table, sfreq=250, crop=(0, None))
        np.testing.assert_allclose(part.signals, ours.signals, rtol=1e-4, atol=1e-11)
        assert part.trials["stimulus"].tolist() == ours.trials["stimulus"].tolist()
        np.testing.assert_allclose(
            part.signals, epochs.get_data(copy=False)[..., -250:], rtol=1e-4, atol=1e-11
        )
    assert recording.times is not None
    np.testing.assert_allclose(recording.times, np.arange(250) / 250)
    with pytest.raises(DataError, match="too small for float16"):
        read(tmp_path, dtype="float16")


def test_repetitions_beyond_the_number_of_a_session_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "raw", repetitions=(8, 4))  # four in each of two sessions
    recording = read(tmp_path, "train")
    assert set(recording.trials.groupby("stimulus").size()) == {4}
    assert recording.history[0]["left_out"] == recording.n_trials


def test_raw_without_loading(tmp_path: Path) -> None:
    write(tmp_path, "raw")
    loaded = next(read_raw_things_eeg2(tmp_path, 1, strict=False))
    mapped = next(read_raw_things_eeg2(tmp_path, 1, strict=False, preload=False))
    np.testing.assert_array_equal(mapped.raw.get_data(), loaded.raw.get_data())


# -- cache ------------------------------------------------------------------------------------


def test_converted_copies_are_made_once(tmp_path: Path) -> None:
    write(tmp_path / "data", "nice")
    plain = read(tmp_path / "data")
    cache = tmp_path / "cache"
    first = read(tmp_path / "data", cache=cache)
    assert not first.in_memory
    assert same_recording(plain, first)
    folders = sorted(cache.iterdir())
    assert [f.name.rpartition("-")[0] for f in folders] == [
        "sub-01-preprocessed_eeg_test",
        "sub-01-preprocessed_eeg_training",
    ]
    stamps = [(f / "signals.npy").stat().st_mtime_ns for f in folders]
    assert same_recording(read(tmp_path / "data", cache=cache, channels="all"), plain)
    assert [(f / "signals.npy").stat().st_mtime_ns for f in folders] == stamps
    read(tmp_path / "data", cache=cache, dtype="float16")
    assert len(list(cache.iterdir())) == 4


def test_damaged_copies_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "data", "nice")
    plain = read(tmp_path / "data", cache=tmp_path / "cache")
    want = plain.fingerprint
    for copy in (tmp_path / "cache").glob("*/signals.npy"):
        content = bytearray(copy.read_bytes())
        content[-3] ^= 4
        copy.write_bytes(content)
    assert read(tmp_path / "data", cache=tmp_path / "cache").fingerprint == want
    assert "made anew" in caplog.text


def test_a_changed_file_is_converted_again(tmp_path: Path) -> None:
    write(tmp_path / "data", "nice")
    before = read(tmp_path / "data", cache=True)  # in the cache of the tests

    def shift(value: dict[str, Any]) -> None:
        value["preprocessed_eeg_data"] += 1

    edit(tmp_path / "data", "nice", shift)
    after = read(tmp_path / "data", cache=True)
    assert not same_recording(before, after)
    assert same_recording(after, read(tmp_path / "data"))
