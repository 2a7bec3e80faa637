"""The demo of reconstruction, in a world of a few pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from phosphene.errors import DataError
from phosphene.runs import reconstruct_demo as demo
from phosphene.runs.picture_scores import SHUFFLED, TRUE
from phosphene.runs.reconstruct_demo import STAGE1, STAGE2, reconstruct_demo, verdict

SMALL = {"train_concepts": 14, "train_exemplars": 2, "test_concepts": 4, "voxels_per_roi": 20}
SHORT = {
    "steps": 3, "start": 2, "truncate": 1, "iterations": 2, "frames": 1, "final": None,
    "layers": ("block1", "block2"), "lr": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def settings() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "WORLDS", {True: SMALL})
        patch.setattr(demo, "DIFFUSION", {True: SHORT})
        yield


@pytest.fixture(scope="module")
def outcome(settings: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("reconstruct") / "out"
    return reconstruct_demo(folder, quick=True, progress=False)


def test_every_row_of_both_modalities_is_written(outcome: Any) -> None:
    table = pd.read_csv(outcome.folder / "metrics.csv")
    rows = ["nearest image", "linear pixels", STAGE1, STAGE2, TRUE, SHUFFLED]
    for modality in ("fmri", "eeg"):
        assert list(dict.fromkeys(table[table["modality"] == modality]["row"])) == rows
    assert {"PixCorr", "SSIM", "position error", "size error"} <= set(table["metric"])
    gains = pd.read_csv(outcome.folder / "gains.csv")
    assert set(gains["over"]) == {STAGE1, "linear pixels"}
    protocol = json.loads((outcome.folder / "protocol.json").read_text())
    assert all(part["simulated"] for part in protocol["parts"].values())
    html = (outcome.folder / "report.html").read_text()
    assert "SIMULATED DATA" in html
    assert "modality eeg" in html
    # Two modalities of three methods, one of two stages; the true features once, in two stages.
    shown = [p for p in outcome.folder.rglob("*.png") if p.parent.name != "frames"]
    assert len(shown) == (2 * 4 + 2) * 4


def test_doing_it_again_keeps_the_pictures_and_another_seed_makes_others(outcome: Any) -> None:
    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in outcome.folder.rglob("*.png")}

    before = times()
    again = reconstruct_demo(outcome.folder, quick=True, progress=False)
    assert times() == before
    pd.testing.assert_frame_equal(again.scores.per_image, outcome.scores.per_image)
    reconstruct_demo(outcome.folder, quick=True, seed=1, progress=False)
    assert all(times()[path] != stamp for path, stamp in before.items())


def test_the_verdict_names_what_is_better_and_what_is_worse(outcome: Any) -> None:
    scores = outcome.scores
    said = verdict(scores, "fmri")
    assert said.startswith("fmri: stage 2 over stage 1; ")
    lifted = scores.per_image.copy()
    here = (lifted["row"] == STAGE2) & (lifted["metric"] == "PixCorr")
    lifted.loc[here, "value"] = 5.0
    worse = (lifted["row"] == STAGE2) & (lifted["metric"] == "size error")
    lifted.loc[worse, "value"] = 9.0
    said = verdict(type(scores)(lifted, scores.facts), "fmri")
    assert "better in PixCorr +" in said
    assert "size error -" in said.split("worse in ")[1].split(";")[0]


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DataError, match="is a file"):
        reconstruct_demo(path)
    with pytest.raises(DataError, match="needs people"):
        reconstruct_demo(tmp_path / "out", subjects=0)
