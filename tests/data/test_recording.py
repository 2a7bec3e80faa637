"""Recording: construction, selection, averaging and views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.data import _average
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, LeakError

NAMES = ["O1", "Oz", "O2", "POz"]


def signals(n: int = 12, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(n, 4, 25)).astype(dtype)


def trials(n: int = 12) -> pd.DataFrame:
    """Two subjects with the same three stimuli, twice each."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "stimulus": [f"c{k}/c{k}_01.png" for k in i % 3],
            "subject": [f"{1 + k:02d}" for k in i // 6],
            "session": 1 + (i // 3) % 2,
            "rt": i / 10,
        }
    )


def make(n: int = 12, **kwargs: Any) -> Recording:
    options: dict[str, Any] = {"sfreq": 100.0, "channel_names": NAMES} | kwargs
    return Recording.from_arrays(signals(n), trials(n), **options)


# construction


def test_defaults_complete_the_trial_table() -> None:
    recording = Recording.from_arrays(signals(3), {"stimulus": ["a", "b", "a"]}, sfreq=100)
    table = recording.trials
    assert list(table.columns) == [
        "stimulus",
        "concept",
        "subject",
        "session",
        "run",
        "repetition",
        "split",
    ]
    assert table["repetition"].tolist() == [0, 0, 1]
    assert table.iloc[0].tolist() == ["a", "a", "01", "1", "1", 0, ""]
    assert recording.channel_names == ["ch0", "ch1", "ch2", "ch3"]
    np.testing.assert_array_equal(recording.times, np.arange(25) / 100)
    assert recording.history == ()


def test_ids_are_text_and_repetitions_integers() -> None:
    table = make().trials
    for column in ("stimulus", "concept", "subject", "session", "run", "split"):
        assert all(type(value) is str for value in table[column])
    assert table["session"].unique().tolist() == ["1", "2"]
    assert table["repetition"].tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert table["concept"].unique().tolist() == ["c0", "c1", "c2"]


def test_only_floats_of_four_and_two_bytes_are_kept() -> None:
    for given, kept in [("float64", "float32"), ("int16", "float32"), ("float16", "float16")]:
        x = (signals() * 100).astype(given)
        recording = Recording.from_arrays(x, trials(), sfreq=100)
        assert recording.dtype == recording.signals.dtype == kept
        np.testing.assert_array_equal(recording.signals, x.astype(kept))
    with pytest.raises(DataError, match="complex"):
        Recording.from_arrays(signals().astype(complex), trials(), sfreq=100)
    big = signals().astype(np.float64)
    big[2, 1, 3] = 1e300
    with pytest.raises(DataError, match=r"'Oz' \(1 of 12 trials\)"):
        Recording.from_arrays(big, trials(), sfreq=100, channel_names=NAMES)


def test_the_array_is_not_copied_nor_changed() -> None:
    x = signals()
    copy = x.copy()
    recording = Recording.from_arrays(x, trials(), sfreq=100)
    assert np.shares_memory(recording.signals, x)
    recording.average()
    np.testing.assert_array_equal(x, copy)


def test_changing_the_table_does_not_change_the_recording() -> None:
    recording = make()
    table = recording.trials
    table["split"] = "test"
    table.loc[0, "stimulus"] = "other"
    assert (recording.trials["split"] == "").all()
    assert recording.trials.loc[0, "stimulus"] == "c0/c0_01.png"
    with pytest.raises(AttributeError):
        recording.name = "x"  # type: ignore[misc]


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(DataError, match="12 rows for 11 trials"):
        Recording.from_arrays(signals(11), trials(12), sfreq=100)
    with pytest.raises(DataError, match=r"number of axes[\s\S]*\(12,\)"):
        Recording.from_arrays(np.zeros(12), trials(), sfreq=100)
    with pytest.raises(DataError, match=r"4 in signals[\s\S]*expected: 2 channels"):
        Recording.from_arrays(signals(), trials(), sfreq=100, channel_names=["O1", "O2"])
    with pytest.raises(DataError, match=r"found: 30 times[\s\S]*expected: 25"):
        Recording.from_arrays(signals(), trials(), times=np.arange(30) / 100)
    with pytest.raises(DataError, match="no scale"):
        Recording.from_arrays(signals(), trials())
    with pytest.raises(DataError, match="evenly spaced"):
        Recording.from_arrays(signals(), trials(), times=np.arange(25) ** 2)
    sensors = Sensors.eeg(NAMES, 100)
    with pytest.raises(DataError, match=r"50 Hz in times[\s\S]*100 Hz in sensors"):
        Recording.from_arrays(signals(), trials(), times=np.arange(25) / 50, sensors=sensors)


