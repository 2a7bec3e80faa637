"""Recipes that name a reader, leave people out, and ask for vectors of names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phosphene.config import Recipe, load_recipe
from phosphene.errors import DataError, RecipeError, UnknownNameError
from phosphene.methods.ridge import Ridge
from phosphene.runs import evaluate, fit
from phosphene.runs.data import load_recordings
from phosphene.runs.folds import make_folds
from phosphene.runs.sources import load_sources
from phosphene.testing.layouts import write_things_eeg2, write_things_meg

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(p for p in RECIPES.rglob("*.yaml") if p.parent.name.startswith("things"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eeg2")
    write_things_eeg2(folder, "neurobridge", concepts=8, samples=50, subjects=("01", "08"))
    return folder


def recipe_of(name: str, root: Path, *more: str) -> Recipe:
    changes = [
        f"data.root={root}",
        "data.params.strict=false",
        "features.encoder=efficientnet-lite0",
        *more,
    ]
    return load_recipe(RECIPES / "things_eeg2" / f"{name}.yaml", changes)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recipes_of_data_sets_say_whose_protocol_they_follow(path: Path) -> None:
    from phosphene.runs.fitting import make_decoder

    recipe = load_recipe(path)
    make_decoder(recipe)
    inter = path.stem.endswith("_inter")
    assert recipe.split.kind == ("leave_one_subject_out" if inter else "column")
    assert recipe.data.kind == "reader"
    assert recipe.data.reader == path.parent.name
    name = path.stem.removesuffix("_inter")
    assert recipe.method.name == {"phosphene": "combine"}.get(name, name)


def test_a_recipe_of_things_eeg2_runs_on_what_the_reader_finds(root: Path, tmp_path: Path) -> None:
    quick = "method.params={epochs: 1, batch_size: 16, lr: 1e-4, selection: fixed_epoch}"
    recipe = recipe_of("ubp", root, "data.subject=8", quick)
    run = fit(recipe, tmp_path / "run", progress=False)
    result = evaluate(run, progress=False)
    assert result.subjects == ["08"]
    protocol = json.loads((run.folder / "protocol.json").read_text())
    assert (protocol["dataset"], protocol["n_channels"]) == ("things_eeg2", 17)
    assert protocol["gallery_size"] == 3


def test_people_have_decoders_of_their_own_or_are_pooled(root: Path) -> None:
    def people(*more: str) -> list[list[str]]:
        loaded = load_recordings(recipe_of("ridge", root, *more), None, False)
        assert all(r.signals.shape[1] == 17 for r in loaded.recordings)
        return [r.subjects for r in loaded.recordings]

    assert people() == [["01"], ["08"]]
    assert people("data.subject=[8, 8]") == [["08"]]
    assert people("per_subject=false") == [["01", "08"]]
    pooled = recipe_of("ridge", root, "per_subject=false")
    (fold,) = make_folds(pooled, load_recordings(pooled, None, False))
    assert fold.train.subjects == fold.test.subjects == ["01", "08"]


def test_leaving_people_out_leaves_test_concepts_out(root: Path) -> None:
    recipe = recipe_of("ridge_inter", root)
    folds = make_folds(recipe, load_recordings(recipe, None, False))
    assert [fold.label for fold in folds] == ["subject 01", "subject 08"]
    for fold, (mine, other) in zip(folds, (("01", "08"), ("08", "01")), strict=True):
        assert (fold.test.subjects, fold.train.subjects) == ([mine], [other])
        assert len(fold.test.concepts) == 3
        assert len(fold.train.concepts) == 8
        assert not set(fold.test.concepts) & set(fold.train.concepts)
    chosen = recipe_of("ridge_inter", root, 'evaluation.subjects=["08"]', "split.test=2")
    (fold,) = make_folds(chosen, load_recordings(chosen, None, False))
    assert fold.label == "subject 08"
    assert (len(fold.test.concepts), len(fold.train.concepts)) == (2, 9)


def test_a_ceiling_is_that_of_the_person_who_is_tested(root: Path) -> None:
    recipe = recipe_of("ridge_inter", root)
    loaded = load_recordings(recipe, None, False)
    known = replace(loaded, ceilings={"01": {"top1": 0.5}, "08": {"top1": 0.7}})
    assert [fold.ceiling["top1"] for fold in make_folds(recipe, known)] == [0.5, 0.7]
    pooled = recipe_of("ridge", root, "per_subject=false")
    assert make_folds(pooled, known)[0].ceiling == {}


@pytest.mark.slow
def test_simulated_people_can_be_left_out_and_pooled() -> None:
    path = RECIPES / "simulated" / "ridge.yaml"
    few = ["data.subjects=2", "data.world=quick"]
    recipe = load_recipe(path, [*few, "split.kind=leave_one_subject_out"])
    folds = make_folds(recipe, load_recordings(recipe, None, False))
    assert [fold.label for fold in folds] == ["subject 01", "subject 02"]
    pooled = load_recipe(path, [*few, "per_subject=false"])
    (together,) = load_recordings(pooled, None, False).recordings
    assert together.subjects == ["01", "02"]


def test_a_recipe_of_things_meg_runs_and_keeps_test_concepts_out(tmp_path: Path) -> None:
    write_things_meg(tmp_path / "meg", concepts=6)
    changes = [f"data.root={tmp_path / 'meg'}", "data.params.strict=false",
               "features.encoder=efficientnet-lite0"]  # fmt: skip
    recipe = load_recipe(RECIPES / "things_meg" / "ridge.yaml", changes)
    result = evaluate(fit(recipe, tmp_path / "run", progress=False), progress=False)
    assert result.protocol.gallery_size == 2
    (fold,) = make_folds(recipe, load_recordings(recipe, None, False))
    assert fold.train.signals.shape[1] == 8
    assert not set(fold.test.concepts) & set(fold.train.concepts)


def test_wrong_places_and_people_get_the_readers_own_errors(root: Path, tmp_path: Path) -> None:
    def load(where: Path, *more: str) -> None:
        load_recordings(recipe_of("ridge", where, *more), None, False)

    with pytest.raises(DataError, match=r"no subject 05(.|\n)*found: subjects 01, 08"):
        load(root, "data.subject=5")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        load(tmp_path / "nowhere", "data.subject=5")
    with pytest.raises(DataError, match=r"there is nothing at .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds nothing that phosphene reads as 'things_eeg2'"):
        load(tmp_path)
    with pytest.raises(RecipeError, match="'miyawaki2008' reads one file and knows no subjects"):
        load(root, "data.reader=miyawaki2008", "data.params={}", "data.subject=1")


def test_wrong_readers_and_parameters_are_found_before_anything_is_read(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'things_eeg2'"):
        recipe_of("ridge", root, "data.reader=things_eg2")
    with pytest.raises(RecipeError, match=r"data\.params\.layuot(.|\n)*did you mean 'layout'"):
        recipe_of("ridge", root, "data.params.layuot=ubp")
    with pytest.raises(RecipeError, match=r"data\.params\.subject(.|\n)*use data\.root and"):
        recipe_of("ridge", root, "data.params.subject=1")
    with pytest.raises(RecipeError, match=r"data\.subject"):
        recipe_of("ridge", root, "data.subject=[]")


def test_pictures_that_are_not_below_the_root_are_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "eeg").symlink_to(root / "preprocessed_eeg")
    images = f"data.params.images={root / 'image_set'}"
    alone = recipe_of("ridge", tmp_path / "eeg", "data.subject=8", images)
    with pytest.raises(DataError, match=r"not below data\.root(.|\n)*expected: 19 pictures"):
        load_sources(alone, progress=False)
    below = recipe_of("ridge", root, "data.subject=8", "data.params.images=image_set")
    assert len(load_sources(below, progress=False).bank) == 19


def test_vectors_of_names_are_made_when_asked_for_and_never_silently(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_sources(load_recipe(tiny), progress=False).bank.text is None
    asked = load_recipe(tiny, ["features.text={encoder: use, prompt: photo}"])
    bank = load_sources(asked, progress=False).bank
    assert bank.text_vectors(bank.ids[:2]).shape == (2, 512)
    other = load_recipe(tiny, ['features.text={encoder: use, prompt: "{concept}"}'])
    plain = load_sources(other, progress=False).bank
    assert not np.allclose(bank.text_vectors(bank.ids), plain.text_vectors(bank.ids))
    monkeypatch.setattr(Ridge, "needs_text", True, raising=False)
    with pytest.raises(RecipeError, match=r"features\.text(.|\n)*encoder: use, prompt: photo"):
        load_sources(load_recipe(tiny), progress=False)
    assert load_sources(asked, progress=False).bank.text is not None
    onehot = load_recipe(tiny, ["features={kind: onehot}"])
    with pytest.raises(RecipeError, match="features of kind images or bank"):
        load_sources(onehot, progress=False)
