r"""Keep a vector, and give it the brain's neighbours: the two terms of representational alignment.

.. math::
    \alpha\, \lVert y - y' \rVert^2 + (1 - \alpha)\, \lVert S(z) - R \rVert^2_{i<j}

with y' the reconstruction, z the latent, S its similarity matrix over the upper triangle and R that
of the brain (Vafaei et al. 2026, doi:10.1038/s42003-025-09482-x). Both norms are means (over
n x d values, over pairs) or both are sums; as there are other numbers of values than of pairs, one
alpha does not mean the same in the two.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

Reduction = Literal["mean", "sum"]


def similarity(z: torch.Tensor, *, centred: bool = False) -> torch.Tensor:
    """Cosine of all pairs of rows of (..., n, d); of centred rows that is the correlation.

    Examples
    --------
    >>> similarity(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if centred:
        z = z - z.mean(dim=-1, keepdim=True)
    unit = functional.normalize(z, dim=-1)
    return unit @ unit.transpose(-1, -2)


def alignment_loss(
    vectors: torch.Tensor,
    rebuilt: torch.Tensor,
    latent: torch.Tensor,
    rsm: torch.Tensor,
    alpha: torch.Tensor,
    rows: torch.Tensor,
    *,
    centred: bool = False,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The loss of several fits at once, shape (fits,).

    Parameters
    ----------
    vectors : torch.Tensor, shape (n, d) or (fits, n, d)
        What is to be kept.
    rebuilt : torch.Tensor, shape (fits, n, d)
        What was made of it.
    latent : torch.Tensor, shape (fits, n, h)
        Vectors whose similarity structure should be the brain's.
    rsm : torch.Tensor, shape (fits, n, n)
        The brain's similarities.
    alpha : torch.Tensor, shape (fits,)
        Weight of keeping the vectors, 0 to 1.
    rows : torch.Tensor, shape (fits, n)
        1 for rows that a fit learns from, 0 for those that it must not see.
    centred : bool
        Compare correlations instead of cosines.
    reduction : {"mean", "sum"}
        See the module.
    """
    kept = (rebuilt - vectors).square().sum(dim=-1) * rows
    gap = (similarity(latent, centred=centred) - rsm).square()
    # All pairs of learned rows count twice, and each row with itself once: its gap is no pair.
    both = torch.einsum("fi,fij,fj->f", rows, gap, rows)
    itself = (torch.diagonal(gap, dim1=-2, dim2=-1) * rows).sum(dim=-1)
    pairs = (both - itself) / 2
    total = kept.sum(dim=-1)
    if reduction == "mean":
        n = rows.sum(dim=-1)
        total = total / (n * vectors.shape[-1])
        pairs = pairs / (n * (n - 1) / 2)
    return alpha * total + (1 - alpha) * pairs
