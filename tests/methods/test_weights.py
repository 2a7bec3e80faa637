"""Saved weights: given back, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phosphene.errors import ArtefactError
from phosphene.methods._weights import load_weights


def test_weights_are_given_back_or_refused() -> None:
    torch.manual_seed(0)
    saved = nn.ModuleDict({"head": nn.Linear(3, 2)})
    arrays = {f"modules.{name}": value.numpy() for name, value in saved.state_dict().items()}
    arrays["scaler.mean"] = arrays["modules.head.bias"]
    again = nn.ModuleDict({"head": nn.Linear(3, 2)})
    load_weights(again, arrays, "Method")
    assert torch.equal(again["head"].weight, saved["head"].weight)
    other = nn.ModuleDict({"head": nn.Linear(3, 4), "more": nn.Linear(1, 1)})
    with pytest.raises(ArtefactError, match=r"(?s)do not fit the modules of this Method.*more"):
        load_weights(other, arrays, "Method")
