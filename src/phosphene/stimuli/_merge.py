"""Banks put together: more views or layers of the same stimuli, or more stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._saving import jsonable
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

# What may differ between banks that are put together: it says what they hold, not where from.
_CONTENT = ("views", "layers", "layer_aliases", "spaces", "skipped", "dtype", "files")


def merge(a: FeatureBank, b: FeatureBank) -> FeatureBank:
    """One bank of the views and layers of both; see :meth:`FeatureBank.merge`."""
    _require_same_origin(a, b)
    if missing := sorted(set(a.ids) ^ set(b.ids)):
        raise DataError(
            "banks of different stimuli cannot be merged",
            found=f"in one of them only: {listing(missing)}",
            fix="select the same stimuli from both, or use FeatureBank.concatenate",
        )
    rows = b.resolve(a.ids)
    changed = b.stimuli["sha256"].to_numpy()[rows] != a.stimuli["sha256"].to_numpy()
    if changed.any():
        raise DataError(
            "pictures of the same id differ between the banks",
            found=listing(np.asarray(a.ids, dtype=object)[changed]),
        )
    arrays = {
        **{pair: array[rows] for pair, array in b.arrays.items() if pair not in a.arrays},
        **a.arrays,
    }
    # The bank's order of views is that of its arrays: those of the first come first.
    views = list(dict.fromkeys(view for view, _ in [*a.arrays, *b.arrays]))
    layers = list(dict.fromkeys(layer for _, layer in [*a.arrays, *b.arrays]))
    ordered = {(v, la): arrays[v, la] for v in views for la in layers if (v, la) in arrays}
    return type(a)(a.stimuli, ordered, _provenance([a, b]), a.default_layer, text=a.text or b.text)


def concatenate(banks: Sequence[FeatureBank]) -> FeatureBank:
    """One bank of the stimuli of all; see :meth:`FeatureBank.concatenate`."""
    if not banks:
        raise DataError("there is no bank to put together")
    first = banks[0]
    for other in banks[1:]:
        _require_same_origin(first, other)
        if set(other.arrays) != set(first.arrays):
            raise DataError(
                "banks of different views or layers cannot be joined",
                found=listing(f"{v} / {la}" for v, la in set(other.arrays) ^ set(first.arrays)),
            )
    arrays = {
        pair: np.concatenate([np.asarray(bank.arrays[pair]) for bank in banks])
        for pair in first.arrays
    }
    table = pd.concat([bank.stimuli for bank in banks])
    return type(first)(
        table, arrays, _provenance(banks), first.default_layer, text=_joined_text(banks)
    )


def _joined_text(banks: Sequence[FeatureBank]) -> FeatureBank | None:
    """The names of all banks' concepts, where every bank has them."""
    texts = [bank.text for bank in banks if bank.text is not None]
    if len(texts) < len(banks):
        return None
    joined = texts[0]
    for other in texts[1:]:
        if new := [name for name in other.ids if name not in set(joined.ids)]:
            joined = concatenate([joined, other.select(new)])
    return joined


def _require_same_origin(a: FeatureBank, b: FeatureBank) -> None:
    ours, theirs = _origin(a), _origin(b)
    different = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    if different:
        raise DataError(
            f"banks of different origin cannot be put together: {listing(different)}",
            found="; ".join(f"{name}: {theirs.get(name)}" for name in different),
            expected="; ".join(f"{name}: {ours.get(name)}" for name in different),
            fix="extract them the same way",
        )


def _origin(bank: FeatureBank) -> dict[str, Any]:
    stated = {name: value for name, value in bank.provenance.items() if name not in _CONTENT}
    return dict(jsonable(stated))


def _provenance(banks: Sequence[FeatureBank]) -> dict[str, Any]:
    joined = dict(banks[0].provenance)
    for bank in banks[1:]:
        for name in _CONTENT:
            mine, theirs = joined.get(name), bank.provenance.get(name)
            if isinstance(theirs, dict):
                joined[name] = {**theirs, **(mine or {})}
            elif isinstance(theirs, list):
                joined[name] = list(dict.fromkeys([*(mine or ()), *theirs]))
    return joined
