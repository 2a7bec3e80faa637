"""The demo on a world of 32 concepts: its files, its continuation, its honesty."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene import _registry
from phosphene._saving import read_table, verify_folder
from phosphene.config import load_recipe
from phosphene.errors import ArtefactError
from phosphene.evaluation.result import Result
from phosphene.runs import demo as module
from phosphene.runs import demo_files, evaluate, fit
from phosphene.runs.features import _default_views
from phosphene.runs.run import Run
from phosphene.simulation import scene as scenes
from phosphene.simulation.world import get_world
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import expand_views

TINY: dict[str, dict[str, Any]] = {
    "ridge": {"alphas": [1.0, 100.0]},
    "nice": {"epochs": 3, "encoder": "mlp", "encoder_params": {"width": 8}, "precision": "fp32"},
    "ubp": {"epochs": 3, "encoder": "mlp", "encoder_params": {"width": 8}, "precision": "fp32"},
}
COLUMNS = (
    "method,subject,seed,n_queries,n_gallery,top1,top1_low,top1_high,"
    "top5,top5_low,top5_high,chance,ceiling"
)


@pytest.fixture(scope="module", autouse=True)
def _tiny_world() -> Iterator[None]:
    """Let the demo run on a tiny world with random features."""
    world = dataclasses.replace(
        get_world("quick"),
        name="tiny-demo",
        train_concepts=24,
        train_exemplars=1,
        test_concepts=8,
        meaning_uv=0.0,
        n_times=40,
    )
    real = scenes.make_scene

    def fake(world: Any, **options: Any) -> Any:
        rng = np.random.default_rng(0)
        ids = [f"c{i:02d}/c{i:02d}_01.png" for i in range(32)]
        vectors = {
            (view, layer): rng.normal(size=(32, 12))
            for view in world.views
            for layer in (world.driver_layer, world.target_layer)
        }
        origin = {"encoder": {"id": "efficientnet-lite0", "weights_hash": "fake"}}
        return real(world, bank=FeatureBank.from_arrays(ids, vectors, provenance=origin))

    with pytest.MonkeyPatch.context() as patch:
        _registry.add("world", "tiny-demo", world, summary="for tests")
        patch.setattr(module, "WORLDS", {True: "tiny-demo", False: "tiny-demo"})
        patch.setattr(module, "SETTINGS", {"tiny-demo": TINY})
        patch.setattr(module, "FEATURES", {"tiny-demo": {}})
        patch.setattr(module, "REPETITIONS", (1,))
        patch.setattr(scenes, "make_scene", fake)
        patch.setattr("phosphene.simulation.study.make_scene", fake)
        yield
    _registry._entries["world"].pop("tiny-demo")


@pytest.fixture(scope="module")
def done(_tiny_world: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished demo; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    outcome = module.demo(folder, quick=True, seed=3, say=said.append, progress=False)
    assert outcome.title.startswith("SIMULATED DATA")
    assert "simulation" in outcome.notes[0]
    assert sum(line.startswith("[") for line in said) == 6
    columns, rows = demo_files.summary_rows(outcome.results)
    assert [row[0] for row in rows] == ["ridge", "nice", "ubp"]
    assert {len(row) for row in rows} == {len(columns)}
    return folder


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take a second each, and one test of them is enough."""
    monkeypatch.setattr(demo_files, "write_report", lambda *args: None)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps that were trained."""
    names: list[str] = []

    def note(recipe: Any, out: Path, **options: Any) -> Run:
        names.append(out.name)
        return fit(recipe, out, **options)

    monkeypatch.setattr(module, "fit", note)
    return names


def test_files_and_columns(done: Path) -> None:
    verify_folder(done, kind="demo")
    assert (done / "results.csv").read_text().splitlines()[0] == COLUMNS
    results = pd.read_csv(done / "results.csv", dtype={"subject": str})
    assert results["method"].tolist() == ["ridge", "ridge", "nice", "nice", "ubp", "ubp"]
    assert results["subject"].tolist() == ["01", "02"] * 3
    assert (results["seed"] == 3).all()
    assert (results["n_queries"] == 8).all()
    assert np.allclose(results["chance"], 1 / 8)
    assert results["ceiling"].between(1 / 8, 1).all()
    for metric in ("top1", "top5"):
        assert (results[f"{metric}_low"] <= results[metric]).all()
        assert (results[metric] <= results[f"{metric}_high"]).all()
    queries = read_table(done / "queries.csv")
    assert len(queries) == 3 * 2 * 8
    top1 = queries.groupby(["method", "subject"], sort=False)["top1"].mean()
    assert np.allclose(top1, results.set_index(["method", "subject"])["top1"])


def test_the_protocol_says_that_it_is_simulated_and_what_was_set(done: Path) -> None:
    protocol = json.loads((done / "protocol.json").read_text())
    assert protocol["simulated"] is True
    assert protocol["settings"]["nice"]["epochs"] == 3
    for about in protocol["methods"].values():
        assert about["simulated"] is True
        assert about["world"] == "tiny-demo"
        assert about["test_openings"] == 1
        assert about["zero_shot"] is True
        assert about["n_channels"] == 17
        assert about["subjects"] == ["01", "02"]


def test_the_report_is_one_file_with_all_sections(done: Path) -> None:
    html = (done / "report.html").read_text()
    assert "simulated data" in html.lower()
    for words in ("interval", "Learning", "Retrieved", "worst", "repetitions", "Protocol"):
        assert words in html, words
    for words in ("Licences", "Apache-2.0", "CC BY 4.0", "Twemoji"):
        assert words in html, words
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "<script" not in html


def test_steps_are_runs_that_their_recipe_makes_again(done: Path, tmp_path: Path) -> None:
    folder = done / "runs" / "ubp-sub-02-seed-3"
    assert Run.open(folder).recipe.method.params["epochs"] == 3
    again = fit(load_recipe(folder / "recipe.yaml"), tmp_path / "again", progress=False)
    result = evaluate(again, progress=False)
    before = Result.load(folder)
    pd.testing.assert_frame_equal(result.table, before.table)
    assert set(before.tables) >= {"history", "repetitions"}
    assert before.tables["repetitions"]["repetitions"].tolist() == [1, 80]


def test_a_second_call_trains_nothing_and_gives_the_same(
    done: Path, tmp_path: Path, fitted: list[str], no_report: None
) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    for name in ("results.csv", "queries.csv", "manifest.json"):
        (copy / name).unlink()
    module.demo(copy, quick=True, seed=3, progress=False)
    assert fitted == []
    assert (copy / "results.csv").read_bytes() == (done / "results.csv").read_bytes()
    assert (copy / "queries.csv").read_bytes() == (done / "queries.csv").read_bytes()
    verify_folder(copy)


def test_an_interrupted_demo_continues_with_the_step_it_was_in(
    done: Path, tmp_path: Path, fitted: list[str], no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    shutil.rmtree(copy / "runs" / "nice-sub-02-seed-3")
    with monkeypatch.context() as patch:
        patch.setattr("phosphene.runs.demo.evaluate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            module.demo(copy, quick=True, seed=3, progress=False)
    assert fitted == ["nice-sub-02-seed-3"]
    module.demo(copy, quick=True, seed=3, progress=False)
    assert (copy / "results.csv").read_bytes() == (done / "results.csv").read_bytes()


def _interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_other_settings_are_not_taken_for_done(
    done: Path, tmp_path: Path, fitted: list[str], no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    monkeypatch.setitem(TINY["nice"], "epochs", 2)
    module.demo(copy, quick=True, seed=3, subjects=1, progress=False)
    assert fitted == ["nice-sub-01-seed-3"]


def test_a_changed_world_of_the_same_name_is_not_taken_for_done(
    done: Path, tmp_path: Path, fitted: list[str], no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    entry = _registry._entries["world"]["tiny-demo"]
    louder = dataclasses.replace(entry, obj=dataclasses.replace(entry.obj, noise=5.0))
    monkeypatch.setitem(_registry._entries["world"], "tiny-demo", louder)
    monkeypatch.setattr(module, "SETTINGS", {"tiny-demo": {"ridge": TINY["ridge"]}})
    module.demo(copy, quick=True, seed=3, subjects=1, progress=False)
    assert fitted == ["ridge-sub-01-seed-3"]


def test_a_damaged_step_is_named(done: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done, tmp_path / "copy"))
    path = copy / "runs" / "ridge-sub-01-seed-3" / "queries.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    with pytest.raises(ArtefactError, match=r"queries\.csv was changed"):
        module.demo(copy, quick=True, seed=3, progress=False)


@pytest.mark.parametrize(("world", "passes"), [("quick", 1_500), ("standard", 12_000)])
def test_real_settings_are_valid_and_within_the_budget(
    world: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get_world(world).encoder_passes <= passes
    monkeypatch.setattr(module, "SETTINGS", REAL_SETTINGS)
    monkeypatch.setattr(module, "FEATURES", REAL_FEATURES)
    recipes = [
        module.step_recipe(method, "01", world=world, seed=0) for method in REAL_SETTINGS[world]
    ]
    there = {view.name for view in expand_views(REAL_FEATURES[world]["views"])}
    for recipe in recipes:
        views = _default_views(recipe)
        assert {view.name for view in expand_views(views)} <= there, recipe.method.name


def test_the_demo_compares_all_methods() -> None:
    assert len(REAL_SETTINGS["quick"]) == 4
    compared = {module.METHODS.get(name, name) for name in REAL_SETTINGS["standard"]}
    assert compared == set(_registry.names("method"))


def test_the_demo_and_the_recipe_agree_on_phosphene() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "simulated" / "phosphene.yaml")
    assert recipe.method.name == module.METHODS["phosphene"]
    assert recipe.method.params == REAL_SETTINGS["standard"]["phosphene"]


REAL_SETTINGS, REAL_FEATURES = module.SETTINGS, module.FEATURES
