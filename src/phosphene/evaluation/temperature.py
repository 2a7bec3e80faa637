r"""From scores to probabilities: one temperature, fitted on held-out training concepts.

The confidence that candidate j is what was seen, given that it is among the candidates, is

    p_j = exp(s_j / T) / sum_i exp(s_i / T)

T minimises the mean negative log likelihood of the true candidates of trials whose concepts were
not trained on. Scores of a method have no scale of their own, and T takes up how noisy they are;
it changes no rank. It depends a little on the number of candidates N, so that it is fitted for
several N and interpolated:

- up to the number M that were held out, on random galleries of N of them;
- beyond it 1 / T goes on along the line over log N through its values at M / 8 and M. This is an
  extrapolation, and rankings say so.

Platt's correction keeps T finite where all trials are right: of n trials, each is taken to be right
with probability 1 - 1 / (n + 2) only, and otherwise to be any candidate.

Guo et al. 2017, On Calibration of Modern Neural Networks; Platt 1999, Probabilistic Outputs for
Support Vector Machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phosphene import _random
from phosphene.errors import DataError

Floats = npt.NDArray[np.float64]

# Scores that one fit looks at; more change T by less than its standard error.
_MAX_SCORES = 500_000
# How far 1 / T is extrapolated, in candidates.
_LARGEST = 1 << 20
# Fewer held-out candidates than this have no trend.
_MIN_TREND = 16


def softmax(scores: npt.ArrayLike, inverse_temperature: npt.ArrayLike) -> Floats:
    """Probability of every candidate.

    Parameters
    ----------
    scores : array, shape (queries, candidates)
    inverse_temperature : float or array, shape (queries,)
        1 / T; at 0 all candidates are alike.

    Examples
    --------
    >>> softmax([[np.log(3.0), 0.0]], 1.0).round(2)
    array([[0.75, 0.25]])
    """
    scaled: Floats = np.asarray(scores, np.float64) * np.reshape(inverse_temperature, (-1, 1))
    scaled -= scaled.max(axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def negative_log_likelihood(
    scores: npt.ArrayLike, true: npt.ArrayLike, inverse_temperature: float
) -> float:
    """Mean of minus the logarithm of the true candidate's probability, in nats."""
    scaled = np.asarray(scores, np.float64) * inverse_temperature
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float((total - scaled[np.arange(len(scaled)), np.asarray(true)]).mean())


def fit_temperature(
    scores: npt.ArrayLike,
    true: npt.ArrayLike,
    *,
    n_candidates: int | None = None,
    skip: npt.NDArray[np.bool_] | None = None,
    random_state: int = 0,
) -> float:
    """The temperature of the largest likelihood, for galleries of a size.

    Parameters
    ----------
    scores : array, shape (queries, candidates)
        Scores of trials whose concepts were not trained on.
    true : array of int, shape (queries,)
        Column of what was seen.
    n_candidates : int, optional
        Size of the galleries that it is for; by default as many as there are.
    skip : array of bool, shape (queries, candidates), optional
        Candidates that are no distractors of a query, such as those of its own concept.
    random_state : int
        Which of the candidates make up smaller galleries.

    Returns
    -------
    float
        Infinite where the scores tell nothing about what was seen.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> evidence = rng.normal(size=(4000, 20))  # the logarithm of likelihoods, say
    >>> seen = (evidence + rng.gumbel(size=evidence.shape)).argmax(axis=1)
    >>> round(fit_temperature(0.1 * evidence, seen), 2)
    0.1
    """
    own, others = _separate(scores, true, skip, random_state)
    inverse = _fit(own, others, n_candidates or others.shape[1] + 1, 0.0)
    return 1 / inverse if inverse > 0 else float("inf")


