"""Ridge regression from signals to target vectors: the linear baseline of every comparison.

    W = argmin_W |X W - Y|^2 + sum_t a_t |W_t|^2,   a_t by exact leave-one-out

X are the flattened signals (channels x times, or voxels) standardised with training statistics,
Y the target vectors of the stimuli seen. A query is compared with the gallery by the cosine of the
two vectors after the mean target of the training data is taken from both: vectors of pictures or
words have a large common part, which tells nothing about which of them was seen. With one-hot
targets this is plain classification: the candidate with the largest prediction wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from phosphene._registry import register
from phosphene.decoding.ridge import ALPHAS, RidgeLOO
from phosphene.evaluation.similarity import Embeddings, Gallery
from phosphene.methods._contracts import LinearDecoder
from phosphene.methods._decoder import Floats
from phosphene.stimuli.bank import FeatureBank


@register("method", "ridge")
@dataclass(eq=False, repr=False, kw_only=True)
class Ridge(LinearDecoder):
    """Ridge regression from signals to target vectors, penalties by exact leave-one-out.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, for each target dimension.
    centre : bool
        Compare vectors after subtracting the mean target of the training data (see the module).
    views, layer, average_repetitions, standardise, random_state
        As in every decoder.

    Attributes
    ----------
    alpha_ : ndarray, shape (dimensions,)
        Chosen penalties.
    loo_r2_ : ndarray, shape (dimensions,)
        Leave-one-out R2 of every target dimension, on the training data.
    coef_ : ndarray, shape (features, dimensions)
    intercept_, target_mean_, offset_ : ndarray, shape (dimensions,)
        ``offset_`` is the intercept relative to the mean target.
    """

    alphas: Sequence[float] = ALPHAS
    centre: bool = True

    _state_names: ClassVar[tuple[str, ...]] = (
        "coef_",
        "intercept_",
        "target_mean_",
        "offset_",
        "alpha_",
        "loo_r2_",
    )

    def _solve(self, features: Floats, targets: Floats, *, progress: bool) -> tuple[Any, Any]:
        model = RidgeLOO(self.alphas, progress=progress).fit(features, targets)
        self.alpha_, self.loo_r2_ = model.alpha_, model.loo_r2_
        self.target_mean_ = targets.mean(axis=0, dtype=np.float64)
        # Kept apart in double precision: under a strong penalty the prediction differs from the
        # mean by less than single precision resolves next to it.
        self.offset_ = model.intercept_ - self.target_mean_
        return model.coef_.T, model.intercept_

    def _queries(self, recording: Any) -> Embeddings:
        """Decoded vectors relative to the training mean."""
        if not self.centre:
            return super()._queries(recording)
        aligned = self._aligned(recording)
        deviation = self._features(aligned) @ self.coef_ + self.offset_
        return Embeddings(deviation, aligned.trials, self.space_)

    def _candidates(self, gallery: FeatureBank, ids: Sequence[str] | None) -> Gallery:
        """Candidates relative to the training mean, if they are of its space."""
        found = super()._candidates(gallery, ids)
        if not self.centre or found.space != self.space_:  # others are refused when compared
            return found
        return replace(found, vectors=found.vectors - self.target_mean_)
