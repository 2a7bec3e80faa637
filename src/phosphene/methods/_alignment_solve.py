"""Fit aligners to one or many brain RSMs over the same vectors, with alpha and penalty chosen.

What is chosen is chosen by cross-validation over the categories of the fit alone: the value with
the best mean correlation, over the pairs of held-out categories, between the similarities of the
aligned vectors and those of the brain. Test categories never come here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene import _random
from phosphene._device import resolve_device
from phosphene.evaluation.rsm import Matrix, correlation
from phosphene.methods._alignment_fits import Architecture, Job, Schedule, Weights, train
from phosphene.methods._alignment_linear import Kernel

Variant = Literal["autoencoder", "residual", "linear"]
Choice = tuple[float, float]


@dataclass(frozen=True)
class Settings:
    """The parameters of a `BrainAligner`, resolved; its docstring says what they are."""

    variant: Variant
    alphas: tuple[float, ...]
    penalties: tuple[float, ...]
    width: int | None
    activation: str
    metric: str
    reduction: Literal["mean", "sum"]
    epochs: int
    lr: float
    batch_size: int | None
    n_seeds: int
    combine: str
    folds: int
    device: str
    seed: int
    jobs: int

    @property
    def centred(self) -> bool:
        """Whether similarities of latents are correlations."""
        return self.metric != "cosine"

    @property
    def grid(self) -> list[Choice]:
        """All (alpha, penalty); networks have no penalty."""
        penalties = self.penalties if self.variant == "linear" else (0.0,)
        return list(itertools.product(self.alphas, penalties))

    def architecture(self, dim: int) -> Architecture:
        """The network of the variants that are trained."""
        kind: Any = self.variant
        return Architecture(kind, self.width or max(dim // 2, 1), self.activation)

    def schedule(self) -> Schedule:
        """How it is trained."""
        return Schedule(
            self.epochs,
            self.lr,
            self.batch_size,
            self.centred,
            self.reduction,
            resolve_device(self.device),
            jobs=self.jobs,
        )


@dataclass(frozen=True)
class Solution:
    """A fitted map with what was chosen, and the scores that it was chosen by."""

    arrays: dict[str, NDArray[Any]]
    alpha: float
    penalty: float
    scores: list[dict[str, float]]


def solve(
    towers: Mapping[str, Matrix],
    rsms: Sequence[Matrix],
    settings: Settings,
    choices: Sequence[Choice] | None = None,
) -> list[Solution]:
    """Fit one aligner per RSM.

    Parameters
    ----------
    towers : mapping of str to ndarray, shape (n, d)
        Vectors of the same categories, one entry per kind of vector; all share one map.
    rsms : sequence of ndarray, shape (n, n)
        The brain's similarities, one aligner each.
    settings : Settings
    choices : sequence of (alpha, penalty), optional
        Given for each RSM instead of being chosen.
    """
    stacked = [np.tile(rsm, (len(towers), len(towers))) for rsm in rsms]
    n = len(rsms[0])
    scores: list[list[dict[str, float]]] = [[] for _ in rsms]
    if choices is None:
        if len(settings.grid) > 1:
            scores = _cross_validate(towers, stacked, n, settings)
            choices = [_best(found, settings.grid) for found in scores]
        else:
            choices = [settings.grid[0]] * len(rsms)
    everything = np.ones(n, dtype=bool)
    tasks = [(rsm, everything, choice) for rsm, choice in zip(stacked, choices, strict=True)]
    maps = _fit(towers, tasks, settings, settings.n_seeds)
    return [
        Solution(arrays, *choice, found)
        for arrays, choice, found in zip(maps, choices, scores, strict=True)
    ]


def _cross_validate(
    towers: Mapping[str, Matrix], rsms: Sequence[Matrix], n: int, settings: Settings
) -> list[list[dict[str, float]]]:
    order = _random.generator(settings.seed, "alignment folds").permutation(n)
    folds = [np.isin(np.arange(n), part) for part in np.array_split(order, settings.folds)]
    cases = list(itertools.product(range(len(rsms)), settings.grid, range(len(folds))))
    tasks = [(rsms[which], ~folds[fold], choice) for which, choice, fold in cases]
    # One seed: averaging over seeds makes the latent steadier, not another alpha the best.
    maps = _fit(towers, tasks, settings, 1)
    scores: list[list[dict[str, float]]] = [[] for _ in rsms]
    for (which, (alpha, penalty), fold), arrays in zip(cases, maps, strict=True):
        aligned = np.concatenate(
            [
                transform(arrays, settings, name, vectors[folds[fold]])
                for name, vectors in towers.items()
            ]
        )
        held = np.tile(folds[fold], len(towers))
        found = agreement(aligned, rsms[which][np.ix_(held, held)], settings.centred)
        scores[which].append({"alpha": alpha, "penalty": penalty, "fold": fold, "rsa": found})
    return scores


def _best(scores: Sequence[Mapping[str, float]], grid: Sequence[Choice]) -> Choice:
    """The choice with the highest mean score; the first of equals."""
    means = []
    for choice in grid:
        own = [s["rsa"] for s in scores if (s["alpha"], s["penalty"]) == choice]
        means.append(np.mean(own))
    return grid[int(np.argmax(means))]


def agreement(vectors: NDArray[Any], rsm: Matrix, centred: bool) -> float:
    """Pearson correlation over pairs of the vectors' similarities with an RSM.

    Vectors of length zero (all units of a latent silent) have similarity 0 to everything, and an
    aligner that makes nothing else has an agreement of 0 with the brain.
    """
    pairs = np.triu_indices(len(rsm), 1)
    found = correlation(safe_similarity(vectors, centred)[pairs], rsm[pairs])
    return found if np.isfinite(found) else 0.0


def safe_similarity(vectors: NDArray[Any], centred: bool) -> Matrix:
    """Cosines, or correlations, of all pairs of rows; 0 where a row has no direction."""
    wide = np.asarray(vectors, dtype=np.float64)
    if centred:
        wide = wide - wide.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))[:, None]
    unit = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    found: Matrix = unit @ unit.T
    return found


def _fit(
    towers: Mapping[str, Matrix],
    tasks: Sequence[tuple[Matrix, NDArray[np.bool_], Choice]],
    settings: Settings,
    n_seeds: int,
) -> list[dict[str, NDArray[Any]]]:
    """Arrays of the map of every task: (stacked RSM, categories to learn from, choice)."""
    if settings.variant == "linear":
        return _fit_linear(towers, tasks, settings)
    vectors = np.concatenate(list(towers.values())).astype(np.float32)
    architecture = settings.architecture(vectors.shape[1])
    common = settings.combine == "common"
    jobs = [
        Job(rsm, np.tile(rows, len(towers)), alpha, settings.seed + (0 if common else k),
            settings.seed + k)
        for rsm, rows, (alpha, _) in tasks
        for k in range(n_seeds)
    ]  # fmt: skip
    weights = train(vectors, jobs, architecture, settings.schedule())
    return [
        _joined(
            weights[i * n_seeds : (i + 1) * n_seeds],
            vectors[np.tile(rows, len(towers))],
            architecture,
            common,
        )
        for i, (_, rows, _) in enumerate(tasks)
    ]


def _fit_linear(
    towers: Mapping[str, Matrix],
    tasks: Sequence[tuple[Matrix, NDArray[np.bool_], Choice]],
    settings: Settings,
) -> list[dict[str, NDArray[Any]]]:
    # Decompositions are shared: the kernel's by all fits on the same rows, the coordinates of an
    # RSM by all penalties.
    kernels: dict[bytes, tuple[dict[str, Matrix], Kernel]] = {}
    targets: dict[tuple[int, bytes, float], Matrix] = {}
    found = []
    for rsm, rows, (alpha, penalty) in tasks:
        key = rows.tobytes()
        if key not in kernels:
            # Every tower has a mean of its own: the gap between images and texts is no meaning.
            means = {name: vectors[rows].mean(axis=0) for name, vectors in towers.items()}
            centred = [vectors[rows] - means[name] for name, vectors in towers.items()]
            kernels[key] = means, Kernel.of(np.concatenate(centred))
        means, kernel = kernels[key]
        if (where := (id(rsm), key, alpha)) not in targets:
            seen = np.tile(rows, len(towers))
            brain = rsm[np.ix_(seen, seen)]
            targets[where] = kernel.coordinates(brain, alpha, settings.width)
        arrays = {f"mean.{name}": mean for name, mean in means.items()}
        found.append({**arrays, "map": kernel.solve(targets[where], penalty)})
    return found


def _joined(
    weights: Sequence[Weights],
    vectors: NDArray[np.float32],
    architecture: Architecture,
    common: bool,
) -> dict[str, NDArray[Any]]:
    """Weights of several seeds with the rotation that brings each latent to the first one's axes.

    Latents that began alike have their axes in common and need none. A rotation about the origin
    leaves every cosine as it is.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for k, seed in enumerate(weights):
        arrays |= {f"{name}.{k}": value.numpy() for name, value in seed.items()}
    if len(weights) > 1 and not common and architecture.kind == "autoencoder":
        y = torch.as_tensor(vectors)[None]
        latents = [
            architecture.latent(y, {n: v[None] for n, v in seed.items()})[0].double().numpy()
            for seed in weights
        ]
        for k, latent in enumerate(latents):
            left, _, right = np.linalg.svd(latent.T @ latents[0], full_matrices=False)
            arrays[f"rotation.{k}"] = (left @ right).astype(np.float32)
    return arrays


def transform(
    arrays: Mapping[str, NDArray[Any]],
    settings: Settings,
    tower: str,
    vectors: NDArray[Any],
) -> NDArray[np.float32]:
    """Aligned vectors (n, width), float32."""
    if settings.variant == "linear":
        linear = (np.asarray(vectors, np.float64) - arrays[f"mean.{tower}"]) @ arrays["map"]
        return np.asarray(linear, dtype=np.float32)
    y = torch.as_tensor(np.ascontiguousarray(vectors, dtype=np.float32))[None]
    architecture = settings.architecture(y.shape[-1])
    total: NDArray[np.float32] | None = None
    n_seeds = sum(name.startswith("encode.") for name in arrays)
    for k in range(n_seeds):
        weights = {
            name: torch.as_tensor(arrays[f"{name}.{k}"])[None]
            for name in ("encode", "encode_bias", "decode", "decode_bias")
        }
        latent: NDArray[np.float32] = architecture.latent(y, weights)[0].numpy()
        if (rotation := arrays.get(f"rotation.{k}")) is not None:
            latent = latent @ rotation
        total = latent if total is None else total + latent
    assert total is not None
    return total / np.float32(n_seeds)