def test_missing_stimuli_are_named() -> None:
    table = trials()
    with pytest.raises(DataError, match="lacks the column 'stimulus'"):
        Recording.from_arrays(signals(), table.drop(columns="stimulus"), sfreq=100)
    table.loc[[3, 7], "stimulus"] = None
    with pytest.raises(DataError, match="rows 3, 7"):
        Recording.from_arrays(signals(), table, sfreq=100)


def test_double_keys_are_named() -> None:
    table = trials()
    table["repetition"] = 0
    make().with_trials(table)
    table["session"] = 1
    with pytest.raises(DataError, match=r"6 trials[\s\S]*01/1/1/c0/c0_01.png/0"):
        make().with_trials(table)
    table["repetition"] = 0.5
    with pytest.raises(DataError, match="'repetition' holds other things"):
        make().with_trials(table)


def test_bad_channels_are_named_and_the_check_can_be_left_out() -> None:
    x = signals()
    x[3, 1, 5] = np.nan
    with pytest.raises(DataError, match=r"'Oz' \(1 of 12 trials\)"):
        Recording.from_arrays(x, trials(), sfreq=100, channel_names=NAMES)
    assert Recording.from_arrays(x, trials(), sfreq=100, check=False).n_trials == 12
    x[:, 1] = 0
    with pytest.raises(DataError, match=r"constant[\s\S]*'Oz'"):
        Recording.from_arrays(x, trials(), sfreq=100, channel_names=NAMES)


def test_voxels_have_no_times() -> None:
    table = pd.DataFrame({"roi_V1": [True, False, True, False]})
    recording = Recording.from_arrays(
        signals()[:, :, 0], trials(), sensors=Sensors.fmri(table), name="bold"
    )
    assert (recording.times, recording.sfreq, recording.shape) == (None, None, (12, 4))
    assert recording.pick(roi="V1").channel_names == ["voxel_0", "voxel_2"]
    np.testing.assert_array_equal(recording.pick(roi="V1").signals, recording.signals[:, [0, 2]])
    with pytest.raises(DataError, match="time axis"):
        recording.crop(0, 1)


def test_an_empty_recording_is_possible() -> None:
    empty = make().select([])
    assert empty.shape == (0, 4, 25)
    assert empty.signals.shape == (0, 4, 25)
    assert empty.fingerprint != make().fingerprint
    assert "0 trials" in repr(empty)
    assert "<table>" in empty._repr_html_()


# selection


def test_select_by_value_query_mask_and_position() -> None:
    recording = make()
    x = recording.signals
    picked = recording.select(subject="02", session=[1])
    np.testing.assert_array_equal(picked.signals, x[6:9])
    assert picked.trials["rt"].tolist() == [0.6, 0.7, 0.8]
    assert picked.trials.index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(recording.select("rt > 0.95").signals, x[10:])
    mask = np.arange(12) % 5 == 0
    np.testing.assert_array_equal(recording.select(mask).signals, x[mask])
    np.testing.assert_array_equal(recording.select([7, -1, 2]).signals, x[[7, 11, 2]])
    np.testing.assert_array_equal(recording.select([7, 2, 1], subject="01").signals, x[[2, 1]])


