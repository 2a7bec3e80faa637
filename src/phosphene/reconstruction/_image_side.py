"""Image embeddings of training pictures, as a generator wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene._optional import require
from phosphene._saving import sha256_json
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._folder import DiffusionFolder, open_folder
from phosphene.reconstruction._parts import explained
from phosphene.stimuli._image_rule import rule_of
from phosphene.stimuli._transformers import quiet
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder, ImageEncoder

TOWER = ("image_encoder", "feature_extractor")


def image_vectors(
    stimuli: StimulusSet, ids: Sequence[str], encoder: str | ImageEncoder, width: int, source: str
) -> NDArray[np.float32]:
    """Vectors (len(ids), width) of the encoder's default layer.

    Raises
    ------
    DataError
        If the encoder's vectors have another width than the generator takes.
    """
    bank = FeatureBank.extract(stimuli.select(ids), encoder, progress=False)
    if bank.dim() != width:
        raise DataError(f"the image encoder is not the one that {source} was trained on",
                        found=f"{encoder if isinstance(encoder, str) else encoder.id}: "
                        f"{bank.dim()} numbers", expected=f"{width} numbers")  # fmt: skip
    return np.asarray(bank.vectors("original", ids=ids), dtype=np.float32)


def tower_of(folder: DiffusionFolder, device: torch.device) -> ImageEncoder:
    """The image tower that comes with a model, with the preprocessing that it states.

    Raises
    ------
    DataError
        If the folder has none.
    """
    full = open_folder(folder.origin, TOWER, "a model with an image encoder")
    package = require("transformers", "generate", "the image encoder of a diffusion model")
    version = int(str(package.__version__).split(".", 1)[0])
    options: dict[str, Any] = {"dtype" if version >= 5 else "torch_dtype": torch.float32}
    part = TOWER[0]
    with explained(full, part, "transformers"), quiet(package):
        tower = package.CLIPVisionModelWithProjection.from_pretrained(
            str(full.path / part),
            use_safetensors=True,
            local_files_only=True,
            variant=full.variant(part),
            **options,
        )
    tower = tower.eval().requires_grad_(False).to(device)
    rule = rule_of(full.read_json(f"{TOWER[1]}/preprocessor_config.json"), full.source)
    mean, std = (torch.tensor(rule[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    def encode(pictures: Tensor) -> Tensor:
        found: Tensor = tower(pixel_values=(pictures.to(device) - mean) / std).image_embeds
        return found.float()

    return CallableEncoder(
        encode,
        id=f"image-encoder:{full.name}",
        image_size=int(rule["size"]),
        resize=rule["resize"],
        # The function standardises, so the digest must know what by.
        weights_hash=str(sha256_json({"weights": full.digest, "rule": rule})),
    )
