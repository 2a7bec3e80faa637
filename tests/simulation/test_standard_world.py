"""The frozen standard world with real features and the library's decoders; minutes, hence slow.

Margins leave about two standard errors of the mean over the seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from phosphene.data.recording import Recording
from phosphene.evaluation.noise_ceiling import noise_ceiling
from phosphene.evaluation.retrieval import score
from phosphene.methods.ubp import UBP
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import get_world

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
STEPS: dict[str, Any] = {"epochs": 20, "batch_size": 256, "lr": 3e-4}


def plain(seed: int) -> UBP:
    return UBP(views=("original",), uncertainty=False, random_state=seed, **STEPS)


def draw(world: str, scene: Scene, seed: int, **how: Any) -> Study:
    return simulate(world, scene=scene, seed=seed, channels=OCCIPITO_PARIETAL, **how)


@pytest.fixture(scope="module")
def scene() -> Scene:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra 'demo'")
    return make_scene(get_world("standard"))


@pytest.fixture(scope="module")
def accuracies(scene: Scene) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        study = draw("standard", scene, seed, averaged=True)
        decoder = plain(seed).fit(study.train("01"), study.bank)
        for count in (10, 80):
            test = draw(
                "standard", scene, seed, averaged=True, train_repetitions=1, test_repetitions=count
            ).test("01")
            found.setdefault(f"plain {count}", []).append(decoder.evaluate(test, study.bank).top1)
            ceiling = noise_ceiling(study.truth["01"], count)
            found.setdefault(f"ceiling {count}", []).append(ceiling)
        trials = draw("standard", scene, seed, train_repetitions=1, test_repetitions=4).test("01")
        found.setdefault("plain 1", []).append(_single(decoder, trials, study))
        found.setdefault("ceiling 1", []).append(noise_ceiling(study.truth["01"], 1))
        aware = UBP(random_state=seed, **STEPS).fit(study.train("01"), study.bank)
        found.setdefault("ubp 80", []).append(aware.evaluate(study.test("01"), study.bank).top1)
        found.setdefault("same 80", []).append(decoder.evaluate(study.test("01"), study.bank).top1)
    return {name: np.array(values) for name, values in found.items()}


def _single(decoder: UBP, trials: Recording, study: Study) -> float:
    ids = sorted(set(trials.trials["stimulus"]))
    return float(score(decoder.similarity(trials, study.bank, ids=ids))["top1"].mean())


def test_plain_contrast_has_the_profile_of_the_field(accuracies: dict[str, np.ndarray]) -> None:
    mean = {name: values.mean() for name, values in accuracies.items()}
    assert 0.02 <= mean["plain 1"] <= 0.08
    assert mean["plain 1"] + 0.08 < mean["plain 10"] < mean["plain 80"] - 0.08
    assert 0.34 <= mean["plain 80"] <= 0.48


def test_stays_under_the_ceiling(accuracies: dict[str, np.ndarray]) -> None:
    for count in (1, 10, 80):
        assert (accuracies[f"plain {count}"] <= accuracies[f"ceiling {count}"] + 0.02).all()


def test_foveated_targets_win_where_the_brain_is_foveated(
    accuracies: dict[str, np.ndarray],
) -> None:
    gain = accuracies["ubp 80"] - accuracies["same 80"]
    assert gain.mean() >= 0.02


def test_without_signal_nothing_is_decoded(scene: Scene) -> None:
    hits = []
    for seed in SEEDS:
        study = draw("zero-signal", scene, seed, averaged=True)
        decoder = plain(seed).fit(study.train("01"), study.bank)
        hits.append(decoder.evaluate(study.test("01"), study.bank).top1)
    assert np.mean(hits) < 0.02  # chance is 1 of 200
