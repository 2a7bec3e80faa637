"""How parts of results are put together and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene.evaluation.similarity import Similarity

if TYPE_CHECKING:
    from phosphene.evaluation.result import Result

# Name of the further table that keeps the ceilings of single subjects.
CEILING = "ceiling"


def labelled_tables(part: Result) -> dict[str, pd.DataFrame]:
    """Further tables with the subject and seed they belong to, and the ceilings as one of them."""
    labels: dict[str, Any] = {}
    if len(part.subjects) == 1:
        labels["subject"] = part.subjects[0]
    if len(part.seeds) == 1:
        labels["seed"] = part.seeds[0]
    tables = {
        key: more.assign(**{k: v for k, v in labels.items() if k not in more})
        for key, more in part.tables.items()
    }
    if part.ceiling and CEILING not in tables:
        rows = [(who, metric, top) for who in part.subjects for metric, top in part.ceiling.items()]
        tables[CEILING] = pd.DataFrame(rows, columns=["subject", "metric", "value"])
    return tables


def mean_ceiling(result: Result, subjects: set[str]) -> dict[str, float]:
    """Ceiling of some subjects: their mean, for the metrics that all of them have."""
    if CEILING not in result.tables:
        return dict(result.ceiling)
    table = result.tables[CEILING]
    known = table[table["subject"].isin(subjects)].groupby("metric")
    return {
        str(metric): float(rows.groupby("subject")["value"].mean().mean())
        for metric, rows in known
        if set(rows["subject"]) == subjects
    }


def rows_of(table: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of a further table that belong to a part of the result."""
    keep = np.ones(len(table), dtype=bool)
    for name, value in chosen.items():
        if name in table and pd.notna(value):
            keep &= (table[name] == value).to_numpy(dtype=bool)
    return table[keep].reset_index(drop=True)


def joined(scores: Sequence[Similarity | None]) -> Similarity | None:
    """Scores of several results below one another, if all are there and share a gallery."""
    known = [part for part in scores if part is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(scores):
        return None
    ids = list(first.gallery_ids)
    if any(set(part.gallery_ids) != set(ids) for part in known):
        return None
    flags = ("match", "uses_gallery_text", "transductive", "uses_test_labels", "operations")
    if any(getattr(part, flag) != getattr(first, flag) for part in known for flag in flags):
        return None
    aligned: list[Similarity] = []
    for part in known:
        place: Mapping[str, int] = {name: i for i, name in enumerate(part.gallery_ids)}
        aligned.append(part.permuted([place[name] for name in ids]))
    return replace(
        first,
        matrix=np.concatenate([part.matrix for part in aligned]),
        queries=pd.concat([part.queries for part in aligned], ignore_index=True),
    )
