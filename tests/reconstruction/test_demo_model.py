"""The demonstration model that comes with the package: size, card, concepts, and what it can do."""

import numpy as np
import pytest
import torch

from phosphene import _random
from phosphene._registry import names
from phosphene._saving import read_json, read_tensors
from phosphene.reconstruction._folder import ASSETS
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.img2img import Img2Img
from phosphene.simulation.pictures import demo_pictures, picture_set
from phosphene.simulation.scene import _own_pictures as make_pictures
from phosphene.simulation.world import get_world

pytest.importorskip("diffusers")
FOLDER = ASSETS / "demo"


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion.load("demo", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def concepts():
    return read_json(FOLDER / "concepts.json")


def pictures(chosen, seed, size=128):
    chosen = picture_set(chosen, 1, seed, size)
    return [chosen.image(id) for id in chosen.ids]


def correlations(a, b):
    return [float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) for x, y in zip(a, b, strict=True)]


def test_weights_are_small_and_half_precision():
    files = sorted(FOLDER.rglob("*.safetensors"))
    assert [file.parent.name for file in files] == ["conditioner", "unet", "vae"]
    assert sum(file.stat().st_size for file in files) <= 30e6
    for file in files:
        tensors, _ = read_tensors(file)
        assert {value.dtype for value in tensors.values()} == {torch.float16}
        assert all(torch.isfinite(value).all() for value in tensors.values())


def test_parts_are_the_classes_of_diffusers_in_float32(model):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    assert isinstance(model.vae, AutoencoderKL)
    assert isinstance(model.unet, UNet2DConditionModel)
    assert isinstance(model.scheduler, DDIMScheduler)
    assert (model.image_size, model.latent_shape, model.text_shape) == (64, (4, 16, 16), (512,))
    assert model.conditioner.kinds["image"]["width"] == 1280
    parts = (model.vae, model.unet, model.conditioner)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}


def test_no_concept_that_a_world_tests_was_trained_on(concepts):
    everything = np.asarray([name for name, _ in demo_pictures()], dtype=object)
    train, excluded = set(concepts["train"]), set(concepts["tested"])
    assert len(train) == 650
    assert train <= set(everything)
    assert not train & excluded
    for entry in names("world"):
        world = get_world(entry)
        order = _random.generator(world.picture_seed, "simulation", "concepts")
        tested = everything[order.permutation(len(everything))[: world.test_concepts]]
        assert not train & set(tested), entry
        assert set(tested) <= excluded, entry
    # As the standard world really shows them.
    shown = make_pictures(get_world("standard")).table
    assert set(shown.loc[shown["split"] == "test", "concept"]) == excluded
    assert set(shown.loc[shown["split"] == "train", "concept"]) == train


def test_card_names_licence_and_excluded_concepts(model, concepts):
    card = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    assert "CC BY 4.0" in card
    assert "CC BY 4.0" in model.licence
    assert "demonstration model" in card
    assert f"The {len(concepts['tested'])} concepts" in card
    assert "concepts.json" in card


def test_copies_of_test_pictures_look_like_them(model, concepts):
    originals = pictures(concepts["tested"][::10], seed=0, size=64)
    z = model.encode_images(originals)
    assert z.std((0, 2, 3)) == pytest.approx(np.ones(4), abs=0.2)
    with torch.no_grad():
        copies = model.decode_latents(torch.from_numpy(z)).permute(0, 2, 3, 1).numpy()
    own = correlations(copies, originals)
    # Measured .95 on average and .90 at the worst; a picture and another's copy are unrelated.
    assert np.mean(own) > 0.92
    assert min(own) > 0.85
    assert np.mean(correlations(copies, originals[1:] + originals[:1])) < 0.3


def velocity_errors(model, z, tokens, times):
    """Error (pictures, tokens) of the predicted velocity under every condition, same noise."""
    errors = torch.zeros(len(z), len(tokens))
    stream = _random.torch_generator(0, "velocity errors")
    for time in times:
        noise = torch.randn(z.shape, generator=stream)
        a = float(model.schedule.alphas[time])
        noisy, velocity = a**0.5 * z + (1 - a) ** 0.5 * noise, a**0.5 * noise - (1 - a) ** 0.5 * z
        for column, one in enumerate(tokens):
            given = one.expand(len(z), -1, -1)
            found = model.unet(noisy, time, encoder_hidden_states=given).sample
            errors[:, column] += (found - velocity).square().mean((1, 2, 3))
    return errors


def test_own_name_explains_noisy_pictures_better_than_other_names(model, concepts):
    chosen = concepts["train"][::26]
    with torch.no_grad():
        z = torch.from_numpy(model.encode_images(pictures(chosen, seed=5)))
        tokens = model.tokens(torch.from_numpy(model.encode_text(chosen)))
        errors = velocity_errors(model, z, tokens, (600,))
    own = errors.diagonal()[:, None]
    others = ~torch.eye(len(chosen), dtype=torch.bool)
    two_way = float((errors > own)[others].float().mean())
    # Chance is .5, with a standard error of .04 over 25 pictures; measured .85.
    assert two_way > 0.7


def test_pictures_of_things_it_knows_come_back_from_their_true_features(model, concepts):
    chosen = picture_set(concepts["train"][::26], 1, 0, 64, first=40)
    seen = [chosen.image(id) for id in chosen.ids]
    made = Img2Img(model, steps=10, strength=0.5, guidance=1.0)
    features = {name: made.targets(name, chosen, chosen.ids)
                for name in ("text_embeds", "init_latents")}  # fmt: skip
    found = made.generate(**features, seed=0, ids=chosen.ids, progress=False)[:, 0]
    own = correlations(found, seen)
    # Measured .85 over 40 concepts. The name has a say: under another's, pictures are worse.
    assert np.mean(own) > 0.75
    features["text_embeds"] = np.roll(features["text_embeds"], 1, axis=0)
    other = made.generate(**features, seed=0, ids=chosen.ids, progress=False)[:, 0]
    assert np.mean(own) > np.mean(correlations(other, seen)) + 0.02
