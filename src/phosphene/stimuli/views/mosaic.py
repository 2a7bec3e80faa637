"""Mosaic."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import View, ViewInput
from phosphene.stimuli.views._linear import Banded, block_matrix, separable


@_registry.register("view", "mosaic")
@dataclass(frozen=True)
class Mosaic(View):
    """Square tiles, each of the mean colour of what it covers.

    Tiles begin at the upper left corner; those at the right and lower border may be smaller.

    Parameters
    ----------
    size : int
        Side of a tile in pixels.

    References
    ----------
    NeuroBridge (AAAI 2026) and SSR use ``size`` 5.

    Examples
    --------
    >>> Mosaic().name
    'mosaic(size=5)'
    """

    size: int = 5
    kind: ClassVar[str] = "mosaic"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise DataError("mosaic: size is the side of a tile in pixels", found=self.size)

    def render(self, source: ViewInput) -> torch.Tensor:
        """Average over the tiles."""
        images = source.images
        height, width = images.shape[-2:]
        return separable(images, _matrix(height, self.size), _matrix(width, self.size))


@functools.lru_cache(maxsize=64)
def _matrix(n: int, size: int) -> Banded:
    return Banded(block_matrix(n, size))
