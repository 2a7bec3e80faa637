"""Text encoders: concept names and captions as vectors."""

from __future__ import annotations

from phosphene.stimuli.text._base import (
    TextEncoder,
    Vectors,
    embed_texts,
    fill_prompt,
    get_text_encoder,
)
from phosphene.stimuli.text.use import UniversalSentenceEncoder

__all__ = [
    "TextEncoder",
    "UniversalSentenceEncoder",
    "Vectors",
    "embed_texts",
    "fill_prompt",
    "get_text_encoder",
]
