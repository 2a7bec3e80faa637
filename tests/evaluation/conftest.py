"""Small score matrices and results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import Similarity

MakeSimilarity = Callable[..., Similarity]
MakeResult = Callable[..., Result]


@pytest.fixture
def make_similarity() -> MakeSimilarity:
    """Scores of ``n`` stimuli for some subjects; ``signal`` raises the true candidate's."""

    def make(
        n: int = 20, subjects: tuple[str, ...] = ("01",), signal: float = 1.0, seed: int = 0
    ) -> Similarity:
        rng = np.random.default_rng(seed)
        ids = [f"concept{i:03d}/image_{i:03d}.png" for i in range(n)]
        matrix = np.concatenate([rng.normal(size=(n, n)) + signal * np.eye(n) for _ in subjects])
        queries = pd.DataFrame(
            {
                "subject": np.repeat(subjects, n),
                "stimulus": ids * len(subjects),
                "concept": [i.split("/")[0] for i in ids] * len(subjects),
                "n_averaged": 4,
            }
        )
        return Similarity(matrix, queries, ids, [i.split("/")[0] for i in ids])

    return make


@pytest.fixture
def make_result(make_similarity: MakeSimilarity) -> MakeResult:
    def make(name: str = "ridge", train_seed: int = 0, protocol: Protocol | None = None,
             **more: object) -> Result:  # fmt: skip
        known = protocol or Protocol(
            dataset="demo", simulated=True, method=name, gallery="exact", selection="fixed_epoch"
        )
        return Result.from_similarity(
            make_similarity(**more), known.replace(seeds=(train_seed,)), name=name, versions={}
        )

    return make
