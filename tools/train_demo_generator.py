r"""Train the demonstration generator: a small image autoencoder and a conditional latent diffusion.

Everything comes from the seed: pictures of the demo's training concepts, over backgrounds that no
world shows, and the weights. Test concepts of every registered world are left out by name. The
models are those of diffusers (`AutoencoderKL`, `UNet2DConditionModel`, `DDIMScheduler`), so that
programs written for Stable Diffusion's folders run on the result.

    python tools/train_demo_generator.py --work FOLDER \
        --out src/phosphene/reconstruction/assets/demo

Interrupted, it goes on at the last checkpoint in FOLDER. It logs the time of every stage.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generator_pictures import SIDE, make_pictures
from muon import Muon
from torch import Tensor

from phosphene import _random
from phosphene._device import resolve_precision
from phosphene._saving import read_json, write_array, write_json, write_text
from phosphene.reconstruction.conditioner import VectorConditioner

log = logging.getLogger("train_demo_generator")

SEED = 0
# Weight of the KL divergence per latent value, against the mean over pixels.
KL = 1e-4
# Tokens of a condition and their width; shares of text, image and no condition; noise on vectors.
TOKENS, DIM = 4, 256
SHARES = (0.5, 0.35, 0.15)
LARGEST_NOISE = 0.4
# Weight of the background in the loss of the diffusion: textures are noise that nothing predicts.
BACKGROUND = 0.3
# Logit-normal times lie where shapes are decided (Esser et al. 2024, arXiv:2403.03206).
TIME_CENTRE, TIME_SPREAD = 0.3, 1.2
NAME = "phosphene demonstration model, version 1"
LICENCE = (
    "weights BSD-3-Clause; trained on drawings of Twemoji, CC BY 4.0, Twitter, Inc and other "
    "contributors"
)
CARD = """# The demonstration generator of phosphene

A small latent diffusion model that makes phosphene's reconstructions run without any download. It
is a **demonstration model**: {megabytes:.1f} MB, 64 x 64 pixels, drawings of {train} kinds of
things, and nothing else. What it shows says how decoders and generators work together; it says
nothing of what large models would show.

- `vae`: `AutoencoderKL`, factor 4, latents 4 x 16 x 16, normalised. `unet`:
  `UNet2DConditionModel`, predicts velocities. `scheduler`: `DDIMScheduler`. `conditioner`: tokens
  from a text vector (Universal Sentence Encoder, 512 numbers, the bare name) or an image vector
  (EfficientNet-Lite0 `pool`, 1,280 numbers).
- Trained on {train} concepts. The {tested} concepts that the simulated worlds test are left out of
  every stage by name: `concepts.json` lists both.
- Made by `tools/train_demo_generator.py` on two processor cores: autoencoder {vae:.0f} minutes
  ({vae_steps} steps), diffusion {unet:.0f} ({unet_steps} steps), and two for pictures and latents.
- The diffusion learned from calm pictures: objects turned by less than half of what the worlds
  show, backgrounds blurred. Its own pictures are like that.
- What to expect: copies of pictures by the autoencoder are recognisable, and so are most things it
  was trained on when they are made of their true features (text, and a latent after half of the
  noising steps). From the name alone they have its colours; simple things have their shape (a
  rose, a top hat, a speedboat, a cut of meat), intricate ones do not (a bicycle, a flamingo).
  More training would help: the loss still fell.
- Take `guidance=1` where there are latents: guidance takes its pictures away from them.
- Licence: weights BSD-3-Clause. The pictures are Twemoji, CC BY 4.0, Twitter, Inc and other
  contributors, redrawn at other sizes and places on computed backgrounds.
