"""How accuracy depends on repetitions, training concepts and the size of the gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene.analysis._problem import (
    chance_of,
    check_metric,
    intervals,
    per_subject,
    problems_of_folds,
    query_scores,
)
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError
from phosphene.evaluation.retrieval import n_way_hits
from phosphene.methods._decoder import canonical
from phosphene.methods.ridge import Ridge
from phosphene.stimuli.bank import FeatureBank


def gallery_curve(
    table: pd.DataFrame, sizes: Sequence[int] | None = None, *, k: int = 1, seed: int = 0
) -> pd.DataFrame:
    r"""Expected top-k accuracy among N candidates: the true one and N - 1 drawn from the others.

    Exact, not sampled: of the g others that score higher, the number among the N - 1 drawn is
    hypergeometric (`phosphene.evaluation.retrieval.n_way_hits`).

    Parameters
    ----------
    table : DataFrame
        Per-query table of a result: ``subject``, ``stimulus``, ``n_above``, ``n_tied`` and
        ``n_gallery`` (one value).
    sizes : sequence of int, optional
        Values of N from 2 to the gallery's size; by default up to 40 of them, evenly spread on a
        logarithmic scale.
    k : int
        Hits are places up to ``k``: 1 or 5.
    seed : int
        Seed of the intervals.

    Returns
    -------
    DataFrame
        Columns ``gallery``, ``value``, ``low``, ``high`` and ``chance``. Intervals are bootstraps
        over stimuli, crossed with people where there are several.

    Raises
    ------
    DataError
        If galleries differ in size, or N is out of range.

    Examples
    --------
    >>> table = pd.DataFrame({"subject": "01", "stimulus": ["a", "b"], "n_above": [0, 1],
    ...                       "n_tied": [1, 1], "n_gallery": [3, 3]})
    >>> gallery_curve(table)[["gallery", "value"]]
       gallery  value
    0        2   0.75
    1        3   0.50
    """
    found = table["n_gallery"].unique()
    if len(found) != 1 or int(found[0]) < 2:
        raise DataError(
            "a curve over the gallery's size needs one gallery of two candidates or more",
            found=sorted(found.tolist()),
        )
    size = int(found[0])
    if sizes is None:
        sizes = np.unique(np.geomspace(2, size, 40).round().astype(int)).tolist()
    hits = n_way_hits(table["n_above"], table["n_tied"], size, sizes, k=k)
    n = np.asarray(sizes, dtype=np.int64)
    return _summary(
        hits.T, table["subject"], table["stimulus"], "top1", seed,
        {"gallery": n}, np.minimum(k / n, 1.0),
    )  # fmt: skip


def repetition_curve(
    decoder: Any,
    test: Recording | HeldOut | Sequence[Recording | HeldOut],
    bank: FeatureBank,
    counts: Sequence[int] | None = None,
    *,
    metric: str = "top1",
    ids: Sequence[str] | None = None,
    max_draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Score of a fitted decoder against the number of test repetitions that are averaged.

    The R repetitions of a stimulus are put in random order and cut into R // n averages of n that
    share no trial, so that small numbers are measured on all trials rather than on the first ones.
    The averages of a stimulus count together.

    Parameters
    ----------
    decoder : Decoder
        Fitted; a sequence for several folds.
    test : Recording
        Single test trials, a sequence for several folds; a `HeldOut` counts this as an opening.
    bank : FeatureBank
        Vectors of the candidates.
    counts : sequence of int, optional
        Numbers of repetitions, up to the smallest number that a stimulus has; by default 1, 2, 4
        and so on, and that number.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query.
    ids : sequence of str, optional
        Candidates; by default the distinct stimuli of the test.
    max_draws : int
        Averages of a stimulus that are scored at most, for each number.
    seed : int
        Seed of the order and of the intervals.

    Returns
    -------
    DataFrame
        Columns ``repetitions``, ``draws`` (averages per stimulus), ``value``, ``low``, ``high`` and
        ``chance``.

    Raises
    ------
    DataError
        If a number is larger than that of the repetitions, or trials are averages already.

    Examples
    --------
    >>> import phosphene as ph
    >>> from phosphene.testing import tiny_problem
    >>> problem = tiny_problem(snr=0.1)
    >>> fitted = ph.Ridge().fit(problem.train, problem.bank)
    >>> found = repetition_curve(fitted, problem.test, problem.bank)
    >>> found["repetitions"].tolist(), found["draws"].tolist()
    ([1, 2, 4], [4, 2, 1])
    """
    check_metric(metric)
    tests = [test] if isinstance(test, Recording | HeldOut) else list(test)
    decoders = list(decoder) if isinstance(decoder, Sequence) else [decoder]
    if len(tests) != len(decoders) or not tests:
        raise DataError(
            "every fold has a decoder and test data", found=f"{len(decoders)} and {len(tests)}"
        )
    folds = [
        _Repeated(one, fitted, bank, ids, seed) for one, fitted in zip(tests, decoders, strict=True)
    ]
    most = min(fold.most for fold in folds)
    if counts is None:
        counts = sorted({*(2**i for i in range(most.bit_length())), most})
    if bad := [n for n in counts if not 1 <= n <= most]:
        raise DataError(
            "there are not so many repetitions of every stimulus",
            found=bad,
            expected=f"1 to {most}",
        )
    chance = float(np.mean([chance_of(metric, len(fold.ids)) for fold in folds]))
    rows = []
    for n in counts:
        draws = min(most // n, max_draws)
        tables = [fold.scores(n, draws, metric) for fold in folds]
        table = pd.concat(tables, ignore_index=True)
        rows.append(
            _summary(
                table["score"].to_numpy(dtype=np.float64)[None],
                table["subject"],
                table["stimulus"],
                metric,
                seed,
                {"repetitions": [int(n)], "draws": draws},
                chance,
            )
        )
    return pd.concat(rows, ignore_index=True)


class _Repeated:
    """Single test trials of a fold, with a random turn for each within its stimulus."""

    def __init__(
        self,
        test: Recording | HeldOut,
        decoder: Any,
        bank: FeatureBank,
        ids: Sequence[str] | None,
        seed: int,
    ) -> None:
        opened = test.open("analysis") if isinstance(test, HeldOut) else test
        self.recording = canonical(opened, bank)
        self.decoder, self.bank = decoder, bank
        trials = self.recording.trials
        if "n_averaged" in trials and (trials["n_averaged"] > 1).any():
            raise DataError(
                "a curve over repetitions needs single trials",
                found=f"averages of up to {int(trials['n_averaged'].max())}",
                fix="do not average the test data before",
            )
        keys = ["subject", "stimulus"]
        self.most = int(trials.groupby(keys, sort=False).size().min())
        self.ids = list(ids) if ids is not None else self.recording.stimuli
        draws = _random.generator(seed, "analysis", "order of repetitions")
        order = draws.permutation(len(trials))
        turn = trials.iloc[order].groupby(keys, sort=False).cumcount()
        self.turn = turn.reindex(trials.index).to_numpy()

    def scores(self, n: int, draws: int, metric: str) -> pd.DataFrame:
        """Subject, stimulus and score of every average of ``n`` trials."""
        used = np.flatnonzero(self.turn < n * draws)
        part = self.recording.select(used)
        marked = part.with_trials(part.trials.assign(draw=self.turn[used] // n))
        queries = marked.average(by=("subject", "stimulus", "draw"))
        found = self.decoder.similarity(queries, self.bank, ids=self.ids)
        table = queries.trials[["subject", "stimulus"]].copy()
        return table.assign(score=query_scores(found.matrix, found.true_columns, metric))


def concept_curve(
    train: Recording | Sequence[Recording],
    test: Recording | HeldOut | Sequence[Recording | HeldOut],
    bank: FeatureBank,
    counts: Sequence[int] | None = None,
    *,
    decoder: Callable[[], Any] = Ridge,
    metric: str = "top1",
    ids: Sequence[str] | None = None,
    zero_shot: bool = True,
    n_draws: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Score against the number of training concepts; a decoder is fitted on each selection.

    Parameters
    ----------
    train, test : Recording
        Training and test trials, or sequences of them, one per fold, whose queries are pooled.
        Every person is decoded alone, all with the same concepts.
    bank : FeatureBank
        Vectors of the stimuli.
    counts : sequence of int, optional
        Numbers of concepts; by default an eighth, a quarter, a half and all of them.
    decoder : callable
        Makes an unfitted decoder of `phosphene.methods`.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query.
    ids : sequence of str, optional
        Candidates; by default the distinct stimuli of the test.
    zero_shot : bool
        Refuse test stimuli and concepts that training has seen.
    n_draws : int
        Selections of each number, in nested random orders; all concepts are selected once only.
    seed : int
        Seed of selections and intervals.

    Returns
    -------
    DataFrame
        Columns ``concepts``, ``draws``, ``value`` (mean over draws), ``low``, ``high``, ``spread``
        (standard deviation over draws, NaN for one) and ``chance``. The intervals are over stimuli
        and people; what the selection does is ``spread``.

    Raises
    ------
    DataError
        If a number is out of range.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> p = tiny_problem(snr=0.3)
    >>> found = concept_curve(p.train, p.test, p.bank, [10, 40], n_draws=2)
    >>> bool(found["value"].is_monotonic_increasing), found["draws"].tolist()
    (True, [2, 1])
    """
    check_metric(metric)
    folds = [train] if isinstance(train, Recording) else list(train)
    names = sorted({name for fold in folds for name in fold.concepts})
    if counts is None:
        counts = sorted({max(2, len(names) // part) for part in (8, 4, 2, 1)})
    if bad := [n for n in counts if not 2 <= n <= len(names)]:
        raise DataError(
            "no such number of training concepts", found=bad, expected=f"2 to {len(names)}"
        )
    if n_draws < 1:
        raise DataError("at least one selection is drawn", found=n_draws)
    tests = [test] if isinstance(test, Recording | HeldOut) else list(test)
    parts = problems_of_folds(folds, tests, bank, ids=ids, zero_shot=zero_shot, average_train=False)
    orders = [
        _random.generator(seed, "analysis", "training concepts", draw).permutation(len(names))
        for draw in range(n_draws)
    ]
    queries = pd.concat([part.queries("answer") for part in parts], ignore_index=True)
    chance = float(np.mean([chance_of(metric, len(part.ids)) for part in parts]))
    rows = []
    for n in counts:
        chosen = orders[:1] if n == len(names) else orders
        scores: list[npt.NDArray[np.float64]] = []
        for order in chosen:
            kept = [names[i] for i in order[:n]]
            row = []
            for part in parts:
                own = [name for name in kept if name in set(part.train.concepts)]
                fitted = decoder().fit(part.train.select(concept=own), bank, progress=False)
                matrix = fitted.similarity(part.test, bank, ids=part.ids).matrix
                row.append(query_scores(matrix, part.true, metric))
            scores.append(np.concatenate(row))
        found = np.stack(scores)
        means = per_subject(found, queries["subject"].tolist())[1].mean(axis=0)
        spread = float(means.std(ddof=1)) if len(means) > 1 else np.nan
        rows.append(
            _summary(
                found.mean(axis=0)[None],
                queries["subject"],
                queries["stimulus"],
                metric,
                seed,
                {"concepts": [int(n)], "draws": len(chosen), "spread": spread},
                chance,
            )
        )
    return pd.concat(rows, ignore_index=True)


def _summary(
    scores: npt.NDArray[np.float64],
    subjects: pd.Series[Any],
    stimuli: pd.Series[Any],
    metric: str,
    seed: int,
    first: dict[str, Any],
    chance: Any,
) -> pd.DataFrame:
    """Mean over people of each row of scores (rows, queries), with interval and chance."""
    who, what = subjects.astype(str).tolist(), stimuli.astype(str).tolist()
    ends = intervals(scores, who, what, metric, seed=seed)
    return pd.DataFrame(
        {
            **first,
            "value": per_subject(scores, who)[1].mean(axis=0),
            "low": ends[:, 0],
            "high": ends[:, 1],
            "chance": chance,
        }
    )
