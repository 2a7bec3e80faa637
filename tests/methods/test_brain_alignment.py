"""Aligners against closed forms, automatic differentiation and independent solvers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge as SklearnRidge

from phosphene import BrainAligner, FeatureBank, Ridge
from phosphene._random import generator
from phosphene.data.recording import Recording
from phosphene.errors import (
    ArtefactError,
    DataError,
    LeakError,
    NotFittedError,
    SpaceMismatchError,
)
from phosphene.evaluation.rsm import similarity_matrix, upper
from phosphene.methods._alignment_fits import Architecture, Job, Schedule, gradient, train
from phosphene.objectives.representational import alignment_loss
from phosphene.simulation.rsm_world import RSMWorld, rsm_world

N = 40
NETWORK: dict[str, Any] = {"variant": "autoencoder", "alpha": 0.01, "epochs": 30, "width": 16}


@pytest.fixture(scope="module")
def world() -> RSMWorld:
    return rsm_world(n_train=N, n_test=10, n_candidates=20, n_subjects=4)


@pytest.fixture(scope="module")
def vectors(world: RSMWorld) -> np.ndarray:
    return world.vectors[world.train, :64]


@pytest.fixture(scope="module")
def rsms(world: RSMWorld) -> dict[str, np.ndarray]:
    return {s: similarity_matrix(world.responses[s][:N]) for s in world.subjects}


def schedule(**changes: Any) -> Schedule:
    options = {"epochs": 3, "lr": 1e-3, "batch_size": None, "centred": False, "reduction": "mean"}
    return Schedule(**(options | {"device": torch.device("cpu")} | changes))


@pytest.mark.parametrize(
    ("kind", "activation", "centred", "reduction"),
    [
        *itertools.product(
            ["autoencoder", "residual"], ["relu", "tanh", "linear"], [False], ["mean"]
        ),
        ("autoencoder", "relu", True, "sum"),
        ("residual", "tanh", True, "sum"),
    ],
)
def test_gradient_is_that_of_the_loss(
    kind: Any, activation: str, centred: bool, reduction: Any
) -> None:
    stream = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    network = Architecture(kind, 5, activation)
    weights = {name: (value.double() + 0.1 * draw(*value.shape)).requires_grad_()
               for name, value in network.init(7, [1, 2]).items()}  # fmt: skip
    y, rsm, alpha = draw(2, 9, 7), draw(2, 9, 9), torch.tensor([0.3, 0.01], dtype=torch.float64)
    rsm = rsm + rsm.mT
    rows = torch.ones(2, 9, dtype=torch.float64)
    rows[1, :3] = 0
    latent = network.latent(y, weights)
    rebuilt = latent if kind == "residual" else network.out(network.hidden(y, weights), weights)
    loss = alignment_loss(
        y, rebuilt, latent, rsm, alpha, rows, centred=centred, reduction=reduction
    )
    loss.sum().backward()  # type: ignore[no-untyped-call]
    plan = schedule(centred=centred, reduction=reduction)
    for name, value in gradient(network, plan, y, rsm, alpha, rows, weights).items():
        torch.testing.assert_close(value, weights[name].grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 12])
def test_a_stack_ends_as_fits_alone_and_never_sees_held_out_rows(
    vectors: np.ndarray, rsms: dict[str, np.ndarray], batch_size: int | None
) -> None:
    seen = np.arange(N) % 4 > 0
    jobs = [
        Job(rsms["subject1"], np.ones(N, bool), 0.01, 0, 0),
        Job(rsms["subject2"], seen, 0.1, 1, 5),
        Job(rsms["subject3"], seen, 1.0, 2, 6),
    ]
    network, plan = Architecture("autoencoder", 8, "relu"), schedule(batch_size=batch_size)
    together = train(vectors, jobs, network, plan)
    spread = train(vectors, jobs, network, schedule(batch_size=batch_size, stack=1, jobs=2))
    damaged = vectors.copy()
    damaged[~seen] = 100.0
    rsm = jobs[1].rsm.copy()
    rsm[~seen] = rsm[:, ~seen] = 7.0
    blind = train(damaged, [Job(rsm, seen, 0.1, 1, 5)], network, plan)
    for name in together[0]:
        for k in range(3):
            torch.testing.assert_close(together[k][name], spread[k][name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(blind[0][name], together[1][name], rtol=1e-4, atol=1e-5)


def test_linear_variant_is_ridge_onto_the_brains_coordinates(
    vectors: np.ndarray, rsms: dict[str, np.ndarray]
) -> None:
    brain = rsms["subject1"]
    aligner = BrainAligner(alpha=0.0, penalty=0.3).fit(vectors, brain)
    centring = np.eye(N) - 1 / N
    gram = centring @ brain @ centring
    y = vectors - vectors.mean(axis=0, dtype=float)
    penalty = 0.3 * np.trace(y @ y.T) / (N - 1)
    values, axes = np.linalg.eigh(gram / np.trace(gram))
    coordinates = axes * np.sqrt(np.maximum(values, 0))
    model = SklearnRidge(alpha=penalty, fit_intercept=False).fit(y, coordinates)
    expected = similarity_matrix(model.predict(y))
    # Coordinates are known up to a rotation: similarities are not.
    np.testing.assert_allclose(similarity_matrix(aligner.transform(vectors)), expected, atol=1e-4)


def test_alpha_one_knows_no_brain(vectors: np.ndarray, rsms: dict[str, np.ndarray]) -> None:
    for settings in ({"variant": "linear", "penalty": 0.1}, NETWORK):
        own = settings | {"alpha": 1.0}
        first, second = (
            BrainAligner(**own).fit(vectors, rsms[s]).transform(vectors)  # type: ignore[arg-type]
            for s in ("subject1", "subject2")
        )
        np.testing.assert_allclose(first, second, atol=1e-5)
        third = BrainAligner(**(own | {"alpha": 0.01})).fit(vectors, rsms["subject2"])  # type: ignore[arg-type]
        assert not np.allclose(third.transform(vectors), second, atol=1e-3)


def test_choice_comes_from_held_out_training_categories(
    vectors: np.ndarray, rsms: dict[str, np.ndarray]
) -> None:
    aligner = BrainAligner(alpha=(1.0, 0.1, 0.001), penalty=(0.01, 1.0))
    aligner.fit(vectors, rsms, leave_out="subject1")
    means = aligner.cv_.groupby(["alpha", "penalty"])["rsa"].mean()
    assert len(aligner.cv_) == 6 * 5
    assert means.idxmax() == (aligner.alpha_, aligner.penalty_)
    # With the brain unrelated to the vectors, held-out categories do not agree with it.
    order = np.random.default_rng(1).permutation(N)
    shuffled = rsms["subject2"][np.ix_(order, order)]
    assert BrainAligner().fit(vectors, shuffled).cv_["rsa"].mean() < means.max() - 0.1
    one = BrainAligner(**NETWORK | {"alpha": (0.5, 0.01)}).fit(vectors, rsms)
    assert set(one.cv_["alpha"]) == {0.5, 0.01}
    assert one.alpha_ in (0.5, 0.01)


@pytest.mark.parametrize("settings", [{"alpha": 0.01, "penalty": (0.1, 1.0)}, NETWORK])
def test_scores_of_a_fold_are_those_of_a_fit_without_it(
    vectors: np.ndarray, rsms: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    rsm = rsms["subject1"]
    grid = settings | {"alpha": (0.01, 0.5)}
    scores = BrainAligner(**grid).fit(vectors, rsm).cv_
    held = generator(0, "alignment folds").permutation(N)[:8]
    rest = np.setdiff1d(np.arange(N), held)
    alone = BrainAligner(**settings | {"alpha": 0.5, "penalty": 0.1})
    alone.fit(vectors[rest], rsm[np.ix_(rest, rest)])
    own = similarity_matrix(alone.transform(vectors[held]))
    expected = np.corrcoef(upper(own), upper(rsm[np.ix_(held, held)]))[0, 1]
    chosen = (scores["fold"] == 0) & (scores["alpha"] == 0.5) & (scores["penalty"] <= 0.1)
    assert scores.loc[chosen, "rsa"].item() == pytest.approx(expected, abs=1e-3)


def test_leaving_out_and_several_regions(vectors: np.ndarray, rsms: dict[str, np.ndarray]) -> None:
    aligner = BrainAligner(alpha=0.01, penalty=0.1)
    each = aligner.leave_one_subject_out(vectors, rsms)
    alone = clone(aligner).fit(vectors, rsms, leave_out="subject2")
    np.testing.assert_allclose(
        each["subject2"].transform(vectors), alone.transform(vectors), atol=1e-6
    )
    assert set(each["subject2"].weights_) == {"subject1", "subject3", "subject4"}
    mean = np.mean([rsms[s] for s in alone.weights_], axis=0)
    by_hand = clone(aligner).fit(vectors, mean)
    np.testing.assert_allclose(by_hand.transform(vectors), alone.transform(vectors), atol=1e-6)
    regions = {(s, roi): rsm for s, rsm in rsms.items() for roi in ("V1", "V4")}
    left = clone(aligner).fit(vectors, regions, leave_out="subject2")
    assert len(left.weights_) == 6
    assert all(key[0] != "subject2" for key in left.weights_)
    with pytest.raises(DataError, match="nobody"):
        aligner.fit(vectors, rsms, leave_out="nobody")


def test_seeds_are_averaged_on_common_axes(
    vectors: np.ndarray, rsms: dict[str, np.ndarray]
) -> None:
    def spread(**settings: Any) -> tuple[float, float]:
        """Length of the average latent, and of the plain average, over that of one latent."""
        aligner = BrainAligner(**NETWORK | settings).fit(vectors, rsms)
        average = np.linalg.norm(aligner.transform(vectors))
        seeds = []
        for k in range(3):
            own = {name: value for name, value in aligner.arrays_.items() if name.endswith(f".{k}")}
            weights = {n.split(".")[0]: torch.as_tensor(v)[None] for n, v in own.items()}
            network = Architecture("autoencoder", 16, "relu")
            seeds.append(network.latent(torch.as_tensor(vectors)[None], weights)[0].numpy())
        if settings["combine"] == "procrustes":
            first, last = seeds[0], seeds[2] @ aligner.arrays_["rotation.2"]
            assert np.linalg.norm(first - last) < 0.9 * np.linalg.norm(first - seeds[2])
        length = np.mean([np.linalg.norm(z) for z in seeds])
        plain = np.linalg.norm(np.mean(seeds, axis=0))
        return float(average / length), float(plain / length)

    common, plain = spread(n_seeds=3, combine="common", batch_size=10)
    assert common == pytest.approx(plain)
    assert common > 0.95
    rotated, plain = spread(n_seeds=3, combine="procrustes")
    assert rotated > plain + 0.05


def test_residual_keeps_the_space_and_towers_share_a_map(
    vectors: np.ndarray, rsms: dict[str, np.ndarray]
) -> None:
    start = BrainAligner(variant="residual", alpha=1.0, epochs=5).fit(vectors, rsms)
    np.testing.assert_array_equal(start.transform(vectors), vectors)
    moved = BrainAligner(variant="residual", alpha=0.01, epochs=60).fit(vectors, rsms)
    assert moved.transform(vectors).shape == vectors.shape
    assert 0.01 < np.abs(moved.transform(vectors) - vectors).mean() < np.abs(vectors).mean()
    texts = vectors + 0.3 + 0.1 * np.random.default_rng(0).normal(size=vectors.shape)
    for settings in ({"alpha": 0.01, "penalty": 0.1}, NETWORK):
        both = BrainAligner(**settings).fit({"image": vectors, "text": texts}, rsms)  # type: ignore[arg-type]
        a, b = both.transform(vectors), both.transform(texts, tower="text")
        cosine = np.corrcoef(np.vstack([a, b]))[:N, N:]
        assert (cosine.argmax(axis=1) == np.arange(N)).mean() > 0.9
    with pytest.raises(DataError, match="share categories and width"):
        BrainAligner().fit({"image": vectors, "text": texts[:, :5]}, rsms)
    with pytest.raises(DataError, match="sound"):
        both.transform(vectors, tower="sound")


@pytest.mark.parametrize("settings", [{}, NETWORK, NETWORK | {"n_seeds": 2}])
def test_saving(
    tmp_path: Path, vectors: np.ndarray, rsms: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    regions = {(s, "V4"): rsm for s, rsm in rsms.items()}
    aligner = BrainAligner(**settings).fit(vectors, regions)
    aligner.save_pretrained(tmp_path / "aligner")
    loaded = BrainAligner.from_pretrained(tmp_path / "aligner")
    np.testing.assert_array_equal(loaded.transform(vectors), aligner.transform(vectors))
    assert loaded.weights_ == aligner.weights_
    assert loaded.alpha_ == aligner.alpha_
    pd.testing.assert_frame_equal(loaded.cv_, aligner.cv_, check_dtype=False)
    weights = tmp_path / "aligner" / "aligner.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ArtefactError):
        BrainAligner.from_pretrained(tmp_path / "aligner")


def test_recordings_and_crossnobis(world: RSMWorld, vectors: np.ndarray) -> None:
    names = list(world.categories[:N])
    brain = {s: world.recording(s).select(split="train") for s in world.subjects[:2]}
    aligner = BrainAligner(alpha=0.01, penalty=0.1).fit(vectors, brain, categories=names)
    by_hand = {s: similarity_matrix(world.responses[s][:N]) for s in brain}
    expected = BrainAligner(alpha=0.01, penalty=0.1).fit(vectors, by_hand)
    np.testing.assert_allclose(aligner.transform(vectors), expected.transform(vectors), atol=1e-5)
    # Rows are joined by name: recordings in another order say the same.
    order = np.random.default_rng(0).permutation(N)
    mixed = {s: r.select(order) for s, r in brain.items()}
    again = BrainAligner(alpha=0.01, penalty=0.1).fit(vectors, mixed, categories=names)
    np.testing.assert_allclose(aligner.transform(vectors), again.transform(vectors), atol=1e-5)
    x = np.concatenate([world.responses["subject1"][:N], world.responses["subject2"][:N]])
    twice = Recording.from_arrays(x, {"stimulus": names * 2, "concept": names * 2}, modality="fmri")
    cross = BrainAligner(alpha=0.01, penalty=0.1, metric="crossnobis")
    cross.fit(vectors, twice, categories=names)
    halves = similarity_matrix(np.stack([x[:N], x[N:]]), "crossnobis")
    expected = BrainAligner(alpha=0.01, penalty=0.1, metric="crossnobis").fit(vectors, halves)
    np.testing.assert_allclose(cross.transform(vectors), expected.transform(vectors), atol=1e-5)
    with pytest.raises(DataError, match="twice"):
        cross.fit(vectors, brain, categories=names)
    with pytest.raises(LeakError):
        aligner.fit(vectors, world.recording("subject1"), categories=names)
    with pytest.raises(DataError, match="never shown"):
        aligner.fit(vectors, brain, categories=[*names[:-1], "unicorn"])
    with pytest.raises(DataError, match="order"):
        aligner.fit(vectors, brain)


def test_banks_are_targets_of_decoders() -> None:
    world = rsm_world(n_candidates=1)
    n_train, names = world.n_train, list(world.categories)
    text = FeatureBank.from_arrays(names, {"text": world.vectors + 0.1}, layer="vector")
    bank = FeatureBank.from_arrays(names, {"original": world.vectors}, concepts=names)
    bank = bank.with_text(text)
    brain = {s: world.recording(s).select(split="train") for s in world.subjects[1:]}
    aligner = BrainAligner(alpha=0.01, penalty=0.01)
    aligner.fit(bank, brain, categories=names[:n_train], test=names[n_train:])
    aligned = aligner.transform(bank)
    assert aligned.space() != bank.space()
    assert aligned.ids == bank.ids
    np.testing.assert_array_equal(aligned.vectors("original"), aligner.transform(world.vectors))
    assert aligned.text is not None
    assert aligned.text.space() == aligned.space()
    recording = world.recording("subject1")
    decoder = Ridge().fit(recording.select(split="train"), aligned, progress=False)
    result = decoder.evaluate(recording.select(split="test"), gallery=aligned)
    plain = Ridge().fit(recording.select(split="train"), bank, progress=False)
    before = plain.evaluate(recording.select(split="test"), gallery=bank)
    assert result.two_way > before.two_way + 0.1
    with pytest.raises(SpaceMismatchError):
        decoder.evaluate(recording.select(split="test"), gallery=bank)
    other = BrainAligner(alpha=0.1, penalty=0.01).fit(bank, brain, categories=names[:n_train])
    assert other.transform(bank).space() != aligned.space()
    narrow = FeatureBank.from_arrays(names, {"original": world.vectors[:, :9]})
    with pytest.raises(SpaceMismatchError):
        aligner.transform(narrow)


def test_what_cannot_be_aligned_is_refused(
    vectors: np.ndarray, rsms: dict[str, np.ndarray]
) -> None:
    brain, names = rsms["subject1"], [f"c{i}" for i in range(N)]
    aligner = BrainAligner(alpha=0.01, penalty=0.1)
    with pytest.raises(NotFittedError):
        aligner.transform(vectors)
    with pytest.raises(DataError, match="too few categories"):
        aligner.fit(vectors[:19], brain[:19, :19])
    with pytest.raises(DataError, match="another size"):
        aligner.fit(vectors, brain[:-1, :-1])
    lopsided = brain.copy()
    lopsided[0, 1] += 0.1
    with pytest.raises(DataError, match="not symmetric"):
        aligner.fit(vectors, lopsided)
    holes = vectors.copy()
    holes[3] = np.nan
    with pytest.raises(DataError, match="c3"):
        aligner.fit(holes, brain, categories=names)
    frame = pd.DataFrame(vectors, index=names)
    with pytest.raises(DataError, match="unicorn"):
        aligner.fit(frame, brain, categories=[*names[:-1], "unicorn"])
    bank = FeatureBank.from_arrays(names, {"original": vectors})
    with pytest.raises(DataError, match="unicorn"):
        aligner.fit(bank, brain, categories=[*names[:-1], "unicorn"])
    with pytest.raises(LeakError, match="c7"):
        aligner.fit(vectors, brain, categories=names, test=["c7", "z"])
    with pytest.raises(DataError, match="without names"):
        aligner.fit(vectors, brain, test=["c7"])
    with pytest.raises(DataError, match="same for all"):
        aligner.fit(np.ones((N, 4)), brain)
    with pytest.raises(DataError, match="more than once"):
        aligner.fit(vectors, brain, categories=["c0", *names[:-1]])
    with pytest.raises(DataError, match="all the same"):
        BrainAligner(**NETWORK | {"n_seeds": 2, "combine": "common"}).fit(vectors, brain)
    for wrong in ({"variant": "deep"}, {"alpha": 1.5}, {"penalty": 0}, {"epochs": 0},
                  {"folds": 20}, {"n_seeds": 2}, {"alpha": "much"}):  # fmt: skip
        with pytest.raises(DataError):
            BrainAligner(**wrong).fit(vectors, brain)  # type: ignore[arg-type]
    # Units that are constant tell nothing, and do no harm.
    dull = np.column_stack([vectors, np.full(N, 3.0)])
    for settings in ({"alpha": 0.01, "penalty": 0.1}, NETWORK):
        found = BrainAligner(**settings).fit(dull, brain).transform(dull)  # type: ignore[arg-type]
        assert np.isfinite(found).all()
    np.testing.assert_allclose(
        similarity_matrix(aligner.fit(dull, brain).transform(dull)),
        similarity_matrix(aligner.fit(vectors, brain).transform(vectors)),
        atol=1e-6,
    )
    with pytest.raises(SpaceMismatchError):
        aligner.transform(vectors[:, :5])
