"""Img2Img: pictures of decoded text embeddings and decoded latents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from phosphene import _registry
from phosphene.reconstruction._latent import LatentGenerator
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.diffusion import LatentDiffusion


@_registry.register("generator", "img2img", extra="generate")
class Img2Img(LatentGenerator):
    """Latent diffusion under a decoded text embedding, from decoded latents where there are any.

    ``text_embeds`` are what the model's text encoder gives: (77, 768) for Stable Diffusion 1.x, one
    vector for the demo's model. ``init_latents`` are scaled latents of the autoencoder; noise is
    added to them and ``strength`` of the steps remain, so that a high strength keeps the meaning
    and a low one the structure. Without them a picture starts from noise alone.

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        ``demo``, a folder of Stable Diffusion 1.x or 2.x in the layout of diffusers, a hub id
        (which may end in ``@REVISION``), or a model that is loaded. Few-step models (turbo) take
        ``steps=4, guidance=1``.
    steps : int
        Denoising steps from pure noise.
    strength : float
        Share of the steps that remain for latents that are given, in (0, 1].
    guidance : float
        Weight of the text in classifier-free guidance; 1 or less is none.
    batch : int
        Pictures at a time; fewer when the memory does not suffice.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...
    precision : {"auto", "fp32", "bf16", "fp16"}
        Number format of the UNet.

    References
    ----------
    Takagi & Nishimoto, High-resolution image reconstruction with latent diffusion models from human
    brain activity, CVPR 2023. Meng et al., SDEdit, ICLR 2022, arXiv:2108.01073.

    Examples
    --------
    >>> generator = Img2Img("demo", steps=20)  # doctest: +SKIP
    >>> generator.generate(text_embeds=decoded, seed=0).shape  # doctest: +SKIP
    (12, 1, 64, 64, 3)
    """

    kind: ClassVar[str] = "img2img"

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
        super().__init__(source, steps=steps, strength=strength, guidance=guidance, batch=batch,
                         device=device, precision=precision)  # fmt: skip
        self.takes = frozenset({"text_embeds", "init_latents"})
        self.needs = frozenset({"text_embeds"})
        self.shapes = {
            "text_embeds": self.model.text_shape,
            "init_latents": self.model.latent_shape,
        }

    def _condition(
        self, inputs: Mapping[str, Tensor], noise: Noise
    ) -> tuple[Tensor, dict[str, Any]]:
        return self.model.tokens(inputs["text_embeds"]), {}