def test_selections_of_selections_and_shared_memory() -> None:
    recording = make()
    twice = recording.select(np.arange(1, 12, 2)).select([4, 0])
    np.testing.assert_array_equal(twice.signals, recording.signals[[9, 1]])
    assert twice.rows.tolist() == [9, 1]
    assert twice.store is recording.store
    assert np.shares_memory(recording.select(subject="01").signals, recording.signals)


def test_unknown_columns_and_values() -> None:
    with pytest.raises(DataError, match=r"column 'sujet'[\s\S]*'subject'"):
        make().select(sujet="01")
    with pytest.raises(DataError, match=r"subject = '3'[\s\S]*'01', '02'"):
        make().select(subject=3)
    with pytest.raises(DataError, match="no trial satisfies"):
        make().select("rt > 100")
    with pytest.raises(DataError, match="cannot be evaluated"):
        make().select("rt >")
    with pytest.raises(DataError, match="given twice: 1"):
        make().select([1, 1])


def test_take_reads_copies_in_any_order() -> None:
    recording = make().select([5, 3, 1])
    block = recording.take([2, 0, 0])
    np.testing.assert_array_equal(block, make().signals[[1, 5, 5]])
    block[:] = 0
    assert make().signals.any()
    assert recording.take(slice(1)).shape == (1, 4, 25)
    assert "signals" not in recording.__dict__
    whole = make().take(np.arange(12))
    assert not np.shares_memory(whole, make().store)


def test_crop_and_pick_are_views() -> None:
    recording = make(times=np.arange(25) / 100 - 0.05)
    window = recording.crop(0, 0.1)
    assert window.times is not None
    np.testing.assert_allclose(window.times, np.arange(11) / 100, atol=1e-12)
    assert np.shares_memory(window.signals, recording.signals)
    np.testing.assert_array_equal(window.signals, recording.signals[:, :, 5:16])
    some = window.pick(["POz", "O1"])
    assert some.channel_names == ["POz", "O1"]
    np.testing.assert_array_equal(some.signals, recording.signals[:, [3, 0], 5:16])
    np.testing.assert_array_equal(some.take([1]), recording.signals[[1]][:, [3, 0], 5:16])
    np.testing.assert_array_equal(some.crop(0.05).signals, recording.signals[:, [3, 0], 10:16])
    assert [step["op"] for step in some.history] == ["crop", "pick"]
    with pytest.raises(DataError, match="no sample lies between 5 and 6"):
        recording.crop(5, 6)
    with pytest.raises(DataError, match="either names or roi"):
        recording.pick()
    with pytest.raises(DataError, match="no region 'V1'"):
        recording.pick(roi="V1")


# averaging


