"""A decoder under test, with what is fitted once and looked at by many checks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from phosphene.data.recording import Recording
from phosphene.testing._data import TinyProblem, tiny_problem
from phosphene.testing._runner import fail

# What makes a check quick, for constructors that have the parameter.
QUICK: dict[str, Any] = {
    "epochs": 25,
    "batch_size": 64,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
    "random_state": 0,
}


class MethodPart:
    """A method under test with what is fitted once and looked at by many checks."""

    def __init__(self, name: str, cls: Any, params: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.cls = cls
        known = cls().get_params()
        self.params = {k: v for k, v in QUICK.items() if k in known} | dict(params or {})

    def make(self, **changes: Any) -> Any:
        """An unfitted decoder with quick settings."""
        return self.cls(**(self.params | changes))

    def fit(self, train: Recording, **changes: Any) -> Any:
        """A decoder fitted on some training data of the problem."""
        return self.make(**changes).fit(train, self.problem.bank, progress=False)

    @cached_property
    def problem(self) -> TinyProblem:
        """Training and test trials with their bank."""
        return tiny_problem()

    @cached_property
    def fitted(self) -> Any:
        """A decoder fitted on the problem."""
        return self.fit(self.problem.train)

    @cached_property
    def queries(self) -> Recording:
        """Test trials averaged per stimulus."""
        return self.problem.test.average(by=("subject", "stimulus"))

    @cached_property
    def candidates(self) -> list[str]:
        """The distinct test stimuli, in the order of the queries."""
        return list(dict.fromkeys(self.problem.test.trials["stimulus"].astype(str)))

    def scores(self, decoder: Any, queries: Recording | None = None) -> np.ndarray[Any, Any]:
        """Similarity matrix of queries and candidates."""
        asked = self.queries if queries is None else queries
        similarity = decoder.similarity(asked, self.problem.bank, ids=self.candidates)
        return np.asarray(similarity.matrix)

    def two_way(self, decoder: Any) -> float:
        """Mean two-way identification over the test queries; .5 is chance."""
        result = decoder.evaluate(self.problem.test, self.problem.bank)
        return float(result.table["two_way"].mean())


def relabelled(recording: Recording, **columns: Any) -> Recording:
    """The recording with columns of its trial table replaced."""
    return recording.with_trials(recording.trials.assign(**columns))


def same(first: Any, second: Any, what: str, *, exact: bool = False) -> None:
    a, b = np.asarray(first), np.asarray(second)
    close = np.array_equal(a, b) if exact else np.allclose(a, b, rtol=1e-3, atol=1e-4)
    if a.shape != b.shape or not close:
        gap = np.abs(a - b).max() if a.shape == b.shape else f"shapes {a.shape}, {b.shape}"
        fail(what, found=f"largest difference {gap}")


def refused(error: type[Exception], what: str, action: Any, names: str = "") -> None:
    try:
        action()
    except error as caught:
        if names and names not in str(caught):
            fail(f"the error about {what} must name {names!r}", found=str(caught))
        return
    except Exception as caught:
        fail(f"{what}: {error.__name__} was expected", found=f"{type(caught).__name__}: {caught}")
    fail(f"{what} must be refused with {error.__name__}")
