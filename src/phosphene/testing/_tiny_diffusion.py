"""Small diffusion models with random weights, in the layout of diffusers, for checks and tests.

The classes are the real ones and the files are written by their own ``save_pretrained``; only the
sizes are small: pictures of 16 x 16 pixels, latents of 4 x 8 x 8. Attention to the condition is
made strong, so that two conditions give clearly different pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from phosphene import _random
from phosphene._optional import require
from phosphene._saving import write_tensors
from phosphene.reconstruction._parts import quiet as quiet_diffusers
from phosphene.reconstruction.conditioner import VectorConditioner
from phosphene.stimuli._transformers import quiet
from phosphene.testing import _tiny_models

SIDE, PIXELS, WIDTH = 8, 16, 24
IMAGE_WIDTH = 20  # of the image embeddings of the adapter and of unCLIP
CARD = "---\nlicense: cc0-1.0\n---\n# A tiny model\n\nRandom weights, for tests.\n"
TRAIN_TIMES = 100
_CLASSES = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": "DDIMScheduler",
    "image_normalizer": "StableUnCLIPImageNormalizer",
    "image_noising_scheduler": "DDPMScheduler",
}
_TOWERS = {
    "tokenizer": "CLIPTokenizer",
    "text_encoder": "CLIPTextModel",
    "tokenizer_2": "CLIPTokenizer",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "image_encoder": "CLIPVisionModelWithProjection",
    "feature_extractor": "CLIPImageProcessor",
}


def tiny_diffusion(folder: Path, seed: int = 0, **scheduler: Any) -> Mapping[str, Any]:
    """A Stable Diffusion of tiny parts; further arguments go to its ``DDIMScheduler``."""
    _networks(folder, seed)
    _scheduler(folder / "scheduler", **scheduler)
    _text(folder, seed)
    _index(folder, "StableDiffusionPipeline")
    return {"source": str(folder), "steps": 4}


def tiny_xl(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A Stable Diffusion XL of tiny parts, and an IP-Adapter for it."""
    beside: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 12,
    }
    _networks(folder, seed, width=2 * WIDTH, **beside)
    _scheduler(folder / "scheduler")
    _text(folder, seed)
    _text(folder, seed + 1, "_2", "CLIPTextModelWithProjection", projection_dim=12)
    _index(folder, "StableDiffusionXLPipeline", force_zeros_for_empty_prompt=True)
    return _with_adapter(folder, seed, 2 * WIDTH)


