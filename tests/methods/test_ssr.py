"""SSR: equal to NeuroBridge without its parts, and each part as written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.methods.neurobridge import NeuroBridge
from phosphene.methods.ssr import SSR
from phosphene.objectives.infonce import InfoNCE
from phosphene.objectives.masked import MaskedReconstruction
from phosphene.testing._data import TinyProblem, tiny_problem

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 64,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
}
BARE: dict[str, Any] = {
    "anchor": False,
    "image_reconstruction": False,
    "brain_reconstruction": False,
}
VIEWS = ("mean_of", "original")


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def fit(problem: TinyProblem, **changes: Any) -> SSR:
    return SSR(**(QUICK | changes)).fit(problem.train, problem.bank, progress=False)


@pytest.mark.parametrize("gallery", ["augmented", "original"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_without_its_parts_it_is_neurobridge_to_the_bit(
    problem: TinyProblem, gallery: Any, smoothing: float
) -> None:
    same = {**QUICK, "gallery": gallery, "smoothing_probability": smoothing, "random_state": 4}
    ssr = fit(problem, **same, **BARE)
    bridge = NeuroBridge(**same, views=VIEWS).fit(problem.train, problem.bank, progress=False)
    first, second = (d.history_.drop(columns="seconds") for d in (ssr, bridge))
    assert first.equals(second)
    assert ssr.selected_epoch_ == bridge.selected_epoch_
    queries = problem.test.average()
    assert np.array_equal(ssr.embed(queries).vectors, bridge.embed(queries).vectors)
    scores = [d.similarity(queries, problem.bank).matrix for d in (ssr, bridge)]
    assert np.array_equal(*scores)
    assert set(ssr.modules_) == set(bridge.modules_)
    # The check can fail: the anchor alone makes another decoder.
    anchored = fit(problem, **same, **(BARE | {"anchor": True}))
    assert not np.array_equal(anchored.embed(queries).vectors, bridge.embed(queries).vectors)


def test_defaults_and_registration() -> None:
    ssr = SSR()
    assert _registry.get("method", "ssr") is SSR
    assert (ssr.views, ssr.gallery) == (VIEWS, "original")
    assert (ssr.reconstruction_weight, ssr.warm_up, ssr.mask_ratio) == (0.5, 5, 0.5)
    assert (ssr.augmented_trials, ssr.reconstructed_trials) == (128, 64)
    assert (ssr.lr, ssr.batch_size, ssr.epochs, ssr.projection) == (1e-4, 1024, 50, 512)


MODULES = {"encoder", "objective", "brain_projector", "image_projector"}
SWITCHES: list[tuple[dict[str, Any], set[str], int]] = [
    ({}, {"image_objective", "image_reconstruction", "brain_reconstruction"}, 3),
    ({"image_reconstruction": False}, {"image_objective", "brain_reconstruction"}, 3),
    ({"brain_reconstruction": False}, {"image_objective", "image_reconstruction"}, 3),
    ({"reconstruction_weight": 0.0}, {"image_objective"}, 3),
    ({"augmented_original": False}, {"image_reconstruction", "brain_reconstruction"}, 2),
    ({"anchor": False}, {"image_reconstruction", "brain_reconstruction"}, 1),
    (BARE, set(), 1),
]


@pytest.mark.parametrize("shown", [None, [3, 3, 1, 2, 2, 0, 5, 6]])
@pytest.mark.parametrize(("changes", "modules", "n_terms"), SWITCHES)
def test_loss_is_the_mean_of_the_contrasts_plus_weighted_reconstructions(
    problem: TinyProblem,
    changes: dict[str, Any],
    modules: set[str],
    n_terms: int,
    shown: list[int] | None,
) -> None:
    ssr = fit(problem, epochs=1, augmented_trials=4, reconstructed_trials=3, **changes)
    assert set(ssr.modules_) == MODULES | modules
    stream = torch.Generator().manual_seed(0)
    b, a, o = torch.randn(8, 512, generator=stream), *torch.randn(2, 8, 24, generator=stream)
    project = ssr.modules_["image_projector"]
    pa, po = project(a), project(o)
    # Where there is an anchor, the first trials of a batch meet augmented pictures.
    n = 8 if n_terms == 1 else 4
    targets = {"image": a[:n], "original": o} if n_terms > 1 else {"image": a}
    ids = None if shown is None else torch.tensor(shown)
    if ids is not None:
        targets["stimulus"] = ids
    few = None if ids is None else ids[:n]
    brain, pictures = InfoNCE("target", "softplus"), InfoNCE("both", "fixed", 1 / 0.07)
    contrasts = [brain(b[:n], pa[:n], few), brain(b, po, ids), pictures(pa[:n], po[:n], few)]
    contrast = torch.stack(contrasts[:n_terms]).mean()
    on = [one for one in ("image_reconstruction", "brain_reconstruction") if one in modules]
    ssr._on_epoch_start(1)
    for step in range(1, 4):  # the two take turns
        expected = contrast
        torch.manual_seed(9)
        if on:
            name = on[step % len(on)]
            pair = (pa[:3], b[:3]) if name == "image_reconstruction" else (b[:3], pa[:3])
            scaled = (x / x.square().mean(1, keepdim=True).sqrt() for x in pair)
            expected = expected + 0.4 * 0.5 * len(on) * ssr.modules_[name](*scaled)
        torch.manual_seed(9)
        torch.testing.assert_close(ssr._loss(b, targets, torch.arange(8)), expected)


def test_trials_of_a_batch_that_meet_augmented_pictures(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    compared: list[int] = []
    forward, contrast = MaskedReconstruction.forward, InfoNCE.forward

    def note(self: Any, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        rows.append(len(own))
        return forward(self, own, other)

    def watch(self: Any, z: torch.Tensor, v: torch.Tensor, ids: Any = None) -> torch.Tensor:
        compared.append(len(z))
        return contrast(self, z, v, ids)

    monkeypatch.setattr(MaskedReconstruction, "forward", note)
    monkeypatch.setattr(InfoNCE, "forward", watch)
    fit(problem, epochs=1, batch_size=50, augmented_trials=20, reconstructed_trials=10)
    assert rows == [10, 10, 8]  # 8 are left of 108
    assert sorted(compared) == [8, 8, 8, 20, 20, 20, 20, 50, 50]  # brain and original: all
    rows.clear()
    compared.clear()
    fit(problem, epochs=1, batch_size=54, augmented_trials=None, reconstructed_trials=None)
    assert set(rows) == set(compared) == {54}
    compared.clear()
    fit(problem, epochs=1, batch_size=54, augmented_trials=20, anchor=False)
    assert set(compared) == {54}  # the only contrast there is


def test_weight_of_reconstruction_grows_over_the_warm_up() -> None:
    ssr = SSR()
    ramp = []
    for epoch in range(7):
        ssr._on_epoch_start(epoch)
        ramp.append(ssr._ramp)
    assert ramp == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    none = SSR(warm_up=0)
    none._on_epoch_start(0)
    assert none._ramp == 1.0


def test_gradients_through_the_anchor_can_be_stopped(problem: TinyProblem) -> None:
    off = {"image_reconstruction": False, "brain_reconstruction": False}
    for stopped in (False, True):
        ssr = fit(problem, epochs=1, stop_gradient=stopped, **off)
        b = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
        a, o = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(1))
        a.requires_grad_()
        o.requires_grad_()
        ssr._loss(b, {"image": a, "original": o}, torch.arange(8)).backward()
        assert a.grad is not None
        assert a.grad.any()
        assert (o.grad is None or not o.grad.any()) == stopped


@pytest.mark.parametrize(
    "changes", [{"mask_ratio": 0.25}, {"reconstructor": "mlp"}, {"warm_up": 1}]
)
def test_settings_of_the_reconstruction_matter(
    problem: TinyProblem, changes: dict[str, Any]
) -> None:
    plain, changed = fit(problem), fit(problem, **changes)
    assert not plain.history_["loss"].equals(changed.history_["loss"])


def test_the_anchor_and_the_gallery_are_the_original(problem: TinyProblem) -> None:
    ssr = fit(problem)
    assert ssr.gallery_view_ == "original"
    targets = ssr._targets(problem.bank, ssr.train_stimuli_)
    shown = problem.bank.vectors("original", None, ssr.train_stimuli_)
    assert np.array_equal(targets["original"][0], shown)
    assert fit(problem, gallery="augmented").gallery_view_.startswith("mean_of(")


def test_small_space_without_projectors_learns(problem: TinyProblem) -> None:
    ssr = fit(problem, projection=None, epochs=15)
    assert ssr.modules_["brain_reconstruction"].tokens == 12
    assert ssr.evaluate(problem.test, problem.bank).two_way > 0.7


def test_an_interrupted_training_goes_on_to_the_same_bits(
    problem: TinyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SSR, "_checkpoint_seconds", 0.0)
    whole = fit(problem)

    ended = SSR._on_epoch_end

    def stop(self: SSR, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        ended(self, epoch)

    monkeypatch.setattr(SSR, "_on_epoch_end", stop)
    ssr = SSR(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        ssr.fit(problem.train, problem.bank, checkpoint=tmp_path, progress=False)
    monkeypatch.setattr(SSR, "_on_epoch_end", ended)
    again = SSR(**QUICK)
    starts: list[int] = []
    begin = SSR._on_epoch_start
    monkeypatch.setattr(
        SSR, "_on_epoch_start", lambda self, epoch: (starts.append(epoch), begin(self, epoch))[1]
    )
    again.fit(problem.train, problem.bank, checkpoint=tmp_path, progress=False)
    assert starts == [2]
    queries = problem.test.average()
    assert np.array_equal(again.embed(queries).vectors, whole.embed(queries).vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": ("mean_of",), "gallery": "augmented"}, "two views"),
        ({"anchor": False, "stop_gradient": True}, "no anchor"),
        ({"warm_up": -1}, "negative"),
        ({"augmented_trials": 1}, "augmented_trials"),
        ({"reconstructed_trials": 0}, "reconstructed_trials"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"reconstructor": "rnn"}, "unknown reconstructor"),
    ],
)
def test_impossible_settings_are_refused(
    problem: TinyProblem, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fit(problem, **changes)
