"""Representational similarity analysis: brain, model and decoded spaces compared by their RDMs.

Kriegeskorte et al. 2008 (doi:10.3389/neuro.06.004.2008); noise ceiling and inference after Nili et
al. 2014 (doi:10.1371/journal.pcbi.1003553). RDMs themselves: `phosphene.analysis.rdm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene.analysis.rdm import (
    Array,
    Comparison,
    RDMMetric,
    check_comparison,
    check_rdm,
    control_basis,
    pairs,
    ranked,
    rdm,
    residual,
    tau_a,
)
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.evaluation import _bootstrap as bootstrap

N_RESAMPLES = 1000


def rsa(
    brains: Mapping[str, npt.ArrayLike],
    models: Mapping[str, npt.ArrayLike],
    *,
    method: Comparison = "spearman",
    partial: bool = False,
    n_permutations: int = 1000,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare people's RDMs with those of models.

    Parameters
    ----------
    brains : mapping of str to array, shape (things, things)
        RDM of every person.
    models : mapping of str to array, shape (things, things)
        RDMs that may explain them: of layers of a network, of decoded vectors, of categories.
    method : {"spearman", "kendall", "pearson"}
        How two RDMs are compared; Kendall's is tau-a.
    partial : bool
        Hold all other models constant. Not with tau-a.
    n_permutations : int
        Orders of the things for the p-value.
    n_resamples : int
        Resamples of the things for the intervals.
    seed : int
        Seed of both.

    Returns
    -------
    DataFrame
        One row per model: ``model``, ``value`` (mean over people), ``low`` and ``high`` (95 %,
        bootstrap over things, crossed with people where there are several; pairs of a thing with
        itself are left out, ranks are those of all things), ``p_value`` (share of random orders of
        the model's things that agree as well, the true one counted), ``ceiling_low`` and
        ``ceiling_high`` (`noise_ceiling`; NaN for one person).

    Raises
    ------
    DataError
        If RDMs are of different things or say nothing; see `phosphene.analysis.rdm.check_rdm`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> true = rng.standard_normal((20, 5))
    >>> brains = {str(i): rdm(true + rng.standard_normal((20, 5))) for i in range(3)}
    >>> found = rsa(brains, {"true": rdm(true), "other": rdm(rng.standard_normal((20, 5)))})
    >>> (found["p_value"] < 0.01).tolist()
    [True, False]
    """
    check_comparison(method, partial)
    if not brains or not models:
        raise DataError("at least one brain and one model are compared")
    if partial and len(models) < 2:
        raise DataError("a partial correlation holds other models constant", found="one model")
    people = [check_rdm(m, name=f"the RDM of {name}") for name, m in brains.items()]
    n = len(people[0])
    for name, person in zip(brains, people, strict=True):
        check_rdm(person, n, f"the RDM of {name}")
    spaces = {name: check_rdm(m, n, f"the RDM of model {name}") for name, m in models.items()}
    low_ceiling, high_ceiling = noise_ceiling(brains, method=method)
    draws = _random.generator(seed, "analysis", "rsa", "permutations")
    orders = np.stack([draws.permutation(n) for _ in range(n_permutations)])
    stream = _random.generator(seed, "analysis", "rsa", "bootstrap")
    weights = bootstrap.counts(stream, n_resamples, n).astype(np.float64)
    # Of few things, a resample may hold too few different ones to correlate anything.
    weights = weights[(weights > 0).sum(axis=1) > 3]
    rows = []
    for name, model in spaces.items():
        others = [m for key, m in spaces.items() if key != name] if partial else []
        compare = _Comparison(people, others, method)
        values = compare(model)
        if np.isnan(values).any():
            raise DataError(f"the other models leave nothing of model {name!r} to compare")
        null = np.array([compare(model[np.ix_(o, o)]).mean() for o in orders])
        p = (1 + (null >= values.mean() - 1e-12).sum()) / (1 + len(null))
        low, high = _interval(people, model, others, method, weights, values)
        rows.append((name, values.mean(), low, high, float(p), low_ceiling, high_ceiling))
    columns = ["model", "value", "low", "high", "p_value", "ceiling_low", "ceiling_high"]
    return pd.DataFrame(rows, columns=columns)


