"""Pixel noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from phosphene import _random, _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import View, ViewInput


@_registry.register("view", "noise")
@dataclass(frozen=True)
class Noise(View):
    """Gaussian noise on every pixel and colour, clipped to [0, 1].

    Drawn from a stream that the content of the stimulus seeds, so that a picture has the same
    noise in every batch, run and order; another ``std`` scales the same draw.

    Parameters
    ----------
    std : float
        Standard deviation in grey levels of 255.

    References
    ----------
    NeuroBridge (AAAI 2026) and SSR use ``std`` 25.

    Examples
    --------
    >>> Noise().name
    'noise(std=25)'
    """

    std: float = 25.0
    kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        if not self.std >= 0 or math.isinf(self.std):
            raise DataError("noise: std is finite, in grey levels", found=self.std)

    def render(self, source: ViewInput) -> torch.Tensor:
        """Add the noise of each image's key."""
        images = source.images
        # Drawn on the CPU in float32 whatever the images are, so that devices agree.
        drawn = torch.stack(
            [
                torch.randn(
                    images.shape[1:], generator=_random.torch_generator(0, "view", "noise", key)
                )
                for key in source.keys
            ]
        )
        return (images + drawn.to(images) * (self.std / 255)).clamp_(0, 1)
