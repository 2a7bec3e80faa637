"""MindDiffuser: units by cross-validation, stage 1 by the generator, stage 2 by its own loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.methods._reconstruction_files import pixels
from phosphene.methods.minddiffuser import MindDiffuser
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.components import evidence
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.img2img import Img2Img
from phosphene.testing import TinyProblem, _tiny_diffusion, tiny_images, tiny_problem

QUIET: dict[str, Any] = {"progress": False}
LAYERS = ("block1", "block2")


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=2.0)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    _tiny_diffusion.tiny_demo(folder)
    source = LatentDiffusion.load(folder, device="cpu")
    return {
        "source": source, "steps": 4, "start": 3, "guidance": 2.0, "layers": LAYERS,
        "final": "block3", "grid": 4, "iterations": 6, "lr": 0.05, "frames": 3, "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(problem: TinyProblem, settings: dict[str, Any]) -> MindDiffuser:
    return MindDiffuser(**settings).fit(problem.train, tiny_images(), **QUIET)


def changed(model: MindDiffuser, **params: Any) -> MindDiffuser:
    """The fitted model with other settings of its stages."""
    other = MindDiffuser(**(model.get_params() | params))
    for name, value in vars(model).items():
        if name.endswith("_") and not name.startswith("_"):
            setattr(other, name, value)
    other._structural = model._structural
    return other


def few(problem: TinyProblem, n: int = 2) -> Any:
    return problem.test.average(by=("subject", "stimulus")).select(list(range(n)))


def test_a_quarter_of_the_units_is_kept_by_cross_validated_score(
    problem: TinyProblem, settings: dict[str, Any], model: MindDiffuser
) -> None:
    whole = MindDiffuser(**settings, keep=1.0).fit(problem.train, tiny_images(), **QUIET)
    for layer in LAYERS:
        all_units, kept = whole.decoders_[layer], model.decoders_[layer]
        assert len(kept.units) == round(len(all_units.units) / 4)
        left = np.setdiff1d(all_units.units, kept.units)
        assert all_units.r2[kept.units].min() >= all_units.r2[left].max() > -1
        X = model._features(few(problem))
        np.testing.assert_allclose(kept.predict(X), all_units.predict(X)[:, kept.units], atol=1e-5)
        truth = whole.encode(tiny_images(), problem.train.stimuli)[layer][:, kept.units]
        np.testing.assert_allclose(model.unit_scale_[layer], truth.std(axis=0), rtol=1e-3)
    assert len(model.decoders_["block3"].units) == len(whole.decoders_["block3"].units)


def test_of_the_picture_itself_all_units_are_kept(
    problem: TinyProblem, settings: dict[str, Any]
) -> None:
    layers = ("pixels", "block1")
    model = MindDiffuser(**(settings | {"layers": layers, "final": None, "iterations": 3}))
    model.fit(problem.train, tiny_images(), **QUIET)
    kept = {
        name: (len(model.decoders_[name].units), model.decoders_[name].shape) for name in layers
    }
    assert kept == {"pixels": (3 * 16 * 16, (3 * 16 * 16,)), "block1": (64, (256,))}
    made = model.reconstruct(few(problem), **QUIET)
    losses = made.traces.groupby("query")["loss"].agg(["first", "min"])
    assert (losses["min"] < losses["first"]).all()


def test_components_of_layers_count_by_how_surely_they_are_decoded(
    problem: TinyProblem, settings: dict[str, Any], tmp_path: Path
) -> None:
    layers = ("pixels", *LAYERS)
    own = settings | {"layers": layers, "components": 20, "final": None}
    model = MindDiffuser(**own).fit(problem.train, tiny_images(), **QUIET)
    units = MindDiffuser(**(own | {"components": None})).fit(problem.train, tiny_images(), **QUIET)
    assert len(model.decoders_["pixels"].units) == 3 * 16 * 16  # the picture itself stays as it is
    for layer in LAYERS:
        decoder = model.decoders_[layer]
        assert decoder.shape == (20,)
        assert 1 <= len(decoder.units) <= 20
        assert (decoder.r2 > 0).all()
        # Components have a variance of 1 over the pictures; trials may repeat some of them.
        expected = 1 / np.sqrt(evidence(decoder.r2))
        np.testing.assert_allclose(model.unit_scale_[layer], expected, rtol=0.05)
        # What components are for: some are decoded better than most of the units they replace.
        assert decoder.r2.max() > np.median(units.decoders_[layer].r2)

    test = few(problem)
    made = model.reconstruct(test, **QUIET)
    losses = made.traces.groupby("query")["loss"].agg(["first", "min"])
    assert (losses["min"] < 0.95 * losses["first"]).all()
    other = MindDiffuser.from_pretrained(
        model.save_pretrained(tmp_path / "model"), source=settings["source"]
    )
    np.testing.assert_array_equal(other.reconstruct(test, **QUIET).images, made.images)


@pytest.mark.parametrize("params", [{"components": 0},
                                    {"components": 5, "standardise_units": False}])  # fmt: skip
def test_components_that_cannot_be(
    problem: TinyProblem, settings: dict[str, Any], params: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="need standardise_units"):
        MindDiffuser(**settings, **params).fit(problem.train, tiny_images(), **QUIET)


def test_stage_1_is_the_generators_picture(model: MindDiffuser, problem: TinyProblem) -> None:
    test = few(problem)
    made = model.reconstruct(test, n=2, seed=5, **QUIET)
    features = model.decode(test)
    generator = Img2Img(model.source, steps=4, strength=0.75, guidance=2.0)
    assert generator.start == 3 == model.generator_.start
    expected = generator.generate(
        text_embeds=features["text"], init_latents=features["latent"], n=2, seed=5,
        ids=[f"01/{i}" for i in made.ids], progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(np.rint(255 * made.stages["stage1"]), pixels(expected))
    only = changed(model, second_stage=False).reconstruct(test, n=2, seed=5, **QUIET)
    assert list(only.stages) == ["stage1"]
    np.testing.assert_array_equal(only.images, made.stages["stage1"])
    assert len(only.traces) == 0


def test_stage_2_starts_there_and_lowers_its_loss(
    model: MindDiffuser, problem: TinyProblem
) -> None:
    test = few(problem)
    made = model.reconstruct(test, n=2, seed=5, **QUIET)
    assert list(made.stages) == ["stage1", "stage2"]
    features = {k: torch.from_numpy(v) for k, v in model.decode(test).items()}
    targets, network = model._structure_of(features), model._network()

    found = model._second(model.decode(test), [f"01/{i}" for i in made.ids], 2, 5)
    for query in range(2):
        for sample in range(2):
            one = found[2 * query + sample]
            trace = made.traces[(made.traces["query"] == query) & (made.traces["sample"] == sample)]
            np.testing.assert_allclose(trace["loss"], one.trace, rtol=1e-5)
            assert trace["iteration"].tolist() == list(range(7))
            pair = np.stack([one.first, one.best])
            with torch.no_grad():
                seen = network.features(torch.from_numpy(pair).permute(0, 3, 1, 2))
                losses = targets.loss(seen, [query, query], 0.1).numpy()
            np.testing.assert_allclose(losses, [one.trace[0], min(one.trace)], rtol=1e-3)
            assert losses[1] < 0.98 * losses[0]
            second = np.rint(255 * made.stages["stage2"][query, sample])
            np.testing.assert_array_equal(second, pixels(one.best))
    assert {row: list(frames) for row, frames in made.frames.items()} == {
        0: [0, 3, 6],
        1: [0, 3, 6],
    }
    gap = np.abs(made.frames[0][0] - made.stages["stage1"][0, 0]).max()
    assert gap < 2.5 / 255


def test_a_latent_that_is_held_fast_stays(model: MindDiffuser, problem: TinyProblem) -> None:
    test = few(problem)
    free = model.reconstruct(test, **QUIET)
    held = changed(model, latent_weight=1e3).reconstruct(test, **QUIET)
    np.testing.assert_allclose(held.stages["stage2"], held.stages["stage1"], atol=2 / 255)
    assert np.abs(free.stages["stage2"] - free.stages["stage1"]).max() > 10 / 255


def test_gradients_of_stage_2_equal_finite_differences(
    model: MindDiffuser, problem: TinyProblem
) -> None:
    test = few(problem, 1)
    diffusion, network = model.generator_.model, model._network()
    features = {k: torch.from_numpy(v) for k, v in model.decode(test).items()}
    targets = model._structure_of(features)
    noise = Noise(0, ["q"], [0]).normal(diffusion.latent_shape, "latents")

    def loss(z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        start = diffusion.add_noise(z, noise, steps=4, start=3)
        clean = diffusion.denoise(start, diffusion.tokens(c), steps=4, start=3, guidance=2.0)
        return targets.loss(network.features(diffusion.decode_latents(clean)), [0], 0.1).sum()

    z = features["latent"].clone().requires_grad_()
    c = features["text"].clone().requires_grad_()
    loss(z, c).backward()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value, step in ((z, 2e-4), (c, 2e-4)):
            assert value.grad is not None
            direction = torch.randn(value.shape, generator=stream) + 5 * value.grad.sign()
            slope = float((value.grad * direction).sum())
            moved = [
                float(loss(*[v + s * step * direction if v is value else v for v in (z, c)]))
                for s in (1, -1)
            ]
            assert slope == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=0.1)


def test_weights_of_layers_are_those_of_the_paper(model: MindDiffuser) -> None:
    features = {k: torch.from_numpy(v) for k, v in model.encode(
        tiny_images(), tiny_images().ids[-3:]).items()}  # fmt: skip
    alike = model._structure_of(features).weights
    np.testing.assert_allclose(alike["block1"], 1.5 / 2.7, rtol=1e-5)
    raw = changed(model, standardise_units=False)._structure_of(features)
    lengths = {name: np.linalg.norm(features[name].numpy(), axis=1) for name in LAYERS}
    ratio = (1.5 / lengths["block1"]) / (1.2 / lengths["block2"])
    np.testing.assert_allclose(raw.weights["block1"] / raw.weights["block2"], ratio, rtol=1e-4)
    np.testing.assert_allclose(raw.weights["block1"] + raw.weights["block2"], 1, rtol=1e-5)
    np.testing.assert_array_equal(raw.layers["block1"], features["block1"])


def test_true_pictures_have_no_structural_loss(model: MindDiffuser) -> None:
    pictures = tiny_images()
    ids = pictures.ids[-3:]
    features = {k: torch.from_numpy(v) for k, v in model.encode(pictures, ids).items()}
    shown = np.stack([pictures.image(i) for i in ids]).repeat(2, axis=1).repeat(2, axis=2)
    x = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        seen = model._network().features(x)
        losses = model._structure_of(features).loss(seen, [0, 1, 2], 0.1)
        others = model._structure_of(features).loss(seen, [1, 2, 0], 0.1)
    assert float(losses.max()) < 0.1 * float(others.min())


@pytest.mark.parametrize("params", [{"truncate": 1}, {"optimise": "c and z"}, {"checkpoint": True}])
def test_options_of_stage_2(
    model: MindDiffuser, problem: TinyProblem, params: dict[str, Any]
) -> None:
    test = few(problem, 1)
    usual = model.reconstruct(test, **QUIET)
    found = changed(model, **params).reconstruct(test, **QUIET)
    np.testing.assert_array_equal(usual.stages["stage1"], found.stages["stage1"])
    losses = [one.traces["loss"].to_numpy() for one in (usual, found)]
    assert losses[1].min() < losses[1][0]
    if "checkpoint" in params:  # less memory, nothing else
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    else:
        assert not np.allclose(losses[0][1:], losses[1][1:], rtol=1e-4)


def test_structure_may_have_regions_of_its_own(settings: dict[str, Any]) -> None:
    model = MindDiffuser(**settings)
    assert model._groups() == ("text", "latent", "block1", "block2", "block3")
    assert model._roi_names("block2") == ("block2", "structure")
    assert model._roi_names("text") == ("text",)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"start": 5}, "steps=4"), ({"keep": 0.0}, "share"), ({"optimise": "c"}, "moves")],
)
def test_settings_that_cannot_be_are_refused_before_the_fit(
    problem: TinyProblem, settings: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        MindDiffuser(**(settings | wrong)).fit(problem.train, tiny_images(), **QUIET)
