"""What the demonstration generator is trained on."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from phosphene.simulation._backgrounds import background
from phosphene.simulation.pictures import Recipe, compose, demo_pictures, make_recipe

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("train_demo_generator")


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("generator_pictures")


def test_the_object_is_found_in_latents(script: ModuleType) -> None:
    # Centre x, y and size in shares of the frame: columns 2 to 5 and rows 8 to 11 of 16 by half
    # sizes of two places, and half a place more on every side.
    boxes = np.array([[0.25, 0.625, 0.25], [0.75, 0.25, 0.5]], dtype=np.float32)
    expected = np.zeros((2, 1, 16, 16))
    expected[0, 0, 8:12, 2:6] = 1
    expected[1, 0, 0:8, 8:16] = 1
    np.testing.assert_array_equal(script.inside(boxes), expected)


def turned(pictures: ModuleType, rotation: float) -> tuple[Recipe, np.ndarray]:
    """A recipe of a textured picture, and its background."""
    concept, svg = demo_pictures()[0]
    recipe = make_recipe(concept, svg, 1, pictures.PICTURE_SEED, pictures.FULL)
    recipe = replace(recipe, extent=0.5, x=0.4, y=0.6, rotation=rotation, background="checker")
    return recipe, background(recipe.background, recipe.background_seed, recipe.size)


def test_calm_pictures_keep_the_object_and_lose_the_texture(pictures: ModuleType) -> None:
    recipe, behind = turned(pictures, 0.0)
    textured = pictures.shrink(compose(recipe, behind)).astype(float)
    calm = pictures.calm(recipe, behind).astype(float)
    # The object is where nothing of black or white shows; where all of it does, there is none.
    black, white = (pictures.shrink(compose(recipe, np.full_like(behind, c))) for c in (0, 255))
    shows = np.subtract(white, black, dtype=int).max(axis=2)
    within, outside = shows < 5, shows > 250
    assert within.sum() > 100
    assert outside.sum() > 1000
    assert np.abs(calm - textured)[within].mean() < 12
    # Colours of the background stay, roughly; its contrast is mostly gone.
    assert np.abs(calm[outside].mean(0) - textured[outside].mean(0)).max() < 8
    assert calm[outside].std(axis=0).mean() < 0.5 * textured[outside].std(axis=0).mean()


def test_calm_objects_are_turned_by_less(
    pictures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = pictures.calm(*turned(pictures, 25.0))
    monkeypatch.setattr(pictures, "UPRIGHT", 1.0)
    np.testing.assert_array_equal(calm, pictures.calm(*turned(pictures, 10.0)))
    assert (calm != pictures.calm(*turned(pictures, 25.0))).any()
