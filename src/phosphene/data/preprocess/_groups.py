"""Trials by session, subject or whatever else a statistic is learned for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._validation import require_columns
from phosphene.errors import DataError, listing

Key = tuple[str, ...]


def columns(by: str | Sequence[str] | None) -> list[str]:
    """The names of the columns; none stand for all trials together."""
    if by is None:
        return []
    return [by] if isinstance(by, str) else list(by)


def group_rows(trials: pd.DataFrame, by: Sequence[str]) -> dict[Key, NDArray[np.int64]]:
    """Positions of the trials of each group, ascending; groups in order of their first trial.

    Raises
    ------
    DataError
        If a column is missing.
    """
    require_columns(trials, by, "the trial table")
    if not by:
        return {(): np.arange(len(trials))}
    found = trials.groupby(list(by), sort=False, dropna=False).indices
    groups: dict[Key, NDArray[np.int64]] = {}
    for key, rows in found.items():
        values = key if isinstance(key, tuple) else (key,)
        groups[tuple(map(str, values))] = np.sort(np.asarray(rows, dtype=np.int64))
    return dict(sorted(groups.items(), key=lambda item: int(item[1][0])))


def group_codes(
    trials: pd.DataFrame, by: Sequence[str], known: Sequence[Key], who: str
) -> NDArray[np.int64]:
    """For each trial the position of its group among those that were fitted.

    Raises
    ------
    DataError
        If a group was not there when the step was fitted.
    """
    where = {key: number for number, key in enumerate(known)}
    codes = np.empty(len(trials), dtype=np.int64)
    unknown = []
    for key, rows in group_rows(trials, by).items():
        if key in where:
            codes[rows] = where[key]
        else:
            unknown.append(key)
    if unknown:
        raise DataError(
            f"{who} was not fitted on {listing(name_of(by, key) for key in unknown)}",
            found=f"fitted on {listing((name_of(by, key) for key in known), 8)}",
            fix="fit on training trials of the same groups, or choose fewer columns in by",
        )
    return codes


def name_of(by: Sequence[str], key: Key) -> str:
    """A group in words, such as "subject 01, session 2"."""
    if not by:
        return "all trials"
    return ", ".join(f"{column} {value}" for column, value in zip(by, key, strict=True))
