"""UnCLIP: the pipeline's pictures, noise on the embedding, the folder's image tower."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.unclip import UnCLIP, level_waves
from phosphene.testing._generators import colour_encoder, tiny_pictures

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
Folders = Callable[..., Path]
EMBEDS = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tiny_folder: Folders) -> Path:
    return tiny_folder("tiny_unclip")


def make(folder: Path | LatentDiffusion, **options: Any) -> UnCLIP:
    return UnCLIP(folder, **{"steps": 6, "device": "cpu", **options})


@pytest.mark.parametrize(("level", "guidance"), [(0, 5.0), (40, 5.0), (99, 1.0)])
def test_pictures_are_those_of_the_pipeline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: int, guidance: float
) -> None:
    generator = make(folder, noise_level=level, guidance=guidance)
    found = generator.generate(EMBEDS, seed=4)
    noise = Noise(4, ["0", "1"], [0, 0])
    module = diffusers.pipelines.stable_diffusion.pipeline_stable_unclip_img2img
    on_embeds = noise.normal((20,), "image embeds")
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **options: on_embeds)
    normaliser = module.StableUnCLIPImageNormalizer.from_pretrained(
        str(folder / "image_normalizer"), low_cpu_mem_usage=False
    )
    model = generator.model
    pipeline = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=None, image_encoder=_tower(folder), image_normalizer=normaliser,
        image_noising_scheduler=diffusers.DDPMScheduler.from_pretrained(
            str(folder), subfolder="image_noising_scheduler"
        ),
        tokenizer=model.text.tokenizer, text_encoder=model.text.module, unet=model.unet,
        scheduler=model.scheduler, vae=model.vae,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=["", ""], image_embeds=torch.from_numpy(EMBEDS), noise_level=level,
        latents=noise.normal((4, 8, 8), "latents"), num_inference_steps=6,
        guidance_scale=guidance, output_type="np",
    ).images  # fmt: skip
    np.testing.assert_allclose(found[:, 0], expected, atol=2e-5)


def _tower(folder: Path) -> Any:
    return transformers.CLIPVisionModelWithProjection.from_pretrained(
        str(folder / "image_encoder")
    ).eval()


def test_more_noise_on_the_embedding_says_less_about_it(folder: Path) -> None:
    gaps = []
    for level in (0, 99):
        generator = make(folder, noise_level=level)
        gaps.append(np.abs(generator.generate(EMBEDS) - generator.generate(-EMBEDS)).mean())
    assert gaps[1] < gaps[0] / 2


def test_levels_are_told_as_times_are() -> None:
    from diffusers.models.embeddings import get_timestep_embedding

    for level, width in ((0, 6), (7, 20), (99, 7)):
        expected = get_timestep_embedding(torch.tensor([level]), width, flip_sin_to_cos=True,
                                          downscale_freq_shift=0)  # fmt: skip
        torch.testing.assert_close(level_waves(level, width), expected)


def test_a_plain_model_is_refused(tiny_folder: Folders) -> None:
    with pytest.raises(DataError) as error:
        make(tiny_folder())
    assert error.value.what.endswith("does not hold what serves as a Stable unCLIP model")
    assert "image_normalizer, image_noising_scheduler" in str(error.value.fix)


def test_a_unet_without_embeddings_is_refused(
    folder: Path, tiny_folder: Folders, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "unet")
    shutil.copytree(tiny_folder() / "unet", tmp_path / "mixed" / "unet")
    with pytest.raises(DataError, match=r"(?s)class_embed_type None.*projection.*width 40"):
        make(tmp_path / "mixed")


def test_an_impossible_noise_level_is_refused(folder: Path) -> None:
    for level in (-1, 100):
        with pytest.raises(DataError, match="0 to 99"):
            make(folder, noise_level=level)


def test_a_loaded_model_is_taken(folder: Path) -> None:
    model = LatentDiffusion.load(folder, device="cpu")
    generator = make(model)
    assert generator.model is model
    np.testing.assert_array_equal(generator.generate(EMBEDS), make(folder).generate(EMBEDS))


def test_targets_are_the_embeddings_of_the_folders_tower(folder: Path) -> None:
    stimuli = tiny_pictures()
    ids = [stimuli.ids[4], stimuli.ids[1]]
    found = make(folder).targets("image_embeds", stimuli, ids)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(
        str(folder / "feature_extractor")
    )
    for row, name in zip(found, ids, strict=True):
        pixels = processor(stimuli.image(name), return_tensors="pt").pixel_values
        with torch.no_grad():
            expected = _tower(folder)(pixel_values=pixels).image_embeds[0].numpy()
        # Pictures that are no squares are rounded by another row or column.
        assert np.corrcoef(row, expected)[0, 1] > 0.99
    own = make(folder, encoder=colour_encoder(20)).targets("image_embeds", stimuli, ids)
    assert np.abs(own - found).max() > 0.1


def test_a_folder_without_a_tower_says_so(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "image_encoder")
    generator = make(tmp_path / "model")
    stimuli = tiny_pictures()
    with pytest.raises(DataError, match=r"(?s)image encoder.*it lacks image_encoder"):
        generator.targets("image_embeds", stimuli, stimuli.ids)
