"""SigLIP's text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from phosphene import _registry
from phosphene.stimuli._models import ModelFolder
from phosphene.stimuli._transformers import load, tower_config
from phosphene.stimuli.text._pretrained import PretrainedText


@_registry.register(
    "text_encoder",
    "siglip-text",
    extra="hf",
    needs_source=True,
    usage="siglip-text:google/siglip-base-patch16-224",
    summary="SigLIP's text tower (transformers): siglip-text:FOLDER_OR_HUB_ID[@REVISION]",
)
class SiglipText(PretrainedText):
    """SigLIP's text tower, in the space of the image tower's ``embedding``.

    It was trained on texts padded to its full length without a mask, and is read the same way.

    References
    ----------
    Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, arXiv:2303.15343.
    """

    kind: ClassVar[str] = "siglip-text"
    model_types: ClassVar[tuple[str, ...]] = ("siglip", "siglip_text_model")
    joint: ClassVar[str] = "siglip"

    def _build(self, folder: ModelFolder, config: Any) -> tuple[nn.Module, int, int]:
        text = tower_config(config, "text_config")
        module, _ = load(folder, "SiglipTextModel", text)
        return module, int(text.vocab_size), int(text.max_position_embeddings)

    def _tokens(self, texts: Sequence[str], padding: str = "max_length") -> dict[str, Tensor]:
        return super()._tokens(texts, padding)

    def _vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        out = self._module(input_ids=tokens["input_ids"], return_dict=True)
        embedding: Tensor = out.pooler_output
        return embedding
