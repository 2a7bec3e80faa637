"""The checks of methods find decoders that are broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest

from phosphene.data.splits import HeldOut
from phosphene.evaluation.similarity import Similarity
from phosphene.methods.ridge import Ridge
from phosphene.testing import CheckFailure, check_method


def with_scores(similarity: Similarity, matrix: Any) -> Similarity:
    from dataclasses import replace

    return replace(similarity, matrix=np.asarray(matrix, dtype=np.float32))


class Broken(Ridge):
    """A ridge decoder; the broken ones change one thing."""

    def __init_subclass__(cls) -> None:
        cls.__doc__ = f"A decoder that {cls.__name__}."


class ReadsLabels(Broken):
    def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
        scores = super().similarity(recording, gallery, ids=ids)
        seen = recording.trials["stimulus"].to_numpy()[:, None]
        return with_scores(scores, scores.matrix + (seen == np.array(scores.gallery_ids)))


class ReadsLabelsWhenEvaluated(ReadsLabels):
    peek = False

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.peek = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.peek = False

    def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
        base = super() if self.peek else super(ReadsLabels, self)
        return base.similarity(recording, gallery, ids=ids)


class CentresQueries(Broken):
    def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
        scores = super().similarity(recording, gallery, ids=ids)
        return with_scores(scores, scores.matrix - scores.matrix.mean(0))


class PrefersLateItems(Broken):
    def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
        scores = super().similarity(recording, gallery, ids=ids)
        return with_scores(scores, scores.matrix + np.arange(scores.matrix.shape[1]))


class IgnoresTheBrain(Broken):
    def _features(self, recording: Any) -> Any:
        return np.roll(super()._features(recording), 1, axis=0)

    def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
        scores = super().similarity(recording, gallery, ids=ids)
        constant = np.linspace(0, 1, scores.matrix.shape[1])
        order = np.argsort(np.argsort(scores.gallery_ids))
        return with_scores(scores, np.tile(constant[order], (len(scores.matrix), 1)))


class DrawsAtRandom(Broken):
    def fit(self, *args: Any, **kwargs: Any) -> Self:
        super().fit(*args, **kwargs)
        self.coef_ = self.coef_ + 1e-3 * np.random.default_rng().standard_normal(self.coef_.shape)
        return self


class FitsTestRows(Broken):
    def fit(self, train: Any, bank: Any, **kwargs: Any) -> Self:
        recording = train.open("fit") if isinstance(train, HeldOut) else train
        relabelled = recording.with_trials(recording.trials.assign(split="train"))
        return super().fit(relabelled, bank, **kwargs)


class AllowsOverlap(Broken):
    def evaluate(self, test: Any, gallery: Any, **kwargs: Any) -> Any:
        return super().evaluate(test, gallery, **(kwargs | {"zero_shot": False}))


class ScalesInPlace(Broken):
    def fit(self, train: Any, bank: Any, **kwargs: Any) -> Self:
        super().fit(train, bank, **kwargs)
        if hasattr(train, "signals"):
            train.signals.flags.writeable = True
            train.signals[:] *= 2
        return self


class ForgetsItsState(Broken):
    def _restore(self, arrays: Any) -> None:
        super()._restore({k: v * 2 if k.startswith("coef") else v for k, v in arrays.items()})


class ReturnsNothing(Broken):
    def fit(self, *args: Any, **kwargs: Any) -> Any:
        super().fit(*args, **kwargs)


@dataclass(eq=False, repr=False, kw_only=True)
class ChangesParameters(Ridge):
    alphas: Sequence[float] = (1.0, 10.0)

    def __post_init__(self) -> None:
        self.alphas = [2 * alpha for alpha in self.alphas]


@pytest.mark.parametrize(
    ("method", "finding"),
    [
        (ReadsLabels, "labels are hidden"),
        (ReadsLabelsWhenEvaluated, "must give chance"),
        (CentresQueries, "alone"),
        (PrefersLateItems, "order of the gallery"),
        (IgnoresTheBrain, "does not learn"),
        (DrawsAtRandom, "same seed"),
        (FitsTestRows, "test trials must be refused"),
        (AllowsOverlap, "training concept in the test must be refused"),
        (ScalesInPlace, "in place"),
        (ForgetsItsState, "a loaded decoder"),
        (ReturnsNothing, "the decoder itself|NoneType"),
        (ChangesParameters, "clone|constructor"),
    ],
)
def test_broken_methods_are_caught(method: type[Ridge], finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_method(method)


def test_a_method_that_is_not_registered_passes() -> None:
    check_method(Broken)