class _Comparison:
    """Agreement of every person's RDM with a model's, prepared for many orders of the model."""

    def __init__(self, people: list[Array], others: list[Array], method: str) -> None:
        self.method = method
        self.values = [ranked(pairs(one), method) for one in people]
        self.basis: Array | None = None
        if method == "kendall":
            return
        controls = [ranked(pairs(one), method) for one in others]
        self.basis = control_basis(controls or [np.ones_like(self.values[0])])
        self.unit = _unit(residual(np.stack(self.values), self.basis))

    def __call__(self, model: Array) -> Array:
        values = ranked(pairs(model), self.method)
        if self.basis is None:
            return np.array([tau_a(one, values) for one in self.values])
        return np.asarray(self.unit @ _unit(residual(values, self.basis)), dtype=np.float64)


def _unit(values: Array) -> Array:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = values / length
    return found


def _interval(
    people: list[Array],
    model: Array,
    others: list[Array],
    method: str,
    weights: Array,
    values: Array,
) -> tuple[float, float]:
    n = len(model)
    if method == "kendall":
        within = np.stack([_resampled_tau(one, model, weights) for one in people], axis=1)
    else:
        tables = [_squared(ranked(pairs(m), method), n) for m in (model, *others)]
        within = np.stack(
            [
                _weighted_partial([_squared(ranked(pairs(one), method), n), *tables], weights)
                for one in people
            ],
            axis=1,
        )
    within = within[np.isfinite(within).all(axis=1)]
    if len(people) == 1:
        low, high = np.quantile(within[:, 0], [0.025, 0.975])
    else:
        variances = bootstrap.stimulus_variance(within, n)
        low, high = bootstrap.mean_interval(values, variances, n, 0.95, (-1.0, 1.0))
    return float(low), float(high)


def _squared(values: Array, n: int) -> Array:
    """A symmetric matrix of pairs, 0 on the diagonal."""
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, 1)] = values
    found: Array = matrix + matrix.T
    return found


def _weighted_partial(tables: list[Array], weights: Array) -> Array:
    """Partial correlation of the first two tables given the rest, for every row of weights.

    A pair of things counts as often as both were drawn; sums over pairs are quadratic forms.
    """

    def total(table: Array) -> Array:
        found: Array = np.einsum("ri,ri->r", weights @ table, weights)
        return found

    n = len(tables[0])
    count = total(1.0 - np.eye(n))
    means = [total(table) / count for table in tables]
    size = len(tables)
    cov = np.empty((len(weights), size, size))
    for i in range(size):
        for j in range(i + 1):
            cov[:, i, j] = total(tables[i] * tables[j]) / count - means[i] * means[j]
            cov[:, j, i] = cov[:, i, j]
    with np.errstate(invalid="ignore", divide="ignore"):
        if size == 2:
            return np.asarray(cov[:, 0, 1] / np.sqrt(cov[:, 0, 0] * cov[:, 1, 1]))
        precision = np.linalg.pinv(cov, hermitian=True)
        return np.asarray(-precision[:, 0, 1] / np.sqrt(precision[:, 0, 0] * precision[:, 1, 1]))


def _resampled_tau(first: Array, second: Array, weights: Array) -> Array:
    found = np.empty(len(weights))
    for r, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(counts)), counts)
        i, j = np.triu_indices(len(rows), 1)
        a, b = rows[i], rows[j]
        other = a != b
        x, y = first[a[other], b[other]], second[a[other], b[other]]
        found[r] = tau_a(x, y) if np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan
    return found


