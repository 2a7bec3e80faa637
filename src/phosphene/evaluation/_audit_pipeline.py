"""Checks of a whole analysis: nothing of the test may reach what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import ttest_1samp

from phosphene import _random
from phosphene.errors import DataError, listing
from phosphene.evaluation._audit_behaviour import (
    FEWEST_CANDIDATES,
    SHUFFLES,
    _attempt,
    _Comparison,
)
from phosphene.evaluation._audit_chance import ALPHA, Floats, Ints, p_of_answers, two_way
from phosphene.evaluation._audit_verdicts import Verdict

REPLACEMENTS = 3
SINGLE_QUERIES = 4
# Of the gap between two splits: a split that shares blocks is suspicious to begin with, and blocks
# are few.
ALPHA_GAP = 0.01

Pipeline = Callable[[Any, Any, Ints, Ints], Any]
Fold = tuple[Ints, Ints]


@dataclass(frozen=True, eq=False)
class Analysis:
    """An analysis with its data: fits on some trials and scores the classes of others.

    Parameters
    ----------
    pipeline : callable
        ``pipeline(signals, labels, train, test) -> scores (test trials, classes)``, with the
        classes of the training trials in sorted order.
    signals : ndarray, shape (trials, ...)
    labels : ndarray, shape (trials,)
    folds : sequence of (train, test)
        Positions of trials.
    groups : ndarray, shape (trials,), optional
        Run or session of every trial.
    """

    pipeline: Pipeline
    signals: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    folds: Sequence[Fold]
    groups: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.signals)
        if len(self.labels) != n or (self.groups is not None and len(self.groups) != n):
            raise DataError("signals, labels and groups differ in length", found=n)
        if not self.folds:
            raise DataError("there is no fold to audit")
        for train, test in self.folds:
            unknown = set(self.labels[test]) - set(self.labels[train])
            if unknown:
                raise DataError(
                    "classes of the test are not among those of training",
                    found=listing(sorted(map(str, unknown))),
                    fix="classification needs every class on both sides; for new classes audit the "
                    "decoder with its gallery",
                )

    def answers(self, fold: Fold) -> Ints:
        """Column of the true class of every test trial."""
        train, test = fold
        return np.searchsorted(np.unique(self.labels[train]), self.labels[test]).astype(np.int64)

    def scores(self, fold: Fold, signals: Any = None, labels: Any = None) -> Floats:
        """Scores of a fold, of these data or of changed ones."""
        train, test = fold
        labels = self.labels if labels is None else labels
        # Copies, so that an analysis that changes its input does not change the next question.
        found = self.pipeline(
            np.array(self.signals if signals is None else signals),
            np.array(labels),
            train.copy(),
            test.copy(),
        )
        scores = np.asarray(found, dtype=np.float64)
        expected = (len(test), len(np.unique(labels[train])))
        if scores.shape != expected:
            raise DataError(
                "the analysis' scores have another shape than test trials x training classes",
                found=scores.shape,
                expected=expected,
            )
        return scores

    def hits(self, folds: Sequence[Fold]) -> Floats:
        """Mean top-1 hit of every trial, ties as their expectation; NaN where it is not tested."""
        total, count = np.zeros((2, len(self.labels)))
        for fold in folds:
            scores, answers = self.scores(fold), self.answers(fold)
            true = scores[np.arange(len(scores)), answers][:, None]
            best = (scores > true).sum(axis=1) == 0
            np.add.at(total, fold[1], best / (scores == true).sum(axis=1))
            np.add.at(count, fold[1], 1)
        found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return found


def analysis_checks(analysis: Analysis, *, seed: int = 0) -> Iterator[Verdict]:
    """Verdicts on an analysis; all but the last on its first fold."""
    fold = analysis.folds[0]
    plain = analysis.scores(fold)
    compare = _Comparison(plain, analysis.scores(fold))
    yield compare.repeatable()
    yield _test_labels(analysis, fold, plain, compare, seed)
    yield _other_trials(analysis, fold, plain, compare, seed)
    yield _training_labels(analysis, fold, seed)
    if analysis.groups is not None:
        yield _groups(analysis)


def _test_labels(
    analysis: Analysis, fold: Fold, plain: Floats, compare: _Comparison, seed: int
) -> Verdict:
    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "test labels")
        classes = np.unique(analysis.labels[fold[0]])
        change = 0.0
        for _ in range(REPLACEMENTS):
            labels = analysis.labels.copy()
            labels[fold[1]] = rng.choice(classes, len(fold[1]))
            change = max(change, compare.change(analysis.scores(fold, labels=labels), plain))
        return compare.verdict(
            "test labels replaced",
            change,
            "with random labels of the test trials, their scores change",
            "test labels reach fitting, selection or scoring: choose voxels, epochs and parameters "
            "within the training trials",
        )

    return _attempt("test labels replaced", ask)


def _other_trials(
    analysis: Analysis, fold: Fold, plain: Floats, compare: _Comparison, seed: int
) -> Verdict:
    check = "other test trials replaced"
    if len(fold[1]) < 2:
        return Verdict(check, "not checkable", "there is one test trial only", "behaviour")

    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "other trials")
        spread = analysis.signals.std(axis=0) + 1e-12
        change = 0.0
        for place in rng.permutation(len(fold[1]))[:SINGLE_QUERIES]:
            others = np.delete(fold[1], place)
            signals = np.array(analysis.signals)
            noise = rng.standard_normal((len(others), *signals.shape[1:]))
            # Larger and shifted, so that statistics of all trials cannot stay as they were.
            signals[others] = (5 + 3 * noise) * spread + signals[others]
            changed = analysis.scores(fold, signals=signals)
            change = max(change, compare.change(changed[[place]], plain[[place]]))
        return compare.verdict(
            check,
            change,
            "with other responses in the other test trials, a trial's scores change",
            "a scaler, whitening, selection or matching saw the test trials: fit it on training "
            "trials and score each test trial by itself",
        )

    return _attempt(check, ask)


def _training_labels(analysis: Analysis, fold: Fold, seed: int) -> Verdict:
    check = "training labels shuffled"
    answers = analysis.answers(fold)
    if len(np.unique(answers)) < 2 or len(answers) < FEWEST_CANDIDATES:
        return Verdict(check, "not checkable", "too few test trials or classes", "behaviour")

    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "training labels")
        means, tables = [], []
        for _ in range(SHUFFLES):
            labels = analysis.labels.copy()
            labels[fold[0]] = labels[rng.permutation(fold[0])]
            tables.append(two_way(analysis.scores(fold, labels=labels)))
            means.append(tables[-1][np.arange(len(answers)), answers].mean())
        # Responses to one class are alike, so that single trials cannot be exchanged; over shuffles
        # the mean is normal enough, and a leak that fitting keeps lifts every one of them.
        _, p = p_of_answers(tables, answers, np.zeros(len(answers), dtype=np.int64), seed)
        mean, low = float(np.mean(means)), float(np.min(means))
        bad = p <= ALPHA and low > 0.6 and mean > 0.7
        return Verdict(
            check,
            "fail" if bad else "pass",
            f"fitted on shuffled labels: two-way {mean:.3f}, {low:.3f} at least, in {SHUFFLES} "
            "shuffles (chance .5)",
            "behaviour",
            "fitting sees true labels by another way than its training trials" if bad else "",
            {"two_way": mean, "lowest": low},
        )

    return _attempt(check, ask)


def _groups(analysis: Analysis) -> Verdict:
    check = "blocks on both sides"
    groups = analysis.groups
    assert groups is not None
    shared = [len(set(groups[train]) & set(groups[test])) for train, test in analysis.folds]
    if not any(shared):
        return Verdict(check, "pass", "no block is in training and test", "behaviour")
    apart = by_group(groups, analysis.labels)

    def confounded() -> Verdict:
        reached = float(np.nanmean(analysis.hits(analysis.folds)))
        return Verdict(
            check,
            "fail",
            f"no class occurs in two blocks: top-1 {reached:.2f} is reached by knowing the block",
            "behaviour",
            "decode something that varies within blocks, or record another design",
            {"as_split": reached},
        )

    if len(apart) < 2:
        return _attempt(check, confounded)

    def ask() -> Verdict:
        # The same trials under both, compared over groups, within which trials are alike.
        given, honest = analysis.hits(analysis.folds), analysis.hits(apart)
        both = np.isfinite(given) & np.isfinite(honest)
        first, second = float(given[both].mean()), float(honest[both].mean())
        gaps = pd.Series((given - honest)[both]).groupby(groups[both]).mean()
        p = 1.0
        if len(gaps) > 2 and gaps.std() > 0:
            p = float(ttest_1samp(gaps, 0.0, alternative="greater").pvalue)
        inflated = p <= ALPHA_GAP
        return Verdict(
            check,
            "fail" if inflated else "warn",
            f"top-1 {first:.2f} as split, {second:.2f} with whole blocks held out "
            f"(p = {p:.2g} over {len(gaps)} blocks); {np.count_nonzero(shared)} of {len(shared)} "
            "folds share blocks",
            "behaviour",
            'hold out whole runs or sessions, e.g. split_leave_one_out(recording, "run")',
            {"as_split": first, "by_block": second, "p": p},
        )

    return _attempt(check, ask)


def by_group(groups: npt.NDArray[Any], labels: npt.NDArray[Any]) -> list[Fold]:
    """Folds that hold out one group each, of the trials whose class occurs elsewhere."""
    folds = []
    for group in np.unique(groups):
        train = np.flatnonzero(groups != group)
        test = np.flatnonzero((groups == group) & np.isin(labels, labels[train]))
        if len(test):
            folds.append((train, test))
    return folds
