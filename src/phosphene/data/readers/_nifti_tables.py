"""Tables of events: what was shown when, per run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from phosphene._registry import did_you_mean
from phosphene.errors import DataError, listing

STIMULUS_COLUMNS = ("stim_file", "stimulus", "stim", "image", "trial_type")
NO_STIMULUS = ("", "n/a", "nan", "rest", "fixation", "blank", "baseline")


def read_events(events: str | Path | pd.DataFrame, *, timed: bool) -> tuple[pd.DataFrame, str]:
    """An events table, and how messages call it.

    Parameters
    ----------
    events : path or DataFrame
        ``events.tsv`` (or .csv) with ``onset`` and ``duration`` in seconds and a stimulus column.
    timed : bool
        Whether onsets are needed.

    Raises
    ------
    DataError
        If the file cannot be read, or onsets or durations are missing or negative.
    """
    if isinstance(events, pd.DataFrame):
        table, source = events.reset_index(drop=True), "the table of events"
    else:
        path = Path(events)
        source = str(path)
        if not path.is_file():
            raise DataError(f"there is no table of events {path}")
        table = _read_csv(path)
    if table.empty:
        raise DataError(f"{source} has no events")
    if not timed:
        return table.copy(), source
    for column in ("onset", "duration"):
        if column not in table:
            raise DataError(
                f"{source} has no column {column!r}",
                found=f"columns {listing(table.columns, 12)}",
                fix=did_you_mean(column, map(str, table.columns)),
            )
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        # Before the first volume there may be events; nothing lasts less than nothing.
        bad = ~np.isfinite(numbers) | ((numbers < 0) & (column == "duration"))
        if bad.any():
            raise DataError(
                f"{source}: {column} is no time in seconds in rows "
                f"{listing(np.flatnonzero(bad).tolist())}",
                found=listing(map(repr, table[column][bad].tolist()), 3),
            )
        table = table.assign(**{column: numbers})
    return table, source


def _read_csv(path: Path) -> pd.DataFrame:
    """A table of text; pandas would fill rows that are too short."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of events", found=error) from error
    head, *body = [row for row in rows if row] or [[]]
    if not head or len(set(head)) < len(head):
        raise DataError(f"{path} is no table with a name for each column", found=listing(head))
    if uneven := [number for number, row in enumerate(body) if len(row) != len(head)]:
        raise DataError(
            f"{path}: rows {listing(uneven)} have another number of cells than the head",
            found=len(body[uneven[0]]),
            expected=f"{len(head)}: {listing(head, 8)}",
        )
    return pd.DataFrame(body, columns=head, dtype="str")


def stimulus_column(table: pd.DataFrame, wanted: str | None, source: str) -> str:
    """The column that names what was shown.

    Raises
    ------
    DataError
        If it is not there.
    """
    choices = [wanted] if wanted is not None else list(STIMULUS_COLUMNS)
    found = next((name for name in choices if name in table), None)
    if found is None:
        raise DataError(
            f"{source} has no column that names the stimulus",
            found=f"columns {listing(table.columns, 12)}",
            expected=listing(choices),
            fix=did_you_mean(choices[0], map(str, table.columns)),
        )
    return found


def shown(
    table: pd.DataFrame, column: str, concept: str | None, drop: tuple[str, ...], source: str
) -> pd.DataFrame:
    """Rows in which something was shown, with ``stimulus``, ``concept`` and ``event`` (the row).

    The concept is a column's where one is named; a stimulus that is a label is its own concept.

    Raises
    ------
    DataError
        If nothing was shown.
    """
    names = table[column].fillna("").astype(str).str.strip()
    if unknown := [name for name in drop if name not in set(names)]:
        raise DataError(
            f"{source}: no event is called {listing(map(repr, unknown))}, which is to be dropped",
            found=listing(sorted(set(names)), 12),
        )
    keep = ~names.str.lower().isin(NO_STIMULUS) & ~names.isin(list(drop))
    if not keep.any():
        raise DataError(
            f"{source}: nothing was shown", found=f"{column}: {listing(sorted(set(names)), 8)}"
        )
    out = table[keep].copy()
    out["stimulus"] = names[keep]
    if concept is not None:
        if concept not in table:
            raise DataError(
                f"{source} has no column {concept!r} with the concepts",
                found=f"columns {listing(table.columns, 12)}",
                fix=did_you_mean(concept, map(str, table.columns)),
            )
        out["concept"] = table.loc[keep, concept].astype(str)
    elif column == "trial_type":
        out["concept"] = out["stimulus"]
    out["event"] = np.flatnonzero(keep.to_numpy())
    return out.reset_index(drop=True)
