"""Low resolution."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import View, ViewInput
from phosphene.stimuli.views._linear import Banded, linear_matrix, mean_matrix, separable


@_registry.register("view", "lowres")
@dataclass(frozen=True)
class LowRes(View):
    """Shrunk to a share of its size by averaging, and interpolated back linearly.

    The paper does not say which interpolation; averaging (no aliasing) and linear are ours.

    Parameters
    ----------
    scale : float
        Share of each side, in (0, 1].

    References
    ----------
    NeuroBridge (AAAI 2026) and SSR use ``scale`` 0.1.

    Examples
    --------
    >>> LowRes().name
    'lowres(scale=0.1)'
    """

    scale: float = 0.1
    kind: ClassVar[str] = "lowres"

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise DataError("lowres: scale is a share", found=self.scale, expected="(0, 1]")

    def render(self, source: ViewInput) -> torch.Tensor:
        """Shrink and enlarge the images."""
        images = source.images
        height, width = images.shape[-2:]
        return separable(images, _matrix(height, self.scale), _matrix(width, self.scale))


@functools.lru_cache(maxsize=64)
def _matrix(n: int, scale: float) -> Banded:
    small = max(1, int(n * scale))
    return Banded(linear_matrix(small, n) @ mean_matrix(n, small))
