"""Backgrounds: textures with colours and spectra that are roughly those of natural scenes."""

from __future__ import annotations

import colorsys
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._random import generator

Field = NDArray[np.float32]

FAMILIES = ("noise", "gradient", "stripes", "checker", "blotches")
_TILE = 512
_TILES = 6


def background(family: str, seed: int, size: int) -> Field:
    """A texture, float32 of shape (size, size, 3) in [0, 255].

    Parameters
    ----------
    family : str
        One of FAMILIES.
    seed : int
        Everything else is drawn from it.
    size : int
        Side in pixels.
    """
    rng = generator(seed, "background", family)
    pattern = _PATTERNS[family](rng, size)
    first, second = _colours(rng)
    # Every surface has some grain, else flat regions would be alike in all pictures.
    grain = _crop(rng, 1.0, size) * np.float32(rng.uniform(8, 16))
    mixed = first + (second - first) * pattern[..., None] + grain[..., None]
    picture: Field = np.clip(mixed, 0, 255)
    return picture


def _noise(rng: np.random.Generator, size: int) -> Field:
    return _unit(_crop(rng, 1.2, size) * np.float32(rng.uniform(0.3, 0.45)))


def _gradient(rng: np.random.Generator, size: int) -> Field:
    x, y = _axes(size)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        field = np.cos(angle) * x + np.sin(angle) * y
    else:
        cx, cy = rng.uniform(-0.8, 0.8, 2)
        field = 1.6 * np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - 1
    return _unit(0.6 * field)


def _stripes(rng: np.random.Generator, size: int) -> Field:
    u, _ = _turned(rng, size)
    bend = np.float32(rng.uniform(0, 0.5)) * _crop(rng, 2.0, size)
    wave = np.sin(np.float32(rng.uniform(8, 40)) * u + bend)
    return _unit(0.5 * np.tanh(np.float32(rng.uniform(0.8, 4)) * wave))


def _checker(rng: np.random.Generator, size: int) -> Field:
    u, v = _turned(rng, size)
    frequency = rng.uniform(6, 18)
    wave = np.sin(frequency * u) * np.sin(frequency * rng.uniform(0.6, 1) * v)
    return _unit(0.5 * np.tanh(np.float32(rng.uniform(1.5, 6)) * wave))


def _blotches(rng: np.random.Generator, size: int) -> Field:
    return _unit(0.5 * np.tanh(np.float32(rng.uniform(1.5, 4)) * _crop(rng, 2.0, size)))


_PATTERNS = {
    "noise": _noise,
    "gradient": _gradient,
    "stripes": _stripes,
    "checker": _checker,
    "blotches": _blotches,
}


def _unit(field: NDArray[Any]) -> Field:
    unit: Field = np.clip(np.float32(0.5) + field, 0, 1).astype(np.float32)
    return unit


def _colours(rng: np.random.Generator) -> tuple[Field, Field]:
    """Two related colours of moderate saturation that differ in lightness."""
    hue = rng.random()
    light = rng.uniform(0.4, 0.8)
    step = rng.uniform(0.12, 0.3) * rng.choice([-1, 1])
    other = float(np.clip(light + step, 0.25, 0.95))
    pair = (
        colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.5), light),
        colorsys.hsv_to_rgb((hue + rng.uniform(-0.2, 0.2)) % 1, rng.uniform(0.1, 0.5), other),
    )
    first, second = (np.asarray(colour, dtype=np.float32) * 255 for colour in pair)
    return first, second


def _axes(size: int) -> tuple[Field, Field]:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _turned(rng: np.random.Generator, size: int) -> tuple[Field, Field]:
    x, y = _axes(size)
    angle = rng.uniform(0, np.pi)
    dx, dy = rng.uniform(-1, 1, 2)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y + np.float32(dx), cos * y - sin * x + np.float32(dy)


def _crop(rng: np.random.Generator, exponent: float, size: int) -> Field:
    """A random piece of 1/f^exponent noise, zero mean and unit deviation over its tile."""
    tile = _tile(exponent, int(rng.integers(_TILES)), max(_TILE, 2 * size))
    top, left = rng.integers(0, len(tile) - size + 1, 2)
    piece = tile[top : top + size, left : left + size]
    if rng.random() < 0.5:
        piece = piece.T
    return piece[:, ::-1] if rng.random() < 0.5 else piece


@functools.lru_cache(maxsize=3 * _TILES)
def _tile(exponent: float, number: int, n: int) -> Field:
    rng = generator(number, "noise tile", exponent)
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1
    # Below four cycles per tile the noise would be one slope over the whole picture.
    amplitude = np.where(radius * n < 4, 0, (radius * n) ** -exponent)
    phases = np.exp(2j * np.pi * rng.random(radius.shape))
    field = np.fft.irfft2(amplitude * phases, s=(n, n))
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)
