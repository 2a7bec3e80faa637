"""Checks of what users hand in; each failure names the offending items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene._manifest import row_chunks
from phosphene._registry import did_you_mean
from phosphene.errors import DataError, LeakError, listing

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 64 * 2**20


def require_columns(table: pd.DataFrame, columns: Iterable[str], what: str = "the table") -> None:
    """Raise unless the table has all columns, naming the missing ones.

    Raises
    ------
    DataError
        If one is missing.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{what} lacks the column{'s' * (len(missing) > 1)} {listing(map(repr, missing))}",
            found=listing(map(repr, table.columns), 20),
            fix=did_you_mean(missing[0], table.columns),
        )


def require_unique(ids: Sequence[Any], what: str = "id") -> None:
    """Raise if an id occurs twice, naming those that do.

    Raises
    ------
    DataError
        If one does.
    """
    values, counts = np.unique(np.asarray(ids, dtype=object).astype(str), return_counts=True)
    if (counts > 1).any():
        repeated = zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True)
        twice = [f"{value!r} ({count} times)" for value, count in repeated]
        raise DataError(f"{what} occurs more than once: {listing(twice)}")


def as_ids(values: Any) -> pd.Series[str]:
    """Ids as text: whole numbers lose a ``.0``, a missing value becomes the empty text.

    Examples
    --------
    >>> as_ids([1.0, "01", None]).tolist()
    ['1', '01', '']
    """
    import pandas as pd

    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    if series.dtype == "str" and not series.hasnans:
        return series
    return pd.Series([_as_id(value) for value in series.tolist()], index=series.index, dtype="str")


def _as_id(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = str(value)
    return "" if text in ("<NA>", "NaT") else text


def check_signals(signals: Any, names: Sequence[str], what: str = "signals") -> None:
    """Raise on NaN, infinite values and flat channels; reads in pieces, never the whole.

    Parameters
    ----------
    signals : array-like, shape (trials, channels) or (trials, channels, times)
        May be memory-mapped.
    names : sequence of str
        Channel or voxel names.
    what : str
        How the message calls the signals.

    Raises
    ------
    DataError
        Naming the channels with the number of trials concerned, or the flat channels.
    """
    n_channels = len(names)
    low = np.full(n_channels, np.inf)
    high = np.full(n_channels, -np.inf)
    bad = np.zeros(n_channels, dtype=np.int64)
    n_values = 0
    for chunk in row_chunks(signals, CHUNK):
        if chunk.size == 0:
            continue
        values = chunk.reshape(len(chunk), n_channels, -1)
        n_values += values.shape[0] * values.shape[2]
        chunk_low, chunk_high = values.min(axis=(0, 2)), values.max(axis=(0, 2))
        if not (np.isfinite(chunk_low).all() and np.isfinite(chunk_high).all()):
            bad += (~np.isfinite(values).all(axis=2)).sum(axis=0)
        # Damaged values may be NaN of the kind that complains about being looked at.
        with np.errstate(invalid="ignore"):
            low, high = np.fmin(low, chunk_low), np.fmax(high, chunk_high)
    if bad.any():
        total = int(signals.shape[0])
        found = [f"{names[i]!r} ({bad[i]} of {total} trials)" for i in np.flatnonzero(bad).tolist()]
        raise DataError(
            f"{what} hold NaN or infinite values in {len(found)} of {n_channels} channels",
            found=listing(found),
            expected="finite values",
            fix="drop or interpolate these trials or channels",
        )
    if n_values > 1 and (flat := np.flatnonzero(low == high)).size:
        raise DataError(
            f"{what} are constant over all trials in {flat.size} of {n_channels} channels",
            found=listing(repr(names[i]) for i in flat.tolist()),
            expected="values that vary",
            fix="drop these channels",
        )


def check_number(value: Any, name: str) -> None:
    """Refuse what is no finite real number (True and False are none here); None passes.

    Raises
    ------
    DataError
        If it is something else.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise DataError(f"{name} is no number", found=repr(value), expected="a finite number")


def check_fraction(value: float, name: str) -> float:
    """Return ``value`` if it lies strictly between 0 and 1.

    Raises
    ------
    DataError
        If it does not.
    """
    if not 0 < value < 1:
        raise DataError(f"{name} is a fraction", found=value, expected="between 0 and 1")
    return float(value)


def refuse_test_trials(trials: pd.DataFrame, who: str = "fit") -> None:
    """Raise if any trial is marked as test.

    Raises
    ------
    LeakError
        Naming the test stimuli that would reach ``who``.
    """
    if "split" not in trials.columns:
        return
    rows = (trials["split"] == "test").to_numpy()
    if rows.any():
        column = "stimulus" if "stimulus" in trials.columns else "split"
        raise LeakError(
            f"{who} was given {int(rows.sum())} test trials",
            found=f"{column} {listing(trials.loc[rows, column].unique())}",
            expected="training trials only",
            fix='fit on recording.select(split="train")',
        )


def as_int_index(index: Any, n: int, what: str = "trial") -> NDArray[np.int64]:
    """Positions from a boolean mask, integers or a slice, checked against the length.

    Examples
    --------
    >>> as_int_index([True, False, True], 3).tolist()
    [0, 2]

    Raises
    ------
    DataError
        If the mask has another length, or a position is out of range or given twice.
    """
    if isinstance(index, slice):
        return np.arange(n)[index]
    array = np.asarray(index)
    if array.ndim != 1:
        raise DataError(f"the {what} index is not one-dimensional", found=f"shape {array.shape}")
    if array.dtype == bool:
        if len(array) != n:
            raise DataError(f"the {what} mask has another length", found=len(array), expected=n)
        return np.flatnonzero(array)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(
            f"the {what} index holds neither booleans nor integers", found=f"dtype {array.dtype}"
        )
    outside = array[(array < -n) | (array >= n)]
    if outside.size:
        raise DataError(
            f"{what} positions are out of range: {listing(outside.tolist())}",
            expected=f"0 to {n - 1}",
        )
    positions = np.where(array < 0, array + n, array).astype(np.int64)
    values, counts = np.unique(positions, return_counts=True)
    if len(values) < len(positions):
        raise DataError(f"{what} positions are given twice: {listing(values[counts > 1].tolist())}")
    return positions
