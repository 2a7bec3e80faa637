"""ip_adapter: decoded embedding, a prior that learned from held-out trials, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

from phosphene.errors import DataError
from phosphene.methods._reconstruction_files import pixels
from phosphene.methods.ip_adapter import IPAdapterReconstructor
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.reconstruction.ip_adapter import IPAdapter
from phosphene.reconstruction.prior import DiffusionPrior
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.testing import TinyProblem, _tiny_diffusion, tiny_images, tiny_problem

QUIET: dict[str, Any] = {"progress": False}
ALPHAS = (10.0, 1e4)


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=2.0)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    _tiny_diffusion.tiny_demo(folder)

    def encode(x: Any) -> Any:  # means of colours, with the width that the model takes
        return x.mean((2, 3)).repeat(1, 427)[:, :1280]

    encoder = CallableEncoder(encode, id="colours", image_size=16, dim=1280)
    return {
        "source": LatentDiffusion.load(folder, device="cpu"), "encoder": encoder, "steps": 4,
        "prior_widths": (32, 16), "prior_epochs": 3, "prior_steps": 5, "device": "cpu",
        "alphas": ALPHAS,
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(problem: TinyProblem, settings: dict[str, Any]) -> IPAdapterReconstructor:
    return IPAdapterReconstructor(**settings).fit(problem.train, tiny_images(), **QUIET)


def test_without_the_prior_the_mean_goes_to_the_generator(
    problem: TinyProblem, settings: dict[str, Any]
) -> None:
    plain = IPAdapterReconstructor(**settings, prior=False)
    plain.fit(problem.train, tiny_images(), **QUIET)
    test = problem.test.average(by=("subject", "stimulus")).select([0, 1])
    made = plain.reconstruct(test, n=2, seed=3, **QUIET)
    generator = IPAdapter(settings["source"], encoder=settings["encoder"], steps=4)
    expected = generator.generate(
        image_embeds=plain.decode(test)["image"], n=2, seed=3,
        ids=[f"01/{i}" for i in made.ids], progress=False,
    )  # fmt: skip
    np.testing.assert_array_equal(np.rint(255 * made.images), pixels(expected))
    assert not hasattr(plain, "prior_")


def test_the_prior_draws_what_the_generator_gets(
    model: IPAdapterReconstructor, problem: TinyProblem
) -> None:
    test = problem.test.average(by=("subject", "stimulus")).select([0, 1])
    made = model.reconstruct(test, n=3, seed=2, **QUIET)
    names = [f"01/{i}" for i in made.ids]
    drawn = model.prior_.sample(model.decode(test)["image"], 3, 2, ids=names)
    assert drawn.shape == (2, 3, 1280)
    assert drawn.std(axis=1).max() > 0
    expected = model.generator_.generate(
        image_embeds=drawn[1, 2][None], n=1, seed=2, ids=[f"{names[1]}/2"], progress=False
    )
    assert np.abs(255 * made.images[1, 2] - pixels(expected)[0, 0]).max() <= 1
    assert not np.array_equal(made.images[1, 0], made.images[1, 2])
    assert any("prior" in note for note in made.protocol.notes)


def test_the_prior_learns_from_trials_that_the_regression_had_not_seen(
    problem: TinyProblem, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    usual = DiffusionPrior.fit

    def spy(self: DiffusionPrior, c: Any, x: Any, **options: Any) -> DiffusionPrior:
        seen.extend([np.array(c), np.array(x)])
        return usual(self, c, x, **options)

    monkeypatch.setattr(DiffusionPrior, "fit", spy)
    model = IPAdapterReconstructor(**settings).fit(problem.train, tiny_images(), **QUIET)
    train = problem.train.average(by=("subject", "stimulus"))
    X = model._features(train).astype(float)
    concepts = train.trials["concept"].astype(str).to_numpy()
    Y = seen[1].astype(float)
    expected = np.empty_like(Y)
    for rest, fold in GroupKFold(5).split(X, groups=concepts):
        assert not set(concepts[rest]) & set(concepts[fold])
        ridge = RidgeCV(ALPHAS, alpha_per_target=True).fit(X[rest], Y[rest, :3])
        expected[fold, :3] = ridge.predict(X[fold])
    np.testing.assert_allclose(seen[0][:, :3], expected[:, :3], atol=1e-3)
    own = model.decode(train)["image"]  # far nearer, because they were fitted on
    assert np.square(own - Y).mean() < 0.5 * np.square(seen[0] - Y).mean()


def test_too_few_stimuli_for_a_prior(problem: TinyProblem, settings: dict[str, Any]) -> None:
    few = problem.train.select(stimulus=problem.train.stimuli[:4])
    with pytest.raises(DataError, match="prior=False"):
        IPAdapterReconstructor(**settings).fit(few, tiny_images(), **QUIET)
