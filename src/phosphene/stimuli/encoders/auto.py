"""Any vision model of transformers."""

from __future__ import annotations

from typing import Any, ClassVar

from phosphene import _registry
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli.encoders._network import Network
from phosphene.stimuli.encoders._pretrained import PretrainedTower, plain_tower


@_registry.register(
    "image_encoder",
    "auto",
    extra="hf",
    needs_source=True,
    usage="auto:google/vit-base-patch16-224-in21k",
    summary="Any vision model of transformers' AutoModel: auto:FOLDER_OR_HUB_ID[@REVISION]",
)
class AutoVision(PretrainedTower):
    """Any vision model that transformers' ``AutoModel`` makes; of two towers the one for pictures.

    Layers: ``pooled`` (the default: the class token behind the last normalisation; without one the
    model's own pooled output, for a convolutional network the spatial mean), ``last``, ``layer0``
    to ``layerN`` (stages of a convolutional network), ``depth=0.6``, modules by path.
    """

    kind: ClassVar[str] = "auto"

    def _build(self, folder: ModelFolder, config: Any) -> Network:
        return plain_tower(folder, config)
