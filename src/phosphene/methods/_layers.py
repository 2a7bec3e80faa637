"""Layers of a bank as targets: which there are, their mix, and whether a gallery has the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from phosphene.errors import DataError, SpaceMismatchError, listing
from phosphene.stimuli.bank import FeatureBank


def at_depth(layers: Sequence[str], depth: float) -> str:
    """The layer nearest to a relative depth: 0 is the first of a bank's layers, 1 the last.

    Examples
    --------
    >>> at_depth(["a", "b", "c", "d", "e", "f"], 0.6)
    'd'
    """
    if not 0 <= depth <= 1:
        raise DataError("a relative depth is between 0 and 1", found=depth)
    return layers[round(depth * (len(layers) - 1))]


def several(layers: Sequence[str]) -> list[str]:
    """Distinct layers, two or more.

    Raises
    ------
    DataError
    """
    distinct = list(dict.fromkeys(layers))
    if len(distinct) < 2:
        raise DataError(
            "SAMGA mixes layers and needs at least two",
            found=listing(distinct),
            fix="extract the bank with several layers; ShallowAlignment takes one",
        )
    return distinct


def check_routing(routing: str, rate: float) -> None:
    """Refuse settings of SAMGA's router that mean nothing.

    Raises
    ------
    DataError
    """
    if routing not in ("subject", "shared", "uniform"):
        raise DataError("unknown routing", found=routing, expected="subject, shared or uniform")
    if not 0 < rate < float("inf"):
        raise DataError("router_rate is a factor", found=rate, expected="a positive number")


def require_layers(gallery: FeatureBank, spaces: Mapping[str, str]) -> None:
    """Refuse a gallery that lacks a layer, or has it in another space; the error names the layer.

    Raises
    ------
    SpaceMismatchError
    """
    for layer, space in spaces.items():
        if layer not in gallery.layers:
            raise SpaceMismatchError(
                f"the gallery has no layer {layer!r}, which the decoder was fitted with",
                found=listing(gallery.layers),
                expected=listing(list(spaces)),
                fix="extract the gallery with the layers of the training bank",
            )
        if gallery.space(layer) != space:
            raise SpaceMismatchError(
                f"layer {layer!r} of the gallery is of another space than the decoder's",
                found=f"space {gallery.space(layer)[:16]}",
                expected=f"space {space[:16]}",
                fix="use the encoder that the decoder was fitted with",
            )


def mix(layers: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Candidates (C, D) of layers (C, D) each, by one weight per layer (L,)."""
    wide = torch.stack(list(layers.values()), dim=1)
    return (wide * weights.to(wide)[None, :, None]).sum(1)


class Router(nn.Module):
    """Weights of layers (B, L) from subject codes (B,); -1 is nobody known.

    Logits are ``rate`` times the parameters. Adam's steps do not depend on the size of gradients,
    so that logits move ``rate`` times as far per step as other parameters do.
    """

    def __init__(self, n_layers: int, n_subjects: int, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = rate
        self.shared = nn.Parameter(torch.zeros(n_layers))
        self.own = nn.Parameter(torch.zeros(n_subjects, n_layers))

    def forward(self, subject: torch.Tensor, p_subject: float, p_layer: float) -> torch.Tensor:
        """Weights that sum to one; dropout in training only."""
        uses = subject >= 0
        if self.training:
            uses = uses & (torch.rand(len(subject), device=subject.device) >= p_subject)
        own = self.own.index_select(0, subject.clamp_min(0)) * uses[:, None]
        weights = torch.softmax(self.rate * (self.shared + own).float(), dim=1)
        if not self.training:
            return weights
        kept = torch.rand(weights.shape, device=subject.device) >= p_layer
        weights = weights * (kept | ~kept.any(1, keepdim=True))
        return weights / weights.sum(1, keepdim=True)
