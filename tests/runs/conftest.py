"""A tiny experiment on disk: recording, features and a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phosphene.config import load_recipe
from phosphene.data.recording import Recording
from phosphene.runs import evaluate, fit
from phosphene.stimuli.bank import FeatureBank

CHANNELS = ["O1", "Oz", "O2", "P3", "Pz", "P4", "PO7", "PO8"]


def make_tiny(folder: Path, *, noise: float = 0.5) -> Path:
    """Write ``eeg``, ``bank`` and ``recipe.yaml``: 25 training and 5 test concepts, 2 subjects."""
    rng = np.random.default_rng(0)
    ids, split = [], {}
    for i in range(30):
        for k in range(2 if i < 25 else 1):
            stimulus = f"c{i:02d}/c{i:02d}_{k + 1}.png"
            ids.append(stimulus)
            split[stimulus] = "train" if i < 25 else "test"
    vectors = rng.normal(size=(len(ids), 6)).astype(np.float32)
    bank = FeatureBank.from_arrays(
        ids, {"original": vectors}, provenance={"encoder": {"id": "fake"}}
    )
    parts = []
    for subject in ("01", "02"):
        mixing = rng.normal(size=(6, 80))
        rows = np.repeat(np.arange(len(ids)), 3)
        signals = vectors[rows] @ mixing + noise * rng.normal(size=(len(rows), 80))
        trials = {
            "stimulus": [ids[row] for row in rows],
            "subject": subject,
            "run": np.tile(["1", "2", "3"], len(ids)),
            "split": [split[ids[row]] for row in rows],
        }
        parts.append(
            Recording.from_arrays(
                signals.reshape(-1, 8, 10), trials, sfreq=100, channel_names=CHANNELS
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    Recording.concat(parts).save(folder / "eeg")
    bank.save(folder / "bank")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: tiny\n"
        "data: {kind: recording, path: eeg}\n"
        "features: {kind: bank, path: bank}\n"
        "split: {kind: column}\n"
        "method: {name: ridge}\n"
    )
    return recipe


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipe of the tiny experiment; the files beside it are not to be changed."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A tiny experiment of the test's own, which it may damage."""
    return make_tiny(tmp_path / "own")


@pytest.fixture(scope="session")
def fitted(tiny: Path) -> Path:
    """A fitted and evaluated run; copy it before changing anything."""
    folder = tiny.parent / "fitted"
    evaluate(fit(load_recipe(tiny), folder, progress=False), progress=False)
    return folder
