"""The denoising loop against diffusers' own, and its gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phosphene.errors import DataError
from phosphene.reconstruction._denoise import Schedule, denoise
from phosphene.reconstruction.diffusion import LatentDiffusion

diffusers = pytest.importorskip("diffusers")
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def ddim(**options: Any) -> Any:
    standard = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear",
                "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}  # fmt: skip
    return diffusers.DDIMScheduler(**{**standard, **options})


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 7, 50])
def test_times_are_those_of_diffusers(spacing: str, steps: int) -> None:
    scheduler = ddim(timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    schedule = Schedule.of(scheduler, "test")
    assert schedule.times(steps) == scheduler.timesteps.tolist()
    assert schedule.remaining(steps, 1) == scheduler.timesteps.tolist()[-1:]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_a_step_is_that_of_diffusers(prediction: str, last: bool, clip: bool) -> None:
    scheduler = ddim(prediction_type=prediction, set_alpha_to_one=last, clip_sample=clip,
                     clip_sample_range=0.8, steps_offset=1)  # fmt: skip
    scheduler.set_timesteps(6)
    schedule = Schedule.of(scheduler, "test")
    x, predicted = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps.tolist():
        expected = scheduler.step(predicted, time, x).prev_sample
        torch.testing.assert_close(schedule.step(x, predicted, time, 6), expected,
                                   rtol=1e-5, atol=1e-5)  # fmt: skip
        noisy = scheduler.add_noise(x, predicted, torch.tensor([time]))
        torch.testing.assert_close(schedule.add_noise(x, predicted, time), noisy)


def test_impossible_numbers_of_steps_are_refused() -> None:
    schedule = Schedule.of(ddim(), "test")
    for steps in (0, 1001):
        with pytest.raises(DataError, match="1 to 1000"):
            schedule.times(steps)
    for start in (0, 6):
        with pytest.raises(DataError, match="1 to 5"):
            schedule.remaining(5, start)
    with pytest.raises(DataError, match="0 or more"):
        denoise(lambda x, t: x, schedule, torch.zeros(1), steps=5, start=5, truncate=-1)


def test_what_we_do_not_do_is_refused() -> None:
    with pytest.raises(DataError, match=r"(?s)of the folder.*thresholding True"):
        Schedule.of(ddim(thresholding=True), "the folder")


# ---------------------------------------------------------------------------------- closed forms
def test_a_network_that_knows_the_picture_finds_it() -> None:
    """With x_0 predicted exactly, every number of steps ends in x_0."""
    schedule = Schedule.of(ddim(prediction_type="sample", set_alpha_to_one=True), "test")
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    for steps, start in ((1, 1), (10, 4), (50, 50)):
        z = schedule.add_noise(clean, noise, schedule.remaining(steps, start)[0])
        found = denoise(lambda x, t: clean, schedule, z, steps=steps, start=start)
        torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4)


def test_guidance_is_one_doubled_call_per_step() -> None:
    """empty + w (full - empty), from one call with the empty condition first."""
    schedule = Schedule.of(ddim(), "test")
    calls: list[tuple[int, int]] = []

    def network(x: Tensor, time: Tensor) -> Tensor:
        calls.append((len(x), int(time)))
        half = len(x) // 2
        return torch.cat([0.1 * x[:half], 0.3 * x[half:]]) if half == 2 else 0.3 * x

    z = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    guided = denoise(network, schedule, z, steps=5, start=3, guidance=4.0)
    assert calls == [(4, time) for time in schedule.times(5)[-3:]]
    plain = denoise(lambda x, t: (0.1 + 4 * 0.2) * x, schedule, z, steps=5, start=3)
    torch.testing.assert_close(guided, plain)
    calls.clear()
    denoise(network, schedule, z, steps=5, start=3, guidance=1.0)
    assert [n for n, _ in calls] == [2, 2, 2]


def test_with_nothing_followed_the_gradient_is_the_formula_alone() -> None:
    """For predicted noise the factors of x telescope to sqrt(a_last / a_first)."""
    schedule = Schedule.of(ddim(set_alpha_to_one=False), "test")
    z = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = denoise(lambda x, t: (weight * x).tanh(), schedule, z, steps=10, start=6, truncate=0)
    found.sum().backward()
    first = schedule.alphas[schedule.times(10)[4]]
    expected = (schedule.final_alpha / first) ** 0.5
    assert z.grad is not None
    np.testing.assert_allclose(z.grad, expected, rtol=1e-12)
    assert weight.grad is None


# -------------------------------------------------------------------------------- the real UNet
@pytest.fixture(scope="module")
def double(tiny_folder: Callable[..., Path]) -> LatentDiffusion:
    model = LatentDiffusion.load(tiny_folder(), device="cpu")
    model.unet.double()
    model.vae.double()
    return model


class Problem:
    """A loss on the picture of 4 steps, as a function of latents and tokens."""

    def __init__(self, model: LatentDiffusion, **options: Any) -> None:
        stream = torch.Generator().manual_seed(3)
        self.model, self.options = model, options

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=stream, dtype=torch.float64)

        self.z, self.tokens = normal(1, *model.latent_shape), normal(1, *model.text_shape)
        self.dz, self.dt = normal(*self.z.shape), normal(*self.tokens.shape)
        self.aim = normal(1, 3, 16, 16)

    def loss(self, z: Tensor, tokens: Tensor, **more: Any) -> Tensor:
        options = {"steps": 6, "start": 4, "guidance": 3.0, **self.options, **more}
        picture = self.model.decode_latents(self.model.denoise(z, tokens, **options))
        return (picture - self.aim).square().mean()

    def gradients(self, **more: Any) -> tuple[Tensor, Tensor]:
        z, tokens = (t.clone().requires_grad_() for t in (self.z, self.tokens))
        found = torch.autograd.grad(self.loss(z, tokens, **more), (z, tokens))
        return found[0], found[1]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_are_finite_differences(
    double: LatentDiffusion, guidance: float, checkpoint: bool
) -> None:
    problem = Problem(double, guidance=guidance)
    z, tokens = problem.gradients(checkpoint=checkpoint)
    h = 1e-5
    with torch.no_grad():
        for gradient, dz, dt in ((z, problem.dz, 0.0), (tokens, 0.0, problem.dt)):
            up = problem.loss(problem.z + h * dz, problem.tokens + h * dt)
            down = problem.loss(problem.z - h * dz, problem.tokens - h * dt)
            direction = dz if isinstance(dz, Tensor) else dt
            assert isinstance(direction, Tensor)
            slope = float((gradient * direction).sum())
            assert abs(slope) > 1e-4  # a gradient of nothing would agree too
            assert float(up - down) / (2 * h) == pytest.approx(slope, rel=1e-5)


def test_checkpointing_changes_memory_and_not_gradients(double: LatentDiffusion) -> None:
    problem = Problem(double)
    kept: dict[bool, int] = {}
    found = {}
    for checkpoint in (False, True):
        sizes: list[int] = []
        # What autograd keeps between forward and backward pass.
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            z, tokens = (t.clone().requires_grad_() for t in (problem.z, problem.tokens))
            latents = double.denoise(z, tokens, steps=6, start=4, guidance=3.0,
                                     checkpoint=checkpoint)  # fmt: skip
            kept[checkpoint] = sum(sizes)
        found[checkpoint] = torch.autograd.grad(latents.sum(), (z, tokens))
    assert kept[True] < kept[False] / 20
    for a, b in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("truncate", [0, 1, 2, 4, 9])
def test_truncated_gradients_stop_where_they_say(double: LatentDiffusion, truncate: int) -> None:
    """The same loop by hand, with the network's early predictions taken as constants."""
    problem = Problem(double)
    z, tokens = (t.clone().requires_grad_() for t in (problem.z, problem.tokens))
    scheduler = double.scheduler
    scheduler.set_timesteps(6)
    x = z
    for number, time in enumerate(scheduler.timesteps[-4:]):
        pair = torch.cat([double.empty_tokens(1).double(), tokens])
        empty, full = double.unet(torch.cat([x, x]), time, pair).sample.chunk(2)
        predicted = empty + 3.0 * (full - empty)
        if number < 4 - truncate:
            predicted = predicted.detach()
        x = scheduler.step(predicted, time, x).prev_sample
    loss = (double.decode_latents(x) - problem.aim).square().mean()
    expected = torch.autograd.grad(loss, (z, tokens), allow_unused=True)
    for checkpoint in (False, True):
        z, tokens = (t.clone().requires_grad_() for t in (problem.z, problem.tokens))
        own = problem.loss(z, tokens, truncate=truncate, checkpoint=checkpoint)
        torch.testing.assert_close(own, loss, rtol=1e-5, atol=0)
        found = torch.autograd.grad(own, (z, tokens), allow_unused=True)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-9)
        assert (found[1] is None) == (truncate == 0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_picture_is_that_of_the_pipeline(
    tiny_folder: Callable[..., Path], prediction: str, guidance: float
) -> None:
    model = LatentDiffusion.load(tiny_folder(), device="cpu")
    scheduler = diffusers.DDIMScheduler.from_config(
        model.scheduler.config, prediction_type=prediction
    )
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        vae=model.vae, text_encoder=model.text.module, tokenizer=model.text.tokenizer,
        unet=model.unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    z = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(5)) * 0.7
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(6))
    prompts = ["a photo of the cat", "red car"]
    expected = pipeline(
        prompts, image=z, strength=0.7, num_inference_steps=10, guidance_scale=guidance,
        generator=torch.Generator().manual_seed(6), output_type="pt",
    ).images  # fmt: skip
    model.schedule = Schedule.of(scheduler, "test")
    with torch.no_grad():
        tokens = model.tokens(torch.from_numpy(model.encode_text(prompts)))
        noisy = model.add_noise(z, noise, steps=10, start=7)
        found = model.decode_latents(
            model.denoise(noisy, tokens, steps=10, start=7, guidance=guidance)
        )
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(found.clamp(0, 1), expected, rtol=0, atol=2e-5)
