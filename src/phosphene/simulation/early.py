"""What early visual cortex makes of a picture: orientation energy and colour by retinal place.

Orientation energy is the modulus of log-Gabor responses in quadrature; colour is the mean of three
opponent channels. Both are pooled over places whose size grows with the distance from the centre
(a log-polar grid), as receptive fields do.
"""

from __future__ import annotations

import functools
import math

import torch

from phosphene.stimuli.encoders import CallableEncoder

SIZE = 64
RESIZE = 73  # the same part of the picture that encoders with 224 of 256 pixels see
ORIENTATIONS = 8
WAVELENGTHS = (5.0, 12.0)
RINGS = (0.0, 0.16, 0.32, 0.58, 1.01)
SECTORS = 8
GRID = 6


def early_encoder(foveated: bool = True) -> CallableEncoder:
    """Early vision as an image encoder, so that a feature bank computes and keeps it.

    Parameters
    ----------
    foveated : bool
        Whether pooling regions grow with the distance from the centre; else a square grid.

    Examples
    --------
    >>> encoder = early_encoder()
    >>> encoder.encode(torch.rand(2, 3, 64, 64))["energy"].shape
    (2, 475)
    """
    grid = "log-polar" if foveated else "square"
    return CallableEncoder(
        functools.partial(early_features, foveated=foveated),
        id=f"early-vision-v1-{grid}",
        image_size=SIZE,
        layers=("energy",),
        resize=RESIZE,
    )


def early_features(images: torch.Tensor, foveated: bool = True) -> torch.Tensor:
    """Pooled orientation energy and opponent colour.

    Parameters
    ----------
    images : torch.Tensor, shape (B, 3, 64, 64)
        Float images in [0, 1].
    foveated : bool
        See `early_encoder`.

    Returns
    -------
    torch.Tensor, shape (B, (orientations * scales + 3) * regions)
        Square roots of energy, then luminance, red-green and blue-yellow.
    """
    red, green, blue = images.unbind(1)
    light = (red + green + blue) / 3
    waves = torch.fft.fft2(light - light.mean((1, 2), keepdim=True))
    filters = gabor_filters()
    energy = torch.stack([torch.fft.ifft2(waves * one).abs() for one in filters], dim=1)
    colour = torch.stack([light, red - green, blue - (red + green) / 2], dim=1)
    maps = torch.cat([energy, colour], dim=1).flatten(2)
    pooled = maps @ regions(foveated).T
    split = len(filters)
    return torch.cat([pooled[:, :split].clamp_min(0).sqrt(), pooled[:, split:]], dim=1).flatten(1)


@functools.cache
def gabor_filters() -> torch.Tensor:
    """Transfer functions, shape (orientations * scales, size, size), one half-plane each."""
    freq = torch.fft.fftfreq(SIZE)
    fy, fx = torch.meshgrid(freq, freq, indexing="ij")
    radius = torch.hypot(fx, fy).clamp_min(1e-6)
    angle = torch.atan2(fy, fx)
    filters = []
    for wavelength in WAVELENGTHS:
        radial = torch.exp(-0.5 * (torch.log(radius * wavelength) / math.log(1.7)) ** 2)
        for index in range(ORIENTATIONS):
            turn = angle - math.pi * index / ORIENTATIONS
            turn = torch.atan2(torch.sin(turn), torch.cos(turn))
            tuned = torch.exp(-0.5 * (turn / (math.pi / ORIENTATIONS)) ** 2)
            filters.append(2 * radial * tuned)
    return torch.stack(filters)


@functools.cache
def regions(foveated: bool) -> torch.Tensor:
    """Averaging weights of the pooling regions, shape (regions, size * size)."""
    centre = (SIZE - 1) / 2
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    if foveated:
        radius = torch.hypot(x - centre, y - centre) / (math.sqrt(2) * SIZE / 2)
        ring = torch.bucketize(radius, torch.tensor(RINGS), right=True) - 1
        turn = (torch.atan2(y - centre, x - centre) / (2 * math.pi)) % 1.0
        sector = (turn * SECTORS).long().clamp_max(SECTORS - 1)
        label = torch.where(ring == 0, 0, 1 + (ring - 1) * SECTORS + sector)
    else:
        label = (y * GRID // SIZE) * GRID + x * GRID // SIZE
    names = torch.arange(int(label.max()) + 1)
    member = (label.flatten()[None, :] == names[:, None]).float()
    return member / member.sum(1, keepdim=True).clamp_min(1.0)
