"""Ablations: rows on the same data, compared query by query, resumed, and marked where unfair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from phosphene import _registry
from phosphene._saving import read_json
from phosphene.config import Recipe, load_recipe, parse_recipe
from phosphene.errors import DataError, RecipeError, UnknownNameError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import Similarity
from phosphene.methods.nice import NICE
from phosphene.runs import Run, ablation, evaluate, fit
from phosphene.runs.ablation import Ablation, ablate, choose_rows, switches
from phosphene.runs.ablation_table import comparison, printable
from phosphene.runs.features import union_views
from phosphene.runs.fitting import make_decoder

SMALL = [
    "method.params={epochs: 4, encoder: mlp, encoder_params: {width: 8}, batch_size: 16,"
    " lr: 0.01, device: cpu, precision: fp32}",
]


@pytest.fixture(scope="module", autouse=True)
def switchable() -> Iterator[None]:
    """NICE with two switches, under a name of its own."""

    class Switchable(NICE):
        """NICE whose parts can be switched off."""

        ablations: ClassVar = {
            "no learning": {"epochs": 1, "lr": 0.0},
            "short": {"epochs": 2},
            "full": {},
        }

    _registry.add("method", "switchable", Switchable)
    yield
    del _registry._entries["method"]["switchable"]


@pytest.fixture(scope="module")
def recipe(tiny: Path) -> Recipe:
    return load_recipe(tiny, ["method.name=switchable", *SMALL])


@pytest.fixture(scope="module")
def done(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    folder = tmp_path_factory.mktemp("ablation") / "out"
    wanted = ["no learning"]
    return ablate(recipe, folder, wanted=wanted, seeds=[0, 3], progress=False)


def test_every_row_and_seed_is_a_run_and_the_full_method_is_among_them(done: Ablation) -> None:
    names = {path.name for path in (done.folder / "runs").iterdir()}
    assert names == {
        "no-learning-seed-0", "no-learning-seed-3", "full-seed-0", "full-seed-3",
    }  # fmt: skip
    run = Run.open(done.folder / "runs" / "no-learning-seed-3")
    assert run.recipe.seed == 3
    assert run.recipe.method.params["lr"] == 0.0
    assert run.recipe.method.params["batch_size"] == 16
    assert run.state["evaluated"]
    about = read_json(done.folder / "ablation.json")
    assert [row["label"] for row in about["rows"]] == ["no learning", "full"]
    assert about["seeds"] == [0, 3]
    assert done.full == about["full"] == "full"


def test_a_row_is_what_fit_and_evaluate_give(
    done: Ablation, recipe: Recipe, tmp_path: Path
) -> None:
    again = evaluate(fit(recipe, tmp_path / "alone", progress=False), progress=False)
    ours = done.results["full"].table.query("seed == 0").reset_index(drop=True)
    columns = ["subject", "stimulus", "rank", "true_score"]
    pd.testing.assert_frame_equal(ours[columns], again.table[columns])


def test_the_table_is_paired_over_queries(done: Ablation) -> None:
    table = done.table.set_index("row")
    assert list(table.index) == ["no learning", "full"]
    off, full = (done.results[name].table for name in ("no learning", "full"))
    assert table.loc["full", "top1"] == pytest.approx(full.groupby("subject")["top1"].mean().mean())
    assert table.loc["full", "top1"] > table.loc["no learning", "top1"]
    facts = table.loc["no learning"]
    # By hand: mean over seeds within a query, over queries within a subject, over subjects.
    gap = [
        np.mean(
            [
                off[(off["subject"] == who) & (off["seed"] == seed)]["top1"].mean()
                - full[(full["subject"] == who) & (full["seed"] == seed)]["top1"].mean()
                for seed in (0, 3)
            ]
        )
        for who in ("01", "02")
    ]
    assert facts["difference"] == pytest.approx(np.mean(gap))
    assert facts["difference_sd_subjects"] == pytest.approx(np.std(gap, ddof=1))
    assert facts["difference_low"] <= facts["difference"] <= facts["difference_high"]
    assert (facts["n_subjects"], facts["n_seeds"], facts["n_queries"]) == (2, 2, 20)
    seeds = [off[off["seed"] == seed].groupby("subject")["top1"].mean().mean() for seed in (0, 3)]
    assert facts["top1_sd_seeds"] == pytest.approx(np.std(seeds, ddof=1))
    assert np.isnan(table.loc["full", "difference"])
    assert done.marked.empty
    columns, rows = printable(done.table)
    assert len(columns) == len(rows[0]) == len(set(columns))
    assert rows[1][5] == "–"
    written = pd.read_csv(done.folder / "table.csv")
    assert written["difference"][0] == pytest.approx(facts["difference"])


def test_it_goes_on_where_it_was_interrupted(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []
    loads = []

    def counting(recipe: Recipe, out: Path, **more: Any) -> Run:
        fitted.append(Path(out).name)
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return fit(recipe, out, **more)

    def loading(*args: Any, **more: Any) -> Any:
        loads.append(1)
        return load(*args, **more)

    load = ablation.load_sources
    monkeypatch.setattr(ablation, "fit", counting)
    monkeypatch.setattr(ablation, "load_sources", loading)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        ablate(recipe, out, wanted=["short"], progress=False)
    lines: list[str] = []
    found = ablate(recipe, out, wanted=["short"], say=lines.append, progress=False)
    assert fitted == ["short-seed-0", "full-seed-0", "full-seed-0"]
    assert "was done before" in lines[0]
    assert "was done before" not in lines[1]
    opened = {name: found.results[name].protocol.test_openings for name in ("short", "full")}
    assert opened == {"short": 1, "full": 1}
    # All done: nothing is loaded, fitted or opened again.
    again = ablate(recipe, out, wanted=["short"], progress=False)
    assert len(fitted) == 3
    assert len(loads) == 2  # once per command, not per run
    pd.testing.assert_frame_equal(again.table, found.table)


def test_other_settings_do_not_take_over_the_runs(done: Ablation, recipe: Recipe) -> None:
    changed = recipe.model_copy(update={"name": "another"})
    with pytest.raises(RecipeError, match="another recipe"):
        ablate(changed, done.folder, wanted=["no learning"], progress=False)


def test_subjects_choose_folds(recipe: Recipe, tmp_path: Path) -> None:
    found = ablate(recipe, tmp_path / "out", sweeps=["epochs=1"], subjects=["02"], progress=False)
    assert found.results["full"].subjects == ["02"]
    assert list(found.table["row"]) == ["epochs=1", "full"]
    # The run folder says so itself: scored alone, it takes the same fold.
    alone = evaluate(found.folder / "runs" / "full-seed-0", progress=False)
    assert alone.subjects == ["02"]
    with pytest.raises(RecipeError, match="nobody is called 07"):
        ablate(recipe, tmp_path / "o", sweeps=["epochs=1"], subjects=["07"], progress=False)
    pooled = recipe.model_copy(update={"per_subject": False})
    with pytest.raises(RecipeError, match="cannot be told apart"):
        ablate(pooled, tmp_path / "p", sweeps=["epochs=1"], subjects=["02"], progress=False)


def test_unfair_rows_are_set_apart(recipe: Recipe, tmp_path: Path) -> None:
    matched = recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"transductive": ["hungarian"]})}
    )
    found = ablate(matched, tmp_path / "out", wanted=["short"], progress=False)
    assert found.table.empty
    assert list(found.marked["scoring"]) == ["transductive: hungarian"] * 2
    assert np.isfinite(found.marked["difference"][0])  # of one kind, they compare


def result_of(name: str, matrix: Any, seed: int = 0, **flags: Any) -> Result:
    ids = [f"s{i}" for i in range(len(matrix))]
    queries = pd.DataFrame({"subject": "01", "stimulus": ids})
    scores = Similarity(np.asarray(matrix), queries, ids, **flags)
    return Result.from_similarity(scores, Protocol(seeds=(seed,)), name=name)


def test_seeds_and_subjects_are_separate_sources_of_spread() -> None:
    def merged(name: str, hits: dict[tuple[str, int], list[int]]) -> Result:
        parts = []
        for (who, seed), right in hits.items():
            part = result_of(name, np.diag(2.0 * np.array(right) - 1), seed)
            table = part.table.assign(subject=who)
            protocol = part.protocol.replace(subjects=(who,))
            parts.append(dataclasses.replace(part, table=table, protocol=protocol, scores=None))
        return Result.merge(parts)

    low, high = [1, 0, 0, 0], [1, 1, 1, 1]
    full = merged("full", {(w, s): low for w in ("01", "02") for s in (0, 1, 2)})
    people = merged(
        "people", {(w, s): [low, high][w == "02"] for w in ("01", "02") for s in range(3)}
    )
    seeds = merged("seeds", {(w, s): [low, high][s == 2] for w in ("01", "02") for s in range(3)})
    table, _ = comparison({"people": people, "seeds": seeds, "full": full}, "full")
    table = table.set_index("row")
    spread = ["sd_subjects", "sd_seeds"]
    for name in ("top1", "difference"):
        found = table[[f"{name}_{source}" for source in spread]]
        np.testing.assert_allclose(found.loc["people"], [0.75 / np.sqrt(2), 0], atol=1e-12)
        np.testing.assert_allclose(found.loc["seeds"], [0, 0.75 / np.sqrt(3)], atol=1e-12)
    assert table.loc["people", "difference"] == pytest.approx(0.375)
    assert table.loc["seeds", "difference"] == pytest.approx(0.25)
    assert table.loc["full", ["n_subjects", "n_seeds"]].tolist() == [2, 3]


def test_oracle_rows_have_no_place_in_the_comparison() -> None:
    fair = np.random.default_rng(0).normal(size=(12, 12))
    results = {
        "gate": result_of("gate", np.eye(12), uses_test_labels=True),
        "view": result_of("view", fair + 0.1),
        "full": result_of("full", fair),
    }
    results["view"] = dataclasses.replace(
        results["view"], protocol=results["view"].protocol.replace(gallery_view="other")
    )
    table, marked = comparison(results, "full")
    assert list(table["row"]) == ["view", "full"]
    assert list(marked["row"]) == ["gate"]
    assert marked["scoring"][0] == "oracle: uses test labels"
    assert np.isnan(marked["difference"][0])
    # The same ranks: no difference, and no spread of it.
    zero = table.loc[0, ["difference", "difference_low", "difference_high"]]
    assert zero.tolist() == [0, 0, 0]
    assert table["differs_in"].tolist() == ["gallery view", ""]
    short = result_of("full", fair[:6, :6])
    with pytest.raises(DataError, match="same queries"):
        comparison({"view": results["view"], "full": short}, "full")


@pytest.mark.parametrize("method", _registry.names("method"))
def test_ablations_of_every_method_are_parameters_it_has(method: str) -> None:
    rows = switches(method)
    assert [row.params for row in rows].count({}) == (1 if rows else 0)
    base = {
        "name": "x", "data": {"kind": "simulated"}, "features": {"kind": "images"},
        "split": {"kind": "column"}, "method": {"name": method},
    }  # fmt: skip
    recipes = ablation._recipes(parse_recipe(base), rows, [0], None)
    made = [make_decoder(one).get_params() for one in recipes.values()]
    assert all(a != b for i, a in enumerate(made) for b in made[:i])


def test_rows_of_a_recipe() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "simulated"
    recipe = load_recipe(folder / "phosphene.yaml")
    rows = choose_rows("combine", own=recipe.method.ablations)
    assert [row.label for row in rows] == [*recipe.method.ablations, "full method"]
    recipes = ablation._recipes(recipe, rows, [0], None)
    made = [make_decoder(one).get_params() for one in recipes.values()]
    assert all(a != b for i, a in enumerate(made) for b in made[:i])
    assert {tuple(one.features.views) for one in recipes.values()} == {
        ("fovea(k=51)", "original", "gaussian(15)")
    }
    both = choose_rows("ubp", own={"sharp": {"views": ["original"]}})
    assert [row.label for row in both][-2:] == ["uncertainty-aware blur", "sharp"]


def test_rows_by_name() -> None:
    assert [row.label for row in switches("ubp")] == [
        "no blur", "static fovea blur", "uncertainty-aware blur",
    ]  # fmt: skip
    rows = choose_rows("ubp", ["static fovea blur"])
    assert [row.label for row in rows] == ["static fovea blur", "uncertainty-aware blur"]
    assert rows[0].params == {"views": ("fovea(k=51)",), "uncertainty": False}
    rates = choose_rows("ubp", sweeps=["lr=1e-4,3e-4"])
    assert [row.params.get("lr") for row in rates] == [1e-4, 3e-4, None]
    swept = choose_rows("ridge", sweeps=["alphas=[1.0],[10.0, 1e3]"])
    assert [row.params.get("alphas") for row in swept] == [[1.0], [10.0, 1000.0], None]
    assert swept[-1].label == "full method"
    with pytest.raises(UnknownNameError, match="did you mean 'no blur'"):
        choose_rows("ubp", ["no blurr"])
    with pytest.raises(RecipeError, match="names no ablations"):
        choose_rows("ridge")
    with pytest.raises(RecipeError, match="twice"):
        choose_rows("ridge", sweeps=["centre=true,true"])
    for bad in ("centre", "centre=", "=1", "a b=1", "centre=[1"):
        with pytest.raises(RecipeError, match="cannot understand"):
            choose_rows("ridge", sweeps=[bad])


def test_wrong_parameters_and_seeds_are_found_before_anything_is_written(
    recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        ablate(recipe, out, sweeps=["epoch=1,2"], progress=False)
    params = {**recipe.method.params, "random_state": 5}
    method = recipe.method.model_copy(update={"params": params})
    fixed = recipe.model_copy(update={"method": method})
    with pytest.raises(RecipeError, match="random_state"):
        ablate(fixed, out, seeds=[0, 1], progress=False)
    with pytest.raises(RecipeError, match="needs a seed"):
        ablate(recipe, out, seeds=[], progress=False)
    assert not out.exists()


def test_no_row_is_trained_when_the_bank_lacks_the_views_of_another(
    recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no vectors of the views gaussian"):
        ablate(recipe, tmp_path / "o", sweeps=["views=[original],[gaussian(15)]"], progress=False)
    assert not (tmp_path / "o" / "runs" / "views=-original-seed-0" / "model").exists()


def test_one_bank_holds_the_views_of_all_rows() -> None:
    base = load_recipe(Path(__file__).parents[2] / "recipes" / "simulated" / "ubp.yaml")
    recipes = ablation._recipes(base, choose_rows("ubp"), [0, 1], None)
    views = {tuple(one.features.views) for one in recipes.values()}  # type: ignore[union-attr]
    assert views == {("original", "fovea(k=51)", "fovea")}
    assert union_views(recipes.values()) == ["original", "fovea(k=51)", "fovea"]
    # People and noise are the same for every seed of the training.
    assert {one.data.seed for one in recipes.values()} == {base.seed}  # type: ignore[union-attr]
    assert {seed for seed, _ in recipes} == {one.seed for one in recipes.values()} == {0, 1}
