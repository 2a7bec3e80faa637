"""Foveated pictures: UBP's three levels of blur and BVSA's nine views."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import View, ViewInput, check_kernel
from phosphene.stimuli.views._names import SHORTHANDS


@_registry.register("view", "fovea")
@dataclass(frozen=True)
class Fovea(View):
    """Sharp at the centre, blurred towards the corners: ``W x + (1 - W) gaussian_k(x)``.

    ``W = peak * exp(-g r / R)``, where ``r`` is the distance of a pixel to the image centre and
    ``R`` that of the far corner. With the default peak even the centre is half blurred.

    Parameters
    ----------
    k : int
        Width of the blur kernel in pixels, odd.
    g : float
        How fast acuity falls off, not negative.
    peak : float
        Share of the sharp picture at the centre, in [0, 1].

    References
    ----------
    UBP (CVPR 2025), as its released code computes it; peaks other than .5 are BVSA's (CVPR 2026).

    Examples
    --------
    >>> Fovea(k=45).name
    'fovea(k=45,g=3,peak=0.5)'
    """

    k: int = 51
    g: float = 3.0
    peak: float = 0.5
    kind: ClassVar[str] = "fovea"

    def __post_init__(self) -> None:
        check_kernel(self.k, self.kind)
        if not self.g >= 0 or math.isinf(self.g):
            raise DataError("fovea: g is a finite fall-off, not negative", found=self.g)
        if not 0 <= self.peak <= 1:
            raise DataError("fovea: peak is a share", found=self.peak, expected="0 to 1")

    def render(self, source: ViewInput) -> torch.Tensor:
        """Blend the images with their blurred copy."""
        blurred = source.blurred(self.k)
        if self.peak == 0:
            return blurred
        images = source.images
        height, width = images.shape[-2:]
        weight = acuity(height, width, float(self.g), float(self.peak)).to(images)
        return torch.lerp(blurred, images, weight)


def fovea_levels(k: int = 51, c: int = 6) -> list[View]:
    """The three blur levels of UBP, from weak to strong.

    Examples
    --------
    >>> [view.k for view in fovea_levels()]
    [45, 51, 57]
    """
    return [Fovea(k - c), Fovea(k), Fovea(k + c)]


def bvsa_views(c: float = 0.5, k: int = 51, step: int = 6) -> list[View]:
    """The nine views of BVSA: three peaks by three kernels, peak by peak.

    The peak is ``0.5 - I c`` for I in -1, 0, +1: the more the text matches (I = -1), the sharper
    the centre; within a peak the kernels are ``k - step``, ``k``, ``k + step``.

    Examples
    --------
    >>> [(view.peak, view.k) for view in bvsa_views(c=0.25)[:4]]
    [(0.75, 45), (0.75, 51), (0.75, 57), (0.5, 45)]
    """
    if not 0 <= c <= 0.5:
        raise DataError("bvsa_views: c moves the peak within [0, 1]", found=c, expected="0 to 0.5")
    return [
        Fovea(kernel, peak=0.5 - sign * c)
        for sign in (-1, 0, 1)
        for kernel in (k - step, k, k + step)
    ]


SHORTHANDS["fovea"] = fovea_levels
SHORTHANDS["bvsa"] = bvsa_views


@functools.lru_cache(maxsize=64)
def acuity(height: int, width: int, g: float, peak: float) -> torch.Tensor:
    """Weight of the sharp picture per pixel, ``peak * exp(-g r / R)``, shape (height, width)."""
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    r = np.hypot(y, x)
    return torch.from_numpy(peak * np.exp(-g * r / max(float(r.max()), 1e-12))).float()
