"""Principal components of a layer, and how much each counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.reconstruction.components import Components, evidence


def layer(n: int = 60, units: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n, 4)) @ rng.standard_normal((4, units))
    values += 0.1 * rng.standard_normal((n, units))
    return (values * np.linspace(1, 100, units) + 5).astype(np.float32)


# More pictures than units, and the other way round.
@pytest.mark.parametrize(("n", "units"), [(60, 12), (15, 40)])
def test_they_are_those_of_scikit_learn_on_standardised_units(n: int, units: int) -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    values = layer(n, units)
    new = values[:7] + 3
    scaler = StandardScaler().fit(values)
    expected = PCA(4, whiten=True).fit(scaler.transform(values))
    found = Components.fit(values, 4).project(torch.from_numpy(new)).numpy()
    # Of unit variance by n and n - 1; signs are free.
    theirs = expected.transform(scaler.transform(new)) * np.sqrt(n / (n - 1))
    np.testing.assert_allclose(np.abs(found), np.abs(theirs), rtol=1e-3, atol=1e-4)


def test_there_are_never_more_than_the_pictures_tell() -> None:
    values = layer()
    values[:, 3] = 7  # a unit that never varies says nothing
    assert Components.fit(values, 100).axes.shape == (12, 11)
    assert Components.fit(values[:5], 100).axes.shape == (12, 4)
    projected = Components.fit(values, 100).project(torch.from_numpy(values))
    torch.testing.assert_close(projected.std(0, correction=0), torch.ones(11))
    torch.testing.assert_close(projected.mean(0), torch.zeros(11), atol=1e-4, rtol=0)


def test_gradients_reach_the_layer() -> None:
    x = torch.from_numpy(layer()[:3]).requires_grad_()
    Components.fit(layer(), 2).project(x).sum().backward()
    assert x.grad is not None
    expected = torch.from_numpy(Components.fit(layer(), 2).axes.sum(axis=1))
    torch.testing.assert_close(x.grad[1], expected)


def test_pictures_that_are_all_alike_have_none() -> None:
    with pytest.raises(DataError, match="the same of all training pictures"):
        Components.fit(np.ones((5, 3), np.float32), 2)


def test_weights_are_the_evidence() -> None:
    # .5 / .5 and .2 / .8; nothing counts more than .95 / .05.
    found = evidence(np.array([0.5, 0.2, 0.95, 0.999], np.float32))
    np.testing.assert_allclose(found / found[0], [1, 0.25, 19, 19], rtol=1e-4)
    assert found.mean() == pytest.approx(1)


def test_evidence_finds_what_was_seen_where_units_alone_do_not() -> None:
    # A few directions are decoded well, most hardly: among candidates the one that was seen is
    # nearest more often by components with their evidence than by the units they are made of.
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    spread = np.linspace(3, 0.5, 40)
    seen = (rng.standard_normal((400, 40)) * spread) @ directions.T
    seen = seen.astype(np.float32)
    parts = Components.fit(seen, 40)
    truth = parts.project(torch.from_numpy(seen)).numpy()
    r2 = np.where(np.arange(40) < 5, 0.6, 0.02)
    weight = np.sqrt(evidence(r2.astype(np.float32)))
    by_units = np.linalg.pinv(parts.axes)

    def correct(found: np.ndarray, candidates: np.ndarray) -> float:
        distance = ((found[:, None] - candidates[None]) ** 2).sum(2)
        return float((distance.argmin(1) == np.arange(len(found))).mean())

    units, weighed = [], []
    for _ in range(10):
        decoded = r2 * truth + rng.standard_normal(truth.shape) * np.sqrt(r2 * (1 - r2))
        units.append(correct(decoded[:100] @ by_units, truth[:100] @ by_units))
        weighed.append(correct(decoded[:100] * weight, truth[:100] * weight))
    gain = np.subtract(weighed, units)
    assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert gain.mean() > 0.03
