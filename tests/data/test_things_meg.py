"""THINGS-MEG on a miniature: values, ids, what is left out, parts that are missing, damage."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, only_values_differ, same_recording

from phosphene import _registry
from phosphene.data.readers._things_fif import require_whole
from phosphene.data.readers.things_meg import read_things_meg
from phosphene.data.recording import Recording
from phosphene.data.splits import Split
from phosphene.errors import DataError
from phosphene.testing import check_reader
from phosphene.testing._layouts_meg import MegMiniature, write_things_meg


@pytest.fixture
def made(tmp_path: Path) -> MegMiniature:
    return write_things_meg(tmp_path, channels=3)


def read(root: Path, *args: Any, **options: Any) -> Recording:
    return read_things_meg(root, 1, *args, **{"strict": False, **options})


def attributes(made: MegMiniature) -> Path:
    return made.root / "sourcedata" / "sample_attributes_P1.csv"


def table(made: MegMiniature, name: str) -> Path:
    (path,) = made.root.rglob(name)
    return path


def test_values_ids_and_order(made: MegMiniature) -> None:
    recording = read(made.root, drop_test_concepts=False)
    shown = made.events != 999999
    assert recording.shape == (shown.sum(), 3, 201)
    np.testing.assert_array_equal(recording.signals, made.signals[shown][:, :, 20:221])
    trials = recording.trials
    assert trials["stimulus"].tolist() == [made.ids[e - 1] for e in made.events[shown]]
    assert trials["session"].tolist() == made.sessions[shown].astype(str).tolist()
    assert trials["split"].tolist() == np.where(made.test[shown], "test", "train").tolist()
    assert trials["concept"].tolist() == [s.split("/")[0] for s in trials["stimulus"]]
    assert "aircraft carrier" in set(trials["text"])
    assert recording.times is not None
    assert (recording.times[0], recording.times[-1], recording.sfreq) == (0.0, 1.0, 200.0)
    assert (recording.modality, recording.dtype, recording.subjects) == ("meg", np.float32, ["01"])
    assert recording.channel_names == ["MLO11-1609", "MRO11-1609", "MZO11-1609"]
    assert json.loads(json.dumps(recording.history))[0]["dataset"] == "things_meg"


def test_training_images_of_test_concepts_leave(made: MegMiniature) -> None:
    everything = read(made.root, drop_test_concepts=False)
    recording = read(made.root)
    test, train = (recording.select(split=s).trials for s in ("test", "train"))
    assert set(test["concept"]) == {"aardvark", "abacus"}
    assert not set(test["concept"]) & set(train["concept"])
    assert len(train) == 4 * 3
    assert test.groupby("stimulus").size().tolist() == [4, 4]
    left = recording.history[0]["left_out"]
    assert left["training trials of test concepts"] == left["training images of test concepts"] == 6
    assert left["catch trials"] == 4
    assert everything.history[0]["left_out"]["training trials of test concepts"] == 0
    assert everything.n_trials - recording.n_trials == 6
    splits = {}
    for name, one in (("kept", everything), ("dropped", recording)):
        rows = [np.flatnonzero(one.trials["split"] == s) for s in ("train", "test")]
        overlaps = Split(rows[0], [], rows[1], kind="concept").overlaps(one)
        shared = overlaps[(overlaps["parts"] == "train/test") & (overlaps["what"] == "concept")]
        splits[name] = int(shared["n_shared"].iloc[0])
    assert splits == {"kept": 2, "dropped": 0}


def test_parts_windows_and_channels(made: MegMiniature) -> None:
    both = read(made.root)
    for part in ("train", "test"):
        assert same_recording(read(made.root, part), both.select(split=part))
    wide = read(made.root, tmin=-0.1, tmax=1.3)
    assert wide.shape[2] == 281
    assert same_recording(wide.crop(0.0, 1.0), both)
    some = read(made.root, channels=["MZO11-1609", "MLO11-1609"])
    np.testing.assert_array_equal(some.signals, both.signals[:, [2, 0]])
    half = read(made.root, dtype="float16")
    np.testing.assert_array_equal(half.signals, both.signals.astype(np.float16))
    for options, message in (
        ({"channels": ["Oz"]}, "'Oz'"),
        ({"tmin": 5.0, "tmax": 6.0}, "no sample"),
        ({"dtype": "int8"}, "int8"),
    ):
        with pytest.raises(DataError, match=message):
            read(made.root, **options)
    with pytest.raises(DataError, match="no part"):
        read(made.root, "dev")


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_number_of_files_makes_no_difference(
    tmp_path: Path, made: MegMiniature, parts: int
) -> None:
    other = write_things_meg(tmp_path / "other", channels=3, parts=parts)
    assert len(other.files) == parts
    assert same_recording(read(other.root), read(made.root))


def test_a_missing_file_is_named(made: MegMiniature) -> None:
    assert [f.name[-10:] for f in made.files] == ["P1-epo.fif", "-epo-1.fif", "-epo-2.fif"]
    for number in (1, 2):
        content = made.files[number].read_bytes()
        made.files[number].unlink()
        with pytest.raises(DataError, match="goes on in a file that is missing") as error:
            read(made.root)
        assert f"without preprocessed_P1-epo-{number}.fif" in str(error.value.found)
        made.files[number].write_bytes(content)
    made.files[0].unlink()
    with pytest.raises(DataError, match="no subject P1"):
        read(made.root)


def test_missing_subjects_list_those_there(made: MegMiniature) -> None:
    write_things_meg(made.root, subject=3)
    with pytest.raises(DataError, match="no subject P2") as error:
        read_things_meg(made.root, "P2")
    assert "P1, P3" in str(error.value.found)
    assert read_things_meg(made.root, "03", strict=False).subjects == ["03"]
    with pytest.raises(DataError, match="no subject 'x'"):
        read_things_meg(made.root, "x")
    with pytest.raises(DataError, match="no folder"):
        read(made.root / "nowhere")


@pytest.mark.parametrize("name", ["image_paths.csv", "sample_attributes_P1.csv"])
def test_missing_tables_are_named(made: MegMiniature, name: str) -> None:
    table(made, name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read(made.root)


def test_tables_elsewhere(tmp_path: Path, made: MegMiniature) -> None:
    good = read(made.root)
    (made.root / "THINGS").rename(tmp_path.parent / f"{tmp_path.name}-things")
    assert same_recording(read(made.root, images=tmp_path.parent / f"{tmp_path.name}-things"), good)
    with pytest.raises(DataError, match="jum2f"):
        read(made.root)


def test_counts_of_the_data_set_are_compared(
    made: MegMiniature, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match="not the whole of THINGS-MEG") as error:
        read_things_meg(made.root, 1)
    for count in ("27048 trials", "271 channels", "200 test images", "19848 train images"):
        assert count in str(error.value.expected)
    with caplog.at_level(logging.WARNING, logger="phosphene"):
        read(made.root)
    assert "not the whole of THINGS-MEG" in caplog.text


def test_registered_with_an_example() -> None:
    assert _registry.get("reader", "things_meg") is read_things_meg
    check_reader("things_meg")


def test_converted_copy_is_kept(tmp_path: Path, made: MegMiniature) -> None:
    cache = tmp_path / "cache"
    first = read(made.root, cache=cache)
    assert not first.in_memory
    assert same_recording(first, read(made.root))
    (folder,) = cache.iterdir()
    stamp = (folder / "signals.npy").stat().st_mtime_ns
    assert same_recording(read(made.root, cache=cache), first)
    assert (folder / "signals.npy").stat().st_mtime_ns == stamp
    read(made.root, "test", cache=cache)
    assert len(list(cache.iterdir())) == 2
    for part in made.files:  # other recordings under the same names
        part.unlink()
    write_things_meg(made.root, channels=3, seed=1)
    assert not same_recording(read(made.root, cache=cache), first)


# -- bad input --------------------------------------------------------------------------------


def change(path: Path, **columns: Any) -> None:
    frame = pd.read_csv(path)
    for name, value in columns.items():
        frame[name] = value(frame) if callable(value) else value
    frame.to_csv(path, index=False)


def first_row(column: str, value: Any) -> Any:
    def changed(frame: pd.DataFrame) -> Any:
        out = frame[column].astype(object).copy()
        out.iloc[0] = value
        return out

    return changed


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"trial_type": "rest"}, "unknown kinds"),
        ({"trial_type": first_row("trial_type", "catch")}, "other catch trials"),
        ({"session_nr": first_row("session_nr", "x")}, "'session_nr' holds other"),
        ({"run_nr": first_row("run_nr", 1.5)}, "'run_nr' holds other"),
    ],
)
def test_tables_of_trials_that_make_no_sense(
    made: MegMiniature, columns: Any, message: str
) -> None:
    change(attributes(made), **columns)
    with pytest.raises(DataError, match=message) as error:
        read(made.root)
    assert "sample_attributes_P1.csv" in str(error.value)


def test_columns_and_rows_of_the_table_of_trials(made: MegMiniature) -> None:
    frame = pd.read_csv(attributes(made))
    frame.drop(columns="run_nr").to_csv(attributes(made), index=False)
    with pytest.raises(DataError, match="lacks the columns 'run_nr'"):
        read(made.root)
    frame.iloc[1:].to_csv(attributes(made), index=False)
    with pytest.raises(DataError, match=f"{len(frame) - 1} rows for {len(frame)} trials"):
        read(made.root)


def test_tables_that_name_different_images(
    made: MegMiniature, caplog: pytest.LogCaptureFixture
) -> None:
    good = read(made.root)
    change(attributes(made), image_path=first_row("image_path", "images_meg/cat/cat_01b.jpg"))
    with pytest.raises(DataError, match="name different images") as error:
        read_things_meg(made.root, 1)
    assert "cat_01b.jpg" in str(error.value.found)
    assert same_recording(read(made.root), good)  # the events are believed
    assert "name different images" in caplog.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["images/cat/cat_01.txt"], "line 1 is no image"),
        (["images/cat/dog_01.jpg"], "not named after its folder"),
        (["images/cat/cat_01.jpg"] * 2, "twice"),
        (["images/cat/cat_01.jpg"], "no image of"),
        ([""], "empty"),
    ],
)
def test_image_tables_that_make_no_sense(
    made: MegMiniature, lines: list[str], message: str
) -> None:
    table(made, "image_concept_index.csv").unlink()
    table(made, "image_paths.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message) as error:
        read(made.root)
    assert "image_paths.csv" in str(error.value)


def test_concept_numbers_are_compared_with_folders(made: MegMiniature) -> None:
    path = table(made, "image_concept_index.csv")
    numbers = path.read_text().split()
    for wrong in ([*numbers[:-1], "1"], numbers[1:], ["x", *numbers[1:]]):
        path.write_text("\n".join(wrong))
        with pytest.raises(DataError, match="do not fit"):
            read(made.root)


def test_one_image_cannot_be_training_and_test(made: MegMiniature) -> None:
    frame = pd.read_csv(attributes(made))
    row = int(np.flatnonzero(frame["trial_type"] == "test")[0])
    frame.loc[row, "trial_type"] = "exp"
    frame.to_csv(attributes(made), index=False)
    with pytest.raises(DataError, match="both training and test"):
        read(made.root)


def rewrite(made: MegMiniature, signals: Any) -> None:
    import mne

    epochs = mne.read_epochs(made.files[0], preload=True, proj=False, verbose=False)
    signals(epochs._data)
    for path in made.files:
        path.unlink()
    epochs.save(made.files[0], verbose=False)


def test_nan_flat_and_impossible_channels_are_named(tmp_path: Path) -> None:
    def nan(data: Any) -> None:
        data[:6, 1, 100] = np.nan  # some of them are no catch trials

    def flat(data: Any) -> None:
        data[:, 1] = 2.0

    def huge(data: Any) -> None:
        data[:6, 1, 100] = 1e9

    for change_values, message in ((nan, "NaN"), (flat, "constant"), (huge, "no recording has")):
        made = write_things_meg(tmp_path / message, channels=3, parts=1)
        rewrite(made, change_values)
        with pytest.raises(DataError, match=message) as error:
            read(made.root, drop_test_concepts=False)
        assert "'MRO11-1609'" in str(error.value)
        assert "preprocessed_P1-epo.fif" in str(error.value)


def test_values_too_small_for_float16(made: MegMiniature) -> None:
    def tesla(data: Any) -> None:
        data *= 1e-13

    rewrite(made, tesla)
    assert read(made.root).dtype == np.float32
    with pytest.raises(DataError, match="too small for float16"):
        read(made.root, dtype="float16")


def test_truncated_files_are_always_noticed(made: MegMiniature) -> None:
    path = made.files[1]
    content = path.read_bytes()
    require_whole(path)
    for missing in (1, 15, 16, 17, 40, 1000, len(content) - 1, len(content)):
        path.write_bytes(content[: len(content) - missing])
        with pytest.raises(DataError, match=r"epo-1\.fif is truncated"):
            read(made.root)
    path.write_bytes(content + b"\0")
    with pytest.raises(DataError, match="truncated or damaged"):
        require_whole(path)


# -- fuzz -------------------------------------------------------------------------------------

FUZZED = {
    "first part": "preprocessed_P1-epo.fif",
    "second part": "preprocessed_P1-epo-1.fif",
    "image paths": "image_paths.csv",
    "concept numbers": "image_concept_index.csv",
    "trials": "sample_attributes_P1.csv",
}


def try_damage(made: MegMiniature, what: str, n: int, seed: int) -> None:
    good = read(made.root)
    good_print = good.fingerprint

    def silent(found: Recording) -> bool:
        """Damage that nothing can see: other values, a letter in a name, a session's number."""
        if found.history[0]["verified"] or what == "image paths":
            return not found.history[0]["verified"]
        if what == "trials":
            columns = ["stimulus", "concept", "split"]
            return found.trials[columns].equals(good.trials[columns])
        return only_values_differ(found, good)

    outcomes = fuzz(
        table(made, FUZZED[what]),
        lambda: read(made.root),
        lambda found: found.fingerprint == good_print,
        n=n,
        seed=seed,
        unverifiable=silent,
    )
    assert outcomes["refused"] > n / 3
    assert same_recording(read(made.root), good)


@pytest.mark.parametrize("what", FUZZED)
def test_damaged_files_are_refused_or_read_right(made: MegMiniature, what: str) -> None:
    try_damage(made, what, n=40, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("what", FUZZED)
def test_many_damaged_files_are_refused_or_read_right(made: MegMiniature, what: str) -> None:
    try_damage(made, what, n=260, seed=1)
