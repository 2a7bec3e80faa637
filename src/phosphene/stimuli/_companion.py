"""Vectors of the concepts' names beside the vectors of the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.data._ids import concept_text
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank


def text_of_concepts(bank: FeatureBank, text: Any, prompt: str | Sequence[str]) -> FeatureBank:
    """A bank of the names of a bank's concepts; see :meth:`FeatureBank.with_text`."""
    concepts = named_concepts(bank, bank.ids)
    names = list(dict.fromkeys(concepts))
    if not isinstance(text, type(bank)):
        return type(bank).from_text({name: concept_text(name) for name in names}, text, prompt)
    if tuple(text.views) != ("text",):
        raise DataError(
            "this is no bank of names", found=f"views {listing(text.views)}", expected="text"
        )
    text.resolve(names)  # names that lack are listed
    return text


def text_vectors(bank: FeatureBank, ids: Iterable[str] | None) -> NDArray[np.float32]:
    """Vectors of the names of some stimuli's concepts; see :meth:`FeatureBank.text_vectors`."""
    if bank.text is None:
        raise DataError(
            "the bank has no vectors of the concepts' names",
            fix='bank = bank.with_text("use"), or features.text in a recipe',
        )
    return bank.text.vectors("text", ids=named_concepts(bank, bank.ids if ids is None else ids))


def named_concepts(bank: FeatureBank, ids: Iterable[str]) -> list[str]:
    """Concepts of some stimuli; those without one are listed in the error."""
    rows = bank.resolve(ids)
    concepts = bank.stimuli["concept"].astype("str").to_numpy()[rows]
    if nameless := [bank.ids[row] for row, c in zip(rows, concepts, strict=True) if not c]:
        raise DataError(
            "stimuli have no concept whose name could be used",
            found=f"{len(nameless)}: {listing(nameless)}",
            fix="name the concepts: a folder per concept, or a column `concept`",
        )
    return [str(concept) for concept in concepts]
