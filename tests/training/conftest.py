"""Small paired problems for the tests of training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from phosphene.data.recording import Recording
from phosphene.stimuli.bank import FeatureBank


@pytest.fixture
def bank() -> FeatureBank:
    """Twelve stimuli of six concepts, two views."""
    rng = np.random.default_rng(0)
    ids = [f"c{i // 2}/c{i // 2}_{i % 2}.png" for i in range(12)]
    vectors = rng.standard_normal((2, 12, 5)).astype(np.float32)
    return FeatureBank.from_arrays(ids, {"original": vectors[0], "sharp": vectors[1]})


@pytest.fixture
def make_recording() -> Callable[..., Recording]:
    def make(ids: list[str], repetitions: int = 1, chans: int = 3, times: int = 8) -> Recording:
        rng = np.random.default_rng(1)
        stimuli = [name for name in ids for _ in range(repetitions)]
        signals = rng.standard_normal((len(stimuli), chans, times)).astype(np.float32)
        return Recording.from_arrays(signals, {"stimulus": stimuli}, sfreq=100.0)

    return make
