"""SigLIP's image tower."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli._transformers import load, tower_config
from phosphene.stimuli.encoders._network import Network, Results
from phosphene.stimuli.encoders._pretrained import PretrainedTower


@_registry.register(
    "image_encoder",
    "siglip",
    extra="hf",
    needs_source=True,
    usage="siglip:google/siglip-base-patch16-224",
    summary="SigLIP's image tower (transformers): siglip:FOLDER_OR_HUB_ID[@REVISION]",
)
class Siglip(PretrainedTower):
    """SigLIP's image tower, from a folder or the hub: ``siglip:google/siglip-base-patch16-224``.

    Layers: ``embedding`` (what the attention head makes of the patches, in the space shared with
    text, the default), ``last``, ``layer0`` to ``layerN``, ``depth=0.6``, modules by path. There is
    no class token, so tokens are averaged unless ``:tokens`` is asked for. SigLIP 2 of fixed
    resolution is the same architecture.

    References
    ----------
    Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, arXiv:2303.15343.
    """

    kind: ClassVar[str] = "siglip"
    model_types: ClassVar[tuple[str, ...]] = ("siglip", "siglip_vision_model")
    own_layer: ClassVar[str] = "embedding"
    joint: ClassVar[bool] = True

    def _build(self, folder: ModelFolder, config: Any) -> Network:
        vision = tower_config(config, "vision_config")
        if not getattr(vision, "vision_use_head", True):
            raise DataError(
                f"{folder.source} has no attention head, so no embedding shared with text",
                found="vision_use_head false",
                fix=f"use auto:{folder.source} for its layers",
            )
        module, _ = load(folder, "SiglipVisionModel", vision)

        def forward(x: Tensor, hidden: bool) -> Results:
            out = module(pixel_values=x, output_hidden_states=hidden, return_dict=True)
            results = {"embedding": out.pooler_output, "last": out.last_hidden_state}
            return results, out.hidden_states or ()

        return Network(module, forward, prefix="vision_model.")
