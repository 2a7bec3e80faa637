"""img2img decodes z and c and hands them to the generator, from Stable Diffusion's parts too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene.data.stimuli import StimulusSet
from phosphene.methods._reconstruction_files import pixels
from phosphene.methods.img2img import Img2ImgReconstructor
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.img2img import Img2Img
from phosphene.testing import TinyProblem, _tiny_diffusion, tiny_images, tiny_problem

QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=2.0)


@pytest.fixture(scope="module")
def pictures() -> StimulusSet:
    """The tiny pictures under names that differ in their first letters."""
    tiny = tiny_images()
    names = ["".join(chr(97 + int(digit)) for digit in concept[-3:][::-1])
             for concept in tiny.concepts]  # fmt: skip
    return StimulusSet(tiny.table.assign(concept=names), tiny.sources)


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = tmp_path_factory.mktemp("stable")
    _tiny_diffusion.tiny_diffusion(folder)
    return LatentDiffusion.load(folder, device="cpu")


@pytest.fixture(scope="module")
def model(
    problem: TinyProblem, stable: LatentDiffusion, pictures: StimulusSet
) -> Img2ImgReconstructor:
    made = Img2ImgReconstructor(source=stable, steps=5, device="cpu")
    return made.fit(problem.train, pictures, **QUIET)


def test_pictures_are_those_of_the_generator(
    model: Img2ImgReconstructor, problem: TinyProblem, stable: LatentDiffusion
) -> None:
    test = problem.test.select(stimulus=problem.test.stimuli[:3])
    made = model.reconstruct(test, n=2, seed=7, **QUIET)
    features = model.decode(test.average(by=("subject", "stimulus")))
    generator = Img2Img(stable, steps=5, strength=0.8, guidance=5.0)
    assert generator.start == 4
    expected = generator.generate(
        text_embeds=features["text"], init_latents=features["latent"], n=2, seed=7,
        ids=[f"01/{stimulus}" for stimulus in made.ids], progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(np.rint(255 * made.images), pixels(expected))
    assert made.protocol.method == "img2img"
    assert any("cc0-1.0" in note for note in made.protocol.notes)


def test_the_first_token_is_fixed(
    model: Img2ImgReconstructor, problem: TinyProblem, pictures: StimulusSet
) -> None:
    c = model.decode(problem.test)["text"]
    true = model.encode(pictures, problem.test.stimuli[:2])["text"]
    assert c.shape[1:] == true.shape[1:] == model.generator_.model.text_shape
    assert np.abs(true[0] - true[1]).max() > 0.1
    np.testing.assert_array_equal(c[:, 0], np.broadcast_to(true[0, 0], c[:, 0].shape))
    width = c.shape[2]
    assert not model.decoders_["text"].coef[:width].any()


def test_the_latent_is_decoded_and_can_be_left_out(
    model: Img2ImgReconstructor, problem: TinyProblem, stable: LatentDiffusion
) -> None:
    test = problem.test.average(by=("subject", "stimulus"))
    ids = test.trials["stimulus"].tolist()
    z, true = model.decode(test)["latent"], model.encode(tiny_images(), ids)["latent"]
    mean = model.decoders_["latent"].mean.reshape(true.shape[1:])
    assert np.corrcoef((z - mean).ravel(), (true - mean).ravel())[0, 1] > 0.5
    without = Img2ImgReconstructor(source=stable, steps=5, use_latent=False, device="cpu")
    without.fit(problem.train, tiny_images(), **QUIET)
    assert list(without.decoders_) == ["text"]
    made = without.reconstruct(test.select([0]), **QUIET)
    expected = without.generator_.generate(
        text_embeds=without.decode(test.select([0]))["text"], ids=["01/" + ids[0]], progress=False
    )
    np.testing.assert_array_equal(np.rint(255 * made.images), pixels(expected))


def test_stable_diffusion_is_saved_by_its_folder(problem: TinyProblem, tmp_path: Path) -> None:
    _tiny_diffusion.tiny_diffusion(tmp_path / "weights")
    model = Img2ImgReconstructor(source=str(tmp_path / "weights"), steps=4, device="cpu")
    model.fit(problem.train, tiny_images(), **QUIET)
    test = problem.test.select(stimulus=problem.test.stimuli[:2])
    loaded = Img2ImgReconstructor.from_pretrained(model.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(
        model.reconstruct(test, **QUIET).images, loaded.reconstruct(test, **QUIET).images
    )
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "README.md", "config.json", "manifest.json", "model.safetensors",
    }  # fmt: skip
