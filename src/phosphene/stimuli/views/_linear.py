"""Separable linear transforms of images, as products with one matrix per axis."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from phosphene.errors import DataError


def separable(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """``rows @ image @ columns.T`` for each plane of ``images``.

    Parameters
    ----------
    images : torch.Tensor, shape (B, C, H, W)
        Float images.
    rows, columns : torch.Tensor, shape (H, H) and (W, W), or (B, H, H) and (B, W, W)
        Shared by all images, or one per image.
    """
    batch, channels, height, width = images.shape
    if rows.ndim == 3:
        wide = images.reshape(batch, channels * height, width) @ columns.mT
        return rows[:, None] @ wide.view(batch, channels, height, width)
    # The first is one large product. The second multiplies each plane from the left; torch would
    # first copy a shared matrix for every plane, unless the batch dimension has stride zero.
    wide = (images.reshape(-1, width) @ columns.mT).view(-1, height, width)
    planes = batch * channels
    return torch.bmm(rows.expand(planes, height, height), wide).view(images.shape)


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
        return separable(
            images, blur_matrix(height, k).to(images), blur_matrix(width, k).to(images)
        )
    if len(k) != len(images):
        raise DataError("one kernel per image is needed", found=len(k), expected=len(images))
    rows = torch.stack([blur_matrix(height, each) for each in k]).to(images)
    columns = torch.stack([blur_matrix(width, each) for each in k]).to(images)
    return separable(images, rows, columns)


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
