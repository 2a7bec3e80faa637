"""Miyawaki 2008: figures by content, labels that are sessions, the real file, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzing import fuzz, same_recording
from scipy.io import loadmat, savemat

from phosphene.data.blocks import confounded_blocks, warn_if_confounded
from phosphene.data.readers._source import verifiable
from phosphene.data.readers.miyawaki2008 import (
    figure_id,
    read_miyawaki2008,
    read_miyawaki2008_stimuli,
)
from phosphene.errors import DataError, DesignWarning
from phosphene.testing.layouts import write_miyawaki2008


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_miyawaki2008(tmp_path)


def test_values_sessions_and_figures(path: Path) -> None:
    recording = read_miyawaki2008(path, strict=False)
    stored = loadmat(path)
    assert recording.shape == (16, 30)
    expected = np.vstack([stored["fmriTrn"], stored["fmriTest"]])
    np.testing.assert_array_equal(recording.signals, expected.astype(np.float32))
    trials = recording.trials
    assert trials["session"].tolist() == trials["label"].tolist()
    assert trials["session"].unique().tolist() == ["21", "22", "23", "24"]
    assert trials["file_split"].tolist() == ["train"] * 14 + ["test"] * 2
    # The file's split mixes sessions and repeats figures: it is not taken for a split.
    assert set(trials["split"]) == {""}
    assert trials["sample"].tolist()[-2:] == [3, 9]
    stimuli = read_miyawaki2008_stimuli(path)
    assert sorted(stimuli.ids) == sorted(recording.stimuli)
    shown = stored["stimTrn"][5].reshape(28, 28)
    np.testing.assert_array_equal(stimuli.image(trials["stimulus"][5])[..., 1], 255 * shown)
    assert not stimuli.duplicates()


def test_figures_are_the_same_by_content() -> None:
    rng = np.random.default_rng(0)
    figure = rng.uniform(size=784)
    assert figure_id(figure) == figure_id(figure + 1e-9)
    assert figure_id(-0.0 * figure) == figure_id(0.0 * figure)
    assert figure_id(figure) != figure_id(np.roll(figure, 1))


def test_labels_taken_for_classes_are_seen_to_be_sessions(path: Path) -> None:
    recording = read_miyawaki2008(path, strict=False)
    by_label = recording.trials.assign(concept=recording.trials["label"])
    found = confounded_blocks(by_label)
    assert set(found["problem"]) == {"one class in the block", "class in a single session"}
    assert set(found["value"]) == {"21", "22", "23", "24"}
    with pytest.warns(DesignWarning) as caught:
        warn_if_confounded(recording.with_trials(by_label).trials)
    assert any("class in a single session: 4 cases" in str(w.message) for w in caught)
    assert confounded_blocks(recording.trials).empty


def test_the_real_file(shared_data: Path) -> None:
    path = shared_data / "miyawaki2008" / "miyawaki_structured_28x28.mat"
    if not path.is_file():
        pytest.skip(f"the recording is not at {path}")
    recording = read_miyawaki2008(path)
    assert recording.shape == (119, 967)
    trials = recording.trials
    assert trials["stimulus"].nunique() == 20
    assert trials["session"].nunique() == 12
    # A session shows five figures; each figure is shown in several sessions.
    assert set(trials.groupby("session")["stimulus"].nunique()) == {5}
    assert trials.groupby("stimulus")["session"].nunique().min() > 1
    labels = confounded_blocks(trials.assign(concept=trials["label"]))
    assert (labels["problem"] == "class in a single session").sum() == 12
    assert confounded_blocks(trials).empty
    with pytest.raises(DataError, match="'stimulus'"):
        confounded_blocks(trials, "stimulus_")


def test_pixels_from_voxels_across_sessions(shared_data: Path) -> None:
    path = shared_data / "miyawaki2008" / "miyawaki_structured_28x28.mat"
    if not path.is_file():
        pytest.skip(f"the recording is not at {path}")
    recording = read_miyawaki2008(path)
    stimuli = read_miyawaki2008_stimuli(path)
    trials = recording.trials
    pixels = {name: stimuli.image(name)[..., 0].ravel() / 255 for name in stimuli.ids}
    x = recording.signals.astype(float)
    y = np.stack([pixels[name] for name in trials["stimulus"]])
    session = trials["session"].to_numpy()
    hits = []
    for held_out in np.unique(session):
        train, test = session != held_out, session == held_out
        mean, scale = x[train].mean(0), x[train].std(0)
        a, b = (x[train] - mean) / scale, (x[test] - mean) / scale
        target = y[train] - y[train].mean(0)
        weights = a.T @ np.linalg.solve(a @ a.T + 1000 * np.eye(len(a)), target)
        guess = b @ weights
        shown = trials["stimulus"][test].tolist()
        gallery = sorted(set(shown))
        candidates = np.stack([pixels[name] for name in gallery]) - y[train].mean(0)
        scores = np.corrcoef(guess, candidates)[: len(guess), len(guess) :]
        hits += [gallery[i] == name for i, name in zip(scores.argmax(1), shown, strict=True)]
    # Honest analyses of this file give .84 to .95 of five figures, by the penalty.
    assert 0.8 < np.mean(hits) < 0.97


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fmriTest", None, r"(?s)lacks 'fmriTest'"),
        ("labelTrn", np.full((14, 1), 21.5), "other things than session numbers"),
        ("stimTrn", np.full((14, 784), 2.0), "outside 0 to 1"),
        ("stimTrn", np.zeros((14, 783)), r"\(n, 784\)"),
        ("fmriTest", np.zeros((2, 29)), "other voxels"),
        ("fmriTest", np.zeros((3, 30)), "differ in length"),
        ("fmriTrn", "text", "no matrix of real numbers"),
    ],
)
def test_fields_that_cannot_be(path: Path, key: str, value: object, message: str) -> None:
    content = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    if value is None:
        del content[key]
    else:
        content[key] = value
    savemat(path, content)
    with pytest.raises(DataError, match=message):
        read_miyawaki2008(path, strict=False)


def test_counts_are_those_of_the_file(path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)voxels 30.*voxels 967"):
        read_miyawaki2008(path)
    with pytest.raises(DataError, match="no file"):
        read_miyawaki2008(path.with_name("nowhere.mat"))


def fuzz_file(path: Path, n: int, seed: int) -> None:
    good = read_miyawaki2008(path, strict=False)
    outcomes = fuzz(
        path,
        lambda: read_miyawaki2008(path, strict=False),
        lambda found: same_recording(found, good),
        n=n,
        seed=seed,
        unverifiable=lambda found: not verifiable(found),
    )
    assert outcomes["refused"] > n / 3


def test_damaged_files(path: Path) -> None:
    fuzz_file(path, 40, seed=1)


@pytest.mark.slow
def test_many_damaged_files(path: Path) -> None:
    fuzz_file(path, 220, seed=2)
