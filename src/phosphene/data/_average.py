"""Averaging of trials without a loop over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from phosphene._validation import require_columns
from phosphene.data._trials import natural_codes
from phosphene.errors import DataError, LeakError, listing

CHUNK = 64 * 2**20


def plan(
    trials: pd.DataFrame, by: Sequence[str], max_repetitions: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which trials are averaged, and into which group.

    Returns
    -------
    rows, groups : ndarrays of int, shape (n,)
        Sorted by group; groups are numbered in order of their first trial. Within a group the order
        is that of session, run and repetition.
    """
    if not by:
        raise DataError("nothing to average by", expected="names of trial columns")
    require_columns(trials, by, "the trial table")
    if max_repetitions is not None and max_repetitions < 1:
        raise DataError("max_repetitions is too small", found=max_repetitions, expected="1 or more")
    group = trials.groupby(list(by), sort=False, dropna=False).ngroup().to_numpy()
    order = np.lexsort(
        (
            trials["repetition"].to_numpy(),
            natural_codes(trials["run"]),
            natural_codes(trials["session"]),
            group,
        )
    )
    sorted_group = group[order]
    if max_repetitions is not None:
        starts = np.flatnonzero(np.r_[True, np.diff(sorted_group) > 0])
        counts = np.diff(np.r_[starts, len(order)])
        keep = np.arange(len(order)) - np.repeat(starts, counts) < max_repetitions
        order, sorted_group = order[keep], sorted_group[keep]
    return order.astype(np.int64), sorted_group.astype(np.int64)


def group_means(
    take: Callable[[NDArray[np.int64]], NDArray[Any]],
    shape: tuple[int, ...],
    rows: NDArray[np.int64],
    groups: NDArray[np.int64],
    weights: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Weighted mean of the rows of each group, read in pieces of about 64 MB.

    Parameters
    ----------
    take : callable
        From row numbers to their signals.
    shape : tuple of int
        Shape of one row.
    rows, groups, weights : ndarrays of int, shape (n,)
        ``groups`` ascending from 0; ``weights`` say how many trials each row stands for.
    """
    # torch adds rows into groups three times as fast as numpy's reduceat, and in order.
    n_groups = int(groups[-1]) + 1 if len(groups) else 0
    sums = torch.zeros((n_groups, *shape), dtype=torch.float32)
    ones = [1] * len(shape)
    weighted = bool((weights != 1).any())
    step = max(1, CHUNK // (4 * max(1, int(np.prod(shape)))))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block = torch.from_numpy(np.require(take(rows[part]), requirements="W")).to(torch.float32)
        if weighted:
            block = block * torch.from_numpy(weights[part]).to(torch.float32).reshape(-1, *ones)
        sums.index_add_(0, torch.from_numpy(groups[part]), block)
    total = np.bincount(groups, weights=weights, minlength=n_groups).astype(np.float32)
    means: NDArray[np.float32] = sums.numpy()
    means /= total.reshape(-1, *ones)
    return means


def group_table(
    trials: pd.DataFrame,
    rows: NDArray[np.int64],
    groups: NDArray[np.int64],
    weights: NDArray[np.int64],
) -> pd.DataFrame:
    """One row per group: what is constant within it is kept, the rest is left empty.

    Raises
    ------
    LeakError
        If a group mixes test trials with others.
    """
    sorted_trials = trials.iloc[rows].reset_index(drop=True)
    starts = np.flatnonzero(np.r_[True, np.diff(groups) > 0])
    ends = np.r_[starts[1:], len(groups)] - 1
    table = sorted_trials.iloc[starts].reset_index(drop=True)
    for name in table.columns:
        if name in ("repetition", "n_averaged"):
            continue
        codes, _ = pd.factorize(sorted_trials[name], use_na_sentinel=True)
        change = np.r_[0, np.cumsum(np.diff(codes) != 0)]
        varies = change[ends] != change[starts]
        if not varies.any():
            continue
        if name == "split":
            _refuse_mixture(sorted_trials, groups, varies)
        if pd.api.types.is_bool_dtype(table[name].dtype):
            table[name] = table[name].astype("boolean").mask(varies)
        elif pd.api.types.is_numeric_dtype(table[name].dtype):
            table[name] = table[name].astype("float64").mask(varies)
        else:
            table[name] = table[name].mask(varies, "")
    table["n_averaged"] = np.bincount(groups, weights=weights).astype(np.int64)
    key = ["subject", "session", "run", "stimulus"]
    table["repetition"] = table.groupby(key, dropna=False).cumcount().astype("int64")
    return table


def _refuse_mixture(trials: pd.DataFrame, groups: NDArray[np.int64], varies: Any) -> None:
    test = np.unique(groups[(trials["split"] == "test").to_numpy()])
    if (mixed := test[varies[test]]).size:
        stimuli = trials.loc[np.isin(groups, mixed), "stimulus"].unique()
        raise LeakError(
            f"{mixed.size} averages would mix test trials with others",
            found=f"stimuli {listing(stimuli)}",
            fix='select the split first, or average by "split" too',
        )
