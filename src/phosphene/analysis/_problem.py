"""What the analyses share: one person's training and test data as arrays, scores, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene._validation import refuse_test_trials
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, listing
from phosphene.evaluation import _bootstrap as bootstrap
from phosphene.evaluation import guards, retrieval
from phosphene.evaluation.embeddings import gallery_embeddings
from phosphene.evaluation.result import METRICS
from phosphene.methods._decoder import canonical
from phosphene.stimuli.bank import FeatureBank

Array = npt.NDArray[np.float64]
N_RESAMPLES = 1000
# How a score of a query comes from the numbers of candidates above the true one and tied with it.
_SCORES: dict[str, Callable[[Any, Any, int], Any]] = {
    "top1": lambda above, tied, size: retrieval.expected_hit(above, tied, 1),
    "top5": lambda above, tied, size: retrieval.expected_hit(above, tied, 5),
    "mrr": lambda above, tied, size: retrieval.expected_reciprocal(above, tied),
    "two_way": lambda above, tied, size: retrieval.expected_two_way(above, tied, size),
}


@dataclass(frozen=True, eq=False)
class Problem:
    """One person's data.

    Parameters
    ----------
    subject : str
        Who.
    train, test : Recording
        What is fitted, and the queries; averaged over repetitions where that was asked for.
    targets : ndarray, shape (training trials, dimensions)
        Vector of every training trial.
    candidates : ndarray, shape (gallery, dimensions)
        Vector of every candidate.
    ids : list of str
        Candidates.
    true : ndarray of int, shape (queries,)
        Position of every query's answer among the candidates.
    fold : int
        Which of several folds they belong to.
    """

    subject: str
    train: Recording
    test: Recording
    targets: Array
    candidates: Array
    ids: list[str]
    true: npt.NDArray[np.int64]
    fold: int = 0

    def queries(self, answer: str) -> pd.DataFrame:
        """Subject, stimulus and answer of every query."""
        trials = self.test.trials
        names = np.asarray(self.ids, dtype=object)[self.true]
        return pd.DataFrame(
            {"subject": self.subject, "stimulus": trials["stimulus"].astype(str), answer: names}
        ).reset_index(drop=True)


def problems_of_folds(
    train: Recording | Sequence[Recording],
    test: Recording | HeldOut | Sequence[Recording | HeldOut],
    bank: FeatureBank | None,
    **how: Any,
) -> list[Problem]:
    """`problems` of one fold, or of several given as sequences of the same length."""
    trains = [train] if isinstance(train, Recording) else list(train)
    tests = [test] if isinstance(test, Recording | HeldOut) else list(test)
    if len(trains) != len(tests) or not trains:
        raise DataError(
            "every fold has training and test data", found=f"{len(trains)} and {len(tests)}"
        )
    made = []
    for fold, (one, other) in enumerate(zip(trains, tests, strict=True)):
        made += [replace(part, fold=fold) for part in problems(one, other, bank, **how)]
    return made


def problems(
    train: Recording,
    test: Recording | HeldOut,
    bank: FeatureBank | None,
    *,
    ids: Sequence[str] | None = None,
    layer: str | None = None,
    zero_shot: bool = True,
    average_train: bool = True,
    average_test: bool = True,
) -> list[Problem]:
    """Guarded data of every person that is tested; see `phosphene.analysis.time.sliding_window`.

    Raises
    ------
    LeakError
        If test trials are among the training trials, or training has seen what is tested.
    DataError
        If a person is tested without having been trained, or stimuli are missing in the bank.
    """
    if bank is None:
        refuse_test_trials(train.trials, "fit")
    else:
        guards.check_fit(train, bank)
        train = canonical(train, bank)
        if zero_shot:  # before the data are opened
            _check_zero_shot(train, test, bank)
    recording = test.open("analysis") if isinstance(test, HeldOut) else test
    guards.check_trials(guards.remember_trials(train), recording)
    if bank is not None:
        recording = canonical(recording, bank)
    if unknown := sorted(set(recording.subjects) - set(train.subjects)):
        raise DataError(
            f"subjects are tested but not trained on: {listing(unknown)}",
            found="training data of " + listing(train.subjects),
            fix="analyses fit every person's own data; pass trials of the same people",
        )
    if not train.sensors.same_as(recording.sensors):
        raise DataError(
            f"training and test data differ in their {train.sensors.unit_name}",
            found=listing(recording.channel_names),
            expected=listing(train.channel_names),
        )
    made = []
    for subject in recording.subjects:
        own, tested = train.select(subject=subject), recording.select(subject=subject)
        own = own.average() if average_train else own
        tested = tested.average() if average_test else tested
        made.append(_problem(subject, own, tested, bank, ids, layer))
    return made


def _problem(
    subject: str,
    train: Recording,
    test: Recording,
    bank: FeatureBank | None,
    ids: Sequence[str] | None,
    layer: str | None,
) -> Problem:
    if bank is None:
        names = sorted(train.concepts) if ids is None else list(ids)
        place = {name: i for i, name in enumerate(names)}
        seen, asked = (r.trials["concept"].astype(str) for r in (train, test))
        if missing := sorted(set(asked) - set(place)) + sorted(set(seen) - set(place)):
            raise DataError(
                f"there is no class {listing(missing)}",
                expected="classes that training has seen: " + listing(names),
                fix="give a feature bank to decode concepts that training has not seen",
            )
        eye = np.eye(len(names))
        targets = eye[[place[name] for name in seen]]
        true = np.array([place[name] for name in asked], dtype=np.int64)
        return Problem(subject, train, test, targets, eye, names, true)
    view = "original" if "original" in bank.views else bank.views[0]
    layer = layer or bank.default_layer
    asked = test.trials["stimulus"].astype(str)
    names = list(dict.fromkeys(asked)) if ids is None else [bank.ids[r] for r in bank.resolve(ids)]
    place = {name: i for i, name in enumerate(names)}
    if missing := sorted(set(asked) - set(place)):
        raise DataError(f"the gallery lacks the seen stimuli {listing(missing)}")
    vectors = bank.vectors(view, layer, train.trials["stimulus"].astype(str).tolist())
    candidates = gallery_embeddings(bank, names, view, layer).vectors
    return Problem(
        subject, train, test, np.asarray(vectors, np.float64), np.asarray(candidates, np.float64),
        names, np.array([place[name] for name in asked], dtype=np.int64),
    )  # fmt: skip


def _check_zero_shot(train: Recording, test: Recording | HeldOut, bank: FeatureBank) -> None:
    stimuli = train.stimuli
    table = bank.stimuli.loc[stimuli]
    hashes = [str(h) if isinstance(h, str) else "" for h in table.get("sha256", ())]
    trials = test.trials
    names = {name: bank.ids[row] for name, row in
             zip(trials["stimulus"].astype(str).unique(),
                 bank.resolve(trials["stimulus"].astype(str).unique()), strict=True)}  # fmt: skip
    trials = trials.assign(stimulus=trials["stimulus"].astype(str).map(names))
    guards.check_zero_shot(stimuli, train.concepts, hashes, trials, bank)


def check_metric(metric: str) -> str:
    """The metric, or an error that lists those there are."""
    if metric not in _SCORES:
        raise DataError(
            f"{metric!r} is no score of this analysis", expected="one of " + ", ".join(_SCORES)
        )
    return metric


def query_scores(matrix: npt.NDArray[Any], true: npt.NDArray[np.int64], metric: str) -> Array:
    """Score of every query; ``matrix`` may have leading axes, shape (..., queries, gallery)."""
    # Rounded once, as retrieval does, so that candidates with equal vectors tie.
    values = np.asarray(matrix, dtype=np.float32)
    truth = np.take_along_axis(
        values, np.broadcast_to(true[:, None], (*values.shape[:-1], 1)), axis=-1
    )
    above, tied = (values > truth).sum(axis=-1), (values == truth).sum(axis=-1)
    scores: Array = np.asarray(_SCORES[metric](above, tied, values.shape[-1]), dtype=np.float64)
    return scores


def chance_of(metric: str, size: int) -> float:
    """What a constant decoder scores with so many candidates."""
    return float(_SCORES[metric](np.array([0]), np.array([size]), size)[0])


def intervals(
    scores: Array, subjects: Sequence[str], stimuli: Sequence[str], metric: str, *, seed: int = 0
) -> Array:
    """95 % intervals of several scores of the same queries.

    As `phosphene.evaluation.statistics.group_interval`, for all rows at once with the same
    resamples.

    Parameters
    ----------
    scores : ndarray, shape (rows, queries)
        Scores of every query under every condition.
    subjects, stimuli : sequence of str, shape (queries,)
        Of every query.
    metric : str
        Says the bounds of a score.
    seed : int
        Seed of the resamples.

    Returns
    -------
    ndarray, shape (rows, 2)
        NaN where there are fewer than two stimuli.
    """
    rows = np.asarray(scores, dtype=np.float64)
    people, who = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    names, group = np.unique(np.asarray(stimuli, dtype=str), return_inverse=True)
    bounds = METRICS[metric].bounds
    if len(names) < 2:
        return np.full((len(rows), 2), np.nan)
    draws = _random.generator(seed, "analysis", "bootstrap over stimuli")
    weights = np.concatenate(
        list(bootstrap.weights_of(draws, len(names), N_RESAMPLES, len(names)))
    ).astype(np.float64)
    within = np.empty((len(rows), N_RESAMPLES, len(people)))
    for i in range(len(people)):
        own = who == i
        count = np.bincount(group[own], minlength=len(names))
        total = np.zeros((len(names), len(rows)))
        np.add.at(total, group[own], rows[:, own].T)
        with np.errstate(invalid="ignore"):
            within[:, :, i] = ((weights @ total) / (weights @ count)[:, None]).T
    if len(people) == 1:
        ends = np.nanquantile(within[:, :, 0], [0.025, 0.975], axis=1).T
    else:
        observed = np.stack([rows[:, who == i].mean(axis=1) for i in range(len(people))], axis=1)
        variances = bootstrap.stimulus_variance(within, len(names))
        ends = bootstrap.mean_interval(observed, variances, len(names), 0.95, bounds)
    for row in np.flatnonzero((rows == rows[:, :1]).all(axis=1)):
        if rows[row, 0] in bounds:
            ends[row] = bootstrap.exact_bound(rows[row, 0], bounds, len(names), 0.025)
    return np.asarray(ends, dtype=np.float64)


def per_subject(scores: Array, subjects: Sequence[str]) -> tuple[list[str], Array]:
    """People in their order, and mean scores of each, shape (people, ...) of (..., queries)."""
    who = np.asarray(subjects, dtype=str)
    people = list(dict.fromkeys(who.tolist()))
    return people, np.stack([scores[..., who == name].mean(axis=-1) for name in people])


def is_simulated(recording: Recording) -> bool:
    """Whether the recording's history says that it was simulated."""
    return any(step.get("op") == "simulate" for step in recording.history)
