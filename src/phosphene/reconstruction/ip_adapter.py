"""IPAdapter: pictures of decoded image embeddings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene import _registry
from phosphene._saving import sha256_json
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._adapter import Adapter, empty_prompt, open_adapter
from phosphene.reconstruction._image_side import image_vectors
from phosphene.reconstruction._latent import LatentGenerator
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction._parts import load_part
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.stimuli.encoders import ImageEncoder


@_registry.register("generator", "ip_adapter", extra="generate")
class IPAdapter(LatentGenerator):
    """Latent diffusion under a decoded image embedding, under the empty prompt.

    Stable Diffusion learns to take image embeddings from an adapter: attention of its own to a few
    tokens of the picture. The demo's model takes vectors of pictures as they are.

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        ``demo``, a folder of Stable Diffusion 1.x, 2.x or XL in the layout of diffusers, a hub id,
        or a model that is loaded (it stays as it is: the adapter goes into a UNet of its own).
    adapter : str or Path, optional
        For Stable Diffusion: the adapter's safetensors file, or a file on the hub such as
        ``h94/IP-Adapter/models/ip-adapter_sd15.safetensors``. Plain adapters only, which take one
        vector.
    encoder : str or ImageEncoder, optional
        What made the image embeddings that the adapter was trained on, for :meth:`targets`: e.g.
        ``clip:laion/CLIP-ViT-H-14-laion2B-s32B-b79K``. Known for the demo's model.
    scale : float
        Weight of the adapter's attention; for Stable Diffusion only.
    steps, strength, guidance, batch, device, precision
        As for :class:`Img2Img`.

    References
    ----------
    Ye et al., IP-Adapter, 2023, arXiv:2308.06721. Li et al., Visual Decoding and Reconstruction via
    EEG Embeddings with Guided Diffusion (ATM), NeurIPS 2024, arXiv:2403.07721.
    """

    kind: ClassVar[str] = "ip_adapter"
    extra: ClassVar[tuple[str, ...]] = ("addition_embed_type",)

    def __init__(
        self,
        source: str | Path | LatentDiffusion = "demo",
        adapter: str | Path | None = None,
        *,
        encoder: str | ImageEncoder | None = None,
        scale: float = 1.0,
        steps: int = 50,
        strength: float = 0.75,
        guidance: float = 5.0,
        batch: int = 8,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        super().__init__(source, steps=steps, strength=strength, guidance=guidance, batch=batch,
                         device=device, precision=precision)  # fmt: skip
        self.adapter: Adapter | None = None
        conditioner = self.model.conditioner
        if conditioner is not None:
            if adapter is not None or scale != 1:
                raise DataError(f"the model {self.source} takes vectors of pictures as they are",
                                found=f"adapter {adapter}, scale {scale}",
                                expected="no adapter and no scale")  # fmt: skip
            if "image" not in conditioner.kinds:
                raise DataError(f"the model {self.source} takes no image embeddings",
                                found=", ".join(conditioner.kinds), expected="image")  # fmt: skip
            width = int(conditioner.kinds["image"]["width"])
            encoder = encoder or str(conditioner.kinds["image"]["encoder"])
        elif adapter is None:
            raise DataError(
                f"the model {self.source} needs an adapter to take image embeddings",
                expected="a safetensors file, or one on the hub",
                fix="e.g. adapter='h94/IP-Adapter/models/ip-adapter_sd15.safetensors' for Stable "
                "Diffusion 1.5",
            )
        else:
            self.adapter = open_adapter(adapter)
            if isinstance(source, LatentDiffusion):
                self.model = copy.copy(source)
                unet = load_part(source.folder, "unet", type(source.unet).__name__,
                                 source.unet.dtype)  # fmt: skip
                self.model.unet = unet.to(source.device)
            self.adapter.into(self.model, float(scale))
            width = self.adapter.width
        self.encoder = encoder
        self.takes = frozenset({"image_embeds", "init_latents"})
        self.needs = frozenset({"image_embeds"})
        self.shapes = {"image_embeds": (width,), "init_latents": self.model.latent_shape}

    @property
    def weights_hash(self) -> str:
        """Digest of all weights and configurations, with the adapter's."""
        model = super().weights_hash
        return model if self.adapter is None else str(sha256_json([model, self.adapter.digest]))

    def _condition(
        self, inputs: Mapping[str, Tensor], noise: Noise
    ) -> tuple[Tensor, dict[str, Any]]:
        vectors = inputs["image_embeds"]
        if self.adapter is None:
            return self.model.tokens(vectors, kind="image"), {}
        dtype, guided = self.model.unet.dtype, self.guidance > 1
        tokens, more = empty_prompt(self.model, len(vectors), guided)
        more["image_embeds"] = [self._doubled(vectors).unsqueeze(1)]
        more = {k: v if k == "time_ids" else _as(v, dtype) for k, v in more.items()}
        return tokens, {"added_cond_kwargs": more}

    def _image_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        if self.encoder is None:
            raise DataError(
                f"it is not known what made the image embeddings of {self.id}",
                expected="encoder='clip:SOURCE' when the generator is made",
                fix="the adapters for Stable Diffusion 1.5 take vectors of OpenCLIP ViT-H/14: "
                "encoder='clip:laion/CLIP-ViT-H-14-laion2B-s32B-b79K'",
            )
        width = self.shapes["image_embeds"][0]
        return image_vectors(stimuli, ids, self.encoder, width, self.id)


def _as(value: Any, dtype: torch.dtype) -> Any:
    return [part.to(dtype) for part in value] if isinstance(value, list) else value.to(dtype)
