"""Ranked candidates of single trials, with confidence and with answers withheld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.errors import DataError
from phosphene.evaluation.temperature import softmax


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best candidates of one or more trials.

    Parameters
    ----------
    ids : ndarray of str, shape (trials, places)
        Candidates from the best; ties are in the order of their ids.
    concepts : ndarray of str, shape (trials, places), or None
        Their concepts, where known.
    scores : ndarray, shape (trials, places)
        The decoder's scores.
    confidence : ndarray, shape (trials, places), or None
        Probability that the candidate is what was seen, given that it is in the gallery; None for
        a decoder without calibration.
    n_gallery : int
        Candidates that there were.
    abstain_below : float or None
        Answers of less confidence are withheld.
    temperature : ndarray, shape (trials,), or None
        What scores were divided by.
    notes : tuple of str
        In what this goes beyond what the confidence was fitted on.

    Examples
    --------
    >>> found = rank_scores([[1.0, 4.0, 2.0], [0.0, 0.1, 0.0]], ["a", "b", "c"], None,
    ...     inverse_temperature=np.ones(2), top=2, abstain_below=0.5)
    >>> found.answers
    ['b', None]
    >>> found.table().round(2)
       trial  rank stimulus concept  score  confidence  withheld
    0      0     1        b            4.0        0.84     False
    1      0     2        c            2.0        0.11     False
    2      1     1        b            0.1        0.36      True
    3      1     2        a            0.0        0.32      True
    """

    ids: npt.NDArray[Any]
    concepts: npt.NDArray[Any] | None
    scores: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float64] | None
    n_gallery: int
    abstain_below: float | None = None
    temperature: npt.NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def withheld(self) -> npt.NDArray[np.bool_]:
        """Whether the answer is withheld, shape (trials,)."""
        if self.abstain_below is None or self.confidence is None:
            return np.zeros(len(self), dtype=bool)
        return np.asarray(self.confidence[:, 0] < self.abstain_below)

    @property
    def answers(self) -> list[str | None]:
        """The best candidate of every trial; None where it is withheld."""
        pairs = zip(self.ids[:, 0].tolist(), self.withheld.tolist(), strict=True)
        return [None if hidden else name for name, hidden in pairs]

    def correct(self, stimuli: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Whether the best candidate is what was seen, withheld or not, shape (trials,).

        Parameters
        ----------
        stimuli : sequence of str
            What was seen in every trial, as the gallery calls it.
        """
        seen = [str(name) for name in stimuli]
        if len(seen) != len(self):
            raise DataError("one stimulus per trial", found=len(seen), expected=len(self))
        return np.asarray(self.ids[:, 0].astype(str) == np.asarray(seen))

    def table(self) -> pd.DataFrame:
        """One row per trial and place.

        Returns
        -------
        DataFrame
            Columns ``trial`` (from 0), ``rank`` (from 1), ``stimulus``, ``concept`` (empty where
            unknown), ``score``, ``confidence`` (missing without calibration), and ``withheld``
            where a threshold was given.
        """
        n, places = self.ids.shape
        table = pd.DataFrame(
            {
                "trial": np.repeat(np.arange(n), places),
                "rank": np.tile(np.arange(1, places + 1), n),
                "stimulus": self.ids.ravel(),
                "concept": "" if self.concepts is None else self.concepts.ravel(),
                "score": self.scores.ravel(),
                "confidence": np.nan if self.confidence is None else self.confidence.ravel(),
            }
        )
        if self.abstain_below is not None:
            table["withheld"] = np.repeat(self.withheld, places)
        return table


def rank_scores(
    scores: npt.ArrayLike,
    ids: Sequence[str],
    concepts: Sequence[str] | None,
    *,
    inverse_temperature: npt.NDArray[np.float64] | None = None,
    top: int | None = 5,
    abstain_below: float | None = None,
    notes: tuple[str, ...] = (),
) -> Ranking:
    """Rank the candidates of every row of scores.

    Parameters
    ----------
    scores : array, shape (trials, candidates)
    ids, concepts : sequence of str
        Candidates in ascending order of their ids, so that the order of a gallery plays no part in
        ties.
    inverse_temperature : array, shape (trials,), optional
        1 / T of every trial; there is no confidence without it.
    top : int or None
        Places to list; None for all.
    abstain_below : float, optional
        Withhold answers of less confidence.
    notes : tuple of str
        Handed on.

    Raises
    ------
    DataError
        If scores are not finite.
    """
    matrix = np.asarray(scores, dtype=np.float32)
    if not np.isfinite(matrix).all():
        raise DataError(
            "scores are NaN or infinite",
            found=f"trials {np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()[:5]}",
            fix="look for NaN in the recording",
        )
    places = matrix.shape[1] if top is None else min(top, matrix.shape[1])
    best = np.argsort(-matrix, axis=1, kind="stable")[:, :places]
    confidence = temperature = None
    if inverse_temperature is not None:
        confidence = np.take_along_axis(softmax(matrix, inverse_temperature), best, axis=1)
        flat = inverse_temperature <= 0
        temperature = np.where(flat, np.inf, 1 / np.where(flat, 1.0, inverse_temperature))
    return Ranking(
        np.asarray(ids, dtype=object)[best],
        None if concepts is None else np.asarray(concepts, dtype=object)[best],
        np.take_along_axis(matrix, best, axis=1),
        confidence,
        matrix.shape[1],
        abstain_below,
        temperature,
        notes,
    )
