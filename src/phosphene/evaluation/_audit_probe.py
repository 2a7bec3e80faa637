"""What an audit asks of a decoder: scores of some queries against some candidates."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from phosphene.data._ids import resolve_ids
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Probe(ABC):
    """A decoder with queries and candidates.

    Attributes
    ----------
    n_queries, n_gallery : int
        How many there are.
    answers : ndarray of int, shape (queries,), or None
        Column of the true candidate of every query, where it is known.
    blocks : ndarray of int, shape (queries,)
        Queries whose responses may be exchanged for one another: those of one person.
    labelled : bool
        Whether the decoder is handed labels along with the responses.
    """

    n_queries: int
    n_gallery: int
    answers: Ints | None
    blocks: Ints
    labelled: bool

    def scores(
        self, rows: Any = None, columns: Any = None, *, responses: Any = None, labels: Any = None
    ) -> Floats:
        """Scores (rows, columns) as the decoder gives them.

        Parameters
        ----------
        rows, columns : array-like of int, optional
            Which queries and candidates, in which order; all by default.
        responses : array-like of int, optional
            Whose responses stand in the rows, instead of their own.
        labels : array-like of int, optional
            Whose labels stand in the rows, instead of their own; only where ``labelled``.
        """
        rows = np.arange(self.n_queries) if rows is None else np.asarray(rows)
        columns = np.arange(self.n_gallery) if columns is None else np.asarray(columns)
        responses = rows if responses is None else np.asarray(responses)
        labels = rows if labels is None else np.asarray(labels)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # What a decoder warns of when it is given one query is part of its behaviour.
            warnings.simplefilter("ignore")
            found = np.asarray(self._scores(responses, labels, columns), dtype=np.float64)
        if found.shape != (len(rows), len(columns)):
            raise DataError(
                "the decoder's scores have another shape than queries x candidates",
                found=found.shape,
                expected=(len(rows), len(columns)),
            )
        return found

    @abstractmethod
    def _scores(self, responses: Ints, labels: Ints, columns: Ints) -> Any:
        """Scores for given responses with given labels."""


class ArrayProbe(Probe):
    """Any callable ``f(queries, gallery) -> scores`` on arrays."""

    labelled = False

    def __init__(
        self, function: Callable[[Any, Any], Any], queries: Any, gallery: Any, answers: Any
    ) -> None:
        self._function = function
        self._queries, self._gallery = np.asarray(queries), np.asarray(gallery)
        self.n_queries, self.n_gallery = len(self._queries), len(self._gallery)
        self.blocks = np.zeros(self.n_queries, dtype=np.int64)
        self.answers = None
        if answers is not None:
            self.answers = np.asarray(answers, dtype=np.int64)
            right = self.answers.shape == (self.n_queries,)
            if not right or self.answers.min() < 0 or self.answers.max() >= self.n_gallery:
                raise DataError(
                    "answers hold the position of the true candidate of every query",
                    found=f"shape {self.answers.shape}, {self.answers.min()} to "
                    f"{self.answers.max()}",
                    expected=f"shape ({self.n_queries},), 0 to {self.n_gallery - 1}",
                )

    def _scores(self, responses: Ints, labels: Ints, columns: Ints) -> Any:
        return self._function(self._queries[responses], self._gallery[columns])


class RecordingProbe(Probe):
    """A decoder with ``similarity(recording, bank, ids=...)``."""

    labelled = True

    def __init__(
        self, decoder: Any, queries: Recording, bank: FeatureBank, ids: Sequence[str] | None
    ) -> None:
        self._decoder, self._queries, self._bank = decoder, queries, bank
        self._ids = list(ids) if ids is not None else list(dict.fromkeys(queries.stimuli))
        self.n_queries, self.n_gallery = queries.n_trials, len(self._ids)
        table = queries.trials
        known, wanted = set(self._ids), table["stimulus"].tolist()
        self.answers = None
        if all(name in known for name in wanted):
            self.answers = np.asarray(resolve_ids(wanted, self._ids), dtype=np.int64)
        self.blocks = np.unique(table["subject"].to_numpy(dtype=str), return_inverse=True)[1]

    def _scores(self, responses: Ints, labels: Ints, columns: Ints) -> Any:
        recording = self._queries.select(responses)
        if not np.array_equal(responses, labels):
            # Who was measured, and when, belongs to the response; all else says what was shown.
            own = recording.trials
            table = self._queries.trials.iloc[labels].reset_index(drop=True)
            for name in ("subject", "session", "run"):
                table[name] = own[name].to_numpy()
            recording = recording.with_trials(table.drop(columns="repetition"))
        ids = [self._ids[i] for i in columns]
        return self._decoder.similarity(recording, self._bank, ids=ids).matrix
