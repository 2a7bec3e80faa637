"""What the demonstration generator is trained on."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from phosphene.simulation._backgrounds import background
from phosphene.simulation.pictures import demo_pictures, make_recipe, object_layer, render

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("train_demo_generator")


def test_the_object_is_found_in_latents(script: ModuleType) -> None:
    # Centre x, y and size in shares of the frame: columns 2 to 5 and rows 8 to 11 of 16 by half
    # sizes of two places, and half a place more on every side.
    found = script.inside(np.array([[0.25, 0.625, 0.25]] * 2, dtype=np.float32))
    assert found.shape == (2, 1, 16, 16)
    expected = np.zeros((16, 16))
    expected[8:12, 2:6] = 1
    np.testing.assert_array_equal(found[0, 0], expected)
    np.testing.assert_array_equal(found[1, 0], expected)


def test_calm_pictures_keep_the_object_and_lose_the_texture(script: ModuleType) -> None:
    concept, svg = demo_pictures()[0]
    recipe = make_recipe(concept, svg, 1, script.PICTURE_SEED, script.FULL)
    recipe = replace(recipe, extent=0.5, x=0.4, y=0.6, rotation=0.0, background="checker")
    behind = background(recipe.background, recipe.background_seed, recipe.size)
    full = script.compose(*object_layer(recipe), behind)
    np.testing.assert_array_equal(full, render(recipe))

    textured, calm = script.shrink(full).astype(float), script.calm(recipe, behind).astype(float)
    cover = script.shrink(np.uint8(255 * object_layer(recipe)[1].repeat(3, axis=2)))
    within, outside = cover.min(axis=2) > 250, cover.max(axis=2) < 5
    assert within.sum() > 100
    assert outside.sum() > 1000
    assert np.abs(calm - textured)[within].mean() < 12
    # Colours of the background stay, roughly; its contrast is mostly gone.
    assert np.abs(calm[outside].mean(0) - textured[outside].mean(0)).max() < 8
    assert calm[outside].std(axis=0).mean() < 0.5 * textured[outside].std(axis=0).mean()