"""


class Stage:
    """A stage of training: its weights with a running mean, its checkpoint and its log."""

    def __init__(self, work: Path, name: str, modules: torch.nn.Module, plan: Plan) -> None:
        self.path, self.name, self.modules, self.plan = work / f"{name}.pt", name, modules, plan
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.parameters]
        self.optimiser: torch.optim.Optimizer
        if plan.matrix_rate:
            self.optimiser = Muon(self.parameters, plan.rate, plan.matrix_rate)
        else:
            self.optimiser = torch.optim.AdamW(self.parameters, plan.rate, weight_decay=0.0)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.step, self.seconds, self.curve = 0, 0.0, []
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            modules.load_state_dict(state["modules"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.mean, self.step = state["mean"], state["step"]
            self.seconds, self.curve = state["seconds"], state["curve"]

    def run(self, loss: Callable[[int], Tensor]) -> None:
        """Train to the end of the plan; ``loss`` draws from the step's number only."""
        plan, begun, spent = self.plan, time.monotonic(), self.seconds
        losses = []
        while self.step < plan.steps:
            rate = min(1.0, (self.step + 1) / plan.warm_up)
            rate *= 0.5 + 0.5 * math.cos(math.pi * self.step / plan.steps)
            for group, highest in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = highest * rate
            value = loss(self.step)
            self.optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            self.step += 1
            keep = min(plan.mean_decay, self.step / (self.step + 10))
            torch._foreach_lerp_(self.mean, [p.detach() for p in self.parameters], 1 - keep)
            losses.append(float(value.detach()))
            self.seconds = spent + time.monotonic() - begun
            if self.step % 50 == 0 or self.step == plan.steps:
                self.curve.append([self.step, float(np.mean(losses)), self.seconds])
                log.info("%s: step %d, loss %.4f, %.0f s", self.name, *self.curve[-1])
                losses = []
                self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        state = {"modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict()}
        state |= {"mean": self.mean, "step": self.step}
        partial = self.path.with_suffix(".tmp")
        torch.save(state | {"seconds": self.seconds, "curve": self.curve}, partial)
        partial.replace(self.path)

    def finish(self) -> None:
        """Put the running means in the place of the weights."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.mean)
        self.modules.eval().requires_grad_(False)


@dataclass(frozen=True)
class Plan:
    """Length and rates of a stage."""

    steps: int
    batch: int
    rate: float
    matrix_rate: float = 0.0
    warm_up: int = 50
    mean_decay: float = 0.995


VAE = Plan(1500, 16, 3e-3, matrix_rate=0.02)
UNET = Plan(4000, 96, 1e-3, matrix_rate=0.02, warm_up=100, mean_decay=0.998)


def autoencoder() -> torch.nn.Module:
    """Autoencoder with a factor of 4 and four latent channels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        # No residual block before the picture is 16 pixels wide: on a CPU those cost the most,
        # and 64 channels hold a patch of 4 x 4 x 3 values anyway.
        block_out_channels=(64, 64, 64),
        layers_per_block=0,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
    ).to(memory_format=torch.channels_last)


def batch_of(pictures: np.ndarray, rng: np.random.Generator, size: int) -> Tensor:
    """Random pictures, half of them mirrored, in [-1, 1]."""
    rows = pictures[np.sort(rng.choice(len(pictures), size, replace=False))]
    rows = np.where(rng.random((size, 1, 1, 1)) < 0.5, rows[:, :, ::-1], rows)
    x = torch.from_numpy(rows).permute(0, 3, 1, 2)
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def copy_loss(copy: Tensor, x: Tensor) -> Tensor:
    """Absolute and squared differences of pixels, and absolute differences of edges."""
    d = (copy - x).float()
    edges = d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()
    return d.abs().mean() + d.square().mean() + 0.5 * edges


