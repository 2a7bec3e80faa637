"""SAMGA: the router follows what is informative, per subject; two stages; scores by subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.recording import Recording
from phosphene.errors import DataError, SpaceMismatchError
from phosphene.methods._layers import Router
from phosphene.methods.samga import SAMGA
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import tiny_problem

PROBLEM = tiny_problem()
BANK = PROBLEM.bank
RNG = np.random.default_rng(0)
# Three layers that have nothing to do with each other, the last of another width.
OWN = {
    "a": BANK.vectors("original"),
    "b": RNG.standard_normal((len(BANK), 24)).astype("float32"),
    "c": RNG.standard_normal((len(BANK), 10)).astype("float32"),
}


# A weight moves by about the rate per step, and must get somewhere before trials are memorised.
LONG: dict[str, Any] = {
    "lr": 4e-2,
    "router_rate": 1.0,
    "selection": "fixed_epoch",
    "average_repetitions": False,
}


def bank_of(*layers: str) -> FeatureBank:
    arrays = {("original", layer): OWN[layer] for layer in layers}
    return FeatureBank.from_arrays(
        BANK.ids, arrays, concepts=BANK.stimuli["concept"].tolist(), layer=layers[0]
    )


def fitted(train: Recording, bank: FeatureBank, **params: Any) -> SAMGA:
    quick = {"epochs": 20, "stage_epochs": 5, "batch_size": 64, "lr": 5e-3, "weight_decay": 0.0,
             "projection": 32, "device": "cpu", "precision": "fp32"}  # fmt: skip
    return SAMGA(**(quick | params)).fit(train, bank, progress=False)


def two_people() -> Recording:
    """Subject 01 follows layer a and 02 layer b."""
    one = PROBLEM.train
    rows = BANK.resolve(one.trials["stimulus"].astype(str))
    mixing = np.random.default_rng(5).standard_normal((24, 17 * 80)).astype("float32") / 5
    noise = np.random.default_rng(6).standard_normal((one.n_trials, 17 * 80)).astype("float32")
    signals = (OWN["b"][rows] @ mixing + noise).reshape(-1, 17, 80)
    trials = one.trials.assign(subject="02")
    other = Recording.from_arrays(
        signals, trials, sfreq=100.0, modality="eeg", sensors=one.sensors, name="tiny"
    )
    return Recording.concat([one, other])


@pytest.fixture(scope="module")
def pair() -> SAMGA:
    return fitted(two_people(), bank_of("a", "b"), **LONG)


def test_router_finds_the_only_informative_layer() -> None:
    weights = fitted(PROBLEM.train, bank_of("b", "a", "c"), **LONG).layer_weights_
    assert list(weights.columns) == ["b", "a", "c"]
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (weights["a"] > weights[["b", "c"]].max(axis=1) + 0.1).all()


def test_router_finds_it_at_the_papers_rate_too() -> None:
    """At 1e-4, as fast as other parameters, its weights would stay where they start."""
    papers = {"lr": 1e-4, "batch_size": 16, "epochs": 40, "stage_epochs": 13}
    same = {**papers, "selection": "fixed_epoch", "average_repetitions": False}
    ahead = {}
    for rate in (1.0, SAMGA().router_rate):
        weights = fitted(PROBLEM.train, bank_of("b", "a", "c"), router_rate=rate, **same)
        shared = weights.layer_weights_.loc["shared"]
        ahead[rate] = shared["a"] - shared[["b", "c"]].max()
    assert ahead[1.0] < 0.04
    assert ahead[30.0] > 0.12


def test_rate_of_the_router_is_a_factor_of_its_steps() -> None:
    moved = []
    for rate in (1.0, 7.0):
        router = Router(3, 1, rate).eval()
        optimiser = torch.optim.Adam(router.parameters(), lr=1e-3)
        before = router(torch.tensor([-1]), 0.0, 0.0).log()
        router(torch.tensor([-1]), 0.0, 0.0)[0, 1].neg().backward()
        optimiser.step()
        moved.append((router(torch.tensor([-1]), 0.0, 0.0).log() - before)[0].detach())
    spread = [float(m[1] - m[0]) for m in moved]
    assert spread[0] == pytest.approx(2e-3, rel=0.02)
    assert spread[1] == pytest.approx(7 * spread[0], rel=0.02)


def test_subjects_follow_their_own_layers(pair: SAMGA) -> None:
    weights = pair.layer_weights_
    assert weights.loc["01", "a"] > weights.loc["shared", "a"] > weights.loc["02", "a"]
    assert weights.loc["01", "a"] > weights.loc["01", "b"] + 0.02
    assert weights.loc["02", "b"] > weights.loc["02", "a"] + 0.02


def test_scores_mix_by_subject_and_one_query_equals_its_row(pair: SAMGA) -> None:
    queries, gallery = two_people().select(repetition=0), bank_of("a", "b")
    queries = queries.select([0, 1, queries.n_trials - 1])
    strange = queries.with_trials(queries.trials.assign(subject="99"))
    for asked, names in ((queries, ["01", "01", "02"]), (strange, ["shared"] * 3)):
        matrix = pair.similarity(asked, gallery).matrix
        z = torch.from_numpy(pair.embed(asked).vectors)
        project = pair.modules_["image projector"]
        for row, name in enumerate(names):
            a = pair.layer_weights_.loc[name]
            units = [torch.nn.functional.normalize(torch.from_numpy(OWN[k]), dim=1) for k in "ab"]
            mixed = project(a["a"] * units[0] + a["b"] * units[1])
            expected = torch.cosine_similarity(z[row][None], mixed, dim=1).detach()
            np.testing.assert_allclose(matrix[row], expected, atol=1e-5)
            alone = pair.similarity(asked.select([row]), gallery).matrix[0]
            np.testing.assert_allclose(alone, matrix[row], atol=1e-6)
    with pytest.raises(DataError, match="different mixes"):
        pair._cosine_parts(queries, gallery, None)
    embeddings, candidates = pair._cosine_parts(strange, gallery, None)
    matrix = (
        embeddings.unit().vectors
        @ (candidates.vectors / np.linalg.norm(candidates.vectors, axis=1, keepdims=True)).T
    )
    np.testing.assert_allclose(matrix, pair.similarity(strange, gallery).matrix, atol=1e-5)


def test_stages_switch_at_the_right_epoch() -> None:
    decoder = SAMGA()
    rates = [decoder._learning_rate(epoch) for epoch in (0, 19, 20, 59)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5])
    weights = [decoder._mmd_weight(epoch) for epoch in (0, 19, 20, 59)]
    assert weights == pytest.approx([0.9, 0.5, 0, 0])
    short = fitted(PROBLEM.train, BANK, epochs=4, stage_epochs=2, lr=1e-3)
    assert short.history_["lr"].tolist() == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    # MMD is of the order of .1, InfoNCE of ln 64.
    loss = short.history_["loss"].to_numpy()
    assert loss[0] < 0.6 * loss[2]
    without = fitted(PROBLEM.train, BANK, epochs=1, mmd_weights=(0.0, 0.0)).history_["loss"][0]
    assert without > 3 * loss[0]


def test_dropout_of_subjects_and_layers() -> None:
    router = Router(4, 1)
    torch.nn.init.constant_(router.own[:, 0], 2.0)
    codes = torch.zeros(4000, dtype=torch.long)
    torch.manual_seed(0)
    shared = (router(codes, 0.3, 0.0)[:, 0] == 0.25).float().mean()
    assert float(shared) == pytest.approx(0.3, abs=0.03)
    weights = router(codes, 0.0, 0.1)
    assert float((weights[:, 1] == 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    torch.testing.assert_close(weights.sum(1), torch.ones(4000))
    torch.testing.assert_close(router(codes, 0.0, 1.0), router.eval()(codes, 1.0, 1.0))
    assert not torch.equal(router(codes[:1], 0, 0), router(codes[:1] - 1, 0, 0))


def test_routing_switches() -> None:
    uniform = fitted(PROBLEM.train, BANK, epochs=1, routing="uniform")
    np.testing.assert_allclose(uniform.layer_weights_, 1 / 3, rtol=1e-6)
    shared = fitted(PROBLEM.train, BANK, epochs=2, routing="shared").layer_weights_
    np.testing.assert_array_equal(shared.loc["shared"], shared.loc["01"])
    assert shared.loc["01"].std() > 0


def test_one_layer_unknown_routing_and_other_galleries_are_refused() -> None:
    for bank, layers in ((bank_of("a"), None), (BANK, ["vector"])):
        with pytest.raises(DataError, match="at least two"):
            fitted(PROBLEM.train, bank, layers=layers)
    with pytest.raises(DataError, match="unknown routing"):
        fitted(PROBLEM.train, BANK, routing="other")
    for rate in (0.0, float("nan")):
        with pytest.raises(DataError, match="router_rate"):
            fitted(PROBLEM.train, BANK, router_rate=rate)
    decoder = fitted(PROBLEM.train, bank_of("a", "c"), epochs=1)
    with pytest.raises(SpaceMismatchError, match="'c'"):
        decoder.similarity(PROBLEM.test, bank_of("a", "b"))


def test_saved_and_loaded(pair: SAMGA, tmp_path: Path) -> None:
    pair.save_pretrained(tmp_path / "model")
    again = SAMGA.from_pretrained(tmp_path / "model")
    assert again.layer_weights_.equals(pair.layer_weights_)
    queries, gallery = two_people(), bank_of("a", "b")
    first, second = (d.similarity(queries, gallery).matrix for d in (pair, again))
    np.testing.assert_array_equal(first, second)
