"""Does alignment with the brain help? One table with all controls beside the result.

Every subject is left out in turn: an aligner is fitted to the RSMs of the others on training
categories, and asked about the left-out subject:

- ``rsa_train``, ``rsa_test``: Spearman correlation of the vectors' similarities with the subject's
  RSM, over pairs of training and of test categories;
- ``profile``: identification of a test category by its similarities to the training categories, in
  the subject's RSM and among the vectors; needs no decoder;
- ``identification``, ``correlation``: with a decoder, how often the decoded vector correlates more
  with the truth than with a candidate, and how much. They can move in opposite directions: a mean
  that all vectors share raises the second and not the first;
- for tests, with a decoder: Fisher's z of the correlation with the truth (``z_truth``), with the
  truth of another query drawn at random (``z_shuffled``), and its mean over the truths of all
  others (``z_others``); ``discriminability`` of the truth among the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene import _random
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation.identification import (
    discriminability,
    fisher_pairings,
    identification,
)
from phosphene.evaluation.rsm import Matrix, check_rsm, rsm_correlation
from phosphene.evaluation.statistics import group_interval
from phosphene.methods._alignment_controls import Map, maps_without_brain, shuffled
from phosphene.methods._alignment_inputs import subjects_of, without
from phosphene.methods._alignment_solve import safe_similarity
from phosphene.methods.brain_alignment import BrainAligner

Decode = Callable[[Any, NDArray[Any]], NDArray[Any]]
ROWS = ("aligned", "original", "centred", "pca", "whitened", "alpha=1", "shuffled")
PER_SUBJECT = ("rsa_train", "rsa_test")
PER_QUERY = ("profile", "identification", "correlation")


@dataclass(frozen=True, eq=False)
class AlignmentTable:
    """Scores of an aligned space and of its controls.

    Attributes
    ----------
    subjects : DataFrame
        ``row``, ``subject``, ``draw`` (of the shuffled RSM), ``rsa_train``, ``rsa_test``.
    queries : DataFrame
        ``row``, ``subject``, ``draw``, ``stimulus``, and the scores of the test categories.
    aligners : dict
        The fitted aligner of every left-out subject.
    """

    subjects: pd.DataFrame
    queries: pd.DataFrame
    aligners: dict[Any, BrainAligner] = field(repr=False)

    @property
    def rows(self) -> list[str]:
        """Rows of the table: aligned, other aligners that were given, and the controls."""
        there = list(dict.fromkeys(self.subjects["row"]))
        return sorted(there, key=lambda row: _place(row, there))

    @property
    def scores(self) -> list[str]:
        """Names of the scores."""
        return [*PER_SUBJECT, *(name for name in PER_QUERY if name in self.queries)]

    def means(self) -> pd.DataFrame:
        """Mean of every score, one line per row of the table; draws are averaged."""
        by = self.subjects.groupby("row")[list(PER_SUBJECT)].mean()
        names = [name for name in PER_QUERY if name in self.queries]
        joined = by.join(self.queries.groupby("row")[names].mean())
        return joined.loc[self.rows]

    def gains(self, over: str = "original", level: float = 0.95) -> pd.DataFrame:
        """Aligned less another row: ``score``, ``gain``, ``low``, ``high``.

        Intervals of scores per query are bootstrapped over subjects and stimuli; those of the
        RSA over subjects alone, as pairs share stimuli.
        """
        if over == "aligned" or over not in self.rows:
            raise DataError(f"unknown control {over!r}", expected=", ".join(self.rows[1:]))
        lines = []
        for name in self.scores:
            table = self.subjects if name in PER_SUBJECT else self.queries
            keys = ["subject"] if name in PER_SUBJECT else ["subject", "stimulus"]
            mean = table.groupby(["row", *keys])[name].mean()
            gap = (mean["aligned"] - mean[over]).reset_index(name="gap")
            if "stimulus" not in gap:
                gap["stimulus"] = gap["subject"]
                low, high = _t_interval(gap["gap"].to_numpy(), level)
            else:
                low, high = group_interval(gap, "gap", level=level)
            lines.append({"score": name, "gain": gap["gap"].mean(), "low": low, "high": high})
        return pd.DataFrame(lines)

    def gain_by(self, groups: Mapping[str, str], over: str = "original") -> pd.DataFrame:
        """Mean gain per score within groups of test categories, e.g. their types or clusters."""
        names = [name for name in PER_QUERY if name in self.queries]
        kinds = self.queries["stimulus"].map(dict(groups))
        mean = self.queries.groupby([self.queries["row"], kinds.rename("group")])[names].mean()
        rows = mean.reset_index().set_index("group")
        aligned, control = (rows.loc[rows["row"] == row, names] for row in ("aligned", over))
        return aligned - control


def alignment_table(
    aligner: BrainAligner,
    vectors: ArrayLike,
    brain: Mapping[Any, ArrayLike],
    *,
    train: Sequence[int] | slice,
    test: Sequence[int] | slice,
    categories: Sequence[str] | None = None,
    decode: Decode | None = None,
    candidates: ArrayLike | None = None,
    subjects: Iterable[Any] | None = None,
    draws: int = 3,
    others: Mapping[str, Mapping[Any, BrainAligner]] | None = None,
) -> AlignmentTable:
    """Align with all subjects but one, in turn, and compare with every control.

    Parameters
    ----------
    aligner : BrainAligner
        Its parameters are used; it need not be fitted and is left as it is.
    vectors : array, shape (n, d)
        Vectors of training and test categories.
    brain : mapping of subject or (subject, region) to RSM, shape (n, n)
        Of the same categories. Test categories serve the scores of the left-out subject only.
    train, test : sequence of int or slice
        Rows of training and test categories.
    categories : sequence of str, optional
        Names of the rows.
    decode : callable, optional
        ``decode(subject, targets)`` learns to predict targets (n_train, width) from the subject's
        training responses and returns predictions (n_test, width) from the test responses, in the
        order of ``train`` and ``test``; any modality will do. See `ridge_decoder`.
    candidates : array, shape (m, d), optional
        Vectors of wrong answers; the other test categories when not given.
    subjects : iterable, optional
        Who is left out in turn; everyone when not given.
    draws : int
        Shufflings of the RSM.
    others : mapping of row to (mapping of subject to BrainAligner), optional
        Further rows: aligners that were fitted, without the subject, to training categories, such
        as another variant's.

    Raises
    ------
    LeakError
        If rows are of training and of test, or another aligner was fitted on test categories.
    DataError
        If a row has the name of a control, or no aligner for a subject.
    """
    y = np.asarray(vectors, dtype=np.float64)
    names = [str(c) for c in (range(len(y)) if categories is None else categories)]
    learn, ask = _rows(train, len(y)), _rows(test, len(y))
    if both := sorted(set(learn.tolist()) & set(ask.tolist())):
        raise LeakError("rows are of training and of test", found=listing(names[i] for i in both))
    rsms = {key: check_rsm(rsm, len(y), f"the RSM of {key!r}") for key, rsm in brain.items()}
    who = subjects_of(rsms) if subjects is None else list(subjects)
    more = {} if others is None else dict(others)
    _check_others(more, who, {names[i] for i in ask})
    left = {
        s: {key: rsm[np.ix_(learn, learn)] for key, rsm in without(rsms, s).items()} for s in who
    }
    train_names = [names[i] for i in learn]
    fitted = aligner.fit_each(y[learn], left, categories=train_names)
    # The controls keep what was chosen for the aligned row.
    plain, mixed, given = {}, {}, {}
    for s in who:
        choice = (fitted[s].alpha_, fitted[s].penalty_)
        plain[s] = (1.0, choice[1])
        for draw, rsm in enumerate(shuffled(left[s], draws, aligner.random_state, s)):
            mixed[s, draw], given[s, draw] = rsm, choice
    alone = aligner.fit_each(y[learn], left, choices=list(plain.values()))
    random = aligner.fit_each(y[learn], mixed, choices=list(given.values())) if draws else {}
    wrong = None if candidates is None else np.asarray(candidates, dtype=np.float64)
    lines, queries = [], []
    order = _random.generator(aligner.random_state, "shuffled truths").permutation(len(ask))
    for s in who:
        own = [rsm for key, rsm in rsms.items() if key == s or (isinstance(key, tuple)
               and key[0] == s)]  # fmt: skip
        target = np.mean(own, axis=0)
        maps: list[tuple[str, int, Map]] = [("aligned", 0, fitted[s].transform)]
        maps += [(row, 0, one[s].transform) for row, one in more.items()]
        none = maps_without_brain(y[learn], aligner.width, fitted[s].penalty_)
        maps += [(row, 0, function) for row, function in none.items()]
        maps += [("alpha=1", 0, alone[s].transform)]
        maps += [("shuffled", draw, random[s, draw].transform) for draw in range(draws)]
        for row, draw, function in maps:
            key = {"row": row, "subject": str(s), "draw": draw}
            z = np.asarray(function(y), dtype=np.float64)
            lines.append(key | _rsa(z, target, learn, ask))
            scores = _query_scores(z, target, learn, ask)
            if decode is not None:
                answers = None if wrong is None else np.asarray(function(wrong), np.float64)
                scores |= _decoded(np.asarray(decode(s, z[learn])), z[ask], answers, order)
            queries.append(pd.DataFrame(key | {"stimulus": [names[i] for i in ask]} | scores))
    return AlignmentTable(pd.DataFrame(lines), pd.concat(queries, ignore_index=True), fitted)


def ridge_decoder(
    responses: Mapping[Any, ArrayLike],
    train: Sequence[int] | slice,
    test: Sequence[int] | slice,
    *,
    penalty: float = 100.0,
) -> Decode:
    """A decoder for `alignment_table`: ridge regression on z-scored units.

    Parameters
    ----------
    responses : mapping of subject to array, shape (n, units)
        Rows as those of the table's vectors.
    train, test : sequence of int or slice
        As there.
    penalty : float
        On the sum of squares.
    """

    def decode(subject: Any, targets: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(responses[subject], dtype=np.float64)
        learn, ask = _rows(train, len(x)), _rows(test, len(x))
        mean, sd = x[learn].mean(axis=0), x[learn].std(axis=0)
        z = (x - mean) / np.where(sd > 0, sd, 1.0)
        centre = targets.mean(axis=0)
        gram = z[learn] @ z[learn].T + penalty * np.eye(len(learn))
        deviation = (z[ask] @ z[learn].T) @ np.linalg.solve(gram, targets - centre)
        return np.asarray(deviation + centre)

    return decode


def _rsa(
    z: Matrix, target: Matrix, learn: NDArray[np.intp], ask: NDArray[np.intp]
) -> dict[str, float]:
    own = safe_similarity(z, centred=False)
    return {
        name: rsm_correlation(own[np.ix_(rows, rows)], target[np.ix_(rows, rows)])
        for name, rows in zip(PER_SUBJECT, (learn, ask), strict=True)
    }


def _query_scores(
    z: Matrix, target: Matrix, learn: NDArray[np.intp], ask: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    own = safe_similarity(z, centred=False)
    seen, aligned = target[np.ix_(ask, learn)], own[np.ix_(ask, learn)]
    return {"profile": identification(seen, aligned, refuse_constant=False)}


def _decoded(
    predicted: NDArray[Any], true: Matrix, candidates: Matrix | None, order: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    # A rectified latent may be all zeros; it correlates with nothing.
    z = fisher_pairings(predicted, true, refuse_constant=False)
    n = len(z)
    own = np.diag(z)
    # Every query gets the truth of the next one in a random order, and so never its own.
    another = np.empty(n, dtype=np.intp)
    another[order] = np.roll(order, -1)
    return {
        "identification": identification(predicted, true, candidates, refuse_constant=False),
        "correlation": np.tanh(own),
        "z_truth": own,
        "z_shuffled": z[np.arange(n), another],
        "z_others": (z.sum(axis=1) - own) / max(n - 1, 1),
        "discriminability": discriminability(predicted, true, candidates, refuse_constant=False),
    }


def _place(row: str, there: Sequence[str]) -> tuple[int, int]:
    """Aligned first, then what is no control in the order it came, then controls."""
    if row not in ROWS:
        return 1, there.index(row)
    return (0, 0) if row == "aligned" else (2, ROWS.index(row))


def _check_others(
    others: Mapping[str, Mapping[Any, BrainAligner]], who: Sequence[Any], asked: set[str]
) -> None:
    if taken := sorted(set(others) & set(ROWS)):
        raise DataError("rows of other aligners have names of their own", found=listing(taken))
    for row, aligners in others.items():
        if missing := [s for s in who if s not in aligners]:
            raise DataError(f"the row {row!r} has no aligner for {listing(map(str, missing))}")
        for s in who:
            if both := sorted(asked & set(aligners[s].categories_ or ())):
                raise LeakError(
                    f"the aligner of the row {row!r} was fitted on test categories",
                    found=listing(both),
                )


def _rows(rows: Sequence[int] | slice, n: int) -> NDArray[np.intp]:
    return np.arange(n, dtype=np.intp)[rows if isinstance(rows, slice) else np.asarray(rows)]


def _t_interval(values: NDArray[Any], level: float) -> tuple[float, float]:
    """Interval of a mean over subjects by Student's t; NaN for fewer than two."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return float("nan"), float("nan")
    half = stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
