"""Putting recordings behind one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from phosphene.data import _store
from phosphene.data._trials import refuse_double_keys
from phosphene.data.recording import Recording
from phosphene.errors import DataError


def concat(recordings: Sequence[Recording], name: str | None) -> Recording:
    """See `Recording.concat`."""
    if not recordings:
        raise DataError("nothing to put together", found="an empty list")
    first, *others = recordings
    for other in others:
        if not first.sensors.same_as(other.sensors):
            _refuse_other_sensors(first, other)
        same = first.shape[2:] == other.shape[2:]
        if same and first.times is not None and other.times is not None:
            same = np.allclose(first.times, other.times, atol=1e-6)
        if not same:
            raise DataError(
                f"{first.name!r} and {other.name!r} have different times",
                found=f"shapes {first.shape} and {other.shape}",
                fix="crop or resample them to the same times",
            )
    table = pd.concat([r._trials for r in recordings], ignore_index=True)
    for column in table.columns:
        if column not in first._trials or any(column not in r._trials for r in others):
            known = [r._trials[column] for r in recordings if column in r._trials]
            if all(pd.api.types.is_string_dtype(part.dtype) for part in known):
                table[column] = table[column].fillna("")
    refuse_double_keys(table)
    store: Any
    if all(r.store is first.store for r in others):
        store, rows = (
            first.store,
            _store.contiguous(np.concatenate([r.rows for r in recordings])),
        )
    else:
        if all(r.in_memory for r in recordings):
            store = np.concatenate([_store.gather(r.store, r._rows) for r in recordings])
        else:
            store = _store.StoreChain([r.store for r in recordings], [r.rows for r in recordings])
        rows = slice(0, len(table))
    shared: list[dict[str, Any]] = []
    for steps in zip(*(r.history for r in recordings), strict=False):
        if any(step != steps[0] for step in steps):
            break
        shared.append(steps[0])
    return replace(
        first,
        store=store,
        _rows=rows,
        _trials=table,
        name=name or first.name,
        history=tuple(shared),
    )


def _refuse_other_sensors(first: Recording, other: Recording) -> None:
    missing = [n for n in first.sensors.names if n not in other.sensors.names]
    extra = [n for n in other.sensors.names if n not in first.sensors.names]
    raise DataError(
        f"{first.name!r} and {other.name!r} have different {first.sensors.unit_name}",
        found=f"{other.modality}: {len(other.sensors)}, missing {missing[:5]}, extra {extra[:5]}",
        expected=f"{first.modality}: {len(first.sensors)} in the same order",
        fix="pick the same channels in the same order from both",
    )
