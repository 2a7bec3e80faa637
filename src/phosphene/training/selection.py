"""Which epoch is kept: by accuracy on held-out training concepts, or the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phosphene.data.recording import Recording
from phosphene.data.splits import hold_out_concepts
from phosphene.errors import DataError

Selection = Literal["held_out_concepts", "fixed_epoch"]
MIN_CONCEPTS = 2


def validation_mask(recording: Recording, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Trials of the training concepts that are held out for the choice of the epoch.

    Whole concepts, never random trials: with exemplars of a concept on both sides the choice would
    favour what overfits (EVALUATION: validation).

    Raises
    ------
    DataError
        If fewer than two concepts would be on either side.
    """
    if not 0 < fraction < 1:
        raise DataError(
            "the validation fraction is out of range", found=fraction, expected="(0, 1)"
        )
    concepts = recording.trials.get("concept")
    n = 0 if concepts is None else int(concepts.nunique())
    if min(round(n * fraction), n - round(n * fraction)) < MIN_CONCEPTS:
        raise DataError(
            "too few concepts to hold some out for validation",
            found=f"{n} concepts, fraction {fraction:g}",
            expected=f"at least {MIN_CONCEPTS} on either side",
            fix='selection="fixed_epoch", or a larger validation_fraction',
        )
    return np.asarray(hold_out_concepts(recording.trials, fraction, seed), dtype=bool)


def topk_accuracy(scores: torch.Tensor, true: torch.Tensor, k: int) -> torch.Tensor:
    """Expected share of rows whose true column is among the k highest, ties counted as such.

    Parameters
    ----------
    scores : torch.Tensor, shape (queries, candidates)
    true : torch.Tensor of int, shape (queries,)
    k : int

    Examples
    --------
    >>> float(topk_accuracy(torch.zeros(3, 4), torch.tensor([0, 1, 2]), 1))  # a constant: chance
    0.25
    """
    own = scores.gather(1, true[:, None])
    above = (scores > own).sum(1)
    tied = (scores == own).sum(1).clamp_min(1)  # itself included; NaN equals nothing
    return ((k - above) / tied).clamp(0, 1).double().mean()


class Selector:
    """Keeps the state of the best epoch.

    Epochs are compared by validation top-1, then top-5; the earlier one wins a tie. With
    ``fixed_epoch`` the last epoch is kept and nothing is copied.
    """

    def __init__(self, rule: Selection) -> None:
        if rule not in ("held_out_concepts", "fixed_epoch"):
            raise DataError(
                "unknown selection rule",
                found=repr(rule),
                expected="held_out_concepts or fixed_epoch",
            )
        self.rule = rule
        self.epoch = -1
        self.score: tuple[float, ...] = ()
        self.state: dict[str, torch.Tensor] = {}

    def offer(self, module: nn.Module, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Consider an epoch; returns whether it is the best so far."""
        if self.rule == "fixed_epoch":
            self.epoch = epoch
            return True
        score = (metrics["val_top1"], metrics["val_top5"])
        if self.score and not score > self.score:
            return False
        self.score, self.epoch = score, epoch
        current = module.state_dict()
        if self.state:
            for name, tensor in current.items():
                self.state[name].copy_(tensor)
        else:
            self.state = {name: tensor.clone() for name, tensor in current.items()}
        return True

    def finish(self, module: nn.Module) -> None:
        """Put the chosen state into the module."""
        if self.state:
            module.load_state_dict(self.state)

    def values(self) -> dict[str, Any]:
        """Plain part of the selector's state."""
        return {"best_epoch": self.epoch, "best_score": list(self.score)}

    def restore(self, values: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
        """Continue where a checkpoint was written."""
        self.epoch, self.score = int(values["best_epoch"]), tuple(values["best_score"])
        self.state = {name: tensor.clone() for name, tensor in state.items()}
