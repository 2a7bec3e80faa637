"""Position and size of the object, read off pictures whose layout is known."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.runs.object_layout import COLUMNS, LayoutReader, faded, layout_features
from phosphene.simulation.pictures import demo_pictures, picture_set
from phosphene.testing import tiny_images


def test_features_are_means_over_cells() -> None:
    picture = np.zeros((1, 64, 64, 3), np.float32)
    picture[0, :8, 8:16] = 1.0  # one cell of the coarse grid, four of the fine one
    found = layout_features(picture)
    assert found.shape == (1, 8 * 8 * 3 + 16 * 16 * 10)
    coarse = found[0, : 8 * 8 * 3].reshape(8, 8, 3)
    assert coarse[0, 1].tolist() == [1.0, 1.0, 1.0]
    assert coarse.sum() == 3
    # Edges, saturation, contrast: a grey square has no saturation.
    assert np.ptp(found[0, 8 * 8 * 3 :].reshape(16, 16, 10)[..., 6]) == 0


def test_position_and_size_are_read_from_pictures_that_were_not_learned_from() -> None:
    names = [name for name, _ in demo_pictures()]
    learned = picture_set(names[::8], 4, seed=3, size=64)
    other = picture_set(names[4::16], 1, seed=4, size=64)
    reader = LayoutReader.fit(learned, learned.ids)
    pictures = np.stack([other.image(id) for id in other.ids])[:, None] / 255
    errors = reader.errors(pictures, other, other.ids)
    truth = other.table[list(COLUMNS)].to_numpy(float)
    mean = learned.table[list(COLUMNS)].to_numpy(float).mean(axis=0)
    constant = np.hypot(*(truth - mean)[:, :2].T).mean()
    assert errors["position error"].mean() < 0.8 * constant
    assert errors["size error"].shape == (len(other),)
    assert (reader.r2[:2] > 0.3).all()
    # Read from a faded copy things keep their place and size; a reader that has learned from sharp
    # pictures only takes them for .06 smaller.
    paler = reader.read(faded(pictures[:, 0].astype(np.float32), seed=1))
    assert np.hypot(*(paler - truth)[:, :2].T).mean() < 0.8 * constant
    assert abs((paler - reader.read(pictures[:, 0]))[:, 2].mean()) < 0.04
    # Read from a picture that does not show the object: no better than a constant answer.
    rolled = reader.errors(np.roll(pictures, 1, axis=0), other, other.ids)
    assert rolled["position error"].mean() > 1.2 * errors["position error"].mean()


def test_pictures_without_a_known_layout_are_refused() -> None:
    pictures = tiny_images()
    with pytest.raises(DataError, match="layout of these pictures is not known"):
        LayoutReader.fit(pictures, pictures.ids)
