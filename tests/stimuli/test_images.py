"""Preparation of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from phosphene.errors import DataError
from phosphene.stimuli.images import fit, prepare, preprocessing


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


@pytest.mark.parametrize("side", [100, 224, 301, 500])
def test_equal_to_clips_own_processor_on_square_pictures(side: int) -> None:
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = module.CLIPImageProcessorPil()
    image = picture(side, side)
    pixels = processor(Image.fromarray(image), do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(
        fit(image, size=224).transpose(2, 0, 1), np.asarray(pixels["pixel_values"][0])
    )
    mean = np.array(processor.image_mean, np.float32)[:, None, None]
    std = np.array(processor.image_std, np.float32)[:, None, None]
    full = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal((prepare(image, size=224, resize=None) - mean) / std, full)


def test_the_interpolation_is_the_one_asked_for() -> None:
    image = picture(40, 40)
    for name in ("bicubic", "bilinear", "lanczos", "nearest"):
        expected = Image.fromarray(image).resize((16, 16), Image.Resampling[name.upper()])
        found = fit(image, size=16, interpolation=name)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, np.asarray(expected))
    with pytest.raises(DataError, match="bilinear"):
        fit(image, size=16, interpolation="cubic")  # type: ignore[arg-type]


def test_everything_that_changes_pixels_is_in_the_description() -> None:
    base = preprocessing(224, 256)
    others = [
        preprocessing(225, 256),
        preprocessing(224, 257),
        preprocessing(224, 256, "squash"),
        preprocessing(224, 256, mean=(0.5,) * 3),
        preprocessing(224, 256, std=(0.5,) * 3),
        preprocessing(224, 256, interpolation="bilinear"),
    ]
    assert all(other != base for other in others)