def tiny_adapter(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A tiny Stable Diffusion and an IP-Adapter for it."""
    tiny_diffusion(folder, seed)
    return _with_adapter(folder, seed, WIDTH)


def _with_adapter(folder: Path, seed: int, token: int) -> Mapping[str, Any]:
    package = require("diffusers", "generate", "the example of an IP-Adapter")
    unet = package.UNet2DConditionModel.from_pretrained(
        str(folder / "unet"), low_cpu_mem_usage=False
    )
    stream = _random.torch_generator(seed, "tiny adapter")

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream) / math.sqrt(shape[-1])

    weights = {
        "image_proj.proj.weight": normal(4 * token, IMAGE_WIDTH),
        "image_proj.proj.bias": normal(4 * token),
        "image_proj.norm.weight": torch.ones(token),
        "image_proj.norm.bias": torch.zeros(token),
    }
    # The layers that look at the condition are counted by twos, as in the released adapters.
    layers = [name for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(layers):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("to_k_ip", "to_v_ip"):
            width = attention.to_k.weight.shape[0]
            weights[f"ip_adapter.{2 * number + 1}.{part}.weight"] = 3 * normal(width, token)
    write_tensors(folder / "adapter.safetensors", weights)
    return {"source": str(folder), "steps": 4, "adapter": str(folder / "adapter.safetensors")}


def tiny_unclip(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A Stable unCLIP of tiny parts with its image tower."""
    package = require("diffusers", "generate", "the example of unCLIP")
    labels: dict[str, Any] = {
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 2 * IMAGE_WIDTH,
    }
    _networks(folder, seed, **labels)
    _scheduler(folder / "scheduler", prediction_type="v_prediction")
    _text(folder, seed)
    noising = package.DDPMScheduler(TRAIN_TIMES, beta_schedule="squaredcos_cap_v2")
    noising.save_pretrained(folder / "image_noising_scheduler")
    normaliser = package.pipelines.stable_diffusion.StableUnCLIPImageNormalizer(IMAGE_WIDTH)
    stream = _random.torch_generator(seed, "tiny normaliser")
    with torch.no_grad():
        normaliser.mean.copy_(torch.randn(1, IMAGE_WIDTH, generator=stream) / 4)
        normaliser.std.copy_(torch.rand(1, IMAGE_WIDTH, generator=stream) + 0.5)
    normaliser.save_pretrained(folder / "image_normalizer")
    models = require("transformers", "generate", "the example of unCLIP")
    config = models.CLIPVisionConfig(**_tiny_models._VISION, projection_dim=IMAGE_WIDTH)
    _tiny_models._save(models, "CLIPVisionModelWithProjection", config,
                       folder / "image_encoder", seed)  # fmt: skip
    (folder / "feature_extractor").mkdir(exist_ok=True)
    _tiny_models._write(
        folder / "feature_extractor" / "preprocessor_config.json",
        image_processor_type="CLIPImageProcessor",
        size={"shortest_edge": _tiny_models.SIZE},
        crop_size={"height": _tiny_models.SIZE, "width": _tiny_models.SIZE},
        do_center_crop=True,
        **_tiny_models._standard(resample=3),
    )
    _index(folder, "StableUnCLIPImg2ImgPipeline")
    return {"source": str(folder), "steps": 4}


def tiny_demo(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A model in the layout of the demo's, which takes vectors of texts and of pictures."""
    _networks(folder, seed)
    _scheduler(folder / "scheduler")
    kinds: dict[str, dict[str, Any]] = {
        "text": {"width": 512, "encoder": "use"},
        "image": {"width": 1280, "encoder": "efficientnet-lite0"},
    }
    with _random.seeded(seed, "tiny conditioner"):
        conditioner = VectorConditioner(kinds, tokens=4, dim=WIDTH, hidden=16)
    for kind in kinds:
        stream = _random.torch_generator(seed, "tiny vectors", kind)
        conditioner.set_scale(kind, torch.randn(50, kinds[kind]["width"], generator=stream))
    (folder / "conditioner").mkdir(parents=True, exist_ok=True)
    conditioner.save_folder(folder / "conditioner", dtype=torch.float32)
    _index(folder, "PhospheneDemoDiffusion", licence="CC0-1.0", name="tiny demo")
    return {"source": str(folder), "steps": 4}


def _networks(folder: Path, seed: int, width: int = WIDTH, **unet: Any) -> None:
    package = require("diffusers", "generate", "the example of a diffusion model")
    with quiet_diffusers(package), _random.seeded(seed, "tiny diffusion"):
        network = package.UNet2DConditionModel(
            sample_size=SIDE,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=4,
            norm_num_groups=4,
            **unet,
        )
        autoencoder = package.AutoencoderKL(
            sample_size=PIXELS,
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.5,
        )
        with torch.no_grad():
            for name, value in network.named_parameters():
                if "attn2.to_v" in name or "attn2.to_out" in name or "class_embed" in name:
                    value.mul_(4)
        network.save_pretrained(folder / "unet")
        autoencoder.save_pretrained(folder / "vae")


def _scheduler(folder: Path, **options: Any) -> None:
    package = require("diffusers", "generate", "the example of a diffusion model")
    # What Stable Diffusion has, over fewer times.
    standard = {
        "beta_start": 0.00085 * 10,
        "beta_end": 0.012 * 10,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "num_train_timesteps": TRAIN_TIMES,
    }
    package.DDIMScheduler(**{**standard, **options}).save_pretrained(folder)


def _text(
    folder: Path, seed: int, number: str = "", name: str = "CLIPTextModel", **options: Any
) -> None:
    package = require("transformers", "generate", "the example of a diffusion model")
    (folder / f"tokenizer{number}").mkdir(parents=True, exist_ok=True)
    letters = _tiny_models._clip_letters(folder / f"tokenizer{number}")
    ends = {"bos_token_id": letters, "eos_token_id": letters + 1, "pad_token_id": letters + 1}
    config = package.CLIPTextConfig(
        **{**_tiny_models._TEXT, "vocab_size": letters + 2, **ends, **options}
    )
    with quiet(package):
        _tiny_models._save(package, name, config, folder / f"text_encoder{number}", seed)


def _index(folder: Path, pipeline: str, **entries: Any) -> None:
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    parts: dict[str, list[Any]] = {
        part: ["diffusers", _CLASSES[part]] for part in found if part in _CLASSES
    }
    parts |= {part: ["transformers", _TOWERS[part]] for part in found if part in _TOWERS}
    parts["safety_checker"] = [None, None]
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": pipeline, **entries, **parts}, indent=1)
    )
    if "licence" not in entries:
        (folder / "README.md").write_text(CARD)
