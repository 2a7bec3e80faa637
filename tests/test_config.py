"""Recipes: every key is checked, and errors name the key and the nearest valid one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from phosphene.config import (
    AlignmentRecipe,
    Recipe,
    load_alignment_recipe,
    load_recipe,
    parse_recipe,
)
from phosphene.errors import RecipeError, UnknownNameError


def values(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "data": {"kind": "recording", "path": "eeg"},
        "features": {"kind": "bank", "path": "bank"},
        "split": {"kind": "column"},
        "method": {"name": "ridge"},
    }
    return base | changes


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_defaults_are_filled_in_and_the_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, values()))
    assert recipe.evaluation.repetitions == "all"
    assert recipe.evaluation.zero_shot is True
    again = parse_recipe(recipe.to_dict(), folder="/elsewhere")
    assert again == recipe


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", "/far/away")
    monkeypatch.setenv("HOME", "/home/someone")
    data = {"kind": "recording", "path": ["../x/eeg", "$MY_DATA/b", "~/c", "/abs"]}
    recipe = load_recipe(write(tmp_path, values(data=data)))
    assert recipe.data.kind == "recording"
    assert recipe.data.path == [
        tmp_path.parent / "x" / "eeg",
        Path("/far/away/b"),
        Path("/home/someone/c"),
        Path("/abs"),
    ]


def test_an_unset_variable_in_a_path_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    data = {"kind": "recording", "path": "$NOT_SET_HERE/x"}
    with pytest.raises(RecipeError, match=r"data\.path.*\n.*NOT_SET_HERE is not set"):
        load_recipe(write(tmp_path, values(data=data)))


@pytest.mark.parametrize(
    ("changes", "path", "nearest"),
    [
        ({"metod": {"name": "ridge"}}, "'metod'", "method"),
        ({"data": {"kind": "recording", "pth": "x", "path": "y"}}, "'data.pth'", "path"),
        ({"data": {"kind": "simulated", "wrld": "quick"}}, "'data.wrld'", "world"),
        (
            {
                "data": {
                    "kind": "nifti",
                    "bold": "b",
                    "mask": "m",
                    "labels": "l",
                    "preprocess": {"block_average": {"shift_tr": 2}},
                }
            },
            "'data.preprocess.block_average.shift_tr'",
            "shift_trs",
        ),
        ({"features": {"kind": "images", "enkoder": "x"}}, "'features.enkoder'", "encoder"),
        ({"method": {"name": "ridge", "parms": {}}}, "'method.parms'", "params"),
        ({"evaluation": {"repetition": 4}}, "'evaluation.repetition'", "repetitions"),
    ],
)
def test_unknown_keys_name_the_dotted_path_and_the_nearest_valid_name(
    tmp_path: Path, changes: dict[str, Any], path: str, nearest: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, values(**changes)))
    message = str(caught.value)
    assert f"unknown key {path}" in message
    assert f"did you mean '{nearest}'" in message
    assert "recipe.yaml" in message


def test_an_unknown_kind_lists_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.kind is 'simulatd'\n.*did you mean 'simulated'"):
        load_recipe(write(tmp_path, values(data={"kind": "simulatd"})))


def test_a_missing_key_and_a_missing_kind_are_named(tmp_path: Path) -> None:
    content = values(data={"path": "x"})
    del content["method"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, content))
    assert "'method' is missing" in str(caught.value)
    assert "'data.kind' is missing" in str(caught.value)


def test_a_wrong_type_names_key_and_value(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"seed is 'many'\n.*seed: input should be a valid integer"
    ):
        load_recipe(write(tmp_path, values(seed="many")))


def test_a_wrong_value_of_a_union_names_the_key_without_type_names(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, values(evaluation={"repetitions": "most"})))
    assert "evaluation.repetitions is 'most'" in str(caught.value)
    assert "constrained" not in str(caught.value)


def test_unknown_method_and_parameter_names_list_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        load_recipe(write(tmp_path, values(method={"name": "rigde"})))
    method = {"name": "ridge", "params": {"alhpas": [1.0]}}
    with pytest.raises(RecipeError, match=r"method\.params\.alhpas(.|\n)*did you mean 'alphas'"):
        load_recipe(write(tmp_path, values(method=method)))


def test_overrides_are_yaml_and_reach_new_and_old_keys(tmp_path: Path) -> None:
    overrides = [
        "seed=7",
        "method.params.alphas=[1, 10.5]",
        "evaluation.repetitions=4",
        "data.channels=[O1, Oz]",
        "name=with=sign",
    ]
    recipe = load_recipe(write(tmp_path, values()), overrides)
    assert recipe.seed == 7
    assert recipe.method.params == {"alphas": [1, 10.5]}
    assert recipe.evaluation.repetitions == 4
    assert recipe.data.channels == ["O1", "Oz"]
    assert recipe.name == "with=sign"


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "1E-4", ".1e-3", "+1e-4", "100e-6"])
def test_numbers_with_exponents_are_numbers(tmp_path: Path, text: str) -> None:
    recipe = load_recipe(write(tmp_path, values()), [f"method.params.alphas=[{text}]"])
    assert recipe.method.params == {"alphas": [pytest.approx(1e-4)]}
    path = tmp_path / "file.yaml"
    path.write_text(f"{yaml.safe_dump(values(method={'name': 'ridge'}))}per_subject: true\n")
    path.write_text(
        path.read_text().replace("name: ridge", f"name: ridge\n  params: {{x: {text}}}")
    )
    with pytest.raises(RecipeError, match=r"method\.params\.x"):
        load_recipe(path)
    path.write_text(path.read_text().replace("{x:", "{alphas:"))
    assert load_recipe(path).method.params == {"alphas": pytest.approx(1e-4)}


@pytest.mark.parametrize("text", ["e5", "1e", "'1e-4'", "1e-4x", "a1e5"])
def test_what_only_resembles_a_number_stays_text(tmp_path: Path, text: str) -> None:
    recipe = load_recipe(write(tmp_path, values()), [f"name={text}"])
    assert recipe.name == text.strip("'")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "cannot understand the override"),
        ("=3", "cannot understand the override"),
        ("seed.deeper=3", "seed is 3"),
        ("data.pat=3", "did you mean 'path'"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_bad_overrides_are_explained(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, values()), [override])
    assert says in str(caught.value)


def test_unreadable_recipes_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path, values())
    with pytest.raises(RecipeError, match=r"no recipe .*ridge\.yaml\n.*recipe\.yaml"):
        load_recipe(tmp_path / "ridge.yaml")
    path.write_text("")
    with pytest.raises(RecipeError, match="an empty file"):
        load_recipe(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(RecipeError, match="found: list"):
        load_recipe(path)
    path.write_text("a: [1\n")
    with pytest.raises(RecipeError, match=r"not valid YAML\n.*line"):
        load_recipe(path)
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(RecipeError, match="'seed' is given twice"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(path)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    text = "name: !!python/object/apply:os.system ['exit 1']\n"
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(write(tmp_path, text))


def test_shipped_recipes_are_valid() -> None:
    folder = Path(__file__).parents[1] / "recipes"
    paths = sorted(folder.rglob("*.yaml"))
    assert {"ridge.yaml", "nice.yaml", "ubp.yaml"} <= {p.name for p in paths}
    for path in paths:
        if path.stem == "brain_alignment":
            assert isinstance(load_alignment_recipe(path), AlignmentRecipe), path
        else:
            assert isinstance(load_recipe(path), Recipe), path