def test_average_of_three_known_trials() -> None:
    x = np.array([[[1.0, 2.0]], [[3.0, 6.0]], [[5.0, 1.0]]])
    table = {
        "stimulus": ["b", "a", "b"],
        "session": [1, 1, 2],
        "split": "train",
        "rt": [0.1, 0.2, 0.3],
        "ok": [True, True, False],
    }
    mean = Recording.from_arrays(x, table, sfreq=10).average()
    np.testing.assert_array_equal(mean.signals, [[[3.0, 1.5]], [[3.0, 6.0]]])
    out = mean.trials
    assert out["stimulus"].tolist() == ["b", "a"]
    assert out["session"].tolist() == ["", "1"]  # varies within b
    assert out["split"].tolist() == ["train", "train"]
    assert out["n_averaged"].tolist() == [2, 1]
    assert out["rt"].isna().tolist() == [True, False]
    assert out["ok"].tolist() == [pd.NA, True]
    assert out["repetition"].tolist() == [0, 0]
    assert mean.history == (
        {"op": "average", "by": ["subject", "stimulus"], "max_repetitions": None},
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("chunk", [64 * 2**20, 1200])
def test_average_equals_a_plain_loop(
    dtype: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_average, "CHUNK", chunk)
    rng = np.random.default_rng(1)
    n = 40
    x = rng.normal(size=(n, 4, 25)).astype(dtype)
    table = pd.DataFrame({"stimulus": rng.integers(5, size=n), "subject": rng.integers(2, size=n)})
    recording = Recording.from_arrays(x, table, sfreq=100)
    mean = recording.average()
    assert mean.dtype == np.float32
    for row in mean.trials.itertuples():
        mine = (
            (recording.trials["stimulus"] == row.stimulus)
            & (recording.trials["subject"] == row.subject)
        ).to_numpy()
        expected = x[mine].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(mean.signals[row.Index], expected, atol=1e-6)
        assert row.n_averaged == mine.sum()


def test_the_first_repetitions_are_those_of_the_first_sessions() -> None:
    # Rows are shuffled, and session 10 comes after session 2.
    table = pd.DataFrame(
        {
            "stimulus": "a",
            "session": ["10", "2", "2", "1", "10"],
            "run": ["1", "2", "1", "1", "1"],
            "repetition": [4, 2, 1, 0, 3],
        }
    )
    x = np.array([4.0, 2, 1, 0, 3])[:, None] * np.array([1.0, 10.0])
    recording = Recording.from_arrays(x, table, modality="fmri")
    for k in (1, 2, 3, 4, 5, 99):
        mean = recording.average(max_repetitions=k)
        expected = np.arange(5)[:k].mean()
        np.testing.assert_allclose(mean.signals, [[expected, 10 * expected]])
        assert mean.trials["n_averaged"].tolist() == [min(k, 5)]
    with pytest.raises(DataError, match="max_repetitions"):
        recording.average(max_repetitions=0)


def test_two_steps_equal_one() -> None:
    keep = np.ones(12, dtype=bool)
    keep[3] = False  # unequal counts
    recording = make().select(keep)
    once = recording.average()
    twice = recording.average(["subject", "session", "stimulus"]).average()
    np.testing.assert_allclose(twice.signals, once.signals, atol=1e-6)
    assert twice.trials["n_averaged"].tolist() == once.trials["n_averaged"].tolist()
    concept = recording.average("concept")
    assert concept.trials["subject"].tolist() == ["", "", ""]
    assert concept.trials["concept"].tolist() == ["c0", "c1", "c2"]


def test_test_trials_are_not_averaged_with_others() -> None:
    table = trials()
    table["split"] = np.where(np.arange(12) < 3, "test", "train")
    recording = make().with_trials(table)
    with pytest.raises(LeakError, match=r"3 averages[\s\S]*c0/c0_01.png"):
        recording.average()
    assert recording.average(["subject", "stimulus", "split"]).n_trials == 9


def test_average_by_an_unknown_column() -> None:
    with pytest.raises(DataError, match="'subjet'"):
        make().average(["subjet"])


# putting together


def test_concat() -> None:
    recording = make(name="all")
    left, right = recording.select(subject="01"), recording.select(subject="02")
    whole = Recording.concat([left, right])
    assert whole.store is recording.store
    np.testing.assert_array_equal(whole.signals, recording.signals)
    pd.testing.assert_frame_equal(whole.trials, recording.trials)
    averaged = Recording.concat([left.average(), right.average()])
    assert averaged.n_trials == 6
    assert averaged.history[0]["op"] == "average"
    assert Recording.concat([left.average(), right]).history == ()
    mixed = Recording.concat([left.with_trials(left.trials.assign(extra="x")), right])
    assert mixed.trials["extra"].tolist() == ["x"] * 6 + [""] * 6
    with pytest.raises(DataError, match="6 trials have a key"):
        Recording.concat([left, left])
    with pytest.raises(DataError, match=r"different channels[\s\S]*'POz'"):
        Recording.concat([left, right.pick(NAMES[:3])])
    with pytest.raises(DataError, match="different times"):
        Recording.concat([left, right.crop(0, 0.1)])
    with pytest.raises(DataError, match="empty list"):
        Recording.concat([])


def test_new_signals_for_the_same_trials() -> None:
    recording = make()
    doubled = recording.with_signals(recording.signals * 2, op={"op": "double"})
    np.testing.assert_array_equal(doubled.signals, recording.signals * 2)
    assert doubled.history == ({"op": "double"},)
    flat = recording.with_signals(recording.signals.mean(axis=2))
    assert flat.times is None
    assert flat.shape == (12, 4)
    with pytest.raises(DataError, match="do not fit"):
        recording.with_signals(recording.signals[:, :, :5])
    with pytest.raises(DataError, match="12 rows for 3 trials"):
        recording.with_signals(recording.signals[:3])
    with pytest.raises(DataError, match="NaN"):
        recording.with_signals(recording.signals * np.nan)


# identity and looks


def test_the_fingerprint_follows_the_content() -> None:
    base = make()
    prints = {base.fingerprint}
    changed = base.signals.copy()
    changed[0, 0, 0] += 1e-3
    prints.add(base.with_signals(changed).fingerprint)
    prints.add(base.with_trials(base.trials.assign(split="train")).fingerprint)
    prints.add(base.crop(0, 0.1).fingerprint)
    prints.add(base.pick(NAMES[::-1]).fingerprint)
    prints.add(base.select(np.arange(11)).fingerprint)
    assert len(prints) == 6
    assert make(name="other").fingerprint == base.fingerprint
    shuffled = base.select([1, 0, 2]).select([1, 0, 2])
    assert shuffled.fingerprint == base.select([0, 1, 2]).fingerprint


def test_memory_maps_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", signals())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    recording = Recording.from_arrays(mapped, trials(), sfreq=100, channel_names=NAMES)
    assert not recording.in_memory
    assert make().in_memory
    some = recording.select([8, 2]).pick(["Oz", "O1"]).crop(0.1)
    assert not some.in_memory
    np.testing.assert_array_equal(some.take([1, 0]), signals()[[2, 8]][:, [1, 0], 10:])
    assert recording.fingerprint == make().fingerprint
    chain = Recording.concat([recording.select(subject="02"), make().select(subject="01")])
    assert not chain.in_memory
    np.testing.assert_array_equal(chain.take([7, 0, 6]), signals()[[1, 6, 0]])
    np.testing.assert_array_equal(chain.select([11, 1]).signals, signals()[[5, 7]])
    np.testing.assert_allclose(chain.average().signals[3:], make().average().signals[:3], atol=1e-6)


def test_looks() -> None:
    recording = make(name="demo <1>")
    assert repr(recording) == (
        "Recording(demo <1>: 12 trials x 4 channels x 25 times, eeg, 3 stimuli, 2 subjects)"
    )
    page = recording.average()._repr_html_()
    for text in ("demo &lt;1&gt;", "01, 02", "3 of 3 concepts", "6 x 4 x 25", "average"):
        assert text in page
    assert len(recording) == 12
    assert recording.nbytes == recording.signals.nbytes
    with pytest.raises(TypeError):
        iter(recording)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["Test", "tset", "testing", "training ", "Validation"])
def test_a_misspelt_split_cannot_slip_past_the_guards(name: str) -> None:
    table = {"stimulus": ["a_1", "b_1"], "split": ["train", name]}
    with pytest.raises(DataError, match=r"write '(test|train|validation)'"):
        Recording.from_arrays(np.random.default_rng(0).standard_normal((2, 3)), table)


def test_other_splits_have_any_name() -> None:
    table = {"stimulus": ["a_1", "b_1"], "split": ["", "imagery"]}
    signals = np.random.default_rng(0).standard_normal((2, 3))
    assert Recording.from_arrays(signals, table).trials["split"].tolist() == ["", "imagery"]
