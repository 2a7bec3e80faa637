"""Meaning in words: the words of a vocabulary that are nearest to a decoded vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import DataError, SpaceMismatchError, listing
from phosphene.evaluation._checks import unit_rows
from phosphene.evaluation.retrieval import above_and_tied_of_all, expected_hit
from phosphene.stimuli.bank import FeatureBank

Vocabulary = FeatureBank | pd.DataFrame | Mapping[str, ArrayLike]


def name(vector: ArrayLike, vocabulary: Vocabulary, k: int = 5) -> pd.DataFrame:
    """The ``k`` words nearest to each vector by cosine, nearest first.

    Words of equal cosine come in the order of the vocabulary.

    Parameters
    ----------
    vector : array, shape (d,) or (n, d)
        Decoded vectors, in the space of the vocabulary.
    vocabulary : FeatureBank, DataFrame (words x dimensions) or mapping of word to vector
        A bank names its stimuli by id, as one of :meth:`FeatureBank.from_text` does; aligned
        vectors need an aligned vocabulary (`BrainAligner.transform`).
    k : int
        Words per vector; all where there are fewer.

    Returns
    -------
    DataFrame
        ``query`` (row of the vector), ``rank`` (from 1), ``word``, ``cosine``.

    Raises
    ------
    DataError
        If a vector has no direction, or there are no words.
    SpaceMismatchError
        If the widths differ.

    Examples
    --------
    >>> words = {"dog": [1.0, 0.1], "cat": [0.9, 0.4], "car": [-1.0, 0.5]}
    >>> name([1.0, 0.2], words, k=2)["word"].tolist()
    ['dog', 'cat']
    """
    words, scores = _scores(vector, vocabulary)
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError("k is the number of words wanted", found=repr(k), expected="1 or more")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    query, rank = np.indices(best.shape)
    return pd.DataFrame(
        {
            "query": query.ravel(),
            "rank": rank.ravel() + 1,
            "word": [words[i] for i in best.ravel()],
            "cosine": np.take_along_axis(scores, best, axis=1).ravel(),
        }
    )


def naming_accuracy(
    vectors: ArrayLike, truth: Sequence[str], vocabulary: Vocabulary, k: int = 5
) -> NDArray[np.float64]:
    """Whether each vector's true word is among the nearest ``k``; ties count as expected.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Decoded vectors, of concepts that were held out.
    truth : sequence of str, length n
        Their words.
    vocabulary, k
        As for `name`.

    Returns
    -------
    ndarray, shape (n,)
        Its mean is the top-k accuracy; chance is k over the number of words.

    Raises
    ------
    DataError
        If true words are not in the vocabulary (listed), or their number is wrong.
    """
    words, scores = _scores(vectors, vocabulary)
    true = [str(word) for word in truth]
    place = {word: i for i, word in enumerate(words)}
    if len(true) != len(scores):
        raise DataError("one true word per vector is needed", found=len(true), expected=len(scores))
    if missing := sorted({word for word in true if word not in place}):
        raise DataError("true words are not in the vocabulary", found=listing(missing))
    above, tied = above_and_tied_of_all(scores)
    hits = expected_hit(above, tied, k)
    found: NDArray[np.float64] = hits[np.arange(len(true)), [place[word] for word in true]]
    return found


def _scores(vectors: ArrayLike, vocabulary: Vocabulary) -> tuple[list[str], NDArray[np.float64]]:
    words, table = _vocabulary(vocabulary)
    queries = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if queries.ndim != 2 or queries.shape[1] != table.shape[1]:
        raise SpaceMismatchError(
            "decoded vectors and the vocabulary differ in width",
            found=f"shape {queries.shape}",
            expected=f"(n, {table.shape[1]})",
            fix="take a vocabulary in the space of the vectors, aligned if they are",
        )
    if not (np.isfinite(queries).all() and np.isfinite(table).all()):
        raise DataError("vectors hold NaN or infinity")
    rows = [str(i) for i in range(len(queries))]
    wanted, known = unit_rows(queries, lambda: rows, "row"), unit_rows(table, lambda: words, "word")
    # Rounded, so that equal vectors tie although their sums may round apart.
    return words, np.round(wanted @ known.T, 12)


def _vocabulary(vocabulary: Vocabulary) -> tuple[list[str], NDArray[Any]]:
    if isinstance(vocabulary, FeatureBank):
        return vocabulary.ids, vocabulary.vectors(vocabulary.views[0]).astype(np.float64)
    if isinstance(vocabulary, pd.DataFrame):
        words, table = [str(w) for w in vocabulary.index], vocabulary.to_numpy(np.float64)
    else:
        words = [str(word) for word in vocabulary]
        table = np.asarray([np.asarray(v) for v in vocabulary.values()], dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise DataError("a vocabulary needs words with vectors", found=f"shape {table.shape}")
    return words, table
