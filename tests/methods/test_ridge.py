"""The linear baseline: what it computes, compared with scikit-learn and by its invariances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from phosphene import _registry
from phosphene.data.recording import Recording
from phosphene.decoding.ridge import ALPHAS
from phosphene.methods.ridge import Ridge
from phosphene.stimuli.bank import FeatureBank

N_TRAIN, N_TEST, DIMENSIONS, VOXELS = 60, 20, 8, 90


def study(
    seed: int = 0, *, noise: float = 1.0, shift: float = 0.0
) -> tuple[Recording, Recording, FeatureBank]:
    """Voxels that are a linear map of the target vectors, plus noise; test stimuli are new."""
    rng = np.random.default_rng(seed)
    n = N_TRAIN + N_TEST
    vectors = rng.standard_normal((n, DIMENSIONS)) + shift
    signals = (vectors - shift) @ rng.standard_normal((DIMENSIONS, VOXELS))
    signals = 3 * (signals + noise * rng.standard_normal((n, VOXELS))) + 40
    ids = [f"thing{i:02d}/picture.png" for i in range(n)]
    trials = {"stimulus": ids, "split": ["train"] * N_TRAIN + ["test"] * N_TEST}
    recording = Recording.from_arrays(signals, trials, modality="fmri")
    bank = FeatureBank.from_arrays(ids, {"original": vectors.astype(np.float32)})
    return recording.select(split="train"), recording.select(split="test"), bank


def test_it_is_registered_with_its_defaults() -> None:
    assert _registry.get("method", "ridge") is Ridge
    ridge = Ridge()
    assert (ridge.alphas, ridge.centre, ridge.standardise) == (ALPHAS, True, True)


def test_vectors_equal_those_of_scikit_learn() -> None:
    train, test, bank = study()
    ridge = Ridge().fit(train, bank)
    scaler = StandardScaler().fit(train.signals)
    reference = RidgeCV(ALPHAS, alpha_per_target=True).fit(
        scaler.transform(train.signals), bank.vectors("original", ids=train.stimuli)
    )
    np.testing.assert_array_equal(ridge.alpha_, reference.alpha_)
    np.testing.assert_allclose(
        ridge.embed(test).vectors,
        reference.predict(scaler.transform(test.signals)),
        rtol=1e-3,
        atol=1e-4,
    )


def test_new_stimuli_are_found_and_noise_gives_chance() -> None:
    train, test, bank = study()
    result = Ridge().fit(train, bank).evaluate(test, bank)
    assert result.top1 > 0.8
    chance = [
        Ridge().fit(*study(seed, noise=1e6)[::2]).evaluate(*study(seed, noise=1e6)[1:]).two_way
        for seed in range(10)
    ]
    assert abs(np.mean(chance) - 0.5) < 0.1


def test_one_hot_targets_are_classification() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, VOXELS))
    labels = np.arange(80) % 4
    names = [f"class{i}" for i in labels]
    trials = {
        "stimulus": names,
        "run": np.arange(80) // 20,
        "split": ["train"] * 60 + ["test"] * 20,
    }
    signals = centres[labels] + 3 * rng.standard_normal((80, VOXELS))
    recording = Recording.from_arrays(signals, trials, modality="fmri")
    ids = sorted(set(names))
    bank = FeatureBank.from_arrays(ids, {"onehot": np.eye(4, dtype=np.float32)})
    ridge = Ridge(views=["onehot"], average_repetitions=False)
    ridge.fit(recording.select(split="train"), bank)
    test = recording.select(split="test")
    scores = ridge.similarity(test, bank)
    predicted = ridge.embed(test).vectors.argmax(axis=1)
    np.testing.assert_array_equal(scores.matrix.argmax(axis=1), predicted)
    assert np.mean(predicted == labels[60:]) > 0.6


def test_what_all_vectors_have_in_common_changes_no_score() -> None:
    train, test, bank = study()
    _, _, shifted = study(shift=5.0)
    plain = Ridge().fit(train, bank).similarity(test, bank).matrix
    far = Ridge().fit(train, shifted).similarity(test, shifted).matrix
    np.testing.assert_allclose(plain, far, atol=1e-4)
    uncentred = Ridge(centre=False).fit(train, shifted).similarity(test, shifted).matrix
    assert not np.allclose(plain, uncentred, atol=0.1)


def test_without_centring_scores_are_the_cosine_of_the_vectors() -> None:
    train, test, bank = study()
    ridge = Ridge(centre=False).fit(train, bank)
    decoded, items = ridge.embed(test).vectors, bank.vectors("original", ids=test.stimuli)
    expected = decoded @ items.T
    expected /= np.linalg.norm(decoded, axis=1)[:, None] * np.linalg.norm(items, axis=1)
    found = ridge.similarity(test, bank, ids=test.stimuli).matrix
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_survive_a_penalty_that_leaves_nothing_but_the_mean() -> None:
    train, test, bank = study(shift=3.0)
    weak = Ridge(alphas=(1e5,)).fit(train, bank).similarity(test, bank).matrix
    strong = Ridge(alphas=(1e13,)).fit(train, bank).similarity(test, bank).matrix
    # Far beyond the eigenvalues the direction of the prediction no longer depends on the penalty.
    np.testing.assert_allclose(weak, strong, atol=0.01)


def test_channels_by_times_are_flattened() -> None:
    train, test, bank = study()
    cubes = [
        Recording.from_arrays(part.signals.reshape(part.n_trials, 9, 10), part.trials, sfreq=100)
        for part in (train, test)
    ]
    ridge = Ridge(standardise=False).fit(cubes[0], bank)
    flat = Ridge(standardise=False).fit(train, bank)
    assert ridge.coef_.shape == (VOXELS, DIMENSIONS)
    np.testing.assert_array_equal(ridge.embed(cubes[1]).vectors, flat.embed(test).vectors)


def test_everything_fitted_is_saved(tmp_path: Path) -> None:
    train, test, bank = study()
    ridge = Ridge().fit(train, bank)
    ridge.save_pretrained(tmp_path / "model")
    loaded = Ridge.from_pretrained(tmp_path / "model")
    for name in Ridge._state_names:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(ridge, name))
    np.testing.assert_array_equal(
        loaded.similarity(test, bank).matrix, ridge.similarity(test, bank).matrix
    )


@pytest.mark.parametrize("targets", [1, 2])
def test_few_dimensions(targets: int) -> None:
    train, test, _ = study()
    ids = [*train.stimuli, *test.stimuli]
    vectors = np.random.default_rng(1).standard_normal((len(ids), targets)).astype(np.float32)
    bank = FeatureBank.from_arrays(ids, {"original": vectors})
    ridge = Ridge().fit(train, bank)
    assert ridge.alpha_.shape == (targets,)
    assert ridge.embed(test).vectors.shape == (N_TEST, targets)
