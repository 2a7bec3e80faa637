"""Split halves against closed forms and a literal loop."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.evaluation.reliability import spearman_brown, split_half


@pytest.mark.parametrize("repetitions", [2, 4, 5, 10])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_reliability_of_known_signal_and_noise(repetitions: int, noise: float) -> None:
    rng = np.random.default_rng(repetitions)
    signal = rng.normal(size=(6000, 3))
    responses = signal + noise * rng.normal(size=(repetitions, 6000, 3))
    found = split_half(responses, n_splits=30)
    half = repetitions // 2
    assert found.half == pytest.approx(1 / (1 + noise**2 / half), abs=0.03)
    assert found.reliability == pytest.approx(1 / (1 + noise**2 / repetitions), abs=0.03)
    # Nothing predicts the mean better than the signal itself, which reaches the ceiling.
    mean = responses.mean(axis=0)
    best = [np.corrcoef(signal[:, i], mean[:, i])[0, 1] for i in range(3)]
    assert found.ceiling == pytest.approx(best, abs=0.03)


def test_two_repetitions_are_one_correlation() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 40))
    r = np.corrcoef(first, first + second)[0, 1]
    found = split_half([first, first + second], n_splits=3)
    assert found.half == pytest.approx(r)
    assert found.reliability == pytest.approx(2 * r / (1 + r))
    assert found.ceiling == pytest.approx(np.sqrt(2 * r / (1 + r)))


def test_random_splits_approach_all_splits() -> None:
    rng = np.random.default_rng(1)
    responses = rng.normal(size=50) + rng.normal(size=(4, 50))
    pairs = []
    for chosen in combinations(range(4), 2):
        rest = [i for i in range(4) if i not in chosen]
        halves = responses[list(chosen)].mean(axis=0), responses[rest].mean(axis=0)
        pairs.append(np.corrcoef(*halves)[0, 1])
    assert split_half(responses, n_splits=2000).half == pytest.approx(np.mean(pairs), abs=0.01)


def test_spearman_and_brown_undo_themselves() -> None:
    assert spearman_brown(0.6, 2) == pytest.approx(0.75)
    assert spearman_brown(spearman_brown(0.6, 5), 1 / 5) == pytest.approx(0.6)
    with pytest.raises(DataError, match="stepped up"):
        spearman_brown([0.2, 1.2])
    with pytest.raises(DataError, match="positive"):
        spearman_brown(0.5, 0)


def test_noise_has_no_ceiling_and_constants_no_reliability() -> None:
    against = np.array([[1.0, 2, 3, 4], [4.0, 3, 2, 1]])
    found = split_half(against)
    assert (found.half, found.reliability, found.ceiling) == (-1, -1, 0)
    flat = split_half(np.stack([against, np.ones((2, 4))], axis=2))
    assert np.isnan(flat.reliability).tolist() == [False, True]


def test_too_little_and_missing_values_are_refused() -> None:
    for shape in ((1, 5), (2, 2), (4,)):
        with pytest.raises(DataError, match="split into halves"):
            split_half(np.zeros(shape))
    with pytest.raises(DataError, match="NaN"):
        split_half(np.full((2, 3), np.nan))
