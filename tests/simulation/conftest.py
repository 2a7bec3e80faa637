"""A small simulated world from constructed features: no pictures, no pretrained network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import World, get_world
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import fovea_levels

SMALL: dict[str, Any] = {
    "train_concepts": 120,
    "train_exemplars": 2,
    "test_concepts": 30,
    "driver_layer": "driver",
    "target_layer": "target",
    "early_uv": 0.0,
    "meaning_uv": 0.0,
    "object_dims": 12,
    "object_units": 4,
    "sfreq": 62.5,
    "n_times": 40,
    "noise": 4.0,
    "test_repetitions": 40,
}


def small_world(**overrides: Any) -> World:
    return get_world("standard", **{**SMALL, **overrides})


def constructed_bank(clutter: float = 1.0, seed: int = 0) -> FeatureBank:
    """Features of an object and of the clutter around it, which a foveal blur takes away.

    Driver and target are different mixtures, and the target is not linear in what it mixes.
    """
    rng = np.random.default_rng(seed)
    n_concepts, exemplars, dims = 150, 2, 8
    ids = [f"c{i:03d}/c{i:03d}_{k + 1}.png" for i in range(n_concepts) for k in range(exemplars)]
    shown = np.repeat(rng.standard_normal((n_concepts, dims)), exemplars, axis=0)
    shown += 0.4 * rng.standard_normal(shown.shape)
    around = clutter * rng.standard_normal(shown.shape)
    mixtures = {name: rng.standard_normal((2 * dims, 24)) for name in ("driver", "target")}
    levels = {"original": 1.0}
    levels |= {
        view.name: keep for view, keep in zip(fovea_levels(), (0.25, 0.2, 0.15), strict=True)
    }
    vectors = {}
    for view, keep in levels.items():
        content = np.concatenate([shown, keep * around], axis=1)
        vectors[view, "driver"] = content @ mixtures["driver"]
        vectors[view, "target"] = np.tanh(content @ mixtures["target"] / 4)
    return FeatureBank.from_arrays(ids, vectors)


@pytest.fixture(scope="session")
def small() -> Callable[..., World]:
    """The small world, with parameters replaced."""
    return small_world


@pytest.fixture(scope="session")
def bank_of() -> Callable[..., FeatureBank]:
    """Constructed features."""
    return constructed_bank


@pytest.fixture(scope="session")
def bank() -> FeatureBank:
    return constructed_bank()


@pytest.fixture(scope="session")
def scene_of(bank: FeatureBank) -> Callable[[World], Scene]:
    """Scene of a world with the constructed features."""
    return lambda world: make_scene(world, bank=bank)


@pytest.fixture(scope="session")
def study(bank: FeatureBank) -> Callable[..., Study]:
    """A study of the small world; takes parameters of the world and options of ``simulate``."""
    # The world says what is measured; the option of the same name would change its scale.
    names = set(inspect.signature(simulate).parameters) - {"modality"}

    def make(**how: Any) -> Study:
        options = {key: how.pop(key) for key in list(how) if key in names}
        world = small_world(**how)
        scene = make_scene(world, bank=bank)
        return simulate(world, scene=scene, **{"averaged": True, **options})

    return make
