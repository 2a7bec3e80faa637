"""Combine: each part as in the method it comes from, targets side by side, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.errors import DataError, PhospheneError, SpaceMismatchError
from phosphene.methods import _levels
from phosphene.methods._combined import Mixture
from phosphene.methods._inference import encode_all
from phosphene.methods.combine import Combine
from phosphene.methods.ubp import UBP
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_problem

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}
LAYERS = ("vector", "vector-3")
NAMES: dict[str, Any] = {"text_weight": 0.2, "text_modulation": "product"}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def fit(problem: TinyProblem, **params: Any) -> Combine:
    return Combine(**(QUICK | params)).fit(problem.train, problem.bank, progress=False)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_one_target_is_plain_contrast(problem: TinyProblem) -> None:
    plain = UBP(**QUICK, views=("original",), uncertainty=False)
    plain.fit(problem.train, problem.bank, progress=False)
    found = fit(problem)
    np.testing.assert_allclose(found.history_["loss"], plain.history_["loss"], rtol=1e-6)
    queries = problem.test.average()
    np.testing.assert_allclose(
        found.similarity(queries, problem.bank).matrix,
        plain.similarity(queries, problem.bank).matrix,
        atol=1e-6,
    )
    assert found.embed(queries).space == plain.embed(queries).space


def test_levels_by_picture_are_those_of_ubp(problem: TinyProblem) -> None:
    theirs = UBP(**QUICK).fit(problem.train, problem.bank, progress=False)  # the same three views
    ours = fit(problem, views=("fovea",), level="image")
    assert torch.equal(ours._state["level"] + 1, theirs._state["level"])
    assert len(ours._state["level"].unique()) > 1
    np.testing.assert_allclose(ours.history_["loss"], theirs.history_["loss"], rtol=1e-5)


def test_levels_by_name_follow_the_contrast_with_names(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    choose = _levels.choose_levels

    def note(state: Any, similarity: torch.Tensor, index: torch.Tensor) -> None:
        seen.append((similarity.clone(), index.clone()))
        choose(state, similarity, index)

    monkeypatch.setattr(_levels, "choose_levels", note)
    decoder = Combine(**QUICK, views=("fovea",), level="names", **NAMES)
    contrast = Combine._contrast
    by_name: list[torch.Tensor] = []

    def listen(self: Any, name: str, *args: Any) -> Any:
        loss, s = contrast(self, name, *args)
        if name == "text":
            by_name.append(s.clone())
        return loss, s

    monkeypatch.setattr(Combine, "_contrast", listen)
    decoder.fit(problem.train, problem.bank, progress=False)
    assert len(seen) == len(by_name) > 0
    assert all(torch.equal(s, t) for (s, _), t in zip(seen, by_name, strict=True))


def test_scores_are_the_mean_cosine_over_targets(problem: TinyProblem) -> None:
    views = ("original", "gaussian(15)")
    decoder = fit(problem, layers=LAYERS, views=views)
    queries = problem.test.average()
    z = encode_all(decoder, queries)
    places = [(layer, view) for layer in LAYERS for view in decoder.views_]
    expected = np.zeros((queries.n_trials, len(problem.bank.ids)))
    for k, (layer, view) in enumerate(places):
        v = unit(problem.bank.vectors(view, layer))
        expected += unit(z[f"target {k}"].numpy()) @ v.T / len(places)
    check_scores(decoder, problem, expected, len(places) * 24)


def test_scores_are_the_cosine_with_the_mixture(problem: TinyProblem) -> None:
    decoder = fit(problem, layers=LAYERS, views=("fovea",), level="image", projection=7)
    queries = problem.test.average()
    mixture = decoder.modules_["image projector"]
    mixed = 0.0
    for own, layer in zip(mixture.own, LAYERS, strict=True):
        v = unit(problem.bank.vectors(decoder.views_[1], layer))  # the middle level
        with torch.no_grad():
            mixed = mixed + mixture.shared(own(torch.from_numpy(v))).numpy() / 2
    b = encode_all(decoder, queries)["target 0"].numpy()
    check_scores(decoder, problem, unit(b) @ unit(mixed).T, 7)


def check_scores(decoder: Combine, problem: TinyProblem, expected: Any, width: int) -> None:
    queries = problem.test.average()
    found = decoder.similarity(queries, problem.bank)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-6)
    # The same from what it embeds.
    embedded, gallery = decoder.embed(queries), decoder.embed_gallery(problem.bank)
    assert embedded.vectors.shape[1] == decoder.n_outputs_ == width
    assert embedded.space == gallery.space != decoder.space_
    np.testing.assert_allclose(
        unit(embedded.vectors) @ unit(gallery.vectors).T, expected, atol=1e-6
    )


def test_mixture_leaves_targets_out_but_never_all() -> None:
    own = [torch.nn.Identity() for _ in range(3)]
    mixture = Mixture(own, torch.nn.Identity(), 0.9)
    parts = [torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 1.0, 0]]), torch.tensor([[0, 0, 1.0]])]
    torch.manual_seed(0)
    many = mixture([part.expand(2000, 3) for part in parts])
    torch.testing.assert_close(many.sum(1), torch.ones(2000))
    kept = (many > 0).sum(1)
    # 3 are left where none would be (.729) or none is dropped (.001), 2 with 3 * .1 ** 2 * .9.
    assert (kept >= 1).all()
    assert abs(float((kept == 3).float().mean()) - 0.730) < 0.04
    assert abs(float((kept == 1).float().mean()) - 0.243) < 0.04
    torch.testing.assert_close(mixture.eval()(parts), torch.full((1, 3), 1 / 3))


def test_scores_modulated_by_names(problem: TinyProblem) -> None:
    decoder = fit(problem, layers=LAYERS, **NAMES)
    queries = problem.test.average()
    m = decoder.set_params(text_modulation="none").similarity(queries, problem.bank).matrix
    names = unit(problem.bank.text_vectors(problem.bank.ids))
    x = unit(encode_all(decoder, queries)["text"].numpy()) @ names.T
    found = decoder.set_params(text_modulation="product").similarity(queries, problem.bank)
    np.testing.assert_allclose(found.matrix, m + m * x, atol=1e-6)
    assert found.uses_gallery_text


def test_loss_by_hand(problem: TinyProblem) -> None:
    decoder = fit(problem, layers=LAYERS, reconstruction_weight=0.5, warm_up=2, **NAMES)
    torch.manual_seed(0)
    n, d = 6, 24
    z = {name: torch.randn(n, d) for name in ("target 0", "target 1", "text")}
    v = {name: torch.nn.functional.normalize(torch.randn(n, d), dim=1) for name in z}
    index = torch.arange(n)

    def contrast(name: str) -> torch.Tensor:
        scale = decoder.modules_[f"objective of {name}"].scale
        logits = scale * z[name] @ v[name].T
        cross = torch.nn.functional.cross_entropy
        return (cross(logits, index) + cross(logits.T, index)) / 2

    decoder._on_epoch_start(0)
    torch.manual_seed(1)
    found = decoder._loss(z, v, index)
    torch.manual_seed(1)
    filled = decoder.modules_["image_reconstruction"](v["target 0"], z["target 0"])
    filled = filled + decoder.modules_["brain_reconstruction"](z["target 0"], v["target 0"])
    pictures = (contrast("target 0") + contrast("target 1")) / 2 + 0.5 * 0.5 * filled
    torch.testing.assert_close(found, 0.8 * pictures + 0.2 * contrast("text"))


def test_loss_of_the_mixture_by_hand(problem: TinyProblem) -> None:
    decoder = fit(problem, layers=LAYERS, projection=8, mmd_weights=(0.9, 0.5), stage_epochs=3)
    assert decoder._mmd == 0.5  # of the third and last epoch
    torch.manual_seed(0)
    index, b = torch.arange(6), torch.randn(6, 8)
    v = {name: torch.nn.functional.normalize(torch.randn(6, 24), dim=1)
         for name in ("target 0", "target 1")}  # fmt: skip
    mixture = decoder.modules_["image projector"].eval()
    mixed = mixture(list(v.values()))
    logits = decoder.modules_["objective of target 0"].scale * b @ unit_rows(mixed).T
    cross = torch.nn.functional.cross_entropy
    contrast = (cross(logits, index) + cross(logits.T, index)) / 2
    mmd = decoder.modules_["mmd"](unit_rows(b), unit_rows(mixed))
    for epoch, weight in enumerate((0.9, 0.7, 0.5, 0.0)):
        decoder._on_epoch_start(epoch)
        found = decoder._loss({"target 0": b}, v, index)
        torch.testing.assert_close(found, (1 - weight) * contrast + weight * mmd)


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def test_names_help_and_shuffled_names_do_not(problem: TinyProblem) -> None:
    # Names of the tiny problem are their concepts' own vectors: they hold what is to be found.
    more = {"epochs": 5, "selection": "fixed_epoch", "text_weight": 0.5}
    weak = {"text_modulation": "product"}
    named = fit(problem, **more, **weak)
    shuffled = fit(problem, **more, **weak, shuffle_names=True)
    first, second = (d.evaluate(problem.test, problem.bank) for d in (named, shuffled))
    assert first.mrr > second.mrr + 0.05


def test_resumption_and_saving(problem: TinyProblem, tmp_path: Path) -> None:
    params = {
        **QUICK, **NAMES, "views": ("fovea",), "level": "image", "layers": LAYERS,
        "reconstruction_weight": 0.5, "smoothing_probability": 0.3, "projection": 8, "epochs": 4,
        "target_dropout": 0.2, "mmd_weights": (0.9, 0.5), "stage_epochs": 2,
    }  # fmt: skip
    whole = Combine(**params).fit(problem.train, problem.bank, progress=False)

    class Killed(Combine):
        def _on_epoch_end(self, epoch: int) -> None:
            super()._on_epoch_end(epoch)
            if epoch == 2:
                raise KeyboardInterrupt

    Killed.__qualname__ = Combine.__qualname__
    Killed._checkpoint_seconds = 0.0
    with pytest.raises(KeyboardInterrupt):
        Killed(**params).fit(problem.train, problem.bank, progress=False, checkpoint=tmp_path / "c")
    again = Combine(**params).fit(
        problem.train, problem.bank, progress=False, checkpoint=tmp_path / "c"
    )
    queries = problem.test.average()
    scores = whole.similarity(queries, problem.bank).matrix
    assert np.array_equal(again.similarity(queries, problem.bank).matrix, scores)
    whole.save_pretrained(tmp_path / "saved")
    loaded = Combine.from_pretrained(tmp_path / "saved")
    assert np.array_equal(loaded.similarity(queries, problem.bank).matrix, scores)
    assert loaded.embed(queries).space == whole.embed(queries).space


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"level": "some"}, "unknown level"),
    ({"level": "image"}, "chooses among three views"),
    ({"level": "names", "views": ("fovea",)}, "nothing is trained on them"),
    ({"text_modulation": "product"}, "nothing is trained on them"),
    ({"text_weight": 1.0}, "out of range"),
    ({"reconstruction_weight": -0.5}, "out of range"),
    ({"projection": 0}, "projection is a width"),
    ({"target_dropout": 0.1}, "the space that targets are mixed in"),
    ({"mmd_weights": (0.9, 0.5)}, "the space that targets are mixed in"),
    ({"projection": 8, "target_dropout": 1.0}, "out of range"),
    ({"smoothing_probability": 2.0}, "smoothing"),
    ({"layers": ("vector", "nothing")}, "nothing"),
    ({"views": ("fovea(k=3)",)}, "no vectors of the views"),
]


@pytest.mark.parametrize(("params", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_training(
    problem: TinyProblem, params: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Combine, "_build", lambda *args: pytest.fail("built"))
    with pytest.raises(PhospheneError, match=message):
        fit(problem, **params)


def test_names_and_layers_that_are_missing(problem: TinyProblem) -> None:
    bank = problem.bank
    arrays = {("original", "vector"): bank.vectors("original", "vector")}
    poor = FeatureBank.from_arrays(
        bank.ids, arrays, concepts=bank.stimuli["concept"].tolist(), provenance=bank.provenance
    )
    with pytest.raises(DataError, match="name"):
        Combine(**QUICK, **NAMES).fit(problem.train, poor, progress=False)
    decoder = fit(problem, layers=LAYERS)
    with pytest.raises(SpaceMismatchError, match="'vector-3'"):
        decoder.similarity(problem.test.average(), poor)
