"""Preparation of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from phosphene.errors import DataError
from phosphene.stimuli.images import fit, prepare


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_crop_takes_the_centre_of_the_resized_picture() -> None:
    image = picture(50, 81)
    expected = Image.fromarray(image).resize((64, 40), Image.Resampling.BICUBIC)
    found = fit(image, size=32, resize=40)
    np.testing.assert_array_equal(found, np.asarray(expected)[4:36, 16:48])


def test_a_square_picture_of_the_right_size_is_left_alone() -> None:
    image = picture(32, 32)
    np.testing.assert_array_equal(fit(image, size=32), image)
    prepared = prepare(image, size=32, resize=None)
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, image.transpose(2, 0, 1).astype(np.float32) / 255)


def test_squash_keeps_everything() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :3] = 255
    assert fit(image, size=20, mode="squash")[:, 0].min() > 200
    assert fit(image, size=20, mode="crop").max() == 0


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (7, 5)])
def test_extreme_proportions(height: int, width: int) -> None:
    assert fit(picture(height, width), size=16, resize=18).shape == (16, 16, 3)


def test_bad_pictures_and_settings_are_refused() -> None:
    with pytest.raises(DataError, match="RGB"):
        fit(np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="float32"):
        fit(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(DataError, match="larger"):
        fit(picture(8, 8), size=8, resize=4)
    with pytest.raises(DataError, match="crop or squash"):
        fit(picture(8, 8), size=8, mode="bend")  # type: ignore[arg-type]
