"""A level per trial from its similarity: smoothing, interval, and what lies outside it.

    e[i] = smoothing * s[i] + (1 - smoothing) * e[i]          # for the trials i of a batch
    low, high = mean(e) -+ z sd(e)                            # over the batch, sd with n - 1
    discrete: -1 if s > high, +1 if s < low, else 0
    smooth:   clip((mean(e) - s) / (z sd(e)), -1, 1)

The discrete rule is UBP's (CVPR 2025) and BVSA's (CVPR 2026); the smooth one is ours.
"""

from __future__ import annotations

from statistics import NormalDist

import torch

from phosphene.errors import DataError


def critical_value(significance: float) -> float:
    """Half width, in standard deviations, of the interval outside which a share lies.

    Examples
    --------
    >>> round(critical_value(0.10), 3)
    1.645
    """
    if not 0 < significance < 1:
        raise DataError("significance is a share", found=significance, expected="between 0 and 1")
    return NormalDist().inv_cdf(1 - significance / 2)


def smooth_similarity(
    table: torch.Tensor, index: torch.Tensor, similarity: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Update the smoothed similarities of a batch in their table and return them.

    Parameters
    ----------
    table : torch.Tensor, shape (n,)
        Of all trials; changed in place.
    index : torch.Tensor of int, shape (B,)
        Trials of the batch.
    similarity : torch.Tensor, shape (B,)
        Current similarities.
    smoothing : float
        Weight of the current one.
    """
    smoothed = torch.lerp(table.index_select(0, index), similarity, smoothing)
    table.index_copy_(0, index, smoothed)
    return smoothed


def discrete_level(judged: torch.Tensor, smoothed: torch.Tensor, z: float) -> torch.Tensor:
    """-1 above the interval of a batch, +1 below it, 0 within, as integers (B,)."""
    half = z * smoothed.std()
    above = judged > smoothed.mean() + half
    below = judged < smoothed.mean() - half
    return below.long() - above.long()


def smooth_level(judged: torch.Tensor, smoothed: torch.Tensor, z: float) -> torch.Tensor:
    """How far below the mean, in half widths of the interval, clipped to [-1, 1], shape (B,)."""
    half = (z * smoothed.std()).clamp_min(torch.finfo(smoothed.dtype).tiny)
    return ((smoothed.mean() - judged) / half).clamp(-1, 1)


def start_levels(state: dict[str, torch.Tensor], n: int, device: torch.device) -> None:
    """Put the levels of n trials into the state of a training, the middle one for all."""
    zeros = torch.zeros(n, dtype=torch.long, device=device)
    state.update(level=zeros, next_level=zeros.clone(), smoothed=torch.ones(n, device=device))


def choose_levels(
    state: dict[str, torch.Tensor], similarity: torch.Tensor, index: torch.Tensor
) -> None:
    """UBP's rule for a batch: smoothing .3, interval of 95 %; it counts from the next epoch on."""
    smoothed = smooth_similarity(state["smoothed"], index, similarity, 0.3)
    level = discrete_level(similarity, smoothed, critical_value(0.05))
    state["next_level"].index_copy_(0, index, level)
