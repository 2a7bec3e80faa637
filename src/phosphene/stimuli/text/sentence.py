"""Sentence encoders in the layout of sentence-transformers, or any text model of transformers."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from phosphene import _registry
from phosphene.errors import DataError, listing
from phosphene.stimuli._models import TEXT_FILES, ModelFolder
from phosphene.stimuli._transformers import load
from phosphene.stimuli.text._pretrained import PretrainedText

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
SETTINGS = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@_registry.register(
    "text_encoder",
    "sentence",
    extra="hf",
    needs_source=True,
    usage="sentence:sentence-transformers/all-MiniLM-L6-v2",
    summary="Sentence encoder (transformers): sentence:FOLDER_OR_HUB_ID[@REVISION]",
)
class SentenceEncoder(PretrainedText):
    """A sentence encoder: the mean of the last layer over the tokens that are no padding.

    A folder in the layout of sentence-transformers is read as that library reads it: pooling by
    class token, mean or maximum, unit length where it has a Normalize module, its longest input,
    lower case and default prompt. What else it may hold is refused. Any other text model is
    averaged.

    References
    ----------
    Reimers & Gurevych, Sentence-BERT, EMNLP 2019, arXiv:1908.10084.
    """

    kind: ClassVar[str] = "sentence"
    files: ClassVar[tuple[str, ...]] = (*TEXT_FILES, MODULES, POOLING, SETTINGS, PROMPTS)

    def _build(self, folder: ModelFolder, config: Any) -> tuple[nn.Module, int, int]:
        if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "vocab_size"):
            raise DataError(
                f"{folder.source} is not an encoder of text",
                found=f"model_type {folder.model_type!r}",
                expected="one text encoder, such as BERT's",
            )
        self.pooling, self._unit = _modules(folder)
        settings = folder.read_json(SETTINGS) or {}
        self._lower = bool(settings.get("do_lower_case", False))
        prompts = folder.read_json(PROMPTS) or {}
        chosen = prompts.get("default_prompt_name")
        self._prompt = str((prompts.get("prompts") or {}).get(chosen, "")) if chosen else ""
        module, _ = load(folder, "AutoModel", config, may_lack=("pooler",))
        context = _context(folder, config)
        context = min(context, int(settings.get("max_seq_length") or context))
        return module, int(config.vocab_size), context

    def _prepare(self, text: str) -> str:
        text = self._prompt + text
        return text.lower() if self._lower else text

    def _vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        hidden: Tensor = self._module(**tokens, return_dict=True).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(mask == 0, float("-inf")).amax(1)
        else:
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp_min(1e-9)
        return nn.functional.normalize(pooled, dim=-1) if self._unit else pooled


def _modules(folder: ModelFolder) -> tuple[str, bool]:
    """Pooling and whether vectors get unit length, as the folder says."""
    listed = folder.read_json(MODULES)
    pooling = folder.read_json(POOLING)
    if listed is None and pooling is None:
        return "mean", False
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed or ()]
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    paths = {str(module.get("path", "")) for module in listed or ()}
    if others or (listed is not None and not paths <= {"", "1_Pooling", "2_Normalize"}):
        raise DataError(
            f"the sentence encoder {folder.source} has parts that are not read",
            found=listing(others or sorted(paths)),
            expected="Transformer in the folder itself, 1_Pooling, Normalize",
            fix="encode with the package sentence-transformers and use FeatureBank.from_arrays",
        )
    return _pooling(pooling or {}, folder), "Normalize" in kinds


def _pooling(said: dict[str, Any], folder: ModelFolder) -> str:
    on = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    modes = [_POOLINGS.get(key, key) for key in on]
    if not modes and "pooling_mode" in said:  # the newer spelling
        stated = said["pooling_mode"]
        modes = [str(mode) for mode in (stated if isinstance(stated, list) else [stated])]
    if not modes and not said:
        modes = ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLINGS.values():
        raise DataError(
            f"the pooling of the sentence encoder {folder.source} is not one that we do",
            found=listing(modes) or "none",
            expected="one of cls, mean, max",
        )
    if said.get("include_prompt") is False:
        raise DataError(f"{folder.source} leaves its prompt out of the pooling",
                        expected="include_prompt true")  # fmt: skip
    return modes[0]


def _context(folder: ModelFolder, config: Any) -> int:
    """How many tokens the model reads, from its tokenizer's settings or its positions."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    if "roberta" in folder.model_type or folder.model_type == "mpnet":
        positions -= int(getattr(config, "pad_token_id", 1) or 0) + 1  # theirs begin after padding
    said = (folder.read_json("tokenizer_config.json") or {}).get("model_max_length")
    return min(positions, int(said)) if said and said < 1_000_000 else positions
