"""Noise, low resolution, mosaic, BVSA's nine views, means of vectors: against slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from phosphene.errors import DataError
from phosphene.stimuli.views import (
    Fovea,
    Gaussian,
    LowRes,
    MeanOf,
    Mosaic,
    Noise,
    Original,
    apply_views,
    augmentations,
    bvsa_views,
    combine_views,
    expand_views,
    gaussian_blur,
    get_view,
    parts_of,
)


def images(height: int = 40, width: int = 40, n: int = 3) -> torch.Tensor:
    picture = np.random.default_rng(0).random((n, 3, height, width), dtype=np.float32)
    picture[0, :, : height // 2] = 0
    return torch.from_numpy(picture)


# ------------------------------------------------------------------------------------------ blur
def test_each_image_may_have_its_own_kernel() -> None:
    batch = images(30, 44)
    kernels = [5, 21, 11]
    together = gaussian_blur(batch, kernels)
    for k, image, found in zip(kernels, batch, together, strict=True):
        torch.testing.assert_close(found, gaussian_blur(image[None], k)[0], atol=1e-6, rtol=0)
    with pytest.raises(DataError, match="one kernel per image"):
        gaussian_blur(batch, [5, 21])


def test_blur_leaves_a_double_batch_double() -> None:
    batch = images().double()
    assert Gaussian(9)(batch).dtype == torch.float64
    torch.testing.assert_close(Gaussian(9)(batch).float(), Gaussian(9)(batch.float()))


# ----------------------------------------------------------------------------------- low quality
@pytest.mark.parametrize(("height", "width", "scale"), [(40, 40, 0.1), (50, 33, 0.3), (9, 9, 0.05)])
def test_lowres_equals_torchs_area_and_bilinear_resizing(
    height: int, width: int, scale: float
) -> None:
    batch = images(height, width)
    small = (max(1, math.floor(height * scale)), max(1, math.floor(width * scale)))
    down = interpolate(batch, size=small, mode="area")
    expected = interpolate(down, size=(height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(LowRes(scale)(batch), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(LowRes(1.0)(batch), batch)


@pytest.mark.parametrize(("height", "width", "size"), [(40, 40, 5), (23, 31, 4), (6, 6, 9)])
def test_mosaic_is_the_mean_of_each_tile(height: int, width: int, size: int) -> None:
    batch = images(height, width)
    expected = batch.numpy().copy()
    for y in range(0, height, size):
        for x in range(0, width, size):
            tile = expected[:, :, y : y + size, x : x + size]
            tile[:] = tile.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(Mosaic(size)(batch).numpy(), expected, atol=1e-5)


# ----------------------------------------------------------------------------------------- noise
def test_noise_has_its_deviation_and_follows_the_key() -> None:
    flat = torch.full((2, 3, 96, 96), 0.5)
    keys = ["a" * 64, "b" * 64]
    seen = Noise(25)(flat, keys)
    noise = (seen - flat) * 255
    assert abs(float(noise.mean())) < 0.5
    assert abs(float(noise.std()) - 25) < 0.5
    assert not torch.equal(seen[0], seen[1])
    # neither the place in the batch nor its company matters
    torch.testing.assert_close(Noise(25)(flat, keys[::-1])[1], seen[0])
    torch.testing.assert_close(Noise(25)(flat[:1], keys[1:])[0], seen[1])
    # another deviation scales the same draw
    torch.testing.assert_close(Noise(5)(flat, keys) - flat, (seen - flat) / 5)


def test_noise_without_keys_follows_the_picture() -> None:
    batch = images()
    seen = Noise()(batch)
    assert torch.equal(seen, Noise()(batch.clone()))
    assert torch.equal(seen[1:], Noise()(batch[1:]))
    assert not torch.equal(seen[0], Noise()(1 - batch)[0])
    with pytest.raises(DataError, match="one key per image"):
        Noise()(batch, ["only one"])


# ------------------------------------------------------------------------------------------ BVSA
def test_bvsa_has_three_peaks_by_three_kernels() -> None:
    views = bvsa_views()
    assert [(view.peak, view.k) for view in views] == [
        (peak, k) for peak in (1.0, 0.5, 0.0) for k in (45, 51, 57)
    ]
    assert views == expand_views("bvsa")
    assert expand_views(["bvsa", "fovea"]) == views  # UBP's three levels are among them
    batch = images(64, 64)
    seen = apply_views(batch, views)
    for view in views:
        torch.testing.assert_close(seen[view.name], view(batch))
    # at peak 0 all is blurred, at peak 1 the pixel at the centre is as it was
    torch.testing.assert_close(seen[Fovea(45, peak=0.0).name], Gaussian(45)(batch))
    odd = images(31, 31)
    sharp = Fovea(45, peak=1.0)(odd)
    torch.testing.assert_close(sharp[:, :, 15, 15], odd[:, :, 15, 15])
    with pytest.raises(DataError, match="peak within"):
        bvsa_views(c=0.6)


def test_words_for_several_views_take_parameters() -> None:
    assert expand_views("bvsa(c=0.2, step=4)") == bvsa_views(c=0.2, step=4)
    assert expand_views(["bvsa()"]) == bvsa_views()
    assert expand_views("fovea(k=45)") == [Fovea(45)]  # a view of that name comes first
    for spec in ("bvsa(d=1)", "bvsa(c=much)", "bvsa(0.2)", "augmentations(k=15)"):
        with pytest.raises(DataError, match="cannot read"):
            expand_views(spec)


# --------------------------------------------------------------------------------------- mean_of
def test_mean_of_composes_vectors() -> None:
    view = get_view("mean_of([original, gaussian(15), fovea])")
    assert [part.name for part in view.parts] == [
        "original",
        "gaussian(k=15)",
        *(part.name for part in expand_views("fovea")),
    ]
    rng = np.random.default_rng(0)
    vectors = {part.name: rng.random((4, 6), dtype=np.float32) for part in view.parts}
    made = combine_views([view, Original()], vectors)
    np.testing.assert_allclose(made[view.name], np.mean(list(vectors.values()), axis=0), rtol=1e-6)
    assert made["original"] is vectors["original"]
    assert made[view.name].dtype == np.float32


def test_mean_of_means_the_four_augmentations_and_shares_its_parts() -> None:
    assert get_view("mean_of").parts == tuple(augmentations())
    asked = expand_views(["original", "gaussian(k=15)", "mean_of"])
    assert [part.name for part in parts_of(asked)] == [
        "original",
        *(view.name for view in augmentations()),
    ]
    assert get_view(MeanOf().name) == MeanOf()
    assert MeanOf().params["of"][0] == "gaussian(k=15)"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mean_of(original)", "at least two"),
        ("mean_of(original,mean_of)", "views of a picture"),
        ("mean_of(original,gaussian(k=15)", "brackets"),
        ("noise(std=-1)", "grey levels"),
        ("lowres(scale=0)", "share"),
        ("lowres(2)", "share"),
        ("mosaic(size=0)", "side of a tile"),
    ],
)
def test_bad_parameters_say_what_is_wrong(spec: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        get_view(spec)


def test_a_mean_of_vectors_has_no_picture() -> None:
    with pytest.raises(DataError, match="no picture"):
        MeanOf()(images())
