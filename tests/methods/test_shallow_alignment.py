"""Shallow Alignment: which layer is the target, and projectors on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene.errors import DataError, SpaceMismatchError
from phosphene.methods.shallow_alignment import ShallowAlignment
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import tiny_problem

PROBLEM = tiny_problem()


def fitted(bank: FeatureBank = PROBLEM.bank, **params: Any) -> ShallowAlignment:
    quick = {"epochs": 2, "batch_size": 64, "lr": 3e-3, "device": "cpu", "precision": "fp32"}
    return ShallowAlignment(**(quick | params)).fit(PROBLEM.train, bank, progress=False)


@pytest.mark.parametrize(
    ("params", "layer"),
    [
        ({}, "vector-2"),
        ({"depth": 0.0}, "vector"),
        ({"depth": 1.0}, "vector-3"),
        ({"layer": "vector"}, "vector"),
    ],
)
def test_takes_the_layer_at_the_depth(params: dict[str, Any], layer: str) -> None:
    decoder = fitted(epochs=1, **params)
    assert decoder.layer_ == layer
    assert decoder.space_ == PROBLEM.bank.space(layer)
    assert decoder.modules_["image projector"].weight.shape == (512, 24)
    assert decoder.embed(PROBLEM.test).vectors.shape[1] == 512


def test_wrong_depth_and_gallery_without_the_layer_are_refused() -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        fitted(depth=60)
    bank = PROBLEM.bank
    gallery = FeatureBank.from_arrays(
        bank.ids, {("original", "vector"): bank.vectors("original")}, layer="vector"
    )
    with pytest.raises(SpaceMismatchError, match="vector-2"):
        fitted(epochs=1).similarity(PROBLEM.test, gallery)


def test_learns_trains_the_projectors_and_is_saved(tmp_path: Path) -> None:
    start, decoder = fitted(lr=0.0), fitted(epochs=25)
    for side in ("brain projector", "image projector"):
        moved = decoder.modules_[side].weight - start.modules_[side].weight
        assert moved.abs().max() > 1e-3
    assert decoder.evaluate(PROBLEM.test, PROBLEM.bank).two_way > 0.75
    decoder.save_pretrained(tmp_path / "model")
    again = ShallowAlignment.from_pretrained(tmp_path / "model")
    first, second = (d.similarity(PROBLEM.test, PROBLEM.bank).matrix for d in (decoder, again))
    np.testing.assert_array_equal(first, second)
