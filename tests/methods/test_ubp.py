"""UBP's choice of blur, by hand and against a reference that loops over trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn.functional import cross_entropy, normalize, softplus

from phosphene.errors import DataError
from phosphene.methods._contracts import Shapes
from phosphene.methods.ubp import UBP
from phosphene.testing._data import TinyProblem, tiny_problem
from phosphene.training.paired import PairedData
from phosphene.training.scaling import ChannelScaler

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def test_defaults_are_the_papers() -> None:
    ubp = UBP()
    assert (ubp.encoder, ubp.lr, ubp.weight_decay) == ("eegproject", 1e-4, 1e-4)
    assert (ubp.batch_size, ubp.epochs, ubp.normalise) == (1024, 50, "target")
    assert (ubp.smoothing, ubp.confidence, ubp.uncertainty) == (0.3, 0.95, True)
    assert float(ubp._make_objective().scale.detach()) == pytest.approx(2.73, abs=0.005)
    assert ubp._make_objective().s.requires_grad


@pytest.mark.parametrize("judge", ["current", "smoothed"])
def test_levels_of_a_batch_by_hand(judge: str) -> None:
    decoder = UBP(judge=judge)  # type: ignore[arg-type]
    decoder._state = {
        "smoothed": torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 9.0]),
        "level": torch.ones(6, dtype=torch.long),
        "next_level": torch.ones(6, dtype=torch.long),
    }
    index = torch.tensor([4, 0, 2, 1])
    similarity = torch.tensor([1.0, 1.0, 5.0, -3.0])
    decoder._choose_levels(similarity, index)
    # e = .7 + .3 s = 1, 1, 2.2, -.2: mean 1, sd sqrt((1.44 + 1.44) / 3) = .9798, half 1.9204
    smoothed = [1.0, -0.2, 2.2, 1.0, 1.0, 9.0]
    np.testing.assert_allclose(decoder._state["smoothed"], smoothed, rtol=1e-6, atol=1e-6)
    # s: 5 is above 2.92 -> weak (0); -3 is below -.92 -> strong (2); all e lie inside.
    chosen = [1, 2, 0, 1, 1, 1] if judge == "current" else [1] * 6
    assert decoder._state["next_level"].tolist() == chosen
    assert decoder._state["level"].tolist() == [1] * 6  # not before the end of the epoch
    decoder._on_epoch_end(0)
    assert decoder._state["level"].tolist() == chosen


def reference(decoder: UBP, problem: TinyProblem) -> tuple[dict[str, Any], list[int], list[float]]:
    """UBP written with loops over trials and unfused torch."""
    train = problem.train.average(by=("subject", "stimulus"))
    names = train.trials["stimulus"].tolist()
    levels = ["fovea(k=45)", "fovea(k=51)", "fovea(k=57)"]
    vectors = [problem.bank.vectors(view, ids=names) for view in levels]
    fresh = UBP(**decoder.get_params())
    fresh.views_, fresh.gallery_view_ = decoder.views_, decoder.gallery_view_
    modules = fresh._build(Shapes(**decoder._shapes))
    scaler = ChannelScaler.fit(train.signals)
    x = torch.from_numpy(scaler.apply(train.signals))
    n = len(names)
    z_half = float(scipy.stats.norm.ppf((1 + decoder.confidence) / 2))
    e, level, upcoming = [1.0] * n, [1] * n, [1] * n
    order_source = PairedData.build(train, problem.bank)
    adam = torch.optim.AdamW(modules.parameters(), lr=decoder.lr, weight_decay=1e-4, fused=False)
    for epoch in range(decoder.epochs):
        for batch in order_source.batches(decoder.batch_size, decoder.random_state, epoch):
            index = batch.index.tolist()
            v = torch.stack([torch.from_numpy(vectors[level[i]][i]) for i in index])
            z = modules["encoder"](x[index])
            logits = softplus(modules["objective"].s) * z @ normalize(v, dim=1).T
            truth = torch.arange(len(index))
            loss = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
            adam.zero_grad()
            loss.backward()
            adam.step()
            s = logits.detach().diagonal().tolist()
            for i, value in zip(index, s, strict=True):
                e[i] = 0.3 * value + 0.7 * e[i]
            batch_e = np.array([e[i] for i in index])
            low = batch_e.mean() - z_half * batch_e.std(ddof=1)
            high = batch_e.mean() + z_half * batch_e.std(ddof=1)
            for i, value in zip(index, s, strict=True):
                upcoming[i] = 0 if value > high else 2 if value < low else 1
        level = list(upcoming)
    return dict(modules.state_dict()), level, e


def test_equals_a_reference_that_loops_over_trials(problem: TinyProblem) -> None:
    # A narrow interval and a low rate, so that all three levels come into use.
    params = {**QUICK, "confidence": 0.5, "lr": 1e-4, "selection": "fixed_epoch"}
    decoder = UBP(**params, encoder_params={"dropout": 0.0})
    decoder.fit(problem.train, problem.bank, progress=False)
    weights, levels, smoothed = reference(decoder, problem)
    for name, value in decoder.modules_.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=2e-5, rtol=1e-3, msg=name)
    np.testing.assert_allclose(decoder._state["smoothed"], smoothed, atol=1e-3)
    assert decoder._state["level"].tolist() == levels
    assert len(set(levels)) == 3  # all three were in use


def test_validation_does_not_touch_the_choice(problem: TinyProblem) -> None:
    decoder = UBP(**QUICK).fit(problem.train, problem.bank, progress=False)
    untouched = decoder._state["smoothed"] == 1.0
    # exactly the held-out trials (4 of 40 concepts, 3 exemplars) keep their initial state
    assert int(untouched.sum()) == 12
    assert (decoder._state["level"][untouched] == 1).all()
    before = decoder._state["smoothed"].clone()
    decoder.evaluate(problem.test, problem.bank)
    assert torch.equal(before, decoder._state["smoothed"])


def test_inference_compares_with_the_middle_blur(problem: TinyProblem) -> None:
    decoder = UBP(**QUICK).fit(problem.train, problem.bank, progress=False)
    assert decoder.views_ == [f"fovea(k={k},g=3,peak=0.5)" for k in (45, 51, 57)]
    assert decoder.gallery_view_ == "fovea(k=51,g=3,peak=0.5)"
    queries = problem.test.average()
    ids = queries.stimuli
    z = decoder.embed(queries).vectors.astype(np.float64)
    v = problem.bank.vectors("fovea(k=51)", ids=ids).astype(np.float64)
    cosine = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ (
        v / np.linalg.norm(v, axis=1, keepdims=True)
    ).T
    scores = decoder.similarity(queries, problem.bank, ids=ids)
    np.testing.assert_allclose(scores.matrix, cosine, atol=1e-6)


def test_switched_off_it_is_plain_contrast_with_the_middle_view(problem: TinyProblem) -> None:
    params = {**QUICK, "uncertainty": False}
    three = UBP(**params).fit(problem.train, problem.bank, progress=False)
    one = UBP(**params, views=("fovea(k=51)",)).fit(problem.train, problem.bank, progress=False)
    plain = UBP(**params, views=("original",)).fit(problem.train, problem.bank, progress=False)
    assert three._state == {}
    for name, value in three.modules_.state_dict().items():
        assert torch.equal(value, one.modules_.state_dict()[name])
    assert plain.gallery_view_ == "original"
    assert not torch.equal(
        plain.modules_["encoder"].head[0].weight, one.modules_["encoder"].head[0].weight
    )


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"views": ("original",)}, "among three views"),
        ({"judge": "mean"}, "unknown judge"),
        ({"views": ("fovea(k=99)",), "uncertainty": False}, r"no vectors of the views fovea\(k=99"),
    ],
)
def test_what_it_cannot_do_is_said_before_training(
    problem: TinyProblem, params: dict[str, Any], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        UBP(**QUICK, **params).fit(problem.train, problem.bank, progress=False)
