"""The view that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from phosphene import _registry
from phosphene.stimuli.views._base import View, ViewInput


@_registry.register("view", "original")
@dataclass(frozen=True)
class Original(View):
    """The picture as it is.

    Examples
    --------
    >>> Original().name
    'original'
    """

    kind: ClassVar[str] = "original"

    def render(self, source: ViewInput) -> torch.Tensor:
        """Return the images themselves."""
        return source.images
