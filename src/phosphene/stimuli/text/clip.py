"""CLIP's text tower."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from phosphene import _registry
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli._transformers import load, tower_config
from phosphene.stimuli.text._pretrained import PretrainedText


@_registry.register(
    "text_encoder",
    "clip-text",
    extra="hf",
    needs_source=True,
    usage="clip-text:openai/clip-vit-base-patch32",
    summary="CLIP's text tower (transformers): clip-text:FOLDER_OR_HUB_ID[@REVISION]",
)
class ClipText(PretrainedText):
    """CLIP's text tower: the projected end token, in the space of the image tower's ``embedding``.

    References
    ----------
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
    2021, arXiv:2103.00020.
    """

    kind: ClassVar[str] = "clip-text"
    model_types: ClassVar[tuple[str, ...]] = ("clip", "clip_text_model")
    joint: ClassVar[str] = "clip"

    def _build(self, folder: ModelFolder, config: Any) -> tuple[nn.Module, int, int]:
        text = tower_config(config, "text_config")
        module, _ = load(folder, "CLIPTextModelWithProjection", text)
        return module, int(text.vocab_size), int(text.max_position_embeddings)

    def _vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        out = self._module(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], return_dict=True
        )
        embedding: Tensor = out.text_embeds
        return embedding
