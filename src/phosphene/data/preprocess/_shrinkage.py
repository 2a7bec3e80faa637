"""Sums of shrunk covariances of many small samples, without a loop over them.

The shrunk covariance of a sample X (channels x n, centred) with Gram matrix S = XX'/n is
``(1 - s) S + s mu I``, mu the mean variance. All that the intensity s needs of the sample is
|S|^2 and, for Ledoit-Wolf, ``sum_t (sum_i x_it^2)^2``: two numbers.
"""

from __future__ import annotations

import math
import threading
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene.errors import DataError

Shrinkage = Literal["ledoit_wolf", "oas"] | float


def check_shrinkage(shrinkage: Any) -> None:
    """Raise unless it is the name of a rule or a fraction."""
    if shrinkage in ("ledoit_wolf", "oas"):
        return
    number = isinstance(shrinkage, (int, float)) and not isinstance(shrinkage, bool)
    if not (number and 0 <= shrinkage <= 1):
        raise DataError(
            "there is no such shrinkage",
            found=repr(shrinkage),
            expected='"ledoit_wolf", "oas" or a number from 0 to 1',
        )


class Buffers(threading.local):
    """Arrays of a thread that are used again: fresh memory costs more than what is done in it."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def get(self, name: str, *shape: int) -> torch.Tensor:
        """An array of float64 with anything in it."""
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept[name] = torch.empty(size, dtype=torch.float64)
        return self._kept[name][:size].view(shape)


def shrunk_sum(
    samples: NDArray[Any],
    weights: NDArray[np.float64],
    shrinkage: Shrinkage,
    *,
    scaled: bool,
    buffers: Buffers,
) -> NDArray[np.float64]:
    """Weighted sum of the shrunk covariances of many samples, in float64.

    Parameters
    ----------
    samples : ndarray, shape (b, channels, n)
        Left as they are.
    weights : ndarray, shape (b,)
        Weight of each covariance.
    shrinkage : {"ledoit_wolf", "oas"} or float
        Rule for the intensity, or the intensity itself.
    scaled : bool
        Shrink correlations, that is, bring each channel of each sample to variance 1 before and
        back afterwards.
    buffers : Buffers
        Memory to work in.

    Returns
    -------
    ndarray, shape (channels, channels)
    """
    measure = _by_channels if samples.shape[2] >= samples.shape[1] else _by_samples
    return measure(samples, weights, shrinkage, scaled, buffers)


def _by_channels(
    samples: NDArray[Any],
    weights: NDArray[np.float64],
    shrinkage: Shrinkage,
    scaled: bool,
    buffers: Buffers,
) -> NDArray[np.float64]:
    """By the Gram matrices of the channels, which are then added up."""
    b, c, n = samples.shape
    # One call of torch for all epochs: what a call costs would otherwise be most of the time.
    x, gram = buffers.get("x", b, c, n), buffers.get("gram", b, c, c)
    x.numpy()[...] = samples
    means = x.mean(2, keepdim=True)
    x.sub_(means)
    torch.bmm(x, x.transpose(1, 2), out=gram)
    variance = np.diagonal(gram.numpy(), axis1=1, axis2=2) / n
    target = _scales(variance, means.numpy()[..., 0], n) if scaled else np.ones((b, c))
    inverse = 1.0 / target
    squares = torch.mul(gram, gram, out=buffers.get("squares", b, c, c))
    norm = np.einsum("bc,bc->b", _weighted(inverse, squares), inverse) / n**2
    trace = np.einsum("bc,bc->b", variance, inverse)
    fourth = np.empty(b)
    if shrinkage == "ledoit_wolf":
        power = _weighted(inverse, x.mul_(x))
        fourth = np.einsum("bt,bt->b", power, power)
    s = _intensity(shrinkage, norm, trace, fourth, c, n)
    kept = torch.from_numpy(weights * (1.0 - s) / n)
    total: NDArray[np.float64] = (kept[None] @ gram.view(b, c * c)).view(c, c).numpy()
    total[np.diag_indices(c)] += (weights * s * trace / c) @ target
    return total


def _by_samples(
    samples: NDArray[Any],
    weights: NDArray[np.float64],
    shrinkage: Shrinkage,
    scaled: bool,
    buffers: Buffers,
) -> NDArray[np.float64]:
    """With fewer samples than channels: |XX'| = |X'X|, and one product of all that is weighted."""
    b, c, n = samples.shape
    x = buffers.get("x", b, c, n)
    x.numpy()[...] = samples
    means = x.mean(2, keepdim=True)
    squares = torch.mul(x.sub_(means), x, out=buffers.get("squares", b, c, n))
    variance = squares.mean(2).numpy()
    target = _scales(variance, means.numpy()[..., 0], n) if scaled else np.ones((b, c))
    inverse = 1.0 / target
    power = _weighted(inverse, squares)
    scaled_x = torch.mul(x, torch.from_numpy(np.sqrt(inverse))[:, :, None], out=squares)
    kernel = torch.bmm(scaled_x.transpose(1, 2), scaled_x).numpy()
    norm = np.einsum("bij,bij->b", kernel, kernel) / n**2
    trace = np.einsum("bc,bc->b", variance, inverse)
    s = _intensity(shrinkage, norm, trace, np.einsum("bt,bt->b", power, power), c, n)
    x.mul_(torch.from_numpy(np.sqrt(weights * (1.0 - s) / n))[:, None, None])
    flat = x.transpose(0, 1).reshape(c, b * n)
    total: NDArray[np.float64] = (flat @ flat.T).numpy()
    total[np.diag_indices(c)] += (weights * s * trace / c) @ target
    return total


def _intensity(
    shrinkage: Shrinkage,
    norm: NDArray[np.float64],
    trace: NDArray[np.float64],
    fourth: NDArray[np.float64],
    c: int,
    n: int,
) -> NDArray[np.float64]:
    """Intensities from |S|^2, tr S and ``sum_t (sum_i x_it^2)^2`` of each sample."""
    if shrinkage == "ledoit_wolf":
        return _ledoit_wolf(norm, trace, fourth, c, n)
    if shrinkage == "oas":
        return _oas(norm, trace, c, n)
    return np.full(len(norm), float(shrinkage))


def _weighted(weights: NDArray[np.float64], values: torch.Tensor) -> NDArray[np.float64]:
    """Sum over channels (b, channels) x (b, channels, n) -> (b, n)."""
    total: NDArray[np.float64] = torch.bmm(torch.from_numpy(weights)[:, None], values)[:, 0].numpy()
    return total


def _scales(
    variance: NDArray[np.float64], means: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Variances by which to scale; 1 where a channel is constant up to rounding."""
    limit = n * np.finfo(np.float64).eps * means
    return np.where(variance <= limit * limit, 1.0, variance)


def _ledoit_wolf(
    norm: NDArray[np.float64],
    trace: NDArray[np.float64],
    fourth: NDArray[np.float64],
    c: int,
    n: int,
) -> NDArray[np.float64]:
    """Ledoit and Wolf (2004), doi 10.1016/S0047-259X(03)00096-4, as scikit-learn has it."""
    delta = (norm - trace**2 / c) / c
    beta = np.minimum((fourth / n - norm) / (c * n), delta)
    return np.divide(beta, delta, out=np.zeros_like(beta), where=(beta > 0) & (delta > 0))


def _oas(
    norm: NDArray[np.float64], trace: NDArray[np.float64], c: int, n: int
) -> NDArray[np.float64]:
    """Chen et al. (2010), doi 10.1109/TSP.2010.2053029, as scikit-learn has it."""
    alpha, mu = norm / c**2, trace / c
    above = alpha + mu**2
    below = (n + 1) * (alpha - mu**2 / c)
    return np.minimum(np.divide(above, below, out=np.ones_like(above), where=below > 0), 1.0)
