r"""Brain-aligned semantic vectors: give a space of vectors the brain's similarity structure.

Vafaei et al., Communications Biology 9:206, 2026 (doi:10.1038/s42003-025-09482-x). Vectors y of
categories are mapped to a latent whose similarities follow those of brain responses R, and the
latent is decoded instead of y, also from people and modalities that took no part::

    autoencoder (paper)   z = relu(W y + b),  y' = V z + c
                          alpha |y - y'|^2 + (1 - alpha) |S(z) - R|^2 over pairs,  S = cosine
    residual              z = y + V relu(W y + b) + c, V and c from 0; the same loss with y' = z:
                          the width stays, and images and texts of one space stay comparable
    linear (default)      z = (y - mean) L,  ridge regression onto the coordinates of R in closed
                          form, with R mixed with the vectors' own structure by alpha

One aligner per subject left out; R is the mean over the others, of training categories only.

Where we differ from paper and released code (there is no code):

- Adam at 1e-3, full batch, 500 epochs, linear output, torch's uniform initialisation; both terms
  are means, over n x d values and over pairs [ours].
- alpha is chosen by cross-validation over training categories [ours]; the paper's was read off the
  test grid.
- The default is ``linear`` [ours]: the best of the three in ``simulation.rsm_world``.
- ``alpha=1`` uses no brain. That, centring, PCA, whitening and shuffled RSMs are the controls that
  `alignment_table` puts beside every result [ours: whitening, as a linear map can whiten].
- Several seeds are averaged after an orthogonal rotation, or from one initialisation [ours].
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from sklearn.base import BaseEstimator, clone

from phosphene.evaluation.rsm import Matrix, Metric, average, shares
from phosphene.methods import _alignment_bank, _alignment_files
from phosphene.methods._alignment_inputs import (
    read_brain,
    read_towers,
    refuse_test_categories,
    subjects_of,
    without,
)
from phosphene.methods._alignment_settings import resolve
from phosphene.methods._alignment_solve import Choice, Solution, Variant, solve, transform
from phosphene.stimuli.bank import FeatureBank


@dataclass(eq=False, repr=False, kw_only=True)
class BrainAligner(BaseEstimator):  # type: ignore[misc]
    """Map vectors to a space with the brain's similarity structure.

    Parameters
    ----------
    variant : {"linear", "autoencoder", "residual"}
        See the module.
    alpha, penalty : float or sequence of float
        Weight of the vectors' own structure, 0 to 1, and ridge penalty of ``linear`` in units of
        the mean eigenvalue; of several, cross-validation chooses.
    width : int, optional
        Units of the latent (``autoencoder``, default half of the vectors'), hidden units
        (``residual``, likewise), or most coordinates (``linear``, default all).
    activation : {"relu", "tanh", "linear"}
        Of the hidden units.
    metric : {"cosine", "correlation", "crossnobis"}
        Of the brain's RSM, where it is given as recordings; latents are compared by cosine with the
        first, by correlation with the others.
    weights, reduction : {"equal", "reliability"}, {"mean", "sum"}
        How several RSMs are averaged, and how both terms of the loss are reduced.
    epochs, lr, batch_size : int, float, int or None
        Training; None is the full batch.
    n_seeds, combine : int, {"procrustes", "common"}
        Trainings whose latents are averaged: rotated to the first one's axes, or started from one
        initialisation, so that only the order of batches differs (needs ``batch_size``).
    folds, random_state : int
        Of the cross-validation; seed.
    device, n_jobs : str, int
        Where it is trained, and how many stacks of trainings at a time.

    Attributes
    ----------
    alpha_, penalty_, cv_ : float, float, DataFrame
        What was chosen, and ``rsa`` by alpha, penalty and fold: agreement with the brain.
    weights_ : dict
        Share of every RSM in the average.
    categories_, towers_, n_features_in_, spaces_ : list or None, list, int, dict
        What it was fitted on.

    Examples
    --------
    >>> from phosphene.simulation.rsm_world import rsm_world
    >>> world = rsm_world(n_train=60, n_candidates=10)
    >>> brain = {s: world.recording(s).select(split="train") for s in world.subjects}
    >>> vectors, names = world.vectors[world.train], world.categories[:60]
    >>> aligner = BrainAligner(alpha=0.01, penalty=(0.01, 1.0))
    >>> aligner = aligner.fit(vectors, brain, categories=names, leave_out="subject1")
    >>> aligner.transform(world.vectors).shape
    (110, 59)
    """

    variant: Variant = "linear"
    alpha: float | Sequence[float] = (1.0, 0.1, 0.01, 0.001, 0.0001)
    penalty: float | Sequence[float] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    width: int | None = None
    activation: Literal["relu", "tanh", "linear"] = "relu"
    metric: Metric = "cosine"
    weights: Literal["equal", "reliability"] = "equal"
    reduction: Literal["mean", "sum"] = "mean"
    epochs: int = 500
    lr: float = 1e-3
    batch_size: int | None = None
    n_seeds: int = 1
    combine: Literal["procrustes", "common"] = "procrustes"
    folds: int = 5
    device: str = "auto"
    n_jobs: int = 1
    random_state: int = 0

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        vectors: Any,
        brain: Any,
        *,
        categories: Sequence[str] | None = None,
        leave_out: Any = None,
        test: Iterable[str] | None = None,
    ) -> Self:
        """Learn the map from training categories.

        Parameters
        ----------
        vectors : array (n, d), DataFrame, FeatureBank, or mapping of tower to one of these
            One row per category; a DataFrame's index or a bank's ids name them. Several towers of
            one space, e.g. images and texts of CLIP, get one map.
        brain : RSM (n, n), Recording, or mapping of subject or (subject, region) to one of these
            Similarities in the order of the categories, or responses to them.
        categories : sequence of str, optional
            Names of the rows; concepts or stimuli where there are banks or recordings.
        leave_out : subject, optional
            Whose RSMs take no part.
        test : iterable of str, optional
            Test categories, which are refused among those of the fit.

        Raises
        ------
        DataError
            If categories are missing or fewer than 20, an RSM is not symmetric or of another size,
            or vectors are not finite.
        LeakError
            If test categories or test trials are among the data.
        """
        towers, (rsms,) = self._read(vectors, [brain], categories, test)
        chosen = rsms if leave_out is None else without(rsms, leave_out)
        return self._take(*self._solve(towers, [chosen])[0])

    def fit_transform(self, vectors: Any, brain: Any, **options: Any) -> Any:
        """Fit, and return the aligned vectors, those of the first tower where there are several."""
        first = next(iter(vectors.values())) if isinstance(vectors, Mapping) else vectors
        return self.fit(vectors, brain, **options).transform(first)

    def fit_each(
        self,
        vectors: Any,
        brains: Mapping[Any, Any],
        *,
        categories: Sequence[str] | None = None,
        test: Iterable[str] | None = None,
        choices: Sequence[Choice] | None = None,
    ) -> dict[Any, Self]:
        """Aligners of the same vectors to several brains (name to what `fit` takes), in one go.

        ``choices`` gives (alpha, penalty) for each instead of choosing them.
        """
        like = clone(self)  # this one stays as it is
        towers, groups = like._read(vectors, list(brains.values()), categories, test)
        solved = like._solve(towers, groups, choices)
        return dict(zip(brains, (like._copy()._take(*found) for found in solved), strict=True))

    def leave_one_subject_out(self, vectors: Any, brain: Any, **options: Any) -> dict[Any, Self]:
        """For every subject an aligner fitted on all others; parameters as in `fit_each`."""
        categories, test = options.get("categories"), options.get("test")
        _, (rsms,) = clone(self)._read(vectors, [brain], categories, test)
        left = {subject: without(rsms, subject) for subject in subjects_of(rsms)}
        return self.fit_each(vectors, left, **options)

    def transform(self, vectors: Any, tower: str | None = None) -> Any:
        """Aligned vectors (n, width), float32, or for a bank a bank, see `align_bank`.

        Parameters
        ----------
        vectors : array (n, d) or FeatureBank
            Any vectors of the space, also of categories that took no part.
        tower : str, optional
            Which tower they are of; the first when not given.
        """
        if isinstance(vectors, FeatureBank):
            return _alignment_bank.align_bank(vectors, self, tower)
        name = _alignment_bank.require_tower(self, tower)
        matrix = _alignment_bank.require_vectors(self, vectors)
        return transform(self.arrays_, self._settings, name, matrix)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write the aligner: safetensors, JSON and a manifest."""
        return _alignment_files.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> BrainAligner:
        """Read an aligner that :meth:`save_pretrained` wrote; its checksums are verified."""
        return _alignment_files.load(cls, Path(folder))

    # ------------------------------------------------------------------ private
    def _read(
        self, vectors: Any, brains: Sequence[Any], categories: Sequence[str] | None, test: Any
    ) -> tuple[dict[str, Matrix], list[dict[Any, Matrix]]]:
        towers, names, spaces = read_towers(vectors, categories)
        refuse_test_categories(names, test)
        n, width = next(iter(towers.values())).shape
        settings = resolve(self, n)
        rsms = [read_brain(brain, n, names, self.metric) for brain in brains]
        self.categories_, self.towers_, self.spaces_ = names, list(towers), spaces
        self.n_features_in_, self._settings = int(width), settings
        return towers, rsms

    def _solve(
        self,
        towers: Mapping[str, Matrix],
        groups: Sequence[Mapping[Any, Matrix]],
        choices: Sequence[Choice] | None = None,
    ) -> list[tuple[Solution, dict[Any, float]]]:
        weights = [shares(group, self.weights) for group in groups]
        means = [average(group, given) for group, given in zip(groups, weights, strict=True)]
        solved = solve(towers, means, self._settings, choices)
        return list(zip(solved, weights, strict=True))

    def _copy(self) -> Self:
        copy: Self = clone(self)
        for name in ("_settings", "categories_", "towers_", "spaces_", "n_features_in_"):
            setattr(copy, name, getattr(self, name))
        return copy

    def _take(self, solution: Solution, weights: dict[Any, float]) -> Self:
        self.arrays_, self.weights_ = solution.arrays, weights
        self.alpha_, self.penalty_ = solution.alpha, solution.penalty
        self.cv_ = pd.DataFrame(solution.scores, columns=["alpha", "penalty", "fold", "rsa"])
        return self
