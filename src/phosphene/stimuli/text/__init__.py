"""Text encoders: concept names and captions as vectors."""

from __future__ import annotations

from phosphene.stimuli.text._base import (
    TextEncoder,
    Vectors,
    embed_texts,
    get_text_encoder,
)
from phosphene.stimuli.text.bridge import TextBridge
from phosphene.stimuli.text.clip import ClipText
from phosphene.stimuli.text.prompts import PROMPTS, fill_prompt
from phosphene.stimuli.text.sentence import SentenceEncoder
from phosphene.stimuli.text.siglip import SiglipText
from phosphene.stimuli.text.use import UniversalSentenceEncoder
from phosphene.stimuli.text.wordvectors import WordVectors

__all__ = [
    "PROMPTS",
    "ClipText",
    "SentenceEncoder",
    "SiglipText",
    "TextBridge",
    "TextEncoder",
    "UniversalSentenceEncoder",
    "Vectors",
    "WordVectors",
    "embed_texts",
    "fill_prompt",
    "get_text_encoder",
]
