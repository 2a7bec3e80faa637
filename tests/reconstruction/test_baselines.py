"""The generators without weights."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene import _registry
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.evaluation.image_metrics import Network
from phosphene.evaluation.memorisation import nearest_training_pictures
from phosphene.reconstruction.baselines import LinearPixel, NearestImage
from phosphene.stimuli.bank import FeatureBank

N = 9
IDS = [f"thing{i}/a" for i in range(N)]


@pytest.fixture
def pictures() -> StimulusSet:
    rng = np.random.default_rng(0)
    shapes = [(12, 12, 3), (12, 18, 3), (20, 12, 3)] * 3
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return StimulusSet.from_arrays(IDS, images)


@pytest.fixture
def bank() -> FeatureBank:
    vectors = np.random.default_rng(1).normal(size=(N, 6)).astype(np.float32)
    views = {("original", "high"): vectors, ("original", "low"): vectors[::-1].copy()}
    return FeatureBank.from_arrays(IDS, views)


def test_the_nearest_picture_is_that_of_largest_cosine(pictures, bank) -> None:
    generator = NearestImage(bank, pictures, size=12)
    rng = np.random.default_rng(2)
    decoded = rng.normal(size=(40, 6)) * rng.uniform(0.01, 100, (40, 1))
    vectors = bank.vectors("original")
    literal = [
        max(range(N), key=lambda j, q=q: q @ vectors[j] / np.linalg.norm(vectors[j]))
        for q in decoded
    ]
    assert generator.nearest(decoded) == [IDS[j] for j in literal]
    assert len(set(literal)) > 4
    made = generator.generate(image_embeds=decoded, n=2, progress=False)
    assert made.shape == (40, 2, 12, 12, 3)
    assert (made[:, 0] == made[:, 1]).all()
    # squares are shown as they are, others without what lies outside the centre
    for row, j in enumerate(literal):
        picture = pictures.image(IDS[j])
        top, left = ((side - 12) // 2 for side in picture.shape[:2])
        expected = picture[top : top + 12, left : left + 12] / 255
        np.testing.assert_allclose(made[row, 0], expected, atol=1e-6)


def test_its_targets_find_their_own_pictures(pictures, bank) -> None:
    for layer in ("high", "low"):
        generator = NearestImage(bank, pictures, layer=layer, size=12)
        targets = generator.targets("image_embeds", pictures, IDS[::-1])
        assert generator.nearest(targets) == IDS[::-1]
        assert generator.shapes == {"image_embeds": (6,)}
        assert generator.weights_hash == bank.space(layer)


def test_only_what_is_allowed_is_answered(pictures, bank) -> None:
    generator = NearestImage(bank, pictures, ids=IDS[:3], size=12)
    assert set(generator.nearest(bank.vectors("original"))) <= set(IDS[:3])
    part = NearestImage(bank, pictures.select(IDS[4:]), size=12)
    assert set(part.nearest(bank.vectors("original"))) <= set(IDS[4:])
    other = StimulusSet.from_arrays(["x"], np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="no picture to answer"):
        NearestImage(bank, other)


def test_unfit_vectors_are_refused(pictures, bank) -> None:
    generator = NearestImage(bank, pictures, size=12)
    decoded = np.ones((3, 6))
    with pytest.raises(DataError, match="6 numbers"):
        generator.generate(image_embeds=decoded[:, :5], progress=False)
    with pytest.raises(DataError, match="q1"):
        generator.generate(image_embeds=decoded * [[1], [np.nan], [1]], ids=["q0", "q1", "q2"],
                           progress=False)  # fmt: skip
    with pytest.raises(DataError, match="no direction: q2"):
        generator.generate(image_embeds=decoded * [[1], [1], [0]], ids=["q0", "q1", "q2"],
                           progress=False)  # fmt: skip
    with pytest.raises(DataError, match="does not take"):
        generator.generate(text_embeds=decoded, progress=False)


def test_linear_pixels_are_what_was_decoded(pictures) -> None:
    generator = LinearPixel(size=12)
    square = IDS[::3]
    targets = generator.targets("init_latents", pictures, square)
    assert targets.shape == (3, 3, 12, 12)
    made = generator.generate(init_latents=targets, n=2, progress=False)
    for row, name in enumerate(square):
        np.testing.assert_allclose(made[row, 0], pictures.image(name) / 255, atol=1e-6)
        np.testing.assert_allclose(made[row, 1], made[row, 0])
    cut = generator.generate(init_latents=3 * targets - 1, progress=False)[:, 0]
    np.testing.assert_allclose(cut, np.clip(3 * made[:, 0] - 1, 0, 1), atol=1e-6)
    assert LinearPixel(size=4).targets("init_latents", pictures, IDS).shape == (N, 3, 4, 4)
    with pytest.raises(DataError, match="3 x 12 x 12"):
        generator.generate(init_latents=targets[:, :, :8], progress=False)
    with pytest.raises(DataError, match="one pixel"):
        LinearPixel(size=0)


def test_both_are_registered() -> None:
    assert _registry.get("generator", "nearest_image") is NearestImage
    assert _registry.get("generator", "linear_pixel") is LinearPixel


def test_the_memorisation_check_knows_the_nearest_picture_for_a_copy(pictures, bank) -> None:
    made = NearestImage(bank, pictures, size=12).generate(
        image_embeds=np.random.default_rng(3).normal(size=(5, 6)), progress=False
    )[:, 0]
    truths = np.random.default_rng(4).random((5, 12, 12, 3))
    network = Network.from_callable(lambda x: x, id="pixels", image_size=12)
    squares = pictures.select(IDS)
    found = nearest_training_pictures(made, truths, squares, network)
    assert found.share == 1.0
