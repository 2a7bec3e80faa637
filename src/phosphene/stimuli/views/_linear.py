"""Separable linear transforms of images, as products with one matrix per axis."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from phosphene.errors import DataError

# Output pixels that are computed by one product: small enough that its band of input pixels is
# narrow, large enough for a fast product (measured at 224 pixels: 32 to 56 are alike).
_BLOCK = 32


class Banded:
    """A matrix whose rows have few non-zero entries near one another, cut into dense blocks.

    A blur of 51 pixels at 224 needs a third of the multiplications so, with the same result.

    Parameters
    ----------
    matrix : torch.Tensor, shape (n, m) or (B, n, m)
        One for all images, or one for each.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix
        self.blocks = []
        for start in range(0, matrix.shape[-2], _BLOCK):
            rows = matrix[..., start : start + _BLOCK, :]
            used = rows.reshape(-1, rows.shape[-1]).any(0).nonzero()
            low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            self.blocks.append((slice(low, high), rows[..., low:high].contiguous()))

    def to(self, images: torch.Tensor) -> Banded:
        """The matrix in the type and on the device of ``images``; itself where that is so."""
        if (images.dtype, images.device) == (self.matrix.dtype, self.matrix.device):
            return self
        return Banded(self.matrix.to(images))

    def columns(self, images: torch.Tensor) -> torch.Tensor:
        """``image @ matrix.T`` for each row of pixels (..., m), or (B, ..., m)."""
        parts = [images[..., band] @ block.mT for band, block in self.blocks]
        return torch.cat(parts, dim=-1)

    def rows(self, planes: torch.Tensor) -> torch.Tensor:
        """``matrix @ plane`` for each plane (P, m, width)."""
        count = len(planes)
        parts = [
            # Expanded, not repeated: torch copies a matrix that matmul broadcasts.
            torch.bmm(block.expand(count, *block.shape[-2:]), planes[:, band])
            for band, block in self.blocks
        ]
        return torch.cat(parts, dim=1)


def separable(images: torch.Tensor, rows: Banded, columns: Banded) -> torch.Tensor:
    """``rows @ image @ columns.T`` for each plane of ``images``.

    Parameters
    ----------
    images : torch.Tensor, shape (B, C, H, W)
        Float images.
    rows, columns : Banded
        For the height and the width, shared by all images or one per image.
    """
    batch, channels, height, width = images.shape
    rows, columns = rows.to(images), columns.to(images)
    if rows.matrix.ndim == 3:
        wide = columns.columns(images.reshape(batch, channels * height, width))
        wide = wide.view(batch, channels, height, -1)
        return torch.stack([rows.rows(wide[:, channel]) for channel in range(channels)], dim=1)
    wide = columns.columns(images.reshape(-1, width)).view(batch * channels, height, -1)
    return rows.rows(wide).view(batch, channels, -1, wide.shape[-1])


def gaussian_sigma(k: int) -> float:
    """OpenCV's standard deviation for a kernel of ``k`` pixels: ``0.3 ((k-1)/2 - 1) + 0.8``.

    Examples
    --------
    >>> round(gaussian_sigma(51), 3)
    8.0
    """
    return 0.3 * ((k - 1) * 0.5 - 1) + 0.8


def gaussian_blur(images: torch.Tensor, k: int | Sequence[int]) -> torch.Tensor:
    """Gaussian blur with kernel ``k`` and the border mirrored at its pixel (reflect-101).

    Equal to OpenCV's ``GaussianBlur(image, (k, k), 0)`` within rounding for ``k > 9``; for the
    smallest kernels OpenCV replaces the rule by tables, here the rule holds for every ``k``.

    Parameters
    ----------
    images : torch.Tensor, shape (B, C, H, W)
        Float images.
    k : int or sequence of int
        Width of the kernel in pixels, odd; a sequence gives each image its own.
    """
    height, width = images.shape[-2:]
    if isinstance(k, int):
        return separable(images, _blur(height, k), _blur(width, k))
    if len(k) != len(images):
        raise DataError("one kernel per image is needed", found=len(k), expected=len(images))
    return separable(images, _blurs(height, tuple(k)), _blurs(width, tuple(k)))


@functools.lru_cache(maxsize=64)
def _blur(n: int, k: int) -> Banded:
    return Banded(blur_matrix(n, k))


@functools.lru_cache(maxsize=8)
def _blurs(n: int, kernels: tuple[int, ...]) -> Banded:
    return Banded(torch.stack([blur_matrix(n, k) for k in kernels]))


@functools.lru_cache(maxsize=64)
def blur_matrix(n: int, k: int) -> torch.Tensor:
    """The ``n`` x ``n`` matrix that blurs along one axis, mirrored border included."""
    half = k // 2
    taps = np.exp(-((np.arange(k) - half) ** 2) / (2 * gaussian_sigma(k) ** 2))
    taps /= taps.sum()
    period = max(2 * (n - 1), 1)
    source = np.abs(np.arange(n)[:, None] + np.arange(-half, half + 1)[None, :]) % period
    source = np.where(source >= n, period - source, source)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], source), taps[None, :])
    return torch.from_numpy(matrix).float()


@functools.lru_cache(maxsize=64)
def mean_matrix(n: int, m: int) -> torch.Tensor:
    """The ``m`` x ``n`` matrix of averages over ``m`` windows that cover ``n`` pixels.

    Window i reaches from ``floor(i n / m)`` to ``ceil((i + 1) n / m)``, as in adaptive average
    pooling.
    """
    matrix = np.zeros((m, n))
    for i in range(m):
        low, high = i * n // m, -((-(i + 1) * n) // m)
        matrix[i, low:high] = 1 / (high - low)
    return torch.from_numpy(matrix).float()


@functools.lru_cache(maxsize=64)
def linear_matrix(m: int, n: int) -> torch.Tensor:
    """The ``n`` x ``m`` matrix of linear interpolation from ``m`` pixels to ``n``, by centres."""
    place = np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
    low = np.minimum(place.astype(int), m - 1)
    high = np.minimum(low + 1, m - 1)
    share = place - low
    matrix = np.zeros((n, m))
    np.add.at(matrix, (np.arange(n), low), 1 - share)
    np.add.at(matrix, (np.arange(n), high), share)
    return torch.from_numpy(matrix).float()


@functools.lru_cache(maxsize=64)
def block_matrix(n: int, size: int) -> torch.Tensor:
    """The ``n`` x ``n`` matrix that replaces each run of ``size`` pixels by its mean."""
    block = np.arange(n) // size
    same = block[:, None] == block[None, :]
    return torch.from_numpy(same / same.sum(1, keepdims=True)).float()
