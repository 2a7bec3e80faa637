"""CLIP's image tower."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from phosphene import _registry
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli._transformers import load, tower_config
from phosphene.stimuli.encoders._network import Network, Results
from phosphene.stimuli.encoders._pretrained import PretrainedTower


@_registry.register(
    "image_encoder",
    "clip",
    extra="hf",
    needs_source=True,
    usage="clip:openai/clip-vit-base-patch32",
    summary="CLIP's image tower (transformers): clip:FOLDER_OR_HUB_ID[@REVISION]",
)
class Clip(PretrainedTower):
    """CLIP's image tower, from a folder or the hub: ``clip:openai/clip-vit-base-patch32``.

    Layers: ``embedding`` (projected into the space shared with text, the default), ``pooled`` (the
    class token behind the last normalisation, before the projection), ``last``, ``layer0`` to
    ``layerN``, ``depth=0.6``, modules by path; see :class:`PretrainedTower` for the parameters.

    References
    ----------
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
    2021, arXiv:2103.00020.
    """

    kind: ClassVar[str] = "clip"
    model_types: ClassVar[tuple[str, ...]] = ("clip", "clip_vision_model")
    own_layer: ClassVar[str] = "embedding"
    joint: ClassVar[bool] = True

    def _build(self, folder: ModelFolder, config: Any) -> Network:
        vision = tower_config(config, "vision_config")
        module, _ = load(folder, "CLIPVisionModelWithProjection", vision)

        def forward(x: Tensor, hidden: bool) -> Results:
            out = module(pixel_values=x, output_hidden_states=hidden, return_dict=True)
            results = {"embedding": out.image_embeds, "last": out.last_hidden_state}
            return results, out.hidden_states or ()

        aliases = {"pooled": "vision_model.post_layernorm"}
        return Network(module, forward, aliases, prefix="vision_model.")
