"""NeuroBridge: targets, projectors, gallery and smoothing as written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.methods.neurobridge import NeuroBridge
from phosphene.stimuli.views import MeanOf
from phosphene.testing._data import TinyProblem, tiny_problem

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
}
BOTH = ("mean_of", "original")


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def fit(problem: TinyProblem, **changes: Any) -> NeuroBridge:
    decoder = NeuroBridge(**(QUICK | changes))
    return decoder.fit(problem.train, problem.bank, progress=False)


def test_defaults_are_the_papers() -> None:
    method = NeuroBridge()
    assert _registry.get("method", "neurobridge") is NeuroBridge
    assert (method.encoder, method.projection, method.gallery) == ("eegproject", 512, "augmented")
    assert (method.smoothing_kernel, method.smoothing_probability) == (5, 0.3)
    assert (method.optimiser, method.lr, method.weight_decay) == ("adamw", 1e-4, 1e-4)
    assert (method.batch_size, method.epochs, method.normalise) == (1024, 50, "target")
    objective = method._make_objective()
    assert float(objective.scale) == pytest.approx(2.73, abs=0.01)
    assert not list(objective.parameters())
    assert not objective.unit_targets  # they are scaled behind the projector


def test_target_is_the_mean_of_the_four_augmentations(problem: TinyProblem) -> None:
    decoder = fit(problem)
    assert list(decoder.views_) == [decoder.gallery_view_] == [MeanOf().name]
    ids = decoder.train_stimuli_[:5]
    parts = [problem.bank.vectors(view.name, None, ids) for view in MeanOf().of]
    assert len(parts) == 4
    for fitted in (decoder, fit(problem, views=BOTH, gallery="original")):
        targets = fitted._targets(problem.bank, ids)["image"]
        np.testing.assert_allclose(targets, np.mean(parts, axis=0)[None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gallery", ["augmented", "original"])
def test_scores_are_cosines_behind_both_projectors(problem: TinyProblem, gallery: Any) -> None:
    decoder = fit(problem, views=BOTH, gallery=gallery)
    queries = problem.test.average()
    ids = list(dict.fromkeys(queries.trials["stimulus"]))
    modules = decoder.modules_
    brain = torch.from_numpy(decoder.scaler_.apply(queries.signals))
    view = MeanOf().name if gallery == "augmented" else "original"
    with torch.no_grad():
        b = modules["brain_projector"](modules["encoder"](brain))
        p = modules["image_projector"](torch.tensor(problem.bank.vectors(view, None, ids)))
    assert b.shape[1] == p.shape[1] == 512
    expected = torch.nn.functional.cosine_similarity(b[:, None], p[None], dim=2)
    found = decoder.similarity(queries, problem.bank, ids=ids).matrix
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_loss_is_the_papers(problem: TinyProblem) -> None:
    decoder = fit(problem)
    b, v = torch.randn(2, 8, 512, generator=torch.Generator().manual_seed(0))
    v = v[:, :24]
    p = decoder.modules_["image_projector"](v)
    logits = np.log1p(1 / 0.07) * b @ (p / p.norm(dim=1, keepdim=True)).T
    rows = torch.arange(8)
    cross = torch.nn.functional.cross_entropy
    expected = (cross(logits, rows) + cross(logits.T, rows)) / 2
    torch.testing.assert_close(decoder._loss(b, {"image": v}, rows), expected)


def test_every_projector_is_trained_and_the_scale_is_not(problem: TinyProblem) -> None:
    first, later = fit(problem, lr=0.0), fit(problem)
    for name, value in first.modules_.named_parameters():
        moved = not torch.equal(value, later.modules_.get_parameter(name))
        assert moved, name
    assert torch.equal(first.modules_["objective"].s, later.modules_["objective"].s)


def test_switches_do_what_they_say(problem: TinyProblem) -> None:
    queries = problem.test.average()
    plain = fit(problem)
    bare = fit(problem, projection=None)
    assert set(bare.modules_) == {"encoder", "objective"}
    assert bare.embed(queries).vectors.shape[1] == 24
    # Without projectors the encoder starts from the same weights.
    for start in (None, 512):
        encoder = fit(problem, projection=start, lr=0.0).modules_["encoder"]
        twin = fit(problem, lr=0.0, smoothing_probability=0.0).modules_["encoder"]
        for a, b in zip(encoder.parameters(), twin.parameters(), strict=True):
            assert torch.equal(a, b)
    losses = plain.history_["loss"]
    assert not losses.equals(fit(problem, smoothing_probability=0.0).history_["loss"])
    assert not losses.equals(fit(problem, smoothing_kernel=3).history_["loss"])
    assert not losses.equals(fit(problem, views=("original",)).history_["loss"])


def test_smoothing_is_for_training_only(problem: TinyProblem) -> None:
    decoder = fit(problem, smoothing_probability=1.0)
    queries = problem.test.average()
    assert np.array_equal(decoder.embed(queries).vectors, decoder.embed(queries).vectors)
    brain = torch.from_numpy(decoder.scaler_.apply(queries.signals))
    with torch.no_grad():
        raw = decoder.modules_["brain_projector"](decoder.modules_["encoder"](brain))
    np.testing.assert_allclose(decoder.embed(queries).vectors, raw.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": "original"}, r"view of their own[\s\S]*mean_of"),
        ({"gallery": "centres"}, "unknown gallery"),
        ({"projection": 0}, "projection"),
        ({"smoothing_kernel": 4}, "kernel"),
        ({"smoothing_probability": 30}, "probability"),
    ],
)
def test_impossible_settings_are_refused(
    problem: TinyProblem, changes: dict[str, Any], message: str
) -> None:
    decoder = NeuroBridge(**(QUICK | changes))
    with pytest.raises(DataError, match=message):
        decoder.fit(problem.train, problem.bank, progress=False)
    assert not hasattr(decoder, "modules_")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_signals_may_be_rounded_before_they_are_smoothed(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch, smoothing: float
) -> None:
    low = {"precision": "bf16", "smoothing_probability": smoothing}
    kept: list[torch.dtype] = []
    augment = NeuroBridge._augment

    def note(self: NeuroBridge, brain: torch.Tensor) -> torch.Tensor:
        kept.append(brain.dtype)
        return augment(self, brain)

    with monkeypatch.context() as patch:
        patch.setattr(NeuroBridge, "_augment", note)
        rounded = fit(problem, **low)
        assert set(kept) == {torch.bfloat16}
        patch.setattr(NeuroBridge, "_takes_rounded", False)
        late = fit(problem, **low)
        assert kept[-1] == torch.float32
    first, second = (d.history_["loss"].to_numpy() for d in (rounded, late))
    if smoothing:
        np.testing.assert_allclose(first, second, rtol=2e-3)
    else:
        assert np.array_equal(first, second)
