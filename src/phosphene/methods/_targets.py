"""Several layers and views of the pictures as the targets of one decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from phosphene.methods import _levels
from phosphene.methods._modulated import ModulatedDecoder
from phosphene.training.paired import PairedData, Picks


@dataclass(eq=False, repr=False, kw_only=True)
class TargetsDecoder(ModulatedDecoder):
    """Base of `phosphene.Combine`: which targets there are, and which level of them a trial has.

    Parameters
    ----------
    level : {"all", "image", "names"}
        Every view a target of its own; or one of three views per trial, by similarity to the
        picture or to the name.
    layers : sequence of str or None
        Layers of the bank; None for the decoder's one layer.
    """

    level: Literal["all", "image", "names"] = "all"
    layers: Sequence[str] | None = None

    def _layers(self) -> list[str]:
        return list(dict.fromkeys(self.layers or [str(self.layer_)]))

    def _places(self) -> list[tuple[str, list[str]]]:
        """Layer, and levels (views), of every target."""
        views = [[view] for view in self.views_] if self.level == "all" else [list(self.views_)]
        return [(layer, levels) for layer in self._layers() for levels in views]

    def _start(self, data: PairedData) -> None:
        if self.level != "all":
            _levels.start_levels(self._state, len(data), data.device)

    def _pick_views(self, index: torch.Tensor) -> Picks:
        if self.level == "all":
            return {}
        level = 1 + self._state["level"].index_select(0, index)
        return {f"target {k}": level for k in range(len(self._places()))}

    def _choose_levels(self, similarity: torch.Tensor, index: torch.Tensor) -> None:
        """Levels of the next epoch from the similarities (B,) of a batch."""
        if self.level != "all":
            _levels.choose_levels(self._state, similarity, index)

    def _on_epoch_end(self, epoch: int) -> None:
        if self.level != "all":
            self._state["level"].copy_(self._state["next_level"])
