"""What `combine` asks of its parameters, and targets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import normalize

from phosphene.errors import DataError
from phosphene.training.augment import check_smoothing

if TYPE_CHECKING:
    from phosphene.methods.combine import Combine


def check(decoder: Combine) -> None:
    """Refuse parameters that do not go together, before anything is trained."""
    check_smoothing(decoder.smoothing_kernel, decoder.smoothing_probability)
    if decoder.level not in ("all", "image", "names"):
        raise DataError("unknown level", found=repr(decoder.level), expected="all, image or names")
    if decoder.level != "all" and len(decoder.views_) != 3:
        raise DataError(
            f"level={decoder.level!r} chooses among three views, from weak to strong",
            found=f"{len(decoder.views_)}: {', '.join(decoder.views_)}",
            expected='views=("fovea",) or three views',
            fix='level="all" takes any number',
        )
    if decoder.projection is not None and decoder.projection < 1:
        raise DataError("projection is a width", found=decoder.projection, expected=">= 1 or None")
    if decoder.projection is None and (decoder.target_dropout or any(decoder.mmd_weights)):
        raise DataError(
            "target_dropout and mmd_weights are of the space that targets are mixed in",
            found=f"projection=None, target_dropout={decoder.target_dropout}, "
            f"mmd_weights={decoder.mmd_weights}",
            fix="projection=512, or leave them out",
        )
    shares = (decoder.text_weight, decoder.target_dropout, *decoder.mmd_weights)
    others = (decoder.reconstruction_weight, decoder.warm_up, decoder.stage_epochs)
    if not all(0 <= share < 1 for share in shares) or min(others) < 0:
        raise DataError(
            "weights are out of range",
            found="text_weight={}, target_dropout={}, mmd_weights=({}, {}), ".format(*shares)
            + "reconstruction_weight={}, warm_up={}, stage_epochs={}".format(*others),
            expected="the first four from 0 to below 1, the others not negative",
        )
    if not decoder.text_weight and (decoder.level == "names" or decoder._uses_names()):
        raise DataError(
            "names are to choose or to score, and nothing is trained on them",
            found=f"text_weight=0, level={decoder.level!r}, "
            f"text_modulation={decoder.text_modulation!r}",
            fix="text_weight=0.2, and a bank with names",
        )


class Mixture(nn.Module):
    """The mean of several targets behind projectors, some left out at random while training.

    Parameters
    ----------
    own : sequence of nn.Module
        From each target's width to the common one.
    shared : nn.Module
        Applied to all of them.
    dropout : float
        Probability with which a trial does without a target; one is always left.
    """

    def __init__(self, own: Sequence[nn.Module], shared: nn.Module, dropout: float) -> None:
        super().__init__()
        self.own, self.shared, self.dropout = nn.ModuleList(own), shared, dropout

    def forward(self, targets: Sequence[torch.Tensor]) -> torch.Tensor:
        """Vectors (B, width) from one tensor (B, its width) per target."""
        first = torch.stack([one(v) for one, v in zip(self.own, targets, strict=True)], dim=1)
        share = torch.ones(first.shape[:2], device=first.device)
        if self.training and self.dropout:
            kept = torch.rand(share.shape, device=first.device) >= self.dropout
            share *= kept | ~kept.any(1, keepdim=True)
        share /= share.sum(1, keepdim=True)
        # Linear maps and weights that sum to one: the shared map may come after the mean.
        mixed: torch.Tensor = self.shared((first.float() * share[:, :, None]).sum(1))
        return mixed


def stage_weight(weights: tuple[float, float], epochs: int, epoch: int) -> float:
    """From the first weight to the last over the first ``epochs`` epochs, 0 after them.

    Examples
    --------
    >>> [round(stage_weight((0.9, 0.5), 3, epoch), 3) for epoch in range(4)]
    [0.9, 0.7, 0.5, 0.0]
    """
    if epoch >= epochs:
        return 0.0
    first, last = weights
    return first + (last - first) * epoch / max(epochs - 1, 1)


def beside(vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The unit vectors of all targets side by side, shape (rows, sum of widths), of length 1.

    The product of two of them is the mean cosine over targets.

    Examples
    --------
    >>> vectors = {"target 0": torch.tensor([[3.0, 4.0]]), "target 1": torch.tensor([[2.0]])}
    >>> beside(vectors) * 2**0.5
    tensor([[0.6000, 0.8000, 1.0000]])
    """
    units = [normalize(v, dim=1) for name, v in vectors.items() if name.startswith("target")]
    joined: torch.Tensor = torch.cat(units, dim=1) / len(units) ** 0.5
    return joined
