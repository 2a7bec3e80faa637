"""Decoded vectors and the galleries that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.errors import DataError, SpaceMismatchError
from phosphene.evaluation._checks import (
    Floats,
    as_matrix,
    check_finite,
    concept_names,
    query_names,
    unique_ids,
    unit_rows,
)

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

Match = Literal["stimulus", "concept"]

# How the space begins whose vectors went through a decoder's projectors.
PROJECTED = "projected by "


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors decoded from brain recordings, with the trials they came from.

    Parameters
    ----------
    vectors : ndarray, shape (queries, dimensions)
        One decoded vector per row; stored as float32.
    trials : DataFrame
        One row per vector: ``stimulus``, ``concept``, ``subject`` and so on, as far as known.
    space : str
        Hash of the target space (encoder, weights, preprocessing, layer) that was decoded into.
    normalised : bool
        Whether the vectors have unit length.
    operations : tuple of str
        Transductive steps that changed the vectors; see `phosphene.evaluation.transductive`.

    Raises
    ------
    DataError
        If the shapes disagree or a vector holds NaN or infinity.

    Examples
    --------
    >>> trials = pd.DataFrame({"subject": ["01"], "stimulus": ["cat/1.png"]})
    >>> Embeddings(np.array([[3.0, 4.0]]), trials, space="demo").unit().vectors
    array([[0.6, 0.8]], dtype=float32)
    """

    vectors: Floats
    trials: pd.DataFrame
    space: str
    normalised: bool = False
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        vectors = as_matrix(self.vectors, "embeddings")
        if len(vectors) != len(self.trials):
            raise DataError(
                "embeddings and trials disagree in length",
                found=f"{len(vectors)} vectors, {len(self.trials)} trials",
                expected="one trial per vector",
            )
        trials = self.trials.reset_index(drop=True)
        check_finite(vectors, lambda: query_names(trials), "embedding", "query")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "trials", trials)

    def __len__(self) -> int:
        return len(self.vectors)

    def require_space(self, gallery: Gallery) -> None:
        """Refuse a gallery of another target space.

        Raises
        ------
        SpaceMismatchError
            If the two hashes differ: equal dimensions would let a meaningless score through.
        """
        if self.space != gallery.space:
            projected = any(space.startswith(PROJECTED) for space in (self.space, gallery.space))
            raise SpaceMismatchError(
                "embeddings and gallery are of different target spaces",
                found=f"gallery space {_short(gallery.space)}, {gallery.vectors.shape[1]}-d",
                expected=f"space {_short(self.space)}, {self.vectors.shape[1]}-d",
                fix="score by decoder.similarity(recording, bank), or compare with "
                "decoder.embed_gallery(bank): this decoder leads both sides through projectors"
                if projected
                else "use the bank, the encoder and the layer that the decoder was fitted with"
                + (
                    "; names need a joint model such as CLIP, or a "
                    "phosphene.stimuli.text.TextBridge fitted on training concepts"
                    if gallery.uses_names
                    else ""
                ),
            )

    def unit(self) -> Embeddings:
        """The same embeddings with vectors of unit length."""
        if self.normalised:
            return self
        vectors = unit_rows(self.vectors, lambda: query_names(self.trials), "query").astype(
            np.float32
        )
        return replace(self, vectors=vectors, normalised=True)

    def select(self, rows: npt.ArrayLike) -> Embeddings:
        """The embeddings of some rows (boolean mask or integer positions)."""
        rows = np.asarray(rows)
        return replace(self, vectors=self.vectors[rows], trials=self.trials.iloc[rows])


