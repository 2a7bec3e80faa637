"""The world of vectors and RSMs follows its formulas."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.simulation.rsm_world import rsm_world


def explained(x: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """Share of the variance of columns of x that a least-squares fit on the latent explains."""
    design = np.column_stack([latent, np.ones(len(latent))])
    fit = design @ np.linalg.lstsq(design, x, rcond=None)[0]
    return 1 - (x - fit).var(axis=0) / x.var(axis=0)


def test_shapes_seeds_and_streams() -> None:
    world = rsm_world(n_train=30, n_test=7, n_candidates=11, n_subjects=2, seed=3)
    assert world.vectors.shape == (37, 512)
    assert world.candidate_vectors.shape == (11, 512)
    assert world.responses["subject2"].shape == (37, 300)
    assert world.latent.shape == (37, 20)
    again = rsm_world(n_train=30, n_test=7, n_candidates=11, n_subjects=2, seed=3)
    more = rsm_world(n_train=30, n_test=7, n_candidates=5, n_subjects=4, seed=3)
    for other in (again, more):
        assert np.array_equal(world.vectors, other.vectors)
        assert np.array_equal(world.responses["subject2"], other.responses["subject2"])
    assert not np.array_equal(world.vectors, rsm_world(n_train=30, n_test=7, seed=4).vectors)


def test_variances_are_those_of_the_formulas() -> None:
    """Vectors: .25 x 20 x .1225 from s, 2.25 x 60 x .1225 from u; brain: snr^2 / (1 + snr^2)."""
    world = rsm_world(n_train=1500, n_test=1500, n_candidates=1, n_subjects=1)
    of_s, of_u = 0.25 * 20 * 0.35**2, 2.25 * 60 * 0.35**2
    total = world.vectors.var(axis=0).mean()
    assert total == pytest.approx(of_s + of_u, rel=0.05)
    share = explained(world.vectors.astype(float), world.latent).mean()
    assert share == pytest.approx(of_s / (of_s + of_u) + 20 / 3000, abs=0.01)
    x = world.responses["subject1"].astype(float)
    for rows, ratio in ((world.train, 0.7), (world.test, 1.4)):
        expected = ratio**2 / (1 + ratio**2)
        found = explained(x[rows], world.latent[rows])
        # A voxel with large weights has more signal; the noise is the same for all.
        pooled = np.average(found, weights=x[rows].var(axis=0))
        assert pooled == pytest.approx(expected, abs=0.02)
    rank = np.linalg.matrix_rank(world.vectors - world.vectors.mean(axis=0), tol=1e-2)
    assert rank == 80


def test_unrelated_people_know_nothing_of_the_vectors() -> None:
    world = rsm_world(structure="unrelated", n_train=2000, n_test=1, n_candidates=1, n_subjects=3)
    shares = [explained(world.responses[s][world.train], world.latent[world.train]).mean()
              for s in world.subjects]  # fmt: skip
    assert shares[0] > 0.25
    assert max(shares[1:]) < 0.02
    # The unrelated ones share what they respond to, so that their RSMs agree.
    a, b = (world.responses[s][:200].astype(float) for s in world.subjects[1:])
    assert np.corrcoef((a @ a.T)[np.triu_indices(200, 1)], (b @ b.T)[np.triu_indices(200, 1)])[0, 1] > 0.3  # fmt: skip  # noqa: E501


def test_recordings_hold_the_split_and_bad_numbers_are_refused() -> None:
    world = rsm_world(n_train=20, n_test=5, n_candidates=1, n_subjects=1)
    recording = world.recording("subject1")
    assert recording.trials["split"].tolist() == ["train"] * 20 + ["test"] * 5
    np.testing.assert_array_equal(recording.signals, world.responses["subject1"])
    for bad in ({"snr": 0.0}, {"nuisance": -1.0}, {"structure": "other"}, {"n_train": 1}):
        with pytest.raises(DataError):
            rsm_world(**bad)  # type: ignore[arg-type]
