"""Augmentations of brain signals, for whole batches at once."""

from __future__ import annotations

import torch
from torch import nn

from phosphene._matmul import affine
from phosphene.errors import DataError


def check_smoothing(kernel: int, probability: float) -> None:
    """Refuse impossible settings of `smooth` before training starts.

    Raises
    ------
    DataError
        If the kernel is not odd and positive, or the probability is not one.
    """
    if int(kernel) != kernel or kernel < 1 or kernel % 2 == 0:
        raise DataError(
            "smoothing needs a kernel that has a middle", found=kernel, expected="1, 3, 5, ..."
        )
    if not 0 <= probability <= 1:
        raise DataError(
            "the probability of smoothing is a share of the trials",
            found=probability,
            expected="0 to 1",
        )


def smooth(
    brain: torch.Tensor, kernel: int = 5, probability: float = 0.3, *, inplace: bool = False
) -> torch.Tensor:
    """Average some trials of a batch over time (NeuroBridge's augmentation of the signals).

    Which trials is drawn from torch's global generator of the device, so that a resumed training
    repeats it. Near the ends a window holds fewer samples, and the mean is over those.

    Parameters
    ----------
    brain : torch.Tensor, shape (B, C, T) or (B, V)
        Signals; voxels without a time axis come back as they are.
    kernel : int
        Samples of the moving average, odd.
    probability : float
        With which each trial is smoothed.
    inplace : bool
        The input may be overwritten, which saves a copy.

    Returns
    -------
    torch.Tensor
        Of the same shape.

    Examples
    --------
    >>> smooth(torch.tensor([[[0.0, 3.0, 0.0, 0.0]]]), kernel=3, probability=1.0)
    tensor([[[1.5000, 1.0000, 1.0000, 0.0000]]])
    """
    if brain.ndim < 3 or kernel == 1 or probability == 0:
        return brain
    chosen = torch.rand(len(brain), device=brain.device) < probability
    if brain.device.type == "cpu":
        # A third of the work; elsewhere the number of rows would have to be waited for.
        rows = chosen.nonzero().flatten()
        put = brain.index_copy_ if inplace else brain.index_copy
        return put(0, rows, _moving_average(brain.index_select(0, rows), kernel))
    return torch.where(chosen[:, None, None], _moving_average(brain, kernel), brain)


def _moving_average(brain: torch.Tensor, kernel: int) -> torch.Tensor:
    # As a matrix product over time, four times faster on a CPU than pooling.
    unit = torch.eye(brain.shape[2], dtype=brain.dtype, device=brain.device)
    weights = nn.functional.avg_pool1d(
        unit, kernel, stride=1, padding=kernel // 2, count_include_pad=False
    )
    # Row i of the pooled identity is what sample i adds to each mean.
    with torch.autocast(brain.device.type, enabled=False):
        return affine(brain.flatten(0, 1), weights.T).view_as(brain)