@dataclass(frozen=True, eq=False)
class Gallery:
    """The candidates that a query is compared with.

    Parameters
    ----------
    vectors : ndarray, shape (items, dimensions)
        One vector per candidate.
    ids : sequence of str
        Stimulus ids, or concept names when ``match`` is "concept".
    concepts : sequence of str or None
        Concept of every candidate.
    space : str
        Hash of the target space.
    view : str
        Which view of the stimuli the vectors are of.
    match : {"stimulus", "concept"}
        By which column of the query table the true candidate is found.
    uses_names : bool
        Whether the vectors use the names of the candidates (text).

    Raises
    ------
    DataError
        For duplicate ids, wrong shapes, NaN or infinity.
    """

    vectors: Floats
    ids: Sequence[str]
    concepts: Sequence[str] | None
    space: str
    view: str = "original"
    match: Match = "stimulus"
    uses_names: bool = False

    def __post_init__(self) -> None:
        vectors = as_matrix(self.vectors, "gallery")
        ids = unique_ids(self.ids, len(vectors))
        check_finite(vectors, lambda: ids, "gallery vector", "gallery item")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "concepts", concept_names(self.concepts, len(ids)))

    def __len__(self) -> int:
        return len(self.ids)

    def permuted(self, order: npt.ArrayLike) -> Gallery:
        """The same candidates in another order (or some of them)."""
        rows = np.asarray(order, dtype=np.int64)
        return replace(
            self,
            vectors=self.vectors[rows],
            ids=[self.ids[i] for i in rows],
            concepts=None if self.concepts is None else [self.concepts[i] for i in rows],
        )

    def centres(self) -> Gallery:
        """One candidate per concept: the mean of its unit-length vectors."""
        if self.concepts is None:
            raise DataError("concept centres need the concept of every gallery item")
        names, group = np.unique(np.asarray(self.concepts, dtype=str), return_inverse=True)
        sums = np.zeros((len(names), self.vectors.shape[1]))
        np.add.at(sums, group, unit_rows(self.vectors, lambda: self.ids, "gallery item"))
        means = sums / np.bincount(group)[:, None]
        labels = names.tolist()
        return replace(self, vectors=means, ids=labels, concepts=labels, match="concept")


def _short(space: str) -> str:
    return space if space.startswith(PROJECTED) else space[:16]


def gallery_place(bank: FeatureBank, view: str, layer: str | None) -> tuple[str, str | None]:
    """The view and layer of a gallery that stand for those that a decoder compares with.

    A bank of names alone has the view ``text`` and its encoder's layer: in a joint space, or behind
    a bridge, names can be candidates for pictures. Whether the space fits is another check
    (`Embeddings.require_space`).
    """
    if tuple(bank.views) == ("text",) and view != "text":
        return "text", None
    return view, layer


def gallery_embeddings(
    bank: FeatureBank,
    ids: Iterable[str] | None = None,
    view: str | Sequence[str] = "original",
    layer: str | None = None,
    *,
    centres: bool = False,
) -> Gallery:
    """The gallery of some stimuli of a bank.

    Parameters
    ----------
    bank : FeatureBank
        Vectors by stimulus, view and layer.
    ids : iterable of str, optional
        Stimuli; all of the bank by default.
    view : str or sequence of str
        One view, or several whose unit-length vectors are averaged. Where the bank holds names
        alone, these are the candidates.
    layer : str, optional
        Layer of the encoder; the bank's default layer by default.
    centres : bool
        Average the stimuli of each concept ("class centres"): not the exact-image gallery.

    Returns
    -------
    Gallery
        In the order of ``ids``.
    """
    rows = np.arange(len(bank.ids)) if ids is None else np.asarray(bank.resolve(list(ids)))
    names = [bank.ids[i] for i in rows]
    if isinstance(view, str):
        view, layer = gallery_place(bank, view, layer)
    views = [view] if isinstance(view, str) else list(view)
    if not views:
        raise DataError("a gallery needs at least one view", found="none")
    vectors = bank.vectors(views[0], layer, names)
    if len(views) > 1:
        units = (
            unit_rows(bank.vectors(v, layer, names), lambda: names, "gallery item") for v in views
        )
        vectors = np.mean([*units], axis=0, dtype=np.float32)
    concepts = bank.stimuli["concept"].reindex(names)
    known = not concepts.isna().any() and (concepts.astype(str) != "").all()
    gallery = Gallery(
        vectors,
        names,
        concepts.astype(str).tolist() if known else None,
        bank.space(layer),
        view="+".join(str(v) for v in views),
        uses_names="text" in views or bank.provenance.get("kind") == "text",
    )
    return gallery.centres() if centres else gallery