def noise_ceiling(
    brains: Mapping[str, npt.ArrayLike], *, method: Comparison = "spearman"
) -> tuple[float, float]:
    """Between which values the best possible model would agree with people's RDMs.

    Parameters
    ----------
    brains : mapping of str to array, shape (things, things)
        RDM of every person.
    method : {"spearman", "kendall", "pearson"}
        How RDMs are compared.

    Returns
    -------
    (low, high) : tuple of float
        Mean agreement of a person with the mean of the others, which has not seen the person, and
        with the mean of all, which has. Ranks are averaged (values for Pearson, standardised).
        NaN for one person. For tau-a the mean of ranks is not quite the best model.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> true = rng.standard_normal((20, 5))
    >>> brains = {str(i): rdm(true + rng.standard_normal((20, 5))) for i in range(4)}
    >>> low, high = noise_ceiling(brains)
    >>> 0 < low < high < 1
    True
    """
    check_comparison(method)
    if len(brains) < 2:
        return (float("nan"), float("nan"))
    tables = [pairs(check_rdm(m, name=f"the RDM of {name}")) for name, m in brains.items()]
    if method == "pearson":
        scaled = np.stack(tables)
        scaled = scaled - scaled.mean(axis=1, keepdims=True)
        scaled /= scaled.std(axis=1, keepdims=True)
    else:  # sums of ranks are exact, so that what ties is tied
        scaled = np.stack([ranked(one, "spearman") for one in tables])
    whole = scaled.sum(axis=0)
    others = whole - scaled

    def agree(first: Array, second: Array) -> float:
        if method == "kendall":
            return tau_a(first, second)
        return float(np.corrcoef(ranked(first, method), ranked(second, method))[0, 1])

    low = np.mean([agree(a, b) for a, b in zip(scaled, others, strict=True)])
    high = np.mean([agree(a, whole) for a in scaled])
    return float(low), float(high)


def brain_rdm(
    recording: Recording, ids: list[str], metric: RDMMetric = "correlation", *, folds: int = 2
) -> Array:
    """RDM of one person's responses.

    Parameters
    ----------
    recording : Recording
        Trials of one person.
    ids : list of str
        Stimuli, in the order of the rows.
    metric : {"correlation", "cosine", "euclidean", "crossnobis"}
        For crossnobis the repetitions of every stimulus are dealt out to ``folds`` averages, in
        order of recording; signals count as they are (whiten them before).
    folds : int
        Independent measurements for crossnobis.

    Returns
    -------
    ndarray, shape (stimuli, stimuli)

    Raises
    ------
    DataError
        If a stimulus has no trial, or too few for crossnobis; or for several people.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> test = tiny_problem().test
    >>> brain_rdm(test, test.stimuli, "crossnobis").shape
    (20, 20)
    """
    if len(recording.subjects) != 1:
        raise DataError("an RDM is of one person", found=f"{len(recording.subjects)} people")
    chosen = recording.select(stimulus=list(ids))
    if metric != "crossnobis":
        return rdm(_rows(chosen.average(by=("stimulus",)), ids), metric)
    trials = chosen.trials
    turn = trials.groupby("stimulus", sort=False).cumcount().to_numpy() % folds
    fewest = int(trials.groupby("stimulus").size().min())
    if folds < 2 or fewest < folds:
        raise DataError(
            "crossnobis needs repetitions of every stimulus",
            found=f"{fewest} for {folds} measurements",
            expected="at least two, and one per measurement",
            fix="pass single trials instead of averages",
        )
    parts = [chosen.select(turn == k).average(by=("stimulus",)) for k in range(folds)]
    return rdm(np.stack([_rows(part, ids) for part in parts]), "crossnobis")


def decoded_rdm(
    decoder: Any, recording: Recording, ids: list[str], metric: RDMMetric = "correlation"
) -> Array:
    """RDM of the vectors that a decoder gives for one person's averaged responses.

    Parameters
    ----------
    decoder : Decoder
        Fitted.
    recording : Recording
        Trials of one person.
    ids : list of str
        Stimuli, in the order of the rows.
    metric : {"correlation", "cosine", "euclidean"}
        Of the vectors, less their mean over the stimuli, which they share.

    Returns
    -------
    ndarray, shape (stimuli, stimuli)
    """
    averages = recording.select(stimulus=list(ids)).average(by=("stimulus",))
    place = {name: i for i, name in enumerate(averages.trials["stimulus"].astype(str))}
    vectors = np.asarray(decoder.embed(averages).vectors, dtype=np.float64)
    vectors = vectors[[place[name] for name in ids]]
    return rdm(vectors - vectors.mean(axis=0), metric)


def _rows(averages: Recording, ids: list[str]) -> Array:
    place = {name: i for i, name in enumerate(averages.trials["stimulus"].astype(str))}
    signals = np.asarray(averages.signals, dtype=np.float64).reshape(len(place), -1)
    rows: Array = signals[[place[name] for name in ids]]
    # What the response to any picture has in common would dominate correlations.
    centred: Array = rows - rows.mean(axis=0)
    return centred
