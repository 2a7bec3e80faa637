"""Between recordings and MNE."""

from __future__ import annotations

from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest

from phosphene.data.recording import Recording
from phosphene.errors import DataError

NAMES = ["O1", "Oz", "O2"]


def make_epochs(
    n: int = 6, metadata: bool = True, types: Any = "eeg", sfreq: float = 250.0, tmin: float = -0.2
) -> mne.EpochsArray:
    info = mne.create_info(NAMES, sfreq, types)
    if types == "eeg":
        info.set_montage("colin27_1005" if _new_name() else "standard_1005")
    x = np.random.default_rng(0).normal(scale=1e-6, size=(n, 3, 50))
    events = np.stack([np.arange(n) * 100, np.zeros(n, int), 1 + np.arange(n) % 2], axis=1)
    table = pd.DataFrame(
        {
            "image": [f"img/{'dog' if i % 2 else 'cat'}/{i}.png" for i in range(n)],
            "label": ["animal"] * n,
            "session": ["01"] * n,
            "part": ["train"] * (n - 1) + ["test"],
            "rt": np.arange(n) / 7,
        }
    )
    return mne.EpochsArray(
        x,
        info,
        events,
        tmin=tmin,
        event_id={"cat": 1, "dog": 2},
        metadata=table if metadata else None,
        verbose=False,
    )


def _new_name() -> bool:
    return "colin27_1005" in mne.channels.get_builtin_montages()


def test_epochs_become_a_recording() -> None:
    epochs = make_epochs()
    recording = Recording.from_epochs(epochs, stimulus="image", split="part", name="mine")
    np.testing.assert_array_equal(recording.signals, epochs.get_data().astype(np.float32))
    np.testing.assert_array_equal(recording.times, epochs.times)
    assert recording.channel_names == NAMES
    assert (recording.modality, recording.sfreq, recording.name) == ("eeg", 250.0, "mine")
    table = recording.trials
    assert table["stimulus"].tolist() == table["image"].tolist()
    assert table["concept"].tolist() == ["cat", "dog"] * 3
    assert table["session"].tolist() == ["01"] * 6
    assert table["split"].tolist() == ["train"] * 5 + ["test"]
    np.testing.assert_array_equal(table["rt"], np.arange(6) / 7)
    assert np.isfinite(recording.sensors.positions()).all()


def test_arguments_win_over_metadata() -> None:
    recording = Recording.from_epochs(
        make_epochs(), stimulus="image", concept="label", subject="07", session="9", split="train"
    )
    table = recording.trials
    assert set(table["concept"]) == {"animal"}
    assert set(table["subject"]) == {"07"}
    assert set(table["session"]) == {"9"}
    assert set(table["split"]) == {"train"}


@pytest.mark.parametrize(("sfreq", "tmin"), [(250.0, -0.2), (100.0, 0.0), (1000 / 3, 0.15)])
def test_the_round_trip_is_exact(sfreq: float, tmin: float) -> None:
    epochs = make_epochs(sfreq=sfreq, tmin=tmin)
    recording = Recording.from_epochs(epochs, stimulus="image")
    again = recording.to_epochs()
    np.testing.assert_array_equal(again.get_data(), epochs.get_data().astype(np.float32))
    np.testing.assert_array_equal(again.times, epochs.times)
    assert again.ch_names == epochs.ch_names
    for column in epochs.metadata.columns:
        assert again.metadata[column].tolist() == epochs.metadata[column].tolist()
    for ours, theirs in zip(again.info["chs"], epochs.info["chs"], strict=True):
        np.testing.assert_array_equal(ours["loc"], theirs["loc"])
    assert len(again["img/dog/1.png"]) == 1  # events carry the names of the stimuli
    third = Recording.from_epochs(again)
    pd.testing.assert_frame_equal(third.trials, recording.trials)
    assert third.fingerprint == recording.fingerprint


def test_decimated_epochs_keep_their_times() -> None:
    epochs = make_epochs().copy()
    epochs.shift_time(0.0011)
    recording = Recording.from_epochs(epochs, stimulus="image")
    np.testing.assert_array_equal(recording.to_epochs().times, epochs.times)


def test_epochs_without_metadata() -> None:
    epochs = make_epochs(metadata=False)
    with pytest.raises(DataError, match=r"no metadata[\s\S]*events cat, dog"):
        Recording.from_epochs(epochs, stimulus="image")
    recording = Recording.from_epochs(epochs, stimulus="event")
    assert recording.trials["stimulus"].tolist() == ["cat", "dog"] * 3
    assert recording.trials["repetition"].tolist() == [0, 0, 1, 1, 2, 2]


def test_unknown_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"metadata lacks the column 'imgae'[\s\S]*'image'"):
        Recording.from_epochs(make_epochs(), stimulus="imgae")
    with pytest.raises(DataError, match="'category'"):
        Recording.from_epochs(make_epochs(), stimulus="image", concept="category")
    with pytest.raises(DataError, match="'fold'"):
        Recording.from_epochs(make_epochs(), stimulus="image", split="fold")


def test_modality_follows_the_channels() -> None:
    ecog = Recording.from_epochs(make_epochs(types="ecog"), stimulus="image")
    assert ecog.modality == "ecog"
    meg = Recording.from_epochs(make_epochs(types="mag"), stimulus="image")
    assert meg.modality == "meg"
    assert meg.to_epochs().get_channel_types() == ["mag"] * 3
    some = Recording.from_epochs(make_epochs(types=["eeg", "misc", "eeg"]), stimulus="image")
    assert some.channel_names == ["O1", "O2"]
    with pytest.raises(DataError, match=r"mix modalities[\s\S]*2 eeg, 1 mag"):
        Recording.from_epochs(make_epochs(types=["eeg", "mag", "eeg"]), stimulus="image")
    with pytest.raises(DataError, match=r"no EEG, MEG[\s\S]*3 misc"):
        Recording.from_epochs(make_epochs(types="misc"), stimulus="image")


def test_recordings_from_arrays_become_epochs() -> None:
    x = np.random.default_rng(0).normal(size=(2, 2, 10)).astype(np.float32)
    table = {"stimulus": ["a", "b"]}
    named = Recording.from_arrays(
        x, table, times=np.arange(10) / 100 - 0.02, channel_names=NAMES[:2]
    )
    epochs = named.to_epochs()
    assert epochs.info["sfreq"] == 100
    np.testing.assert_array_equal(epochs.get_data(), x)
    with pytest.raises(DataError, match="time axis"):
        Recording.from_arrays(x[:, :, 0], table, modality="fmri").to_epochs()