def train_autoencoder(work: Path, plan: Plan, bf16: bool) -> torch.nn.Module:
    """Train encoder and decoder together."""
    pictures = np.load(work / "pictures.npy", mmap_mode="r").reshape(-1, SIDE, SIDE, 3)
    with _random.seeded(SEED, "autoencoder"):
        model = autoencoder()
    stage = Stage(work, "autoencoder", model, plan)

    def loss(step: int) -> Tensor:
        rng = _random.generator(SEED, "autoencoder", step)
        x = batch_of(pictures, rng, plan.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            posterior = model.encode(x).latent_dist
            noise = torch.from_numpy(rng.standard_normal(posterior.mean.shape, np.float32))
            copy = model.decode(posterior.mean + posterior.std * noise).sample
        return copy_loss(copy, x) + KL * posterior.kl().float().mean() / noise[0].numel()

    stage.run(loss)
    stage.finish()
    return model


@torch.no_grad()
def normalise(model: torch.nn.Module, work: Path) -> None:
    """Fold means and deviations of the latents into the autoencoder's 1 x 1 convolutions.

    Afterwards latents have mean 0 and deviation 1 in every channel, so that the scaling factor is
    1 and nothing has to be shifted.
    """
    pictures = np.load(work / "pictures.npy", mmap_mode="r").reshape(-1, SIDE, SIDE, 3)
    rows = _random.generator(SEED, "normalise").choice(len(pictures), 1500, replace=False)
    z = encode(model, pictures[np.sort(rows)])
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    quant, post = model.quant_conv, model.post_quant_conv
    n = len(mean)
    quant.weight[:n] /= deviation[:, None, None, None]
    quant.bias[:n] = (quant.bias[:n] - mean) / deviation
    quant.bias[n:] -= 2 * deviation.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]
    model.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def encode(model: torch.nn.Module, pictures: np.ndarray) -> Tensor:
    """Latents (n, 4, 16, 16): the posterior's mean."""
    parts = []
    for start in range(0, len(pictures), 100):
        x = torch.from_numpy(np.ascontiguousarray(pictures[start : start + 100]))
        x = (x.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
            memory_format=torch.channels_last
        )
        parts.append(model.encode(x).latent_dist.mean)
    return torch.cat(parts)


def make_latents(model: torch.nn.Module, work: Path) -> np.ndarray:
    """Latents (concepts, exemplars, 4, 16, 16) of the calm pictures."""
    path = work / "latents.npy"
    if not path.exists():
        pictures = np.load(work / "calm.npy", mmap_mode="r")
        z = encode(model, pictures.reshape(-1, SIDE, SIDE, 3)).numpy().astype(np.float16)
        write_array(path, z.reshape(*pictures.shape[:2], *z.shape[1:]))
    return np.load(path)


def unet() -> torch.nn.Module:
    """Denoiser that hears of the conditioner's tokens in every block and attends to them in one.

    What a picture shows reaches all residual blocks with the time, as a scale and a shift.
    Attention at all levels took a third of the time and learned less of the names in it. There is
    one residual block at 16 x 16 places, as those cost the most.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        layers_per_block=(0, 2, 1),
        cross_attention_dim=DIM,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    ).to(memory_format=torch.channels_last)


def scheduler() -> Any:
    """The noise schedule of Stable Diffusion; the network predicts velocities."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def conditioner(work: Path) -> VectorConditioner:
    """Conditioner with the scale of the training vectors."""
    text = torch.from_numpy(np.load(work / "text.npy"))
    image = torch.from_numpy(np.load(work / "image.npy"))
    made = VectorConditioner(
        {
            "text": {"width": text.shape[1], "encoder": "use"},
            "image": {"width": image.shape[2], "encoder": "efficientnet-lite0"},
        },
        tokens=TOKENS,
        dim=DIM,
    )
    made.set_scale("text", text)
    made.set_scale("image", image.flatten(0, 1))
    return made


def inside(boxes: np.ndarray) -> np.ndarray:
    """Whether places of the latents lie in the object's square: (n, 1, 16, 16), float32."""
    side = SIDE // 4
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    centre_x, centre_y, extent = boxes.T[:, :, None, None]
    half = extent / 2 + 0.5 / side
    near = (abs(x - centre_x) < half) & (abs(y - centre_y) < half)
    return near[:, None].astype(np.float32)


