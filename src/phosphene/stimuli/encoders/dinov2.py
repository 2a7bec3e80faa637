"""DINOv2."""

from __future__ import annotations

from typing import Any, ClassVar

from phosphene import _registry
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli.encoders._network import Network
from phosphene.stimuli.encoders._pretrained import PretrainedTower, plain_tower


@_registry.register(
    "image_encoder",
    "dinov2",
    extra="hf",
    needs_source=True,
    usage="dinov2:facebook/dinov2-base",
    summary="DINOv2 (transformers): dinov2:FOLDER_OR_HUB_ID[@REVISION]",
)
class DinoV2(PretrainedTower):
    """DINOv2, from a folder or the hub: ``dinov2:facebook/dinov2-base``.

    Layers: ``pooled`` (the class token behind the last normalisation, the default), ``last`` (all
    tokens behind it), ``layer0`` to ``layerN``, ``depth=0.6``, modules by path. Models with
    registers are read too; registers are no patches.

    References
    ----------
    Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024,
    arXiv:2304.07193.
    """

    kind: ClassVar[str] = "dinov2"
    model_types: ClassVar[tuple[str, ...]] = ("dinov2", "dinov2_with_registers")

    def _build(self, folder: ModelFolder, config: Any) -> Network:
        return plain_tower(folder, config)
