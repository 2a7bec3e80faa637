"""Choice of the epoch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.errors import DataError
from phosphene.testing._data import tiny_recording
from phosphene.training.selection import Selector, topk_accuracy, validation_mask


def test_topk_counts_ties_as_their_expectation() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 1.0], [1.0, 1.0, 1.0]])
    true = torch.tensor([0, 1, 2])
    assert float(topk_accuracy(scores, true, 1)) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert float(topk_accuracy(scores, true, 2)) == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert float(topk_accuracy(scores, true, 3)) == 1.0


def test_nan_scores_never_win() -> None:
    scores = torch.full((2, 3), float("nan"))
    assert float(topk_accuracy(scores, torch.tensor([0, 1]), 1)) <= 1.0
    assert topk_accuracy(scores, torch.tensor([0, 1]), 1).isfinite()


def test_whole_concepts_are_held_out() -> None:
    recording = tiny_recording(channels=2, times=4).select(split="train")
    mask = validation_mask(recording, 0.1, seed=0)
    concepts = recording.trials["concept"]
    assert set(concepts[mask]).isdisjoint(concepts[~mask])
    assert concepts[mask].nunique() == 4
    assert (validation_mask(recording, 0.1, seed=0) == mask).all()
    assert (validation_mask(recording, 0.1, seed=1) != mask).any()


@pytest.mark.parametrize(("fraction", "match"), [(0.01, "too few concepts"), (1.5, "out of range")])
def test_impossible_validation_is_refused(fraction: float, match: str) -> None:
    recording = tiny_recording(channels=2, times=4).select(split="train")
    with pytest.raises(DataError, match=match):
        validation_mask(recording, fraction, seed=0)


def offer(selector: Selector, module: nn.Linear, epoch: int, top1: float, top5: float) -> None:
    with torch.no_grad():
        module.weight.fill_(float(epoch))
    selector.offer(module, epoch, {"val_top1": top1, "val_top5": top5})


def test_best_epoch_by_top1_then_top5_then_the_earlier() -> None:
    selector, module = Selector("held_out_concepts"), nn.Linear(1, 1)
    for epoch, score in enumerate([(0.1, 0.5), (0.3, 0.5), (0.3, 0.6), (0.3, 0.6), (0.2, 0.9)]):
        offer(selector, module, epoch, *score)
    assert selector.epoch == 2
    selector.finish(module)
    assert float(module.weight.detach()) == 2.0


def test_fixed_epoch_keeps_the_last() -> None:
    selector, module = Selector("fixed_epoch"), nn.Linear(1, 1)
    for epoch in range(3):
        offer(selector, module, epoch, -epoch, 0)
    selector.finish(module)
    assert selector.epoch == 2
    assert float(module.weight.detach()) == 2.0


def test_selection_on_test_data_does_not_exist() -> None:
    with pytest.raises(DataError, match="unknown selection rule"):
        Selector("test")  # type: ignore[arg-type]
