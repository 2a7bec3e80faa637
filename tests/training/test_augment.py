"""Smoothing of trials: the moving average, its share of trials, and repeatability."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.training.augment import check_smoothing, smooth


def trials(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 20, generator=torch.Generator().manual_seed(0))


def test_is_the_moving_average_over_what_there_is() -> None:
    brain = trials()
    before = brain.clone()
    out = smooth(brain, 5, 1.0).numpy()
    for t in range(20):
        window = brain.numpy()[:, :, max(0, t - 2) : t + 3]
        np.testing.assert_allclose(out[:, :, t], window.mean(axis=2), rtol=1e-5, atol=1e-6)
    assert torch.equal(brain, before)


def test_in_place_gives_the_same() -> None:
    brain = trials(50)
    torch.manual_seed(0)
    apart = smooth(brain)
    torch.manual_seed(0)
    assert smooth(brain, inplace=True) is brain
    assert torch.equal(brain, apart)
    with torch.autocast("cpu", torch.bfloat16):
        assert smooth(trials(), probability=1.0).dtype == torch.float32


def test_chooses_whole_trials_with_the_probability_and_repeats_with_the_seed() -> None:
    brain = trials(4000)
    torch.manual_seed(3)
    first = smooth(brain)
    second = smooth(brain)
    torch.manual_seed(3)
    assert torch.equal(smooth(brain), first)
    assert not torch.equal(first, second)
    changed = first.ne(brain).flatten(1)
    share = changed.any(1).float().mean()
    assert abs(float(share) - 0.3) < 0.03
    assert changed[changed.any(1)].float().mean() > 0.99  # a trial is smoothed whole
    smoothed = smooth(brain, probability=1.0)
    torch.testing.assert_close(first[changed.any(1)], smoothed[changed.any(1)])


def test_voxels_and_no_smoothing_come_back_as_they_are() -> None:
    voxels = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert smooth(voxels, probability=1.0) is voxels
    assert smooth(trials(), probability=0.0).equal(trials())
    assert smooth(trials(), kernel=1, probability=1.0).equal(trials())


def test_impossible_settings_are_refused() -> None:
    check_smoothing(5, 0.3)
    for kernel in (0, 4, -1):
        with pytest.raises(DataError, match="kernel"):
            check_smoothing(kernel, 0.3)
    for probability in (-0.1, 1.1):
        with pytest.raises(DataError, match="probability"):
            check_smoothing(5, probability)
