"""Runs that make pictures: fitted from a recipe, reconstructed, continued, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.config import parse_recipe
from phosphene.data.recording import Recording
from phosphene.errors import DataError, RecipeError
from phosphene.evaluation.image_networks import Network
from phosphene.runs import evaluate, fit
from phosphene.runs.ablation import ablate
from phosphene.runs.picture_scores import SHUFFLED, TRUE
from phosphene.runs.reconstructing import reconstruct, stage_label, true_pictures
from phosphene.runs.run import Run
from phosphene.testing import tiny_images, tiny_problem
from phosphene.testing._tiny_diffusion import tiny_demo

NETWORKS = {"small": Network.from_callable(lambda x: x, id="pixels", image_size=8)}
STAGES = ["minddiffuser, stage 1", "minddiffuser, stages 1 + 2"]
QUICK: dict[str, Any] = {
    "steps": 3, "start": 2, "layers": ["block1"], "final": None, "grid": 4, "iterations": 2,
    "frames": 1, "alphas": [100.0], "precision": "fp32", "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recording, pictures and generator as files, as a user has them."""
    folder = tmp_path_factory.mktemp("pictures")
    problem, pictures = tiny_problem(), tiny_images(size=16)
    test = problem.test.select(stimulus=list(dict.fromkeys(problem.test.trials["stimulus"]))[:4])
    Recording.concat([problem.train, test]).save(folder / "recording")
    for name in pictures.ids:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures.image(name)).save(path)
    tiny_demo(folder / "model")
    return folder


def recipe(place: Path, **method: Any) -> Any:
    chosen = {"name": "minddiffuser", "params": {**QUICK, "source": str(place / "model")}}
    return parse_recipe(
        {
            "name": "tiny",
            "data": {"kind": "recording", "path": str(place / "recording")},
            "features": {"kind": "images", "folder": str(place / "images")},
            "split": {"kind": "column"},
            "method": {**chosen, **method},
        }
    )


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return fit(recipe(place), place / "run", progress=False)


@pytest.fixture(scope="module")
def outcome(run: Run) -> Any:
    return reconstruct(run, networks=NETWORKS, progress=False)


def test_a_run_gets_pictures_scores_protocol_and_a_report(run: Run, outcome: Any) -> None:
    table = pd.read_csv(run.folder / "metrics.csv")
    assert list(dict.fromkeys(table["row"])) == [*STAGES, TRUE, SHUFFLED]
    assert set(table["metric"]) == {"PixCorr", "SSIM", "small"}
    assert (table["n_images"] == 4).all()
    assert len(list((run.folder / "pictures").rglob("*.png"))) >= 3 * 4
    protocol = json.loads((run.folder / "protocol.json").read_text())
    (part,) = protocol["parts"].values()
    assert part["test_openings"] == 1
    assert part["zero_shot"] is True
    html = (run.folder / "report.html").read_text()
    assert "Copies of training pictures" in html
    assert "Stage 2" in html
    assert Run.open(run.folder).state["evaluated"] is True


def test_doing_it_again_makes_no_picture_anew_and_counts_the_opening(
    run: Run, outcome: Any
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run.folder / "pictures").rglob("*.png")}
    again = reconstruct(run.folder, networks=NETWORKS, progress=False)
    assert {p: p.stat().st_mtime_ns for p in (run.folder / "pictures").rglob("*.png")} == before
    np.testing.assert_array_equal(again.parts[0].made.images, outcome.parts[0].made.images)
    assert again.parts[0].made.protocol.test_openings == 2
    pd.testing.assert_frame_equal(again.scores.per_image, outcome.scores.per_image)


