"""Blur over the whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from phosphene import _registry
from phosphene.stimuli.views._base import View, ViewInput, check_kernel


@_registry.register("view", "gaussian")
@dataclass(frozen=True)
class Gaussian(View):
    """Gaussian blur of kernel ``k`` pixels, with OpenCV's sigma for that kernel.

    Parameters
    ----------
    k : int
        Width of the kernel in pixels, odd.

    Examples
    --------
    >>> Gaussian(45).name
    'gaussian(k=45)'
    """

    k: int = 51
    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        check_kernel(self.k, self.kind)

    def render(self, source: ViewInput) -> torch.Tensor:
        """Blur the images."""
        return source.blurred(self.k)
