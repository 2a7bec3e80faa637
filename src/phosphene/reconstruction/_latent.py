"""What the generators on a latent diffusion model share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.data.stimuli import StimulusSet, concept_text
from phosphene.errors import DataError
from phosphene.reconstruction._base import Array, Generator
from phosphene.reconstruction._folder import open_folder
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.diffusion import PARTS, LatentDiffusion

# Entries of the UNet's configuration that ask for more than latents, time and tokens.
_EXTRA = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


class LatentGenerator(Generator):
    """A generator on a latent diffusion model; a subclass says what the condition is.

    With ``init_latents`` the picture starts from them with noise and ``strength`` of the steps
    remain, without them from noise alone.

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        ``demo``, a folder in the layout of diffusers, a hub id, or a model that is loaded.
    steps : int
        Denoising steps from pure noise.
    strength : float
        Share of the steps that remain for latents that are given, in (0, 1].
    guidance : float
        Weight of the condition in classifier-free guidance; 1 or less is none.
    batch : int
        Pictures at a time; fewer when the memory does not suffice.
    device, precision : str
        See :class:`LatentDiffusion`; for a model that is not loaded yet.
    """

    kind: ClassVar[str]
    what: ClassVar[str] = "a latent diffusion model"
    parts: ClassVar[tuple[str, ...]] = PARTS
    extra: ClassVar[tuple[str, ...]] = ()  # of _EXTRA, what the subclass gives

    def __init__(
        self,
        source: str | Path | LatentDiffusion = "demo",
        *,
        steps: int = 50,
        strength: float = 0.75,
        guidance: float = 5.0,
        batch: int = 8,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        if not 0 < strength <= 1:
            raise DataError("the strength of img2img", found=strength, expected="in (0, 1]")
        if batch < 1:
            raise DataError("the number of pictures at a time", found=batch, expected="1 or more")
        if isinstance(source, LatentDiffusion):
            self.model, self.folder = source, source.folder
            if not set(self.parts) <= set(self.folder.weights):
                self.folder = open_folder(self.folder.origin, self.parts, self.what)
        else:
            self.folder = open_folder(source, self.parts, self.what)
            self.model = LatentDiffusion(self.folder, device=device, precision=precision)
        self.steps, self.strength, self.guidance = int(steps), float(strength), float(guidance)
        self.batch = int(batch)
        self.model.schedule.times(self.steps)  # refuses an impossible number before the work
        self._check_extra()
        self.id = f"{self.kind}:{self.model.id}"
        self.licence, self.source = self.model.licence, self.model.source
        self.image_size = self.model.image_size

    @property
    def weights_hash(self) -> str:
        """Digest of all weights and configurations."""
        return self.folder.digest

    @property
    def start(self) -> int:
        """How many steps remain for latents that are given."""
        return max(1, min(int(self.steps * self.strength), self.steps))

    def _condition(
        self, inputs: Mapping[str, Tensor], noise: Noise
    ) -> tuple[Tensor, dict[str, Any]]:
        """Tokens (n, T, D), and further arguments of the UNet."""
        raise TypeError(f"{type(self).__name__} does not say what the condition is")

    def _pictures(self, inputs: Mapping[str, Array], noise: Noise) -> NDArray[Any]:
        model = self.model
        with torch.no_grad():
            given = {k: torch.from_numpy(v).to(model.device) for k, v in inputs.items()}
            z = noise.normal(model.latent_shape, "latents").to(model.device)
            start = len(model.schedule.times(self.steps))
            if (latents := given.get("init_latents")) is not None:
                start = self.start
                z = model.add_noise(latents, z, steps=self.steps, start=start)
            tokens, more = self._condition(given, noise)
            z = model.denoise(z, tokens, steps=self.steps, start=start, guidance=self.guidance,
                              more=more)  # fmt: skip
            pictures = model.decode_latents(z).permute(0, 2, 3, 1)
            return np.asarray(pictures.float().cpu().numpy())

    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        if name == "init_latents":
            return self.model.encode_images(stimuli.load_images(ids))
        if name == "text_embeds":
            return self.model.encode_text(texts_of(stimuli, ids, self.model.conditioner is None))
        return self._image_targets(stimuli, ids)

    def _image_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        raise TypeError(f"{type(self).__name__} does not say what its image embeddings are")

    def _doubled(self, condition: Tensor) -> Tensor:
        """A further input with zeros for the empty condition in front, where there is guidance."""
        if self.guidance <= 1:
            return condition
        return torch.cat([torch.zeros_like(condition), condition])

    def _check_extra(self) -> None:
        config = self.model.unet.config
        # Tokens that are added to the time are the tokens it gets anyway.
        given = {None, "text"}
        asked = [name for name in _EXTRA if config.get(name) not in given]
        if surplus := [name for name in asked if name not in self.extra]:
            raise DataError(
                f"the UNet of {self.model.source} wants more than {type(self).__name__} gives it",
                found=", ".join(f"{name}={config.get(name)!r}" for name in surplus),
                expected="a UNet of Stable Diffusion 1.x or 2.x"
                + "".join(f" with {name}" for name in self.extra),
                fix="take UnCLIP for a Stable unCLIP model, and another folder for SDXL",
            )


def texts_of(stimuli: StimulusSet, ids: Sequence[str], captions: bool) -> list[str]:
    """Words for pictures: the caption where there is one, else the concept's name.

    Parameters
    ----------
    captions : bool
        Take captions; a model that was trained on names of concepts gets names only.

    Raises
    ------
    DataError
        If a picture has neither.
    """
    table = stimuli.select(ids).table
    words = [
        (caption if captions else "") or concept_text(concept)
        for caption, concept in zip(table["caption"], table["concept"], strict=True)
    ]
    if empty := [stimulus for stimulus, text in zip(ids, words, strict=True) if not text.strip()]:
        raise DataError("pictures without words", found=", ".join(empty[:5]),
                        expected="a caption or a concept for each")  # fmt: skip
    return words
