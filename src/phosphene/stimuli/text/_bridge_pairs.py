"""Pairs of an image vector and a text vector, one per concept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._validation import refuse_test_trials
from phosphene.data._ids import concept_of
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing
from phosphene.stimuli._lookup import find_layer, find_view

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

FEWEST = 10
Names = Recording | Iterable[str]


@dataclass(frozen=True)
class Pairs:
    """One row per concept.

    Attributes
    ----------
    concepts : list of str, length n
        Sorted, so that nothing depends on the order of the banks.
    images : ndarray, shape (n, q)
        Mean over the concept's pictures.
    texts : ndarray, shape (n, p)
        Mean over the concept's texts.
    """

    concepts: list[str]
    images: NDArray[np.float64]
    texts: NDArray[np.float64]


def chosen_view(images: FeatureBank, view: Any) -> str:
    """The view that is fitted on; without one the only one or ``original``."""
    if view is not None:
        return find_view(images.views, view)
    if len(images.views) == 1:
        return images.views[0]
    if "original" in images.views:
        return "original"
    raise DataError("the bank of images has several views", found=", ".join(images.views),
                    expected="view=... to say which one the bridge leads to")  # fmt: skip


def chosen_layer(images: FeatureBank, layer: str | None) -> str:
    """Canonical name of a layer of the bank, by default its default one."""
    aliases = images.provenance.get("layer_aliases") or {}
    return find_layer(images.layers, aliases, images.default_layer if layer is None else layer)


def training_stimuli(images: FeatureBank, train: Names) -> list[str]:
    """Pictures in the bank that training names, by trials, stimuli or concepts.

    Raises
    ------
    LeakError
        If a recording holds test trials.
    DataError
        Listing the names that are not in the bank.
    """
    if isinstance(train, Recording):
        refuse_test_trials(train.trials, "TextBridge.fit")
        names = list(dict.fromkeys(train.trials["stimulus"].astype(str)))
        return [images.ids[row] for row in images.resolve(names)]
    names = [train] if isinstance(train, str) else [str(name) for name in dict.fromkeys(train)]
    concepts = images.stimuli["concept"]
    known = set(concepts)
    if all(name in known for name in names):
        return list(images.stimuli.index[concepts.isin(names)])
    if some := [name for name in names if name in known]:
        raise DataError(
            "training names must all be concepts or all be stimuli",
            found=f"{len(some)} concepts such as {listing(some, 2)}; not concepts: "
            + listing([name for name in names if name not in known]),
        )
    return [images.ids[row] for row in images.resolve(names)]


def pair(
    images: FeatureBank, text: FeatureBank, stimuli: Sequence[str], view: Any, layer: str | None
) -> Pairs:
    """Mean vectors of the concepts of some pictures.

    Parameters
    ----------
    images, text : FeatureBank
        The texts are those of the pictures where the bank is keyed by stimulus, else those of the
        concepts.
    stimuli : sequence of str
        Ids in ``images``.
    view, layer : str
        Of ``images``.

    Raises
    ------
    DataError
        Listing the concepts without a text.
    """
    table = images.stimuli.loc[list(stimuli)]
    concepts = table["concept"].tolist()
    names = sorted(set(concepts))
    pictures = _means(images.vectors(view, layer, stimuli), concepts, names)
    (shown,) = text.views if len(text.views) == 1 else ("text",)
    available = set(text.ids)
    if available.issuperset(stimuli):
        texts = _means(text.vectors(shown, ids=stimuli), concepts, names)
        return Pairs(names, pictures, texts)
    rows: dict[str, list[str]] = {}
    for id, concept in zip(text.ids, text.stimuli["concept"], strict=True):
        rows.setdefault(str(concept), []).append(id)
    of = {name: [name] if name in available else rows.get(name, []) for name in names}
    if missing := [name for name in names if not of[name]]:
        raise DataError(
            f"{len(missing)} of {len(names)} concepts have no text: {listing(missing)}",
            found=f"texts of {listing(text.ids, 3)}",
            fix="make them with FeatureBank.from_text(sorted(set(images.stimuli['concept'])))",
        )
    ids = [id for name in names for id in of[name]]
    owners = [name for name in names for _ in of[name]]
    return Pairs(names, pictures, _means(text.vectors(shown, ids=ids), owners, names))


def refuse_overlap(images: FeatureBank, concepts: Iterable[str], test: Names, what: str) -> None:
    """Raise if concepts that are held out are among those of training.

    Raises
    ------
    LeakError
        Naming them.
    """
    table = images.stimuli["concept"]
    of, known = table.to_dict(), set(table)
    if isinstance(test, Recording):
        names = set(test.trials["stimulus"].astype(str))
        held_out = set(test.trials["concept"].astype(str))
    else:
        names, held_out = {test} if isinstance(test, str) else {str(name) for name in test}, set()
    for name in names:
        path = "/" in name or "." in name  # of a picture that the bank does not have
        held_out.add(of.get(name) or (concept_of(name) if path and name not in known else name))
    if shared := sorted(held_out & set(concepts)):
        raise LeakError(
            f"{what}: {len(shared)} of its training concepts are among those held out",
            found=listing(shared),
            expected="no concept in both",
            fix="fit the bridge on training concepts only",
        )


def require_enough(pairs: Pairs) -> None:
    """Raise unless something can be fitted on the pairs."""
    n = len(pairs.concepts)
    if n < FEWEST:
        raise DataError("too few training concepts to fit a bridge",
                        found=n, expected=f"at least {FEWEST}")  # fmt: skip
    for what, vectors in (("image", pairs.images), ("text", pairs.texts)):
        if not np.ptp(vectors, axis=0).any():
            raise DataError(f"the {what} vectors of all training concepts are the same")


def _means(
    vectors: NDArray[np.float32], groups: Sequence[str], names: Sequence[str]
) -> NDArray[np.float64]:
    codes = pd.Index(names).get_indexer(pd.Index(groups))
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, codes, vectors.astype(np.float64))
    return np.asarray(sums / np.bincount(codes, minlength=len(names))[:, None])
