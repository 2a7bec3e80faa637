"""Channels matched by name; missing ones interpolated as MNE does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from phosphene.data.preprocess.channels import CHANNEL_SETS, channel_set, match_channels
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError

OCCIPITAL = list(CHANNEL_SETS["occipito-parietal-17"])
MORE = [*OCCIPITAL, "Fp1", "Fp2", "F3", "F4", "F7", "F8", "C3", "C4", "Cz", "Fz", "T7", "T8"]


def smooth_field(names: list[str], n: int = 20, seed: int = 0, **kwargs: Any) -> Recording:
    """Trials of a few far sources, so that neighbouring channels measure nearly the same."""
    rng = np.random.default_rng(seed)
    sensors = kwargs.pop("sensors", None) or Sensors.eeg(names, 100.0)
    places = Sensors.eeg(MORE, 100.0).positions()
    at = dict(zip(MORE, places, strict=True))
    place = np.array([at[name] for name in names])
    sources = rng.normal(size=(5, 3))
    gains = place @ sources.T
    x = gains @ rng.normal(size=(n, 5, 12))
    return Recording.from_arrays(x, {"stimulus": np.arange(n)}, sensors=sensors, **kwargs)


def test_reordered_respelled_and_extra_channels(caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    recording = Recording.from_arrays(
        x, {"stimulus": list("abc")}, sfreq=10, channel_names=["OZ", "p z", "EOG", "O1", "x7"]
    )
    with caplog.at_level(logging.INFO):
        done = match_channels(recording, ["Pz", "O1", "O2", "Oz"], rename={"x7": "O2"})
    assert done.channel_names == ["Pz", "O1", "O2", "Oz"]
    np.testing.assert_array_equal(done.signals, recording.signals[:, [1, 3, 4, 0]])
    assert done.sensors.info is not None
    assert done.sensors.info["ch_names"] == done.channel_names
    assert "left out: EOG" in caplog.text
    assert done.history[-1] == {
        "op": "match_channels",
        "channels": ["Pz", "O1", "O2", "Oz"],
        "dropped": ["EOG"],
        "renamed": {"p z": "Pz", "x7": "O2", "OZ": "Oz"},
        "interpolated": [],
    }
    assert recording.channel_names == ["OZ", "p z", "EOG", "O1", "x7"]


def test_matching_another_recording_lets_both_be_put_together() -> None:
    train = smooth_field(["O1", "Oz", "O2", "Pz"], name="train")
    test = smooth_field(["Pz", "O2", "O1", "Oz", "Fz"], seed=1)
    test = test.with_trials(test.trials.assign(session="2"))
    with pytest.raises(DataError, match="different channels"):
        Recording.concat([train, test])
    assert Recording.concat([train, match_channels(test, train)]).n_trials == 40
    aligned = match_channels(test, train)
    assert aligned.sensors.same_as(train.sensors)
    assert match_channels(test, train.sensors).channel_names == train.channel_names


def test_aliases_only_when_asked() -> None:
    old = Recording.from_arrays(
        np.random.default_rng(0).normal(size=(2, 4, 3)),
        {"stimulus": ["a", "b"]},
        sfreq=10,
        channel_names=["T3", "T4", "t5", "T6"],
    )
    with pytest.raises(DataError, match="lacks 4 channels: T7, T8, P7, P8") as error:
        match_channels(old, ["T7", "T8", "P7", "P8"])
    assert "pass aliases=True" in str(error.value)
    done = match_channels(old, ["P8", "T7", "T8", "P7"], aliases=True)
    np.testing.assert_array_equal(done.signals, old.signals[:, [3, 0, 1, 2]])
    new = match_channels(done, ["T3", "T4"], aliases=True)
    np.testing.assert_array_equal(new.signals, old.signals[:, :2])


def test_missing_channels_are_named() -> None:
    recording = smooth_field(OCCIPITAL[:-2], name="session 2")
    with pytest.raises(DataError, match="'session 2' lacks 2 channels: Oz, O2") as error:
        match_channels(recording, "occipito-parietal-17")
    assert 'missing="interpolate"' in str(error.value)
    with pytest.raises(DataError, match="no set of channels 'occipital'"):
        match_channels(recording, "occipital")
    assert channel_set(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "no channels are wanted"),
        (["Oz", "Oz"], {}, "channel occurs more than once"),
        (["Oz"], {"rename": {"Q1": "Oz"}}, "channels to rename that are not there: 'Q1'"),
        (["Oz"], {"rename": {"O1": "Oz"}}, "channel name after renaming occurs more than once"),
        (["Oz"], {"missing": "zero"}, "no such rule"),
        (["oZ", "OZ"], {}, "the same one"),
        (["T7", "T3"], {"aliases": True}, "the same one"),
    ],
)
def test_what_cannot_be_meant_is_refused(names: Any, options: Any, message: str) -> None:
    recording = smooth_field(["O1", "Oz", "T7"])
    with pytest.raises(DataError, match=message):
        match_channels(recording, names, **options)


def test_ambiguous_spellings_are_refused() -> None:
    recording = Recording.from_arrays(
        np.random.default_rng(0).normal(size=(2, 2, 3)),
        {"stimulus": ["a", "b"]},
        sfreq=10,
        channel_names=["X 1", "x1"],
    )
    with pytest.raises(DataError, match="could be any of several") as error:
        match_channels(recording, ["X1"])
    assert "X 1, x1" in str(error.value)
    assert match_channels(recording, ["x1"]).channel_names == ["x1"]


@pytest.mark.parametrize("bads", [[], ["P3"]])
def test_interpolation_equals_mne(bads: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """MNE itself: the full montage with the missing channels marked as bad."""
    full = smooth_field(MORE)
    rest = full.pick([n for n in MORE if n not in ("Oz", "P4")])
    assert rest.sensors.info is not None
    rest.sensors.info["bads"] = bads
    done = match_channels(rest, MORE, missing="interpolate")
    epochs = full.to_epochs()
    epochs.info["bads"] = ["Oz", "P4", *bads]
    epochs.interpolate_bads(origin=(0.0, 0.0, 0.04), verbose="error")
    here = [MORE.index(n) for n in ("Oz", "P4")]
    scale = full.signals.std()
    np.testing.assert_allclose(done.signals[:, here], epochs.get_data()[:, here], atol=1e-5 * scale)
    there = [i for i in range(len(MORE)) if i not in here]
    np.testing.assert_array_equal(done.signals[:, there], full.signals[:, there])
    assert done.channel_names == MORE
    assert done.history[-1]["interpolated"] == ["P4", "Oz"]
    assert "interpolated: P4, Oz" in caplog.text
    np.testing.assert_allclose(done.sensors.positions(), full.sensors.positions(), atol=1e-6)
    assert done.sensors.info is not None
    assert done.sensors.info["bads"] == bads


def test_interpolated_channels_are_close_to_the_truth() -> None:
    for seed in range(3):
        full = smooth_field(MORE, seed=seed)
        for name in ("Oz", "P4", "Cz"):
            done = match_channels(
                full.pick([n for n in MORE if n != name]), MORE, missing="interpolate"
            )
            i = MORE.index(name)
            r = np.corrcoef(done.signals[:, i].ravel(), full.signals[:, i].ravel())[0, 1]
            assert r > 0.95


def test_places_come_from_the_recording_the_target_or_the_montage() -> None:
    names = [n for n in MORE if n != "Oz"]
    known = smooth_field(names)
    expected = match_channels(known, MORE, missing="interpolate")
    info = mne.create_info(names, 100.0, "eeg")
    bare = smooth_field(names, sensors=Sensors("eeg", tuple(names), info))
    assert np.isnan(bare.sensors.positions()).all()
    done = match_channels(bare, MORE, missing="interpolate")
    np.testing.assert_allclose(done.signals, expected.signals, rtol=1e-4, atol=1e-5)
    without = smooth_field(names, sensors=Sensors("eeg", tuple(names)), sfreq=100.0)
    done = match_channels(without, MORE, missing="interpolate")
    np.testing.assert_allclose(done.signals, expected.signals, rtol=1e-4, atol=1e-5)
    assert done.sensors.info is None
    # A channel of the target that the 10-05 system does not know, at the place of Oz.
    target = Sensors.eeg(MORE, 100.0)
    assert target.info is not None
    named = target.info.copy()
    mne.rename_channels(named, {"Oz": "E75"})
    other = ["E75" if n == "Oz" else n for n in MORE]
    done = match_channels(known, Sensors("eeg", tuple(other), named), missing="interpolate")
    np.testing.assert_allclose(done.signals, expected.signals, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="places of some channels are unknown") as error:
        match_channels(known, other, missing="interpolate")
    assert "E75" in str(error.value)


def test_what_cannot_be_interpolated() -> None:
    few = smooth_field(["O1", "Oz", "O2"])
    with pytest.raises(DataError, match="too few channels to interpolate Pz"):
        match_channels(few, ["O1", "Oz", "O2", "Pz"], missing="interpolate")
    with pytest.raises(DataError, match="only EEG channels"):
        match_channels(few, ["Fz", "Cz"], missing="interpolate")
    ecog = Recording.from_arrays(
        np.random.default_rng(0).normal(size=(2, 5, 3)),
        {"stimulus": ["a", "b"]},
        sfreq=10,
        modality="ecog",
    )
    with pytest.raises(DataError, match="only EEG channels"):
        match_channels(ecog, ["ch0", "ch9"], missing="interpolate")
    with pytest.raises(DataError, match="another kind"):
        match_channels(ecog, few)


def test_files_and_averages_are_matched_without_reading_them(tmp_path: Path) -> None:
    full = smooth_field(MORE)
    full.pick([n for n in MORE[::-1] if n != "Oz"]).save(tmp_path / "part")
    there = Recording.load(tmp_path / "part")
    done = match_channels(there, MORE, missing="interpolate")
    assert not done.in_memory
    assert not match_channels(there, MORE[1:5]).in_memory
    i = [k for k in range(len(MORE)) if MORE[k] != "Oz"]
    np.testing.assert_array_equal(done.signals[:, i], full.signals[:, i])
    done.save(tmp_path / "full")
    assert Recording.load(tmp_path / "full").channel_names == MORE
    power = Recording.from_arrays(full.signals[:, i, 0], full.trials, sensors=full.sensors.pick(i))
    flat = match_channels(power, MORE, missing="interpolate")
    np.testing.assert_allclose(flat.signals, done.signals[..., 0], rtol=1e-5, atol=1e-6)
