"""Scores of an evaluation, with the transductive steps that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.evaluation.similarity import Similarity, cosine_similarity
from phosphene.evaluation.transductive import Step, Whiten
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder


def scores(
    decoder: Decoder,
    queries: Recording,
    gallery: FeatureBank,
    ids: Sequence[str],
    steps: Sequence[Step],
    labels: str | None = None,
) -> Similarity:
    """The decoder's own scores, changed by the steps; ``labels`` for rules that read answers.

    Raises
    ------
    DataError
        If query vectors are to be whitened and the decoder's score is not a cosine of them.
    """
    answers = {} if labels is None else {"labels": labels}
    found = decoder.similarity(queries, gallery, ids=ids, **answers)
    for step in steps:
        if isinstance(step, Whiten):
            found = _whitened(decoder, queries, gallery, found, step)
        else:
            found = step.apply(found)
    return found


def _whitened(
    decoder: Decoder, queries: Recording, gallery: FeatureBank, plain: Similarity, step: Whiten
) -> Similarity:
    embeddings, candidates = decoder._cosine_parts(queries, gallery, plain.gallery_ids)
    # Compared in numbers, so that a method of any kind can change its rule of scoring.
    same = embeddings.vectors.shape[1] == candidates.vectors.shape[1] and np.allclose(
        cosine_similarity(embeddings, candidates).matrix, plain.matrix, atol=1e-4
    )
    if not same:
        raise DataError(
            f"query vectors cannot be whitened: the score of {type(decoder).__name__} is no "
            "cosine of query and candidate",
            fix="leave out whiten; csls, sinkhorn and hungarian take scores of any kind",
        )
    changed = cosine_similarity(step.apply(embeddings), candidates)
    return replace(plain, matrix=changed.matrix, operations=changed.operations)
