"""What steers a diffusion: CLIP's text towers, or learned tokens of a vector.

The classes share ``module``, ``shape`` (of the embedding of one text), ``width`` (of a token),
``encode``, ``tokens`` and ``empty``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from phosphene.errors import DataError
from phosphene.reconstruction._folder import DiffusionFolder
from phosphene.reconstruction._parts import load_text_encoder, load_tokenizer
from phosphene.reconstruction.conditioner import VectorConditioner
from phosphene.stimuli.text import embed_texts

BATCH = 64


class ClipText:
    """The text tower of Stable Diffusion 1.x and 2.x: its embedding is what it gives per token.

    The first token stands for the start and is the same for every text.
    """

    def __init__(self, folder: DiffusionFolder) -> None:
        self.module: nn.Module = load_text_encoder(folder)
        self.tokenizer = load_tokenizer(folder)
        self.width = int(self.module.config.hidden_size)
        self.shape: tuple[int, ...] = (_length(self.tokenizer, self.module, folder), self.width)
        self._none: Tensor | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, T, D) of texts; longer ones are cut, as the pipelines of diffusers do."""
        made = [self._encode(texts[i : i + BATCH]).cpu() for i in range(0, len(texts), BATCH)]
        return torch.cat(made).numpy() if made else np.zeros((0, *self.shape), np.float32)

    def _encode(self, texts: Sequence[str]) -> Tensor:
        ids = _ids(self.tokenizer, texts, self.shape[0])
        with torch.no_grad():
            found: Tensor = self.module(ids.to(_device(self.module)))[0]
        return found.float()

    def tokens(self, embeds: Tensor, kind: str = "text") -> Tensor:
        """The embeddings themselves."""
        if kind != "text":
            raise DataError("this diffusion model takes no vectors of pictures as they are",
                            found=kind, expected="text", fix="use an IP-Adapter")  # fmt: skip
        return embeds

    def empty(self, n: int) -> Tensor:
        """Embedding of the empty prompt, (n, T, D)."""
        if self._none is None or self._none.device != _device(self.module):
            self._none = self._encode([""])
        return self._none.expand(n, -1, -1)


class TwoTowers:
    """The two text towers of Stable Diffusion XL, side by side, with a pooled vector of the second.

    Both give what they have in front of their last layer.
    """

    def __init__(self, folder: DiffusionFolder) -> None:
        towers = [
            load_text_encoder(folder),
            load_text_encoder(folder, "text_encoder_2", "CLIPTextModelWithProjection"),
        ]
        self.module = nn.ModuleList(towers)
        self.tokenizers = [load_tokenizer(folder), load_tokenizer(folder, "tokenizer_2")]
        pairs = zip(self.tokenizers, towers, strict=True)
        length = min(_length(tokenizer, tower, folder) for tokenizer, tower in pairs)
        self.width = sum(int(tower.config.hidden_size) for tower in towers)
        self.shape: tuple[int, ...] = (length, self.width)
        self.zeros = bool(folder.index.get("force_zeros_for_empty_prompt", True))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, T, D) of texts."""
        batches = range(0, len(texts), BATCH)
        made = [self.describe(texts[i : i + BATCH])[0].cpu() for i in batches]
        return torch.cat(made).numpy() if made else np.zeros((0, *self.shape), np.float32)

    def describe(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (n, T, D) and pooled vectors (n, d) of texts."""
        states, pooled = [], torch.empty(0)
        with torch.no_grad():
            for tokenizer, tower in zip(self.tokenizers, self.module, strict=True):
                ids = _ids(tokenizer, texts, self.shape[0]).to(_device(self.module))
                found = tower(ids, output_hidden_states=True)
                states.append(found.hidden_states[-2].float())
                pooled = found[0].float()
        return torch.cat(states, dim=-1), pooled

    def tokens(self, embeds: Tensor, kind: str = "text") -> Tensor:
        """The embeddings themselves."""
        return embeds

    def empty(self, n: int) -> Tensor:
        """What stands for no condition, (n, T, D): zeros where the model was trained so."""
        made = self.describe([""])[0]
        return (made * (not self.zeros)).expand(n, -1, -1)


class VectorText:
    """Learned tokens of one vector per picture, as the demo's model has them."""

    def __init__(self, folder: DiffusionFolder) -> None:
        self.conditioner = VectorConditioner.from_folder(folder.path / "conditioner")
        self.module: nn.Module = self.conditioner.requires_grad_(False)
        self.width = int(self.conditioner.dim)
        if "text" not in self.conditioner.kinds:
            raise DataError(f"the conditioner of {folder.source} takes no vectors of text",
                            found=", ".join(self.conditioner.kinds), expected="text")  # fmt: skip
        self.shape: tuple[int, ...] = (int(self.conditioner.kinds["text"]["width"]),)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, width) of texts, by the text encoder that the conditioner was trained on."""
        if not texts:
            return np.zeros((0, *self.shape), np.float32)
        return embed_texts(texts, encoder=str(self.conditioner.kinds["text"]["encoder"]))[0]

    def tokens(self, embeds: Tensor, kind: str = "text") -> Tensor:
        """Tokens (n, T, D) of vectors of a kind."""
        found: Tensor = self.conditioner(embeds, kind=kind)
        return found

    def empty(self, n: int) -> Tensor:
        """The learned tokens of no condition, (n, T, D)."""
        return self.conditioner.empty(n)


def load_condition(folder: DiffusionFolder) -> ClipText | TwoTowers | VectorText:
    """What the folder holds of the three."""
    if "conditioner" in folder.weights:
        return VectorText(folder)
    return TwoTowers(folder) if "text_encoder_2" in folder.weights else ClipText(folder)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _ids(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """Numbers of tokens (n, length)."""
    found: Tensor = tokenizer(list(texts), padding="max_length", max_length=length,
                              truncation=True, return_tensors="pt").input_ids  # fmt: skip
    return found


def _length(tokenizer: Any, tower: Any, folder: DiffusionFolder) -> int:
    """Tokens per text, for a tokenizer and a tower that belong together."""
    known = max(tokenizer.get_vocab().values(), default=-1) + 1
    # A token that the tower has no row for would fail without a name.
    if known > int(tower.config.vocab_size):
        raise DataError(f"the tokenizer of {folder.source} is not that of its text encoder",
                        found=f"{known} tokens",
                        expected=f"at most {tower.config.vocab_size}")  # fmt: skip
    return min(int(tokenizer.model_max_length), int(tower.config.max_position_embeddings))
