"""Text encoders that transformers knows: tokens, batches, and texts that are too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from phosphene._device import resolve_device
from phosphene._logging import get_logger
from phosphene._saving import sha256_json
from phosphene.errors import listing
from phosphene.stimuli._models import TEXT_FILES, ModelFolder, open_model
from phosphene.stimuli._transformers import quiet, read_config, read_tokenizer, transformers
from phosphene.stimuli.text._base import Vectors

_log = get_logger(__name__)
# Texts per pass: padding to the longest of more texts costs more than it saves.
BATCH = 32


class PretrainedText:
    """The text tower of a model in transformers' layout; float32.

    Parameters
    ----------
    source : str
        Folder with ``config.json``, weights and a tokenizer, or an id on the Hugging Face hub.
    revision : str, optional
        Branch, tag or commit, for hub ids.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...
    """

    kind: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = TEXT_FILES
    # Kind of image encoder whose embedding is in the same space.
    joint: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ("transformers",)

    def __init__(self, source: str, *, revision: str | None = None, device: str = "auto") -> None:
        folder = open_model(
            str(source), revision, kind=self.kind, model_types=self.model_types, files=self.files
        )
        self.source, self.revision = folder.source, folder.revision
        self.id = f"{self.kind}:{folder.name}"
        self.device = resolve_device(device)
        config = read_config(folder)
        self._module, vocabulary, self.context = self._build(folder, config)
        self._module.to(self.device)
        self._tokenizer = read_tokenizer(folder, vocabulary)
        # Other words give other tokens: the tokenizer's files count as much as the weights.
        self.weights_hash = str(sha256_json([folder.digest, folder.hash_of(self.files)]))
        self.spaces: Mapping[str, str] = (
            {"vector": f"{self.joint}:{folder.digest}"} if self.joint else {}
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, d) of texts, not scaled to unit length; see :class:`TextEncoder`.

        Texts that are longer than the model can read are cut, with a warning.
        """
        prepared = [self._prepare(text) for text in texts]
        self._warn_of_long(texts, prepared)
        parts: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(prepared), BATCH):
                tokens = self._tokens(prepared[start : start + BATCH])
                parts.append(self._vectors(tokens).float().cpu())
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def _build(self, folder: ModelFolder, config: Any) -> tuple[nn.Module, int, int]:
        """The module, how many tokens it knows, and how many it reads at once."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def _vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        """Vectors (B, d) of tokens."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def _prepare(self, text: str) -> str:
        """What is done to a text before the tokenizer."""
        return text

    def _tokens(self, texts: Sequence[str], padding: str = "longest") -> dict[str, Tensor]:
        made = self._tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return {name: value.to(self.device) for name, value in made.items()}

    def _warn_of_long(self, texts: Sequence[str], prepared: Sequence[str]) -> None:
        with quiet(transformers(self.source)):
            lengths = [len(ids) for ids in self._tokenizer(list(prepared))["input_ids"]]
        long = [text for text, n in zip(texts, lengths, strict=True) if n > self.context]
        if long:
            _log.warning(
                "%s reads %d tokens: %d of %d texts are longer and were cut: %s",
                self.id, self.context, len(long), len(texts),
                listing((repr(text[:60]) for text in long), limit=3),
            )  # fmt: skip
