"""The ideal observer against closed forms and against a literal simulation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from phosphene.errors import DataError
from phosphene.evaluation.noise_ceiling import ceiling_from_gram, noise_ceiling


@dataclass
class Known:
    templates: Any
    covariance: Any

    def filters(self, repetitions: int = 1) -> Any:
        return np.linalg.solve(self.covariance / repetitions, self.templates.T).T


def person(n: int = 6, d: int = 4, seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((d, d))
    return Known(rng.standard_normal((n, d)), a @ a.T + 0.5 * np.eye(d))


@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_two_candidates_follow_the_closed_form(distance: float) -> None:
    gram = np.diag([distance**2, 0.0])  # templates at distance `distance` in noise units
    expected = norm.cdf(distance / 2)
    assert ceiling_from_gram(gram, n_draws=40_000) == pytest.approx(expected, abs=0.008)


@pytest.mark.parametrize("repetitions", [1, 5])
@pytest.mark.parametrize("k", [1, 2])
def test_equals_a_literal_maximum_likelihood_classifier(repetitions: int, k: int) -> None:
    known = person()
    rng = np.random.default_rng(1)
    n, d = known.templates.shape
    cov = known.covariance / repetitions
    hits = []
    for true in range(n):
        noise = rng.multivariate_normal(np.zeros(d), cov, size=4000)
        x = known.templates[true] + noise
        differences = x[:, None] - known.templates
        log_likelihood = -np.einsum("nid,de,nie->ni", differences, np.linalg.inv(cov), differences)
        rank = (log_likelihood > log_likelihood[:, true][:, None]).sum(axis=1)
        hits.append((rank < k).mean())
    got = noise_ceiling(known, repetitions, k=k, n_draws=24_000)
    assert got == pytest.approx(np.mean(hits), abs=0.012)


def test_rises_with_repetitions() -> None:
    known = person(n=20)
    values = [noise_ceiling(known, r, n_draws=8_000) for r in (1, 4, 16, 64)]
    assert all(b > a + 0.01 for a, b in pairwise(values))


@pytest.mark.parametrize("k", [1, 5])
def test_no_signal_is_chance(k: int) -> None:
    assert ceiling_from_gram(np.zeros((10, 10)), k=k, n_draws=1000) == pytest.approx(k / 10)


def test_equal_templates_share_their_hits() -> None:
    gram = 400 * np.kron(np.eye(3), np.ones((2, 2)))  # three pairs of twins
    assert ceiling_from_gram(gram, n_draws=3000) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    "gram", [np.zeros((2, 3)), np.array([[0.0, 1.0], [0.0, 1.0]]), np.full((2, 2), np.nan)]
)
def test_refuses_what_is_no_gram_matrix(gram: Any) -> None:
    with pytest.raises(DataError, match="Gram matrix"):
        ceiling_from_gram(gram)
