"""Simulated recordings with a silent stretch before the picture, and the truth that made them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from phosphene.data.recording import Recording
from phosphene.simulation.scene import make_scene
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import simulate
from phosphene.stimuli.bank import FeatureBank

_spec = importlib.util.spec_from_file_location(
    "small_world", Path(__file__).parents[1] / "simulation" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

SUBJECTS = 6
BEFORE = 16  # samples before the picture


@dataclass(frozen=True)
class Timed:
    """Training and test data of several people with their times, bank and true course."""

    train: Recording
    test: Recording
    bank: FeatureBank
    course: np.ndarray  # (times,): spread of the true responses between stimuli


def make_timed(signal: float, subjects: int = SUBJECTS) -> Timed:
    bank = _module.constructed_bank()
    world = _module.small_world(signal=signal)
    quiet = _module.small_world(signal=0.0, evoked_uv=0.0)
    how = {"subjects": subjects, "channels": OCCIPITO_PARIETAL, "averaged": True}
    study = simulate(world, scene=make_scene(world, bank=bank), **how)
    # Noise of the same kind and another seed is what precedes the picture.
    noise = simulate(quiet, scene=make_scene(quiet, bank=bank), seed=1, **how)
    parts, courses = [], []
    for subject in study.subjects:
        after, before = study.recordings[subject], noise.recordings[subject]
        signals = np.concatenate([before.signals[..., -BEFORE:], after.signals], axis=-1)
        times = (np.arange(signals.shape[-1]) - BEFORE) / world.sfreq
        parts.append(after.with_signals(signals, times=times))
        truth = study.truth[subject].templates
        courses.append(np.sqrt(np.square(truth - truth.mean(axis=0)).mean(axis=(0, 1))))
    whole = Recording.concat(parts, name="simulated")
    course = np.concatenate([np.zeros(BEFORE), np.mean(courses, axis=0)])
    return Timed(whole.select(split="train"), whole.select(split="test"), bank, course)


@pytest.fixture(scope="session")
def timed_of() -> Callable[..., Timed]:
    return make_timed


@pytest.fixture(scope="session")
def timed() -> Timed:
    return make_timed(1.0)


@pytest.fixture(scope="session")
def silent() -> Timed:
    return make_timed(0.0)
