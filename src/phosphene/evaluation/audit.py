"""The audit of scores: records and behaviour of decoders and analyses.

Two questions find most leaks. *Provenance*: what do the records say of how a score came about?
*Behaviour*: does a decoder do what an honest one must do, whoever wrote it? What neither shows is
"not checkable"; it is no pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from phosphene.data.heldout import HeldOut
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.evaluation import _audit_behaviour as _behaviour
from phosphene.evaluation._audit_pipeline import (
    Analysis,
    Pipeline,
    analysis_checks,
    by_group,
)
from phosphene.evaluation._audit_probe import ArrayProbe, Probe, RecordingProbe
from phosphene.evaluation._audit_records import Records, array_checks, record_checks
from phosphene.evaluation._audit_verdicts import Audit, FoundBy, Mark, Verdict, merge
from phosphene.evaluation.guards import nearest_training_image
from phosphene.evaluation.protocol import Protocol
from phosphene.stimuli.bank import FeatureBank

__all__ = [
    "Audit",
    "FoundBy",
    "Mark",
    "Verdict",
    "audit",
    "audit_data",
    "audit_pipeline",
    "by_group",
    "merge",
]

# More queries than this do not make an audit surer, only longer.
MOST_QUERIES = 400


def audit(
    decoder: Any,
    test: Any,
    gallery: Any,
    *,
    answers: npt.ArrayLike | None = None,
    ids: Sequence[str] | None = None,
    train: Recording | tuple[Any, Any] | None = None,
    fit: Callable[[Any, Any], Any] | None = None,
    untrained: Any = None,
    protocol: Protocol | None = None,
    zero_shot: bool = True,
    steps: Sequence[Any] = (),
    transductive: Sequence[str] = (),
    accuracy: bool = True,
    name: str | None = None,
    seed: int = 0,
) -> Audit:
    """Audit a fitted decoder, or any callable that scores candidates.

    Parameters
    ----------
    decoder : object or callable
        A decoder with ``similarity(recording, bank, ids=...)``, or a function
        ``f(queries, gallery) -> scores (queries, candidates)`` of arrays.
    test : Recording, HeldOut or ndarray, shape (queries, ...)
        Test trials, averaged into queries where a decoder takes recordings. A handle is opened once
        more, which the checks do not count.
    gallery : FeatureBank or ndarray, shape (candidates, dimensions)
        Candidates.
    answers : array-like of int, shape (queries,), optional
        For arrays: position of every query's true candidate.
    ids : sequence of str, optional
        For a bank: the candidates; by default the stimuli of the test.
    train : Recording, or (signals, labels), optional
        What the decoder was fitted on.
    fit : callable, optional
        ``fit(signals, labels)``, or ``fit(recording)`` for recordings, which gives a fitted
        decoder; it is fitted on shuffled labels five times.
    untrained : object or callable, optional
        The decoder before it has learned anything.
    protocol : Protocol, optional
        How the score that is to be believed came about.
    zero_shot : bool
        Whether test concepts must be new. False is for classification.
    steps : sequence of object
        Fitted preprocessing that the recordings' histories do not mention, such as a scaler of
        scikit-learn.
    transductive : sequence of str
        Steps that are known to use the other queries; they are then a warning, not a failure.
    accuracy : bool
        Whether the true answers may be used. False leaves out the checks that show an accuracy,
        for test data that nobody has looked at yet.
    name : str, optional
        What the audit is called.
    seed : int
        Seed of orders and permutations.

    Returns
    -------
    Audit
        One verdict per check.

    Notes
    -----
    A callable on arrays shows its behaviour only; what it was fitted on is not checkable from
    outside. `audit_pipeline` can tell, because it fits anew.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> gallery = rng.normal(size=(20, 5))
    >>> seen = gallery + 0.3 * rng.normal(size=(20, 5))
    >>> def dot(queries, gallery):
    ...     return queries @ gallery.T
    >>> audit(dot, seen, gallery, answers=range(20))["gallery order"].verdict
    'pass'
    >>> def cheat(queries, gallery):
    ...     return queries @ gallery.T + 9 * np.eye(len(queries), len(gallery))
    >>> audit(cheat, seen, gallery, answers=range(20))["gallery order"].verdict
    'fail'
    """
    label = name or str(getattr(decoder, "__name__", type(decoder).__name__))
    openings = None
    if isinstance(test, HeldOut):
        openings = test.opened
        test = test.open("audit")

    def probe(what: Any) -> Probe:
        if isinstance(test, Recording):
            if not hasattr(what, "similarity"):
                raise DataError(
                    f"{type(what).__name__} does not score recordings",
                    expected="a decoder with similarity(recording, bank, ids=...)",
                    fix="hand a function its queries and gallery as arrays",
                )
            made: Probe = RecordingProbe(what, queries, gallery, ids)
        else:
            made = ArrayProbe(what, test[:MOST_QUERIES], gallery, known)
        if not accuracy:
            made.answers = None
        return made

    known = None if answers is None else np.asarray(answers)[:MOST_QUERIES]
    verdicts: list[Verdict] = []
    if isinstance(test, Recording):
        queries = _queries(test)
        verdicts += record_checks(
            _records(decoder, test, gallery, train, protocol, openings, zero_shot, steps)
        )
    else:
        n_train = len(train[0]) if isinstance(train, tuple) else None
        verdicts += array_checks(protocol, steps, n_train)
    main = probe(decoder)
    verdicts += _behaviour.behaviour(main, transductive=transductive, seed=seed)
    if untrained is not None:
        verdicts.append(_behaviour.untrained(probe(untrained), seed))
    if fit is not None:
        verdicts.append(_refit(fit, train, probe, seed))
    return Audit(verdicts, label)


def audit_data(
    train: Recording,
    test: Recording | HeldOut,
    bank: FeatureBank | None = None,
    *,
    zero_shot: bool = True,
    label: str = "concept",
    name: str = "data",
) -> Audit:
    """Audit training and test data before anything is fitted.

    Parameters
    ----------
    train, test : Recording or HeldOut
        Single trials.
    bank : FeatureBank, optional
        For content hashes and the nearest training pictures.
    zero_shot : bool
        Whether test concepts must be new.
    label : str
        Trial column with the class.
    name : str
        What the audit is called.

    Returns
    -------
    Audit
        The checks of provenance, without those of a protocol.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(6, 3))
    >>> table = {"stimulus": ["a/1", "a/2", "b/1", "b/2", "a/3", "c/1"]}
    >>> both = Recording.from_arrays(x, table, modality="fmri")
    >>> found = audit_data(both.select([0, 1, 2, 3]), both.select([4, 5]))
    >>> found["test concepts in training"].evidence
    '1 of 2 test concepts are in training: a'
    """
    openings = None
    if isinstance(test, HeldOut):
        openings = test.opened
        test = test.open("audit")
    records = Records(
        train,
        test,
        _hashes(bank),
        openings=openings,
        zero_shot=zero_shot,
        label=label,
        nearest=_nearest(bank, train, test) if zero_shot else None,
    )
    asked = ("selection", "transductive steps", "test labels in the score")
    return Audit([v for v in record_checks(records) if v.check not in asked], name)


def audit_pipeline(
    pipeline: Pipeline,
    signals: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: Sequence[tuple[Any, Any]],
    *,
    groups: npt.ArrayLike | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Audit:
    """Audit a whole analysis by what changes when the test is changed.

    Parameters
    ----------
    pipeline : callable
        ``pipeline(signals, labels, train, test) -> scores (test trials, classes)``: everything from
        the data to the scores, preprocessing and selection of any kind included. Classes are those
        of the training trials in sorted order.
    signals : array-like, shape (trials, ...)
        All trials.
    labels : array-like, shape (trials,)
        Class of every trial.
    folds : sequence of (train, test)
        Positions of the training and test trials, as `sklearn.model_selection` gives them.
    groups : array-like, shape (trials,), optional
        Run or session of every trial. If folds share some, the analysis is repeated with whole
        groups held out.
    name : str, optional
        What the audit is called.
    seed : int
        Seed of replacements and permutations.

    Returns
    -------
    Audit
        One verdict per check.

    Notes
    -----
    With other labels of the test trials, and with other responses in the other test trials, the
    scores of a test trial must stay what they were. This finds scalers, selections and stopping
    rules that saw the test, whatever they are made of. An analysis that loads data by itself,
    instead of taking what it is handed, escapes it.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 3
    >>> x = np.eye(3)[y] + rng.normal(size=(60, 3))
    >>> def honest(x, y, train, test):
    ...     return LogisticRegression().fit(x[train], y[train]).decision_function(x[test])
    >>> def scaled(x, y, train, test):
    ...     return honest((x - x.mean(0)) / x.std(0), y, train, test)
    >>> folds = [(np.arange(40), np.arange(40, 60))]
    >>> check = "other test trials replaced"
    >>> [audit_pipeline(f, x, y, folds)[check].verdict for f in (honest, scaled)]
    ['pass', 'fail']
    """
    analysis = Analysis(
        pipeline,
        np.asarray(signals),
        np.asarray(labels),
        [(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)) for a, b in folds],
        None if groups is None else np.asarray(groups),
    )
    label = name or str(getattr(pipeline, "__name__", type(pipeline).__name__))
    return Audit(analysis_checks(analysis, seed=seed), label)


def _queries(test: Recording) -> Recording:
    repeated = test.trials.duplicated(["subject", "stimulus"]).any()
    queries = test.average(by=("subject", "stimulus")) if repeated else test
    if queries.n_trials <= MOST_QUERIES:
        return queries
    return queries.select(np.linspace(0, queries.n_trials - 1, MOST_QUERIES).astype(int))


def _records(
    decoder: Any,
    test: Recording,
    bank: FeatureBank,
    train: Any,
    protocol: Protocol | None,
    openings: int | None,
    zero_shot: bool,
    steps: Sequence[Any],
) -> Records:
    trained = train if isinstance(train, Recording) else None
    facts = getattr(decoder, "training_", None)
    seen = dict(facts.get("trials", {})) if isinstance(facts, dict) else {}
    for what in ("stimuli", "concepts", "hashes"):
        if (found := getattr(decoder, f"train_{what}_", None)) is not None:
            seen[what] = found
    nearest = _nearest(bank, trained, test) if zero_shot and trained is not None else None
    return Records(
        trained,
        test,
        _hashes(bank),
        protocol,
        openings,
        zero_shot,
        nearest,
        steps,
        seen=seen,
    )


def _hashes(bank: FeatureBank | None) -> dict[str, str]:
    if bank is None or "sha256" not in bank.stimuli:
        return {}
    return {str(k): str(v) for k, v in bank.stimuli["sha256"].items() if isinstance(v, str)}


def _nearest(bank: FeatureBank | None, train: Recording, test: Recording) -> Any:
    if bank is None or not set(train.stimuli) | set(test.stimuli) <= set(bank.ids):
        return None
    new = [name for name in test.stimuli if name not in set(train.stimuli)]
    if not new:
        return None
    view = "original" if "original" in bank.views else bank.views[0]
    return nearest_training_image(bank, train.stimuli, new, view, bank.default_layer)


def _refit(
    fit: Callable[..., Any], train: Any, probe: Callable[[Any], Probe], seed: int
) -> Verdict:
    if train is None:
        raise DataError("fit needs train", expected="(signals, labels) or a Recording")
    if isinstance(train, Recording):
        trials = train.trials
        shown = [name for name in ("stimulus", "concept") if name in trials]

        def make(order: Any) -> Probe:
            table = trials.drop(columns="repetition")
            table[shown] = trials[shown].to_numpy()[order]
            return probe(fit(train.with_trials(table)))

        return _behaviour.refitted(make, trials, seed)
    signals, labels = train
    return _behaviour.refitted(
        lambda order: probe(fit(signals, np.asarray(labels)[order])), labels, seed
    )
