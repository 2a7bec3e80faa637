r"""When what is seen can be decoded: sliding windows and generalisation over time.

In every window a decoder of its own is fitted on the training trials and scored on the test trials.
Where the curve leaves chance, the signals of that window tell pictures apart; a decoder fitted at t
that also works at t' says that the same pattern is there at both times (King & Dehaene 2014,
doi:10.1016/j.tics.2014.01.002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.analysis._problem import (
    Array,
    Problem,
    chance_of,
    check_metric,
    intervals,
    is_simulated,
    per_subject,
    problems,
    query_scores,
)
from phosphene.analysis._windows import WindowRidge, Windows
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.decoding.ridge import ALPHAS
from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank

Metric = Literal["top1", "top5", "mrr", "two_way"]


@dataclass(frozen=True, eq=False)
class TimeCurve:
    """Scores by window.

    Attributes
    ----------
    times : ndarray, shape (windows,)
        Middle of each window, seconds from stimulus onset.
    window : float
        Length of a window, seconds.
    scores : ndarray, shape (windows, queries)
        Score of every query.
    queries : DataFrame
        ``subject``, ``stimulus`` and ``answer`` of every query.
    metric : str
        What a score is.
    chance : float
        Score of a constant decoder.
    simulated : bool
        Whether the recording was simulated.
    """

    times: Array
    window: float
    scores: Array
    queries: pd.DataFrame
    metric: str
    chance: float
    simulated: bool = False

    @property
    def subjects(self) -> list[str]:
        """People, in the order of `by_subject`."""
        return per_subject(self.scores, self.queries["subject"].tolist())[0]

    @property
    def by_subject(self) -> Array:
        """Mean score of every person, shape (subjects, windows)."""
        return per_subject(self.scores, self.queries["subject"].tolist())[1]

    @property
    def peak(self) -> float:
        """Time of the highest mean score, seconds; the first of equals."""
        return float(self.times[int(self.by_subject.mean(axis=0).argmax())])

    def table(self, *, seed: int = 0) -> pd.DataFrame:
        """Mean over people by window, with its 95 % interval.

        Returns
        -------
        DataFrame
            Columns ``time`` (middle) and ``window`` (length, both in seconds), ``value``, ``low``,
            ``high`` and ``chance``. Intervals are bootstraps over stimuli, crossed with people
            where there are several; they hold for one window, not for all at once.
        """
        ends = intervals(
            self.scores, self.queries["subject"].tolist(), self.queries["stimulus"].tolist(),
            self.metric, seed=seed,
        )  # fmt: skip
        return pd.DataFrame(
            {
                "time": self.times,
                "window": self.window,
                "value": self.by_subject.mean(axis=0),
                "low": ends[:, 0],
                "high": ends[:, 1],
                "chance": self.chance,
            }
        )


@dataclass(frozen=True, eq=False)
class TemporalGeneralisation:
    """Scores of the decoder of every window in every window.

    Attributes
    ----------
    times : ndarray, shape (windows,)
        Middle of each window, seconds from stimulus onset.
    window : float
        Length of a window, seconds.
    by_subject : ndarray, shape (subjects, windows, windows)
        Mean score of every person; trained in rows, tested in columns.
    subjects : list of str
        People.
    n_queries : tuple of int
        Queries of every person.
    metric : str
        What a score is.
    chance : float
        Score of a constant decoder.
    simulated : bool
        Whether the recording was simulated.
    """

    times: Array
    window: float
    by_subject: Array
    subjects: list[str]
    n_queries: tuple[int, ...]
    metric: str
    chance: float
    simulated: bool = False

    def table(self) -> pd.DataFrame:
        """Mean over people: columns ``train_time``, ``test_time``, ``value`` and ``chance``."""
        n = len(self.times)
        return pd.DataFrame(
            {
                "train_time": np.repeat(self.times, n),
                "test_time": np.tile(self.times, n),
                "value": self.by_subject.mean(axis=0).ravel(),
                "chance": self.chance,
            }
        )


def sliding_window(
    train: Recording,
    test: Recording | HeldOut,
    bank: FeatureBank | None = None,
    *,
    window: float = 0.05,
    step: float | None = None,
    metric: Metric = "top1",
    decoder: Callable[[], Any] | None = None,
    alphas: Sequence[float] = ALPHAS,
    ids: Sequence[str] | None = None,
    layer: str | None = None,
    zero_shot: bool = True,
    average_train: bool = True,
    average_test: bool = True,
) -> TimeCurve:
    """Decode in every window of time by itself.

    Parameters
    ----------
    train, test : Recording
        Training and test trials, shape (trials, channels, times); every person is decoded alone.
        ``test`` may be a `HeldOut`, which counts this as an opening.
    bank : FeatureBank, optional
        Vectors of the stimuli: pictures are retrieved. Without a bank the concepts are classes
        (targets are indicators), which training must have seen.
    window, step : float
        Length of a window and distance between two, seconds; by default they touch.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query.
    decoder : callable, optional
        Makes an unfitted decoder of `phosphene.methods`, fitted anew in every window; needs a
        bank. By default ridge regression in closed form for all windows together.
    alphas : sequence of float
        Penalties of the ridge regression; one is chosen per window by exact leave-one-out.
    ids : sequence of str, optional
        Candidates; by default the distinct stimuli of the test, or all classes.
    layer : str, optional
        Layer of the bank.
    zero_shot : bool
        Refuse test stimuli and concepts that training has seen. Only with a bank.
    average_train, average_test : bool
        Average the repetitions of a stimulus; without it every trial counts by itself.

    Returns
    -------
    TimeCurve

    Raises
    ------
    DataError
        Without a time axis, for windows that do not fit, unknown metrics, or people who are tested
        but not trained on.
    LeakError
        If test trials are among the training trials, or training has seen what is tested.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> problem = tiny_problem(snr=0.5)
    >>> curve = sliding_window(problem.train, problem.test, problem.bank, window=0.1)
    >>> curve.scores.shape, curve.chance, bool(curve.by_subject.mean() > 0.2)
    ((8, 20), 0.05, True)
    """
    check_metric(metric)
    windows = Windows.of(train, window, step)
    parts = problems(
        train, test, bank, ids=ids, layer=layer, zero_shot=zero_shot,
        average_train=average_train, average_test=average_test,
    )  # fmt: skip
    columns, queries = [], []
    for part in parts:
        _same_times(part)
        matrices = _by_window(part, windows, bank, decoder, tuple(alphas))
        columns.append(np.stack([query_scores(m, part.true, metric) for m in matrices]))
        queries.append(part.queries("answer"))
    return TimeCurve(
        np.asarray(windows.times),
        _length(train, windows),
        np.concatenate(columns, axis=1),
        pd.concat(queries, ignore_index=True),
        metric,
        float(np.mean([chance_of(metric, len(part.ids)) for part in parts])),
        is_simulated(train),
    )


def temporal_generalisation(
    train: Recording,
    test: Recording | HeldOut,
    bank: FeatureBank | None = None,
    *,
    window: float = 0.05,
    step: float | None = None,
    metric: Metric = "top1",
    decoder: Callable[[], Any] | None = None,
    alphas: Sequence[float] = ALPHAS,
    ids: Sequence[str] | None = None,
    layer: str | None = None,
    zero_shot: bool = True,
    average_train: bool = True,
    average_test: bool = True,
) -> TemporalGeneralisation:
    """Train in every window, test in every window.

    Every sample is centred with the training mean of that sample, whatever window the decoder comes
    from: the response to any picture differs between times and would shift the scores.

    Parameters
    ----------
    train, test, bank, window, step, metric, decoder, alphas, ids, layer, zero_shot
        As for :func:`sliding_window`.
    average_train, average_test : bool
        As for :func:`sliding_window`.

    Returns
    -------
    TemporalGeneralisation

    Raises
    ------
    DataError, LeakError
        As for :func:`sliding_window`.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> problem = tiny_problem()
    >>> found = temporal_generalisation(problem.train, problem.test, problem.bank, window=0.2)
    >>> found.by_subject.shape
    (1, 4, 4)
    """
    check_metric(metric)
    windows = Windows.of(train, window, step)
    parts = problems(
        train, test, bank, ids=ids, layer=layer, zero_shot=zero_shot,
        average_train=average_train, average_test=average_test,
    )  # fmt: skip
    names: list[str] = []
    squares = []
    for part in parts:
        _same_times(part)
        rows = [
            query_scores(scores, part.true, metric).mean(axis=-1)
            for scores in _across_windows(part, windows, bank, decoder, tuple(alphas))
        ]
        names.append(part.subject)
        squares.append(np.stack(rows))
    return TemporalGeneralisation(
        np.asarray(windows.times),
        _length(train, windows),
        np.stack(squares),
        names,
        tuple(len(part.true) for part in parts),
        metric,
        float(np.mean([chance_of(metric, len(part.ids)) for part in parts])),
        is_simulated(train),
    )


def pool_curves(curves: Sequence[TimeCurve]) -> TimeCurve:
    """Curves of several folds or people as one; the queries are put side by side.

    Raises
    ------
    DataError
        If windows or metrics differ.
    """
    first = curves[0]
    _require_alike([(c.times, c.metric) for c in curves])
    sizes = [c.scores.shape[1] for c in curves]
    return replace(
        first,
        scores=np.concatenate([c.scores for c in curves], axis=1),
        queries=pd.concat([c.queries for c in curves], ignore_index=True),
        chance=float(np.average([c.chance for c in curves], weights=sizes)),
    )


def pool_generalisation(found: Sequence[TemporalGeneralisation]) -> TemporalGeneralisation:
    """Several folds or people as one; folds of a person are averaged by their queries.

    Raises
    ------
    DataError
        If windows or metrics differ.
    """
    _require_alike([(one.times, one.metric) for one in found])
    names = [name for one in found for name in one.subjects]
    squares = np.concatenate([one.by_subject for one in found])
    counts = np.array([n for one in found for n in one.n_queries])
    people = list(dict.fromkeys(names))
    own = [np.array([name == who for name in names]) for who in people]
    return replace(
        found[0],
        by_subject=np.stack([np.average(squares[m], axis=0, weights=counts[m]) for m in own]),
        subjects=people,
        n_queries=tuple(int(counts[m].sum()) for m in own),
    )


def _require_alike(facts: Sequence[tuple[Array, str]]) -> None:
    times, metric = facts[0]
    for other, name in facts[1:]:
        if name != metric or other.shape != times.shape or not np.allclose(other, times):
            raise DataError("windows or metrics differ: these scores cannot be pooled")


def _length(recording: Recording, windows: Windows) -> float:
    return windows.width / float(recording.sfreq or np.nan)


def _same_times(part: Problem) -> None:
    here, there = part.train.times, part.test.times
    if here is None or there is None or here.shape != there.shape or not np.allclose(here, there):
        raise DataError(
            "training and test data have different time axes",
            found=f"{0 if there is None else len(there)} samples in the test",
            expected=f"{0 if here is None else len(here)} samples, at the same times",
        )


def _by_window(
    part: Problem,
    windows: Windows,
    bank: FeatureBank | None,
    decoder: Callable[[], Any] | None,
    alphas: tuple[float, ...],
) -> list[npt.NDArray[Any]]:
    """Scores in every window that was trained on, each of shape (queries, gallery)."""
    if decoder is None:
        ridge = WindowRidge(part, windows, alphas)
        return [ridge.scores(w) for w in range(len(windows.starts))]
    found = []
    for start in windows.starts:
        fitted = _fitted(part, windows, start, bank, decoder)
        shown = _cut(part.test, windows, start)
        found.append(fitted.similarity(shown, bank, ids=part.ids).matrix)
    return found


def _across_windows(
    part: Problem,
    windows: Windows,
    bank: FeatureBank | None,
    decoder: Callable[[], Any] | None,
    alphas: tuple[float, ...],
) -> Any:
    """For every training window the scores in all windows, (windows, queries, gallery)."""
    if decoder is None:
        ridge = WindowRidge(part, windows, alphas)
        for w in range(len(windows.starts)):
            yield ridge.generalised(w)
        return
    shift = part.train.signals.mean(axis=0, dtype=np.float64)
    for start in windows.starts:
        fitted = _fitted(part, windows, start, bank, decoder)
        own = _cut(part.test, windows, start)
        here = shift[:, start : start + windows.width]
        scores = []
        for other in windows.starts:
            there = shift[:, other : other + windows.width]
            # The decoder meets another window on the time axis, and around the mean, of its own.
            signals = _cut(part.test, windows, other).signals - there + here
            shown = own.with_signals(signals.astype(np.float32), check=False)
            scores.append(fitted.similarity(shown, bank, ids=part.ids).matrix)
        yield np.stack(scores)


def _fitted(
    part: Problem,
    windows: Windows,
    start: int,
    bank: FeatureBank | None,
    decoder: Callable[[], Any],
) -> Any:
    if bank is None:
        raise DataError(
            "a decoder of your own needs a feature bank",
            found="bank=None",
            fix="give a bank of the classes, or leave decoder out",
        )
    return decoder().fit(_cut(part.train, windows, start), bank, progress=False)


def _cut(recording: Recording, windows: Windows, start: int) -> Recording:
    times = recording.times
    assert times is not None
    return recording.crop(float(times[start]), float(times[start + windows.width - 1]))
