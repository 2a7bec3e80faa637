"""UnCLIP: pictures of decoded image embeddings, through a model that was trained on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from phosphene import _registry
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._image_side import image_vectors, tower_of
from phosphene.reconstruction._latent import LatentGenerator
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction._parts import load_ddim
from phosphene.reconstruction.diffusion import PARTS, LatentDiffusion
from phosphene.stimuli.encoders import ImageEncoder


@_registry.register("generator", "unclip", extra="generate")
class UnCLIP(LatentGenerator):
    """Stable unCLIP under a decoded image embedding, under the empty prompt.

    Stable Diffusion 2.1 that was trained on with a CLIP image embedding, which may carry noise, as
    a further input beside the time. More noise on the embedding gives pictures that vary more.

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        A folder of Stable unCLIP in the layout of diffusers (with ``image_normalizer`` and
        ``image_noising_scheduler``), a hub id such as
        ``stabilityai/stable-diffusion-2-1-unclip-small``, or a model that is loaded.
    noise_level : int
        Time up to which noise is added to the embedding; 0 is next to none.
    encoder : str or ImageEncoder, optional
        What makes the image embeddings, for :meth:`targets`; by default the tower in the folder.
    steps, strength, guidance, batch, device, precision
        As for :class:`Img2Img`.

    References
    ----------
    Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents, 2022,
    arXiv:2204.06125.
    """

    kind: ClassVar[str] = "unclip"
    what: ClassVar[str] = "a Stable unCLIP model"
    parts: ClassVar[tuple[str, ...]] = (*PARTS, "image_normalizer", "image_noising_scheduler")
    extra: ClassVar[tuple[str, ...]] = ("class_embed_type",)

    def __init__(
        self,
        source: str | Path | LatentDiffusion,
        *,
        noise_level: int = 0,
        encoder: str | ImageEncoder | None = None,
        steps: int = 50,
        strength: float = 0.75,
        guidance: float = 5.0,
        batch: int = 8,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        super().__init__(source, steps=steps, strength=strength, guidance=guidance, batch=batch,
                         device=device, precision=precision)  # fmt: skip
        scale = load_file(self.folder.weights["image_normalizer"][0])
        if set(scale) != {"mean", "std"}:
            raise DataError(f"the image_normalizer of {self.source} is of another kind",
                            found=", ".join(sorted(scale)), expected="mean, std")  # fmt: skip
        device_ = self.model.device
        self._mean, self._std = (
            scale[k].float().reshape(1, -1).to(device_) for k in ("mean", "std")
        )
        width = self._mean.shape[1]
        config = self.model.unet.config
        wanted = config.get("projection_class_embeddings_input_dim")
        if config.get("class_embed_type") != "projection" or wanted != 2 * width:
            raise DataError(
                f"the UNet of {self.source} does not take image embeddings with their noise level",
                found=f"class_embed_type {config.get('class_embed_type')!r} of width {wanted}",
                expected=f"'projection' of width {2 * width}",
            )
        alphas = load_ddim(self.folder, "image_noising_scheduler").alphas_cumprod
        if not 0 <= noise_level < len(alphas):
            raise DataError("the noise level of image embeddings", found=noise_level,
                            expected=f"0 to {len(alphas) - 1}")  # fmt: skip
        self.noise_level, self.encoder = int(noise_level), encoder
        self._alpha = float(alphas[self.noise_level])
        self.takes = frozenset({"image_embeds", "init_latents"})
        self.needs = frozenset({"image_embeds"})
        self.shapes = {"image_embeds": (width,), "init_latents": self.model.latent_shape}

    def _condition(
        self, inputs: Mapping[str, Tensor], noise: Noise
    ) -> tuple[Tensor, dict[str, Any]]:
        vectors = inputs["image_embeds"]
        e = noise.normal(vectors.shape[1:], "image embeds").to(vectors.device)
        scaled = (vectors - self._mean) / self._std
        noisy = self._alpha**0.5 * scaled + (1 - self._alpha) ** 0.5 * e
        level = level_waves(self.noise_level, vectors.shape[1]).to(vectors)
        labels = torch.cat([noisy * self._std + self._mean, level.expand(len(vectors), -1)], dim=1)
        more = {"class_labels": self._doubled(labels).to(self.model.unet.dtype)}
        return self.model.empty_tokens(len(vectors)), more

    def _image_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        encoder = self.encoder or tower_of(self.folder, self.model.device)
        width = self.shapes["image_embeds"][0]
        return image_vectors(stimuli, ids, encoder, width, self.id)


def level_waves(level: int, width: int) -> Tensor:
    """Cosines and sines that tell a noise level, shape (1, width), as diffusion times are told.

    Examples
    --------
    >>> level_waves(0, 6).tolist()
    [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
    """
    half = width // 2
    angles = level * torch.exp(-math.log(10_000) * torch.arange(half) / half)
    waves = torch.cat([angles.cos(), angles.sin()])
    return torch.nn.functional.pad(waves, (0, width - len(waves))).unsqueeze(0)