def train_diffusion(work: Path, plan: Plan, bf16: bool) -> tuple[torch.nn.Module, Any]:
    """Train denoiser and conditioner together on latents that are there."""
    from diffusers.models.attention_processor import AttnProcessor

    latents = np.load(work / "latents.npy")
    text, image = np.load(work / "text.npy"), np.load(work / "image.npy")
    boxes = np.load(work / "boxes.npy")
    n_concepts, n_exemplars = latents.shape[:2]
    alphas = scheduler().alphas_cumprod
    with _random.seeded(SEED, "diffusion"):
        modules = torch.nn.ModuleDict({"unet": unet(), "conditioner": conditioner(work)})
    network: Any = modules["unet"]
    tokens: Any = modules["conditioner"]
    network.set_attn_processor(AttnProcessor())  # its backward pass is quicker at 16 places
    stage = Stage(work, "diffusion", modules, plan)

    def loss(step: int) -> Tensor:
        rng = _random.generator(SEED, "diffusion", step)
        n = plan.batch
        concept = rng.integers(n_concepts, size=n)
        # By what a picture is conditioned; image vectors are of the first exemplars.
        kind = rng.choice(3, size=n, p=SHARES)
        exemplar = rng.integers(np.where(kind == 1, image.shape[1], n_exemplars))
        z = torch.from_numpy(latents[concept, exemplar]).float()
        object_ = torch.from_numpy(inside(boxes[concept, exemplar]))
        weight = BACKGROUND + (1 - BACKGROUND) * object_
        share = 1 / (1 + np.exp(-rng.normal(TIME_CENTRE, TIME_SPREAD, n)))
        time_step = torch.from_numpy((share * len(alphas)).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        a = alphas[time_step][:, None, None, None]
        noisy = a.sqrt() * z + (1 - a).sqrt() * noise
        velocity = a.sqrt() * noise - (1 - a).sqrt() * z
        given = tokens.empty(n).clone()
        for number, (name, vectors) in enumerate((("text", text), ("image", image))):
            rows = np.flatnonzero(kind == number)
            if not len(rows):
                continue
            values = (
                vectors[concept[rows]] if name == "text" else vectors[concept[rows], exemplar[rows]]
            )
            # Decoded vectors are never exact: the network learns to live with that.
            spread = tokens.scale(name)[1] * float(rng.uniform(0, LARGEST_NOISE))
            jitter = torch.from_numpy(rng.standard_normal(values.shape, np.float32)) * spread
            given[rows] = tokens(torch.from_numpy(values) + jitter, kind=name)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            noisy = noisy.contiguous(memory_format=torch.channels_last)
            predicted = network(noisy, time_step, encoder_hidden_states=given).sample
        return ((predicted.float() - velocity).square() * (weight / weight.mean())).mean()

    stage.run(loss)
    stage.finish()
    return modules["unet"], modules["conditioner"]


def write_model(
    out: Path, work: Path, vae: torch.nn.Module, network: torch.nn.Module, tokens: VectorConditioner
) -> None:
    """Write the folder in the layout of diffusers, weights as float16."""
    seconds = {name: seconds_of(work, name) for name in ("autoencoder", "diffusion")}
    known = read_json(work / "concepts.json")
    for name, module in (("vae", vae), ("unet", network)):
        copy: Any = module.half()
        copy.save_pretrained(out / name, safe_serialization=True)
        module.float()
        for path in (out / name).glob("*.safetensors"):
            path.chmod(0o644)  # else readable by its owner only, in wheels too
    scheduler().save_pretrained(out / "scheduler")
    tokens.save_folder(out / "conditioner")
    write_json(out / "concepts.json", known)
    write_json(
        out / "model_index.json",
        {"_class_name": "PhospheneDemoDiffusion", "name": NAME, "licence": LICENCE},
    )
    write_text(out / "README.md", CARD.format(
        train=len(known["train"]), tested=len(known["tested"]),
        megabytes=sum(p.stat().st_size for p in out.rglob("*.safetensors")) / 1e6,
        vae=seconds["autoencoder"][0] / 60, unet=seconds["diffusion"][0] / 60,
        vae_steps=seconds["autoencoder"][1], unet_steps=seconds["diffusion"][1],
    ))  # fmt: skip


def seconds_of(work: Path, name: str) -> tuple[float, int]:
    """Seconds that a stage has trained for, and its steps."""
    state = torch.load(work / f"{name}.pt", weights_only=True)
    return float(state["seconds"]), int(state["step"])


def main() -> None:
    """Run all stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="pictures and checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--exemplars", type=int, default=32)
    parser.add_argument("--vectors", type=int, default=6, help="exemplars with image vectors")
    parser.add_argument("--vae-steps", type=int, default=VAE.steps)
    parser.add_argument("--unet-steps", type=int, default=UNET.steps)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    bf16 = resolve_precision("auto", torch.device("cpu")) == "bf16"
    make_pictures(work, options.exemplars, options.vectors, os.cpu_count() or 1)
    vae = train_autoencoder(work, replace(VAE, steps=options.vae_steps), bf16)
    normalise(vae, work)
    make_latents(vae, work)
    network, tokens = train_diffusion(work, replace(UNET, steps=options.unet_steps), bf16)
    write_model(options.out, work, vae, network, tokens)


if __name__ == "__main__":
    main()
