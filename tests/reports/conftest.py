"""Results of two methods on a few pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from phosphene.data.stimuli import StimulusSet
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import Similarity

N = 12
IDS = [f"concept{i:02d}/picture_{i:02d}.png" for i in range(N)]
CONCEPTS = [i.split("/")[0] for i in IDS]

MakeResult = Callable[..., Result]


def similarity(signal: float = 2.0, subject: str = "01", seed: int = 0) -> Similarity:
    rng = np.random.default_rng(seed)
    queries = pd.DataFrame({"subject": subject, "stimulus": IDS, "concept": CONCEPTS})
    return Similarity(rng.normal(size=(N, N)) + signal * np.eye(N), queries, IDS, CONCEPTS)


@pytest.fixture
def make_result() -> MakeResult:
    def make(name: str = "ridge", subject: str = "01", seed: int = 0, signal: float = 2.0,
             **protocol: object) -> Result:  # fmt: skip
        facts: dict[str, object] = {
            "dataset": "demo",
            "simulated": True,
            "modality": "eeg",
            "method": name,
            "gallery": "exact",
            "date": "2025-01-01",
        }
        known = Protocol(**{**facts, "seeds": (seed,), **protocol})  # type: ignore[arg-type]
        history = pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "loss": [3.0, 2.0, 1.5],
                "val_top1": [0.1, 0.3, 0.2],
                "selected": [False, True, False],
            }
        )
        return Result.from_similarity(
            similarity(signal, subject, 10 * seed + int(subject)), known, name=name,
            ceiling={"top1": 0.9}, tables={"history": history}, versions={"phosphene": "1.2.3"},
        )  # fmt: skip

    return make


@pytest.fixture
def results(make_result: MakeResult) -> list[Result]:
    return [
        make_result(name, subject, signal=signal)
        for name, signal in (("ridge", 1.0), ("nice", 2.5))
        for subject in ("01", "02", "03")
    ]


@pytest.fixture
def pictures() -> StimulusSet:
    rng = np.random.default_rng(0)
    return StimulusSet.from_arrays(
        IDS, [rng.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in IDS], concepts=CONCEPTS
    )
