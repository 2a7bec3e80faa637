"""The table of trials: its columns, their defaults and the checks on them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._validation import as_ids, require_columns
from phosphene.data._ids import concepts_of
from phosphene.errors import DataError, listing

ID_COLUMNS = ("stimulus", "concept", "subject", "session", "run", "split")
KEY_COLUMNS = ("subject", "session", "run", "stimulus", "repetition")
COLUMNS = ("stimulus", "concept", "subject", "session", "run", "repetition", "split")
SPLITS = ("train", "test", "validation")
DEFAULTS = {"subject": "01", "session": "1", "run": "1", "split": ""}


def complete_trials(trials: pd.DataFrame | Mapping[str, Any], n_trials: int) -> pd.DataFrame:
    """A trial table with all standard columns, ids as text, checked for double keys.

    Parameters
    ----------
    trials : DataFrame or mapping
        Needs ``stimulus``. A missing ``concept`` comes from the stimulus id, a missing
        ``repetition`` counts the earlier trials of the same subject and stimulus; ``subject`` is
        "01", ``session`` and ``run`` are "1" and ``split`` is "" when absent.
    n_trials : int
        Number of rows that it must have.

    Raises
    ------
    DataError
        If the number of rows is another, a stimulus is missing, two trials have the same key, or a
        split is nearly called "test" or "train".
    """
    try:
        table = pd.DataFrame(trials).reset_index(drop=True)
    except ValueError as error:
        raise DataError("the trial table cannot be built", found=error) from error
    require_columns(table, ["stimulus"], "the trial table")
    if len(table) != n_trials:
        raise DataError(
            "the trial table and the signals differ in length",
            found=f"{len(table)} rows for {n_trials} trials",
        )
    if (gaps := np.flatnonzero(table["stimulus"].isna().to_numpy())).size:
        raise DataError(
            f"trials without a stimulus: rows {listing(gaps.tolist())}",
            fix="drop these trials or name what was shown",
        )
    for column in ("stimulus", "subject", "session", "run", "split"):
        table[column] = as_ids(table[column]) if column in table else DEFAULTS[column]
        table[column] = table[column].astype("str")
    _refuse_misspelt_splits(table["split"])
    if "concept" in table:
        table["concept"] = as_ids(table["concept"]).astype("str")
    else:
        table["concept"] = pd.Series(concepts_of(table["stimulus"]), dtype="str")
    if "repetition" not in table:
        table["repetition"] = table.groupby(["subject", "stimulus"]).cumcount()
    table["repetition"] = _whole_numbers(table["repetition"], "repetition")
    if "n_averaged" in table:
        table["n_averaged"] = _whole_numbers(table["n_averaged"], "n_averaged")
    refuse_double_keys(table)
    return table[[*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]]


def refuse_double_keys(trials: pd.DataFrame) -> None:
    """Raise if two trials have the same subject, session, run, stimulus and repetition.

    Raises
    ------
    DataError
        Naming the keys.
    """
    double = trials.duplicated(list(KEY_COLUMNS), keep="first")
    if double.any():
        keys = trials.loc[double, list(KEY_COLUMNS)].drop_duplicates()
        found = ["/".join(map(str, key)) for key in keys.itertuples(index=False)]
        raise DataError(
            f"{int(double.sum())} trials have a key that another trial has",
            found=f"{'/'.join(KEY_COLUMNS)} = {listing(found)}",
            expected="one trial per key",
            fix="number the repetitions, or drop the column 'repetition' to have them counted",
        )


def _refuse_misspelt_splits(column: pd.Series[Any]) -> None:
    """Refuse "Test", "tset" or "training": a guard that looks for "test" would not see them."""
    for found in column.unique():
        near = difflib.get_close_matches(found.strip().lower(), SPLITS, n=1, cutoff=0.7)
        if near and found != near[0]:
            raise DataError(
                "a split of the trial table is not spelt as it is looked for",
                found=repr(found),
                expected=" or ".join(map(repr, SPLITS)),
                fix=f"write {near[0]!r}",
            )


def _whole_numbers(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column[numbers.isna() | (numbers % 1 != 0)]
    if len(wrong):
        raise DataError(
            f"the column {name!r} holds other things than whole numbers",
            found=listing(map(repr, wrong.unique())),
        )
    return numbers.astype("int64")


def natural_codes(values: pd.Series[str]) -> NDArray[np.int64]:
    """Rank of each text in natural order, where run 2 comes before run 10.

    Examples
    --------
    >>> import pandas as pd
    >>> natural_codes(pd.Series(["run-10", "run-2", "run-1"])).tolist()
    [2, 1, 0]
    """
    codes, unique = pd.factorize(values)
    order = sorted(range(len(unique)), key=lambda i: natural_key(str(unique[i])))
    rank = np.empty(len(unique), dtype=np.int64)
    rank[order] = np.arange(len(unique))
    return rank[codes]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers inside a text compare as numbers."""
    pieces = re.split(r"(\d+)", text)
    return [(0, int(p), p) if p.isdigit() else (1, 0, p) for p in pieces if p]


def select_rows(trials: pd.DataFrame, where: Any, equals: Mapping[str, Any]) -> NDArray[Any]:
    """Positions of the trials that satisfy a query string, a mask or positions, and all equalities.

    Raises
    ------
    DataError
        If a column or a value does not occur, or the query cannot be evaluated.
    """
    from phosphene._validation import as_int_index

    n = len(trials)
    if isinstance(where, str):
        try:
            kept = trials.reset_index(drop=True).query(where, engine="python").index.to_numpy()
        except Exception as error:  # pandas raises whatever the expression makes it raise
            raise DataError(f"the query {where!r} cannot be evaluated", found=error) from error
        if not len(kept):
            raise DataError(f"no trial satisfies the query {where!r}")
        rows = np.asarray(kept, dtype=np.int64)
    else:
        rows = np.arange(n) if where is None else as_int_index(where, n)
    keep = np.ones(n, dtype=bool)
    for column, wanted in equals.items():
        require_columns(trials, [column], "the trial table")
        several = isinstance(wanted, (list, tuple, set, frozenset, np.ndarray, pd.Series, pd.Index))
        values = list(wanted) if several else [wanted]
        if pd.api.types.is_string_dtype(trials[column].dtype):
            values = as_ids(values).tolist()
        known = set(trials[column].unique())
        if absent := [value for value in values if value not in known]:
            raise DataError(
                f"no trial has {column} = {listing(map(repr, absent))}",
                found=listing(sorted(map(repr, known)), 20),
            )
        keep &= trials[column].isin(values).to_numpy()
    return rows[keep[rows]]
