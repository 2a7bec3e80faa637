"""Levels of a hand-made batch."""

from __future__ import annotations

import pytest
import torch

from phosphene.errors import DataError
from phosphene.methods._levels import (
    critical_value,
    discrete_level,
    smooth_level,
    smooth_similarity,
)


def test_levels_of_a_batch_by_hand() -> None:
    table = torch.tensor([1.0, 1.0, 1.0, 1.0, 9.0])
    s = torch.tensor([1.0, 5.0, -3.0, 1.8])
    smoothed = smooth_similarity(table, torch.tensor([3, 0, 2, 1]), s, 0.3)
    torch.testing.assert_close(table, torch.tensor([2.2, 1.24, -0.2, 1.0, 9.0]))
    torch.testing.assert_close(smoothed, torch.tensor([1.0, 2.2, -0.2, 1.24]))
    # mean 1.06, sd sqrt((.0036 + 1.2996 + 1.5876 + .0324) / 3) = .98712
    assert discrete_level(s, smoothed, 1.645).tolist() == [0, -1, 1, 0]
    expected = torch.tensor([0.06 / 1.62381, -1.0, 1.0, -0.74 / 1.62381])
    torch.testing.assert_close(smooth_level(s, smoothed, 1.645), expected, atol=1e-5, rtol=0)


def test_equal_similarities_stay_in_the_middle() -> None:
    same = torch.ones(4)
    assert discrete_level(same, same, 1.645).tolist() == [0] * 4
    assert smooth_level(same, same, 1.645).tolist() == [0.0] * 4


def test_significance_is_a_share() -> None:
    assert critical_value(0.05) == pytest.approx(1.95996, abs=1e-5)
    with pytest.raises(DataError, match="significance"):
        critical_value(1.0)
