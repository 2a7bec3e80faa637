"""Scores of queries against a gallery, and how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.data._ids import resolve_ids
from phosphene.errors import DataError
from phosphene.evaluation._checks import (
    Floats,
    Ints,
    as_matrix,
    check_finite,
    concept_names,
    query_names,
    unique_ids,
    unit_rows,
)
from phosphene.evaluation.embeddings import Embeddings, Gallery, Match, gallery_embeddings

__all__ = [
    "Embeddings",
    "Gallery",
    "Match",
    "Similarity",
    "cosine_similarity",
    "gallery_embeddings",
]

# float64 copies of this many rows at a time keep large score matrices within memory.
_CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Similarity:
    """Scores of every query against every candidate; higher means more alike.

    Parameters
    ----------
    matrix : ndarray, shape (queries, items)
        Scores; stored as float32.
    queries : DataFrame
        One row per query: ``stimulus``, ``concept``, ``subject``, ``n_averaged``, as far as known.
    gallery_ids : sequence of str
        One id per column.
    gallery_concepts : sequence of str, optional
        Concept of every column.
    uses_gallery_text, transductive, uses_test_labels : bool
        How the scores came about: from the names of the candidates; from other queries as well;
        from the true answers.
    match : {"stimulus", "concept"}
        By which column of ``queries`` the true candidate is found.
    operations : tuple of str
        Transductive steps in their order (`phosphene.evaluation.transductive`); scores that went
        through one are transductive.

    Raises
    ------
    DataError
        For wrong shapes, duplicate gallery ids, NaN or infinite scores (with the queries' names).

    Examples
    --------
    >>> queries = pd.DataFrame({"subject": ["01", "01"], "stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.9, 0.1], [0.4, 0.2]], queries, ["a", "b"])
    >>> scores.true_columns
    array([0, 1])
    >>> scores.top(1)["item"].tolist()
    ['a', 'a']
    """

    matrix: Floats
    queries: pd.DataFrame
    gallery_ids: Sequence[str]
    gallery_concepts: Sequence[str] | None = None
    uses_gallery_text: bool = False
    transductive: bool = False
    uses_test_labels: bool = False
    match: Match = "stimulus"
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        matrix = as_matrix(self.matrix, "similarity")
        queries = self.queries.reset_index(drop=True)
        ids = unique_ids(self.gallery_ids, matrix.shape[1])
        if len(matrix) != len(queries):
            raise DataError(
                "scores and queries disagree in length",
                found=f"{len(matrix)} rows of scores, {len(queries)} queries",
                expected="one row per query",
            )
        check_finite(matrix, lambda: query_names(queries), "score", "query")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "queries", queries)
        object.__setattr__(self, "gallery_ids", ids)
        object.__setattr__(self, "operations", tuple(self.operations))
        object.__setattr__(self, "transductive", bool(self.transductive or self.operations))
        object.__setattr__(self, "gallery_concepts", concept_names(self.gallery_concepts, len(ids)))

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.matrix)

    @property
    def n_gallery(self) -> int:
        """Number of candidates."""
        return int(self.matrix.shape[1])

    @cached_property
    def true_columns(self) -> Ints:
        """Column of the true candidate of every query.

        Raises
        ------
        DataError
            If a query has no label or its true candidate is not in the gallery.
        """
        if self.match not in self.queries:
            raise DataError(
                f"the queries have no column {self.match!r}: there is no true answer to score",
                found=", ".join(map(str, self.queries.columns)),
                fix="use Similarity.top for unlabelled queries",
            )
        wanted = self.queries[self.match].astype(str).tolist()
        return np.asarray(resolve_ids(wanted, list(self.gallery_ids), what=self.match), np.int64)

    def permuted(self, order: npt.ArrayLike) -> Similarity:
        """The same scores with the columns in another order."""
        cols = np.asarray(order, dtype=np.int64)
        names = self.gallery_concepts
        return replace(
            self,
            matrix=self.matrix[:, cols],
            gallery_ids=[self.gallery_ids[i] for i in cols],
            gallery_concepts=None if names is None else [names[i] for i in cols],
        )

    def select(self, rows: npt.ArrayLike) -> Similarity:
        """Some queries (boolean mask or integer positions) against the whole gallery."""
        rows = np.asarray(rows)
        return replace(self, matrix=self.matrix[rows], queries=self.queries.iloc[rows])

    def top(self, k: int = 5) -> pd.DataFrame:
        """The ``k`` best candidates of every query, labelled or not.

        Returns
        -------
        DataFrame
            Columns ``query`` (row number), ``place`` (from 1), ``item``, ``concept`` (if known)
            and ``score``. Ties are listed by id, so that the order of the gallery plays no part.
        """
        k = min(int(k), self.n_gallery)
        by_id = np.argsort(np.asarray(self.gallery_ids, dtype=str), kind="stable")
        best = by_id[np.argsort(-self.matrix[:, by_id], axis=1, kind="stable")[:, :k]]
        table = pd.DataFrame(
            {
                "query": np.repeat(np.arange(self.n_queries), k),
                "place": np.tile(np.arange(1, k + 1), self.n_queries),
                "item": np.asarray(self.gallery_ids, dtype=object)[best].ravel(),
            }
        )
        if self.gallery_concepts is not None:
            table["concept"] = np.asarray(self.gallery_concepts, dtype=object)[best].ravel()
        table["score"] = np.take_along_axis(self.matrix, best, axis=1).ravel()
        return table


def cosine_similarity(embeddings: Embeddings, gallery: Gallery) -> Similarity:
    """Cosine of every embedding with every candidate.

    Parameters
    ----------
    embeddings : Embeddings
        Decoded vectors, shape (queries, dimensions).
    gallery : Gallery
        Candidates of the same space, shape (items, dimensions).

    Returns
    -------
    Similarity
        Shape (queries, items), in [-1, 1].

    Raises
    ------
    SpaceMismatchError
        If the two are of different target spaces.
    DataError
        If a vector has length zero.

    Examples
    --------
    >>> trials = pd.DataFrame({"stimulus": ["a"]})
    >>> seen = Embeddings(np.array([[3.0, 4.0]]), trials, space="demo")
    >>> gallery = Gallery(np.array([[6.0, 8.0], [0.0, 5.0]]), ["a", "b"], None, "demo")
    >>> cosine_similarity(seen, gallery).matrix
    array([[1. , 0.8]], dtype=float32)
    """
    embeddings.require_space(gallery)
    if embeddings.vectors.shape[1] != gallery.vectors.shape[1]:
        raise DataError(
            "embeddings and gallery differ in dimension",
            found=f"gallery vectors of {gallery.vectors.shape[1]} values",
            expected=f"{embeddings.vectors.shape[1]} values",
        )
    items = unit_rows(gallery.vectors, lambda: gallery.ids, "gallery item").T
    matrix = np.empty((len(embeddings), len(gallery)), dtype=np.float32)
    for start in range(0, len(embeddings), _CHUNK_ROWS):
        chunk = embeddings.vectors[start : start + _CHUNK_ROWS]
        trials = embeddings.trials.iloc[start : start + len(chunk)]
        queries = unit_rows(chunk, partial(query_names, trials), "query")
        # The product is formed in float64 and rounded once: a float32 product rounds differently
        # with the position in the block, which would break ties between equal vectors and make a
        # query's scores depend on the batch that it came in.
        matrix[start : start + len(chunk)] = queries @ items
    return Similarity(
        matrix,
        embeddings.trials,
        gallery.ids,
        gallery.concepts,
        uses_gallery_text=gallery.uses_names,
        match=gallery.match,
        operations=embeddings.operations,
    )