def test_an_interrupted_call_goes_on_at_the_next_picture(
    place: Path, outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phosphene.methods.minddiffuser import MindDiffuser

    one_by_one = recipe(
        place,
        params={**QUICK, "source": str(place / "model"), "batch": 1},
    )
    again = fit(one_by_one, place / "interrupted", progress=False)
    make, calls = MindDiffuser._make, []

    def stop_after_two(self: Any, features: Any, names: Any, n: int, seed: int) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(names)
        return make(self, features, names, n, seed)

    monkeypatch.setattr(MindDiffuser, "_make", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(again, networks=NETWORKS, bound=False, progress=False)
    calls.clear()
    made = []
    monkeypatch.setattr(
        MindDiffuser, "_make", lambda self, *more: made.append(more[1]) or make(self, *more)
    )
    found = reconstruct(again.folder, networks=NETWORKS, bound=False, progress=False)
    assert len(made) == 2
    assert TRUE not in set(found.scores.per_image["row"])
    # One at a time or together: the same pictures, to rounding.
    difference = found.parts[0].made.images - outcome.parts[0].made.images
    assert np.abs(difference).max() <= 3 / 255


def test_a_run_that_makes_pictures_retrieves_none(run: Run, place: Path) -> None:
    with pytest.raises(RecipeError, match="makes pictures and retrieves none"):
        evaluate(run)
    with pytest.raises(RecipeError, match="makes pictures"):
        ablate(recipe(place), place / "ablation")


def test_a_run_that_retrieves_makes_no_pictures(place: Path) -> None:
    ridge = fit(recipe(place, name="ridge", params={}), place / "ridge", progress=False)
    with pytest.raises(RecipeError, match="retrieves and makes no pictures"):
        reconstruct(ridge, progress=False)


def test_pictures_are_needed(place: Path) -> None:
    values = recipe(place).to_dict()
    values["features"] = {"kind": "text"}
    with pytest.raises(RecipeError, match=r"learns from pictures \(features.folder\)"):
        fit(parse_recipe(values), place / "none", progress=False)


def test_captions_come_from_a_file(place: Path) -> None:
    from phosphene.data.stimuli import StimulusSet
    from phosphene.runs.features import with_captions

    pictures = StimulusSet.from_folder(place / "images")
    path = place / "captions.csv"
    table = pd.DataFrame(
        {"stimulus": pictures.ids[::-1], "caption": "a " + pd.Series(pictures.ids[::-1])}
    )
    table.to_csv(path, index=False)
    captioned = with_captions(pictures, path)
    assert captioned.table.loc[pictures.ids[3], "caption"] == "a " + pictures.ids[3]
    table.assign(caption="").to_csv(path, index=False)
    with pytest.raises(DataError, match="no words for"):
        with_captions(pictures, path)
    table.iloc[1:].to_csv(path, index=False)
    with pytest.raises(DataError, match="caption"):
        with_captions(pictures, path)
    table.rename(columns={"caption": "text"}).to_csv(path, index=False)
    with pytest.raises(DataError, match="no column caption"):
        with_captions(pictures, path)
    with pytest.raises(DataError, match="cannot read"):
        with_captions(pictures, place / "nowhere.csv")
    values = recipe(place, name="ridge", params={}).to_dict()
    values["features"]["captions"] = str(path)
    with pytest.raises(RecipeError, match="reads no captions"):
        fit(parse_recipe(values), place / "words", progress=False)


def test_true_pictures_have_one_size_and_keep_the_order(place: Path) -> None:
    pictures = tiny_images(size=16)
    found = true_pictures(pictures, pictures.ids[5:1:-1])
    assert found.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(found[0], pictures.image(pictures.ids[5]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to reconstruct"),
        (("--demo", "somewhere"), "--demo has data of its own"),
        (("--quick",), "--quick belongs to --demo"),
        (("--demo", "--samples", "2"), "belong to a run"),
        (("nowhere",), "is not a run folder"),
    ],
)
def test_the_command_says_what_is_wrong(words: tuple[str, ...], message: str) -> None:
    found = CliRunner().invoke(app, ["reconstruct", *words])
    assert found.exit_code != 0
    assert message in found.output


def test_names_of_rows() -> None:
    assert [stage_label("m", s, 2) for s in ("stage1", "stage2")] == [
        "m, stage 1",
        "m, stages 1 + 2",
    ]