@dataclass(frozen=True)
class Calibration:
    """Temperatures of a decoder, by number of candidates and of averaged repetitions.

    Parameters
    ----------
    sizes : list of int
        Numbers of candidates, rising.
    repetitions : list of int
        Numbers of averaged repetitions, rising.
    inverse : mapping of str to list of list of float
        1 / T for each number of repetitions (rows) and candidates (columns), for galleries that
        hold every concept once (``"distinct"``) and for others (``"repeated"``).
    candidates, queries, concepts : int
        The largest gallery, the trials and the concepts that it was fitted on.
    source : str
        Where they came from.
    details : mapping, optional
        What the decoder must remember of them, as plain values.
    """

    sizes: list[int]
    repetitions: list[int]
    inverse: Mapping[str, list[list[float]]]
    candidates: int
    queries: int
    concepts: int
    source: str
    details: Mapping[str, Any] | None = None

    def temperature(
        self, n_candidates: int, repetitions: int = 1, *, repeated: bool = False
    ) -> float:
        """T for a gallery and a number of averaged repetitions; infinite without information."""
        inverse = self.inverse_temperature(n_candidates, repetitions, repeated=repeated)
        return 1 / inverse if inverse > 0 else float("inf")

    def inverse_temperature(
        self, n_candidates: int, repetitions: int = 1, *, repeated: bool = False
    ) -> float:
        """1 / T, interpolated over the logarithms of both numbers, constant outside."""
        rows = self.inverse["repeated" if repeated else "distinct"]
        at_size = [np.interp(np.log(n_candidates), np.log(self.sizes), row) for row in rows]
        return float(np.interp(np.log(repetitions), np.log(self.repetitions), at_size))

    def notes(self, n_candidates: int, repetitions: int) -> tuple[str, ...]:
        """In what a ranking goes beyond what the temperature was fitted on."""
        found = []
        if n_candidates > self.candidates:
            found.append(
                f"{n_candidates} candidates: the temperature was fitted for up to "
                f"{self.candidates} and is extrapolated"
            )
        low, high = self.repetitions[0], self.repetitions[-1]
        if not low <= repetitions <= high:
            found.append(
                f"{repetitions} repetitions averaged: the temperature is that of "
                f"{high if repetitions > high else low}"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def calibration_curves(
    scores: npt.ArrayLike,
    true: npt.ArrayLike,
    concepts: Sequence[str],
    random_state: int = 0,
) -> tuple[list[int], dict[str, list[float]]]:
    """1 / T against the number of candidates, for both kinds of gallery.

    Parameters
    ----------
    scores : array, shape (queries, candidates)
    true : array of int, shape (queries,)
    concepts : sequence of str
        Concept of every candidate.

    Returns
    -------
    sizes : list of int
        Up to M, the candidates that every query can be given with those of its concept left out;
        then one that is extrapolated to.
    curves : dict
        ``"distinct"`` (a gallery holds every concept once) and ``"repeated"``, a value per size.
    """
    answers = np.asarray(true)
    codes, counts = np.unique(np.asarray(concepts, dtype=str), return_inverse=True,
                              return_counts=True)[1:]  # fmt: skip
    most = len(codes) - int(counts.max()) + 1
    powers = [2 * 4**k for k in range(11) if 2 * 4**k < most]
    sizes = sorted({*powers, most, max(2, most // 8)})
    curves: dict[str, list[float]] = {}
    for name in ("distinct", "repeated"):
        if name == "repeated" and counts.max() == 1:
            curves[name] = curves["distinct"]
            continue
        skip = codes[answers][:, None] == codes[None, :] if name == "distinct" else None
        own, others = _separate(scores, answers, skip, random_state)
        values: list[float] = []
        for i, size in enumerate(sizes):  # each starts from one that is near
            near = curves["distinct"][i] if curves else (values or [0.0])[-1]
            values.append(_fit(own, others, size, near))
        trend = 0.0
        if most >= _MIN_TREND:
            early = values[sizes.index(most // 8)]
            trend = (values[-1] - early) / np.log(most / (most // 8))
        last = values[-1] + trend * np.log(_LARGEST / most)
        curves[name] = [*values, max(0.0, float(last))]
    return [*sizes, _LARGEST], curves


def _separate(
    scores: npt.ArrayLike, true: npt.ArrayLike, skip: npt.NDArray[np.bool_] | None, seed: int
) -> tuple[Floats, Floats]:
    """Scores of the true candidate, and of as many others for each query, in random order."""
    matrix = np.asarray(scores, dtype=np.float64)
    answers = np.asarray(true, dtype=np.int64)
    if matrix.ndim != 2 or len(matrix) != len(answers) or not len(answers):
        raise DataError(
            "scores and answers do not fit",
            found=f"scores {matrix.shape}, answers {answers.shape}",
            expected="(queries, candidates) and (queries,)",
        )
    if not np.isfinite(matrix).all():
        raise DataError("scores hold NaN or infinity", found=int((~np.isfinite(matrix)).sum()))
    rows = np.arange(len(matrix))
    keys = _random.generator(seed, "distractors").random(matrix.shape, dtype=np.float32)
    if skip is not None:
        keys[skip] = np.inf
    keys[rows, answers] = np.inf
    n = int(np.isfinite(keys).sum(axis=1).min())
    if n < 1:
        raise DataError(
            "a query has no candidate beside its own to be told from",
            found=f"{matrix.shape[1]} candidates",
            expected="candidates of at least two concepts",
        )
    order = np.argsort(keys, axis=1)[:, :n]
    return matrix[rows, answers], np.take_along_axis(matrix, order, axis=1)


def _fit(own: Floats, others: Floats, size: int, start: float) -> float:
    """1 / T of galleries of ``size``, by Newton's method on a convex function within a bracket."""
    n, held = others.shape
    if not 2 <= size <= held + 1:
        raise DataError(
            "no gallery of this size can be made of the candidates",
            found=size,
            expected=f"2 to {held + 1}",
        )
    smoothing = 1 / (n + 2)
    # As many galleries of this size as there are others for.
    blocks = max(1, min(held // (size - 1), _MAX_SCORES // (n * (size - 1))))
    others = others[:, : blocks * (size - 1)].reshape(n * blocks, size - 1)
    own = np.repeat(own, blocks)
    if others.size > _MAX_SCORES:  # rows are trials: evenly spread ones
        keep = np.linspace(0, n - 1, max(1, _MAX_SCORES // (size - 1))).astype(int)
        own, others = own[keep], others[keep]
    # Relative to the mean over candidates, in units of the spread: any scale of scores will do.
    table = np.concatenate([own[:, None], others], axis=1)
    table -= table.mean(axis=1, keepdims=True)
    unit = float(np.abs(table).mean())
    if unit == 0:
        return 0.0
    table /= unit
    target = float((1 - smoothing) * table[:, 0].mean())
    if target <= 0:  # the true candidate scores no higher than the others
        return 0.0

    def slope(a: float) -> tuple[float, float]:
        """First and second derivative of the mean negative log likelihood."""
        p = a * table
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        expected = np.einsum("qc,qc->q", p, table)
        squares = np.einsum("qc,qc,qc->q", p, table, table)
        return float(expected.mean()) - target, float((squares - expected**2).mean())

    low, high = 0.0, np.inf
    a = start * unit or 1.0
    for _ in range(100):
        first, second = slope(a)
        low, high = (a, high) if first < 0 else (low, a)
        step = a - first / second if second > 0 else np.inf
        if not low < step < high or step > 4 * a:
            step = 4 * a if high == np.inf else (low + high) / 2
        if abs(step - a) <= 1e-4 * a:  # the step after that would be of the order of its square
            a = step
            break
        a = step
    return a / unit
