"""The weights of an IP-Adapter: found, checked, and put into a UNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from phosphene._optional import require
from phosphene._saving import sha256_file
from phosphene.errors import DataError, listing
from phosphene.reconstruction._folder import check_safetensors
from phosphene.reconstruction._parts import diffusers, explained, quiet
from phosphene.reconstruction._text import TwoTowers
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.stimuli._hub import HubModel
from phosphene.stimuli._transformers import quiet as quiet_transformers

TOKENS = 4  # of a plain adapter, which is how diffusers reads the widths off its weights
_EXAMPLE = "h94/IP-Adapter/models/ip-adapter_sd15.safetensors"


@dataclass(frozen=True)
class Adapter:
    """Weights of a plain IP-Adapter.

    Parameters
    ----------
    path : Path
        The file.
    source : str
        As it was asked for.
    weights : dict
        ``image_proj`` and ``ip_adapter``, tensors by name.
    """

    path: Path
    source: str
    weights: dict[str, dict[str, Tensor]]

    @property
    def width(self) -> int:
        """Width of the image embeddings that it was trained on."""
        return int(self.weights["image_proj"]["proj.weight"].shape[-1])

    @property
    def digest(self) -> str:
        """Digest of the file."""
        return str(sha256_file(self.path))

    def into(self, model: LatentDiffusion, scale: float) -> None:
        """Put it into a model's UNet, which then wants image embeddings at every call.

        Raises
        ------
        DataError
            If it was made for another UNet.
        """
        width = int(model.unet.config.cross_attention_dim)
        found = int(self.weights["image_proj"]["proj.weight"].shape[0]) // TOKENS
        if found != width:
            raise DataError(
                f"the adapter {self.source} was made for another model than {model.source}",
                found=f"tokens of width {found}",
                expected=f"width {width}",
                fix="take the adapter of the same version of Stable Diffusion",
            )
        package = diffusers()
        words = require("transformers", "generate", "an IP-Adapter")
        with explained(model.folder, "unet"), quiet(package), quiet_transformers(words):
            # Around the parts only, for its method that puts an adapter into the UNet.
            pipeline = package.StableDiffusionPipeline(
                vae=model.vae,
                text_encoder=None,
                tokenizer=None,
                unet=model.unet,
                scheduler=model.scheduler,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
            )
            pipeline.load_ip_adapter(self.weights, subfolder="", weight_name="",
                                     image_encoder_folder=None)  # fmt: skip
            pipeline.set_ip_adapter_scale(scale)
        model.unet.requires_grad_(False)


def open_adapter(source: str | Path) -> Adapter:
    """Read an adapter.

    Parameters
    ----------
    source : str or Path
        A safetensors file, or a file on the hub as ``OWNER/REPO/PATH.safetensors[@REVISION]``.

    Raises
    ------
    DataError
        If it cannot be found, is a pickle, or no plain IP-Adapter.
    """
    text = str(source)
    name, _, revision = text.partition("@")
    local = Path(text).expanduser()
    path = local
    if not local.is_file() and not text.startswith(("/", ".", "~")) and name.count("/") >= 2:
        owner, repo, file = name.split("/", 2)
        _no_pickle(file, text)
        path = HubModel(f"{owner}/{repo}", revision or None).file(file)
    if not path.is_file():
        raise DataError(f"there is no adapter {text}",
                        found="a folder" if path.is_dir() else "nothing",
                        expected=f"a safetensors file, or e.g. {_EXAMPLE}")  # fmt: skip
    _no_pickle(path.name, text)
    check_safetensors(path)
    weights: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in load_file(path).items():
        group, _, rest = key.partition(".")
        if group in weights:
            weights[group][rest] = tensor
    if not all(weights.values()) or "proj.weight" not in weights["image_proj"]:
        raise DataError(
            f"{text} is not a plain IP-Adapter",
            found="image_proj: " + (listing(sorted(weights["image_proj"])) or "nothing"),
            expected="image_proj.proj.weight and ip_adapter.*",
            fix="adapters named plus or full take all tokens of a picture, which are not decoded; "
            f"take a plain one, e.g. {_EXAMPLE}",
        )
    return Adapter(path, text, weights)


def _no_pickle(name: str, source: str) -> None:
    if not name.endswith(".safetensors"):
        raise DataError(
            f"the adapter {source} is not in safetensors format",
            found=Path(name).suffix or "no suffix",
            expected=".safetensors",
            fix="a pickle can run code when it is read: take the file of the same name that ends "
            "in .safetensors",
        )


def empty_prompt(model: LatentDiffusion, n: int, guided: bool) -> tuple[Tensor, dict[str, Any]]:
    """Tokens (n, T, D) of the empty prompt, and what Stable Diffusion XL wants to know beside.

    That is a pooled vector of the prompt, and the picture's size and place in its original. With
    guidance there are two of each, the empty condition first.
    """
    if not isinstance(model.text, TwoTowers):
        return model.empty_tokens(n), {}
    tokens, pooled = model.text.describe([""])
    pooled = pooled.expand(n, -1)
    size = model.image_size
    place = torch.tensor([[size, size, 0, 0, size, size]], device=pooled.device).expand(n, -1)
    if guided:
        pooled = torch.cat([pooled * (not model.text.zeros), pooled])
        place = torch.cat([place, place])
    return tokens.expand(n, -1, -1), {"text_embeds": pooled, "time_ids": place}
