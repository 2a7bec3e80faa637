"""Raw recordings cut into trials against the same steps written out in MNE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from phosphene.data.preprocess.channels import CHANNEL_SETS
from phosphene.data.preprocess.epochs import Epoch, make_epochs
from phosphene.data.recording import Recording
from phosphene.errors import DataError

SFREQ = 500.0
NAMES = ["Fz", "Cz", "P7", "Pz", "O1", "Oz", "O2"]
CODES = [3, 1, 2, 99999, 1, 3, 2, 1]
ONSETS = 500 + 700 * np.arange(8)
STIMULI = {1: "cat/1.png", 2: "dog/1.png", 3: "cat/2.png"}


def make_raw(seconds: float = 14.0, names: Any = NAMES, seed: int = 0, **kwargs: Any) -> Any:
    """Noise with drifts, mains hum and evoked responses; events in a stim channel."""
    n = int(seconds * SFREQ)
    rng = np.random.default_rng(seed)
    t = np.arange(n) / SFREQ
    x = 1e-5 * rng.standard_normal((len(names), n))
    x += 5e-5 * np.sin(2 * np.pi * 0.05 * t) + 2e-5 * np.sin(2 * np.pi * 50 * t)
    stim = np.zeros((1, n))
    for code, onset in zip(CODES, ONSETS, strict=True):
        if onset < n:
            stim[0, onset : onset + 3] = code
    info = mne.create_info([*names, "STI 014"], SFREQ, ["eeg"] * len(names) + ["stim"])
    return mne.io.RawArray(np.vstack([x, stim]), info, verbose="error", **kwargs)


def by_hand(raw: Any, *, events: Any, tmin: float, tmax: float, **options: Any) -> mne.Epochs:
    raw = raw.copy().pick(options.pop("picks", "eeg"))
    if notch := options.pop("notch", None):
        raw.notch_filter(notch, verbose="error")
    low, high = options.pop("band", (None, None))
    if low or high:
        raw.filter(low, high, verbose="error")
    return mne.Epochs(
        raw, events, tmin=tmin, tmax=tmax, preload=True, verbose="error", proj=False, **options
    )


def test_the_steps_of_things_eeg2() -> None:
    """Filter, epochs, baseline, resampling after epoching, the last part, no catch trials."""
    raw = make_raw(first_samp=1234)
    before = raw.get_data().copy()
    cut = Epoch(
        -0.2, 1.0, highpass=0.5, lowpass=100, notch=50, sfreq=250, crop=(0, None), drop=[99999]
    )
    recording = cut.transform(raw, stimuli=STIMULI, subject="04", session="2", name="mine")
    events = mne.find_events(raw, verbose="error")
    events = events[events[:, 2] != 99999]
    epochs = by_hand(
        raw, events=events, tmin=-0.2, tmax=1.0, band=(0.5, 100), notch=50, baseline=(None, 0)
    )
    epochs.resample(250, verbose="error")
    assert epochs.times.shape == (300,)
    assert recording.shape == (7, 7, 250)
    np.testing.assert_allclose(recording.signals, epochs.get_data()[..., -250:], atol=1e-11)
    np.testing.assert_allclose(recording.times, np.arange(250) / 250, atol=1e-12)
    assert recording.sfreq == 250.0
    trials = recording.trials
    assert trials["stimulus"].tolist() == [STIMULI[c] for c in CODES if c != 99999]
    assert trials["event"].tolist() == ["3", "1", "2", "1", "3", "2", "1"]
    assert trials["repetition"].tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert set(trials["subject"]) == {"04"}
    assert set(trials["session"]) == {"2"}
    np.testing.assert_allclose(trials["onset"], np.delete(ONSETS, 3) / SFREQ)
    entry = recording.history[-1]
    assert entry["op"] == "epochs"
    assert (entry["n_events"], entry["n_trials"], entry["dropped"]) == (8, 7, {"99999": 1})
    assert (entry["highpass"], entry["notch"], entry["sfreq"]) == (0.5, 50, 250)
    np.testing.assert_array_equal(raw.get_data(), before)
    assert raw.ch_names == [*NAMES, "STI 014"]


def test_baseline_in_standard_deviations() -> None:
    raw = make_raw()
    done = make_epochs(raw, baseline_mode="zscore", sfreq=200, tmin=-0.1, tmax=0.5)
    plain = make_epochs(raw, baseline=None, tmin=-0.1, tmax=0.5)
    before = plain.crop(-0.1, 0.0).signals.astype(float)
    expected = plain.signals - before.mean(axis=2, keepdims=True)
    expected /= before.std(axis=2, keepdims=True)
    full = make_epochs(raw, baseline_mode="zscore", tmin=-0.1, tmax=0.5)
    np.testing.assert_allclose(full.signals, expected, rtol=1e-3, atol=1e-3)
    assert done.shape[2] == round(301 * 200 / SFREQ)
    late = make_epochs(raw, baseline=(0.1, 0.2), tmin=-0.1, tmax=0.5)
    np.testing.assert_allclose(late.crop(0.1, 0.2).signals.mean(axis=2), 0, atol=1e-10)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_raw()
    settings: dict[str, Any] = {"sfreq": 100, "reject": 1.9e-4, "tmax": 0.5}
    whole = make_epochs(raw, **settings)
    monkeypatch.setattr("phosphene.data.preprocess._cut.PIECE", 8 * 7 * 351 * 2)
    pieces = make_epochs(raw, **settings)
    assert whole.fingerprint == pieces.fingerprint
    assert whole.history[-1] == pieces.history[-1]


def test_channels_by_name_set_and_order() -> None:
    raw = make_raw(names=["Fz", *CHANNEL_SETS["occipito-parietal-17"][::-1], "Cz"])
    done = make_epochs(raw, channels="occipito-parietal-17", tmax=0.3, lowpass=40)
    assert done.channel_names == list(CHANNEL_SETS["occipito-parietal-17"])
    everything = make_epochs(raw, tmax=0.3, lowpass=40)
    assert len(everything.sensors) == 19
    np.testing.assert_array_equal(done.signals, everything.pick(done.channel_names).signals)
    few = make_epochs(raw, channels=["OZ", "P7"], tmax=0.3)
    assert few.channel_names == ["Oz", "P7"]
    with pytest.raises(DataError, match="lacks 1 channels: Q9"):
        make_epochs(raw, channels=["Oz", "Q9"])


def test_modalities() -> None:
    raw = make_raw()
    raw.set_channel_types({"Fz": "ecog", "Cz": "misc"}, on_unit_change="ignore")
    with pytest.raises(DataError, match="mixes modalities") as error:
        make_epochs(raw)
    assert "5 eeg" in str(error.value)
    assert "1 ecog" in str(error.value)
    done = make_epochs(raw, modality="ecog", tmax=0.3)
    assert (done.modality, done.channel_names) == ("ecog", ["Fz"])
    with pytest.raises(DataError, match="no meg channels"):
        make_epochs(raw, modality="meg")
    only = raw.copy().pick(["STI 014"])
    with pytest.raises(DataError, match="no channels of a brain"):
        make_epochs(only)


def test_bad_channels_are_kept_dropped_or_interpolated() -> None:
    names = ["Fz", "Cz", "Pz", "P7", "P8", "O1", "Oz", "O2"]
    raw = make_raw(names=names)
    raw.info["bads"] = ["Oz"]
    kept = make_epochs(raw, tmax=0.3)
    assert kept.sensors.info is not None
    assert kept.sensors.info["bads"] == ["Oz"]
    dropped = make_epochs(raw, tmax=0.3, bads="drop")
    assert dropped.channel_names == [n for n in names if n != "Oz"]
    with pytest.raises(DataError, match="cannot be interpolated: Oz"):
        make_epochs(raw, tmax=0.3, bads="interpolate")
    raw.set_montage(mne.channels.make_standard_montage("biosemi32"), on_missing="ignore")
    mended = make_epochs(raw, tmax=0.3, bads="interpolate")
    assert mended.sensors.info is not None
    assert mended.sensors.info["bads"] == []
    good = [i for i, n in enumerate(names) if n != "Oz"]
    np.testing.assert_array_equal(mended.signals[:, good], kept.signals[:, good])
    assert not np.allclose(mended.signals[:, 6], kept.signals[:, 6], atol=1e-6)
    assert mended.channel_names == names


def test_rejection_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    raw = make_raw()
    raw._data[5, ONSETS[2] + 50] += 2e-3  # Oz in the third trial
    raw._data[1, ONSETS[4] - 30 : ONSETS[4] + 300] = 0  # Cz is silent in the fifth
    done = make_epochs(raw, tmin=-0.05, tmax=0.4, drop=[99999], reject=1e-3, flat=1e-6)
    assert done.n_trials == 5
    assert done.trials["event"].tolist() == ["3", "1", "3", "2", "1"]
    assert done.history[-1]["rejected"] == ["2 at 3.800 s: Oz", "1 at 6.600 s: Cz"]
    assert "2 of 7 trials rejected" in caplog.text
    by_type = make_epochs(raw, tmin=-0.05, tmax=0.4, drop=[99999], reject={"eeg": 1e-3})
    assert by_type.n_trials == 6
    raw.info["bads"] = ["Oz"]
    assert make_epochs(raw, tmin=-0.05, tmax=0.4, drop=[99999], reject=1e-3).n_trials == 7
    with pytest.raises(DataError, match="all 8 trials were rejected") as error:
        make_epochs(raw, reject=1e-9)
    assert "for Fz" in str(error.value)
    with pytest.raises(DataError, match="types of channels that eeg does not have"):
        make_epochs(raw, reject={"mag": 1e-9})
    marked = make_raw()
    marked.set_annotations(mne.Annotations([ONSETS[0] / SFREQ], [0.1], ["BAD_muscle"]))
    done = make_epochs(marked, tmax=0.3)
    assert done.history[-1]["rejected"] == ["3 at 1.000 s: BAD_muscle"]


def test_events_from_annotations_arrays_and_tables() -> None:
    raw = make_raw(first_samp=77)
    expected = make_epochs(raw, stimuli=STIMULI, drop=[99999])
    found = mne.find_events(raw, verbose="error")
    named = make_epochs(raw, events="STI 014", stimuli=STIMULI, drop=[99999])
    array = make_epochs(raw, events=found[::-1], stimuli=STIMULI, drop=["99999"])
    bare = raw.copy().pick("eeg")
    words = [STIMULI.get(code, "catch") for code in CODES]
    notes = mne.Annotations(ONSETS / SFREQ, 0.01, words)
    bare.set_annotations(notes)
    annotated = make_epochs(bare, drop=["catch"])
    also = make_epochs(raw.copy().set_annotations(notes), events="annotations", drop=["catch"])
    table = pd.DataFrame(
        {
            "onset": ONSETS / SFREQ,
            "trial_type": CODES,
            "response": np.arange(8) / 4,
            "subject": ["07"] * 8,
        }
    )
    tabled = make_epochs(bare, events=table, stimuli=STIMULI, drop=[99999])
    own = table.assign(stimulus=words).drop(columns="trial_type")
    stimulus = make_epochs(bare, events=own, drop=["catch"])
    for other in (named, array, annotated, also, tabled, stimulus):
        np.testing.assert_allclose(other.signals, expected.signals, rtol=1e-6, atol=1e-12)
        assert other.trials["stimulus"].tolist() == expected.trials["stimulus"].tolist()
        np.testing.assert_allclose(other.trials["onset"], np.delete(ONSETS, 3) / SFREQ)
    np.testing.assert_array_equal(tabled.trials["response"], np.delete(np.arange(8) / 4, 3))
    assert set(tabled.trials["subject"]) == {"07"}
    assert set(make_epochs(bare, events=table, subject="08").trials["subject"]) == {"08"}


def test_files_are_read_and_left_alone(tmp_path: Path) -> None:
    raw = make_raw()
    path = tmp_path / "sub-01_raw.fif"
    raw.save(path, verbose="error")
    size = path.stat().st_size
    settings: dict[str, Any] = {"stimuli": STIMULI, "drop": [99999], "tmax": 0.5}
    for extra in ({}, {"lowpass": 40.0}):
        done = make_epochs(path, **settings, **extra)
        np.testing.assert_allclose(
            done.signals, make_epochs(raw, **settings, **extra).signals, rtol=1e-4, atol=1e-10
        )
        assert done.history[-1]["source"] == "sub-01_raw.fif"
    assert path.stat().st_size == size
    done.save(tmp_path / "done")
    assert Recording.load(tmp_path / "done").n_trials == 7
    with pytest.raises(DataError, match="does not exist"):
        make_epochs(tmp_path / "none_raw.fif")
    whole = path.read_bytes()
    broken = tmp_path / "broken_raw.fif"
    for content in (b"", whole[:900], b"no recording" * 100):
        broken.write_bytes(content)
        with pytest.raises(DataError, match=r"MNE cannot read .*broken_raw\.fif"):
            make_epochs(broken)
    broken.write_bytes(whole[: len(whole) // 2])
    table = pd.DataFrame({"onset": ONSETS / SFREQ, "event": CODES})
    for extra in ({}, {"events": table}, {"events": table, "lowpass": 40.0}):
        with pytest.raises(DataError, match=r"broken_raw\.fif"):
            make_epochs(broken, **settings, **extra)
    with pytest.raises(DataError, match="no raw recording"):
        make_epochs(np.zeros((3, 100)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowpass": 250.0}, "sampling rate is too low for a lowpass at 250 Hz"),
        ({"highpass": 300.0}, "sampling rate is too low for a highpass"),
        ({"notch": [50, 250]}, "sampling rate is too low for a notch at 250 Hz"),
        ({"highpass": "1"}, "highpass is no number"),
        ({"tmax": float("nan")}, "tmax is no number"),
        ({"notch": [50, "x"]}, "notch is no number"),
        ({"flat": {"eeg": "1e-6 V"}}, "flat is no number"),
        ({"reject": True}, "reject is no number"),
        ({"baseline": ("a", 0)}, "baseline is no number"),
        ({"highpass": 0.0}, "no filter"),
        ({"highpass": 40.0, "lowpass": 30.0}, "nothing passes"),
        ({"highpass": 0.01}, "too short for the filter"),
        ({"sfreq": 600.0}, "higher rate"),
        ({"tmin": 0.5, "tmax": 0.2, "baseline": None}, "epoch is empty"),
        ({"baseline": (-0.5, 0)}, "baseline does not lie in the epoch"),
        ({"tmin": 0.1}, "baseline does not lie in the epoch"),
        ({"crop": (0, 2.0)}, "crop does not lie in the epoch"),
        ({"baseline_mode": "z"}, "no baseline_mode='z'"),
        ({"bads": "ignore"}, "no bads='ignore'"),
        ({"stimuli": {1: "a", 2: "b"}}, "events that no stimulus belongs to: '3'"),
        ({"stimuli": {7: "a"}, "other": "ignore"}, "events that no stimulus belongs to"),
        ({"events": "TRIGGER"}, "no channel 'TRIGGER'"),
        ({"events": "annotations"}, "no events in the recording"),
        ({"events": np.zeros((3, 2), int)}, "not in MNE's form"),
        ({"events": np.zeros((0, 3), int)}, "no events in the recording"),
        ({"events": np.array([[700, 0, 1], [700, 0, 2]])}, "same sample"),
        ({"events": pd.DataFrame({"onset": [1.0]})}, "does not say what was shown"),
        ({"events": pd.DataFrame({"event": [1]})}, "lacks the column 'onset'"),
        ({"events": pd.DataFrame({"event": [1], "onset": ["x"]})}, "without an onset"),
        ({"events": pd.DataFrame({"event": [1, 2], "onset": [1.0, np.inf]})}, "onset.*\n.*rows 1$"),
        ({"events": pd.DataFrame({"event": [1, 2], "sample": [700, "x"]})}, "sample\n.*rows 1$"),
        ({"events": pd.DataFrame({"event": [1, 2], "sample": [700.5, 900]})}, "sample\n.*rows 0$"),
        ({"drop": [1, 2, 3, 99999]}, r"(?s)no trial is left.*8 events, all of them in drop"),
        ({"drop": [1, 2, 3, 99999], "stimuli": STIMULI}, "(?s)no trial is left.*all of them"),
        ({"tmin": 0.0}, r"(?s)baseline does not lie.*pass baseline=None"),
        ({"baseline": (-0.0035, -0.0025)}, "no sample lies in the baseline"),
        ({"baseline": 0.1}, "baseline is no span"),
        ({"crop": (0, 0.1, 0.2)}, "crop is no span"),
    ],
)
def test_what_cannot_be_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_epochs(make_raw(), **settings)


def test_a_recording_shorter_than_the_notch_filter() -> None:
    """MNE only warns, and filters all the same."""
    with pytest.raises(DataError, match=r"(?s)too short for the notch filter.*5\.0 s"):
        make_epochs(make_raw(seconds=5.0), stimuli=STIMULI, other="ignore", notch=50)


def test_without_a_stim_channel_the_channels_are_listed() -> None:
    with pytest.raises(DataError, match="neither a stim channel nor annotations") as error:
        make_epochs(make_raw().pick("eeg"))
    assert "7 eeg: Fz, Cz" in str(error.value)


def test_epochs_beyond_the_recording_are_an_error_or_dropped() -> None:
    raw = make_raw(seconds=11.2)  # the last event is at 10.8 s
    with pytest.raises(DataError, match=r"1 epochs of -0\.2 to 1 s reach beyond") as error:
        make_epochs(raw)
    assert "10.800 s; the recording ends at 11.198 s" in str(error.value)
    done = make_epochs(raw, outside="drop")
    assert done.n_trials == 7
    assert done.history[-1]["outside"] == 1
    early = mne.find_events(raw, verbose="error")
    early[0, 0] = 99  # one sample before -0.2 s is there
    with pytest.raises(DataError, match="2 epochs"):
        make_epochs(raw, events=early)
    early[0, 0] = 100
    assert make_epochs(raw, events=early, outside="drop").n_trials == 7


def test_settings_serve_several_sessions() -> None:
    cut = Epoch(-0.1, 0.4, sfreq=100, drop=[99999])
    assert clone(cut).get_params() == cut.get_params()
    both = Recording.concat(
        [
            cut.transform(make_raw(seed=i), stimuli=STIMULI, session=str(i), split="train")
            for i in (1, 2)
        ]
    )
    assert both.n_trials == 14
    assert set(both.trials["split"]) == {"train"}
    other = Epoch(-0.1, 0.4, other="ignore").transform(make_raw(), stimuli={1: "a"})
    assert other.n_trials == 3
    assert other.history[-1]["other"] == 5
