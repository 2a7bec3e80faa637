"""Block designs, where slow drifts can pass for what was seen.

If every run holds one class, a decoder can recognise the run instead (Li et al. 2021,
doi:10.1109/TPAMI.2020.2973153).
"""

from __future__ import annotations

import warnings

import pandas as pd

from phosphene._validation import require_columns
from phosphene.errors import DesignWarning, listing

COLUMNS = ["subject", "level", "block", "problem", "value", "n_trials"]


def confounded_blocks(trials: pd.DataFrame, column: str = "concept") -> pd.DataFrame:
    """Runs and sessions that tell the class, and classes that tell the session.

    Parameters
    ----------
    trials : DataFrame
        With ``subject``, ``session``, ``run`` and ``column``.
    column : str
        The class to be decoded.

    Returns
    -------
    DataFrame
        Empty when there is no such block. Columns ``subject``; ``level`` ("run" or "session");
        ``block`` (session, or session/run); ``problem`` ("one class in the block" or "class in a
        single session"); ``value`` (the class); ``n_trials``. People with only one block at a level
        are not judged at it, nor are blocks or classes of a single trial.

    Examples
    --------
    >>> import pandas as pd
    >>> trials = pd.DataFrame({"subject": "01", "session": "1", "run": ["1", "1", "2", "2"],
    ...                        "concept": ["dog", "dog", "cat", "cat"]})
    >>> confounded_blocks(trials)[["level", "block", "value"]].values.tolist()
    [['run', '1/1', 'dog'], ['run', '1/2', 'cat']]
    """
    require_columns(trials, ["subject", "session", "run", column], "the trial table")
    session = trials["session"].astype(str)
    table = pd.DataFrame(
        {
            "subject": trials["subject"].to_numpy(),
            "session": session.to_numpy(),
            "run": (session + "/" + trials["run"].astype(str)).to_numpy(),
            "value": trials[column].to_numpy(),
        }
    )
    found = []
    for level in ("run", "session"):
        if level == "run" and not _several(table, "run", within=["subject", "session"]).any():
            continue
        judged = table[_several(table, level, within=["subject"])]
        blocks = _alone(judged, ["subject", level], "value")
        for row in blocks.itertuples():
            found.append((row.subject, level, row.key, "one class in the block", row.only, row.n))
    judged = table[_several(table, "session", within=["subject"])]
    problem = "class in a single session"
    for row in _alone(judged, ["subject", "value"], "session").itertuples():
        found.append((row.subject, "session", row.only, problem, row.key, row.n))
    return pd.DataFrame(found, columns=COLUMNS)


def warn_if_confounded(trials: pd.DataFrame, column: str = "concept") -> pd.DataFrame:
    """Give a `DesignWarning` if classes and blocks are confounded; returns the table of them.

    Parameters
    ----------
    trials : DataFrame
        With ``subject``, ``session``, ``run`` and ``column``.
    column : str
        The class to be decoded.
    """
    table = confounded_blocks(trials, column)
    for problem, rows in table.groupby("problem", sort=False):
        blocks = rows["subject"] + ":" + rows["block"] + " " + rows["value"].astype(str)
        warnings.warn(
            f"{problem}: {len(rows)} cases ({listing(blocks)}). Slow drifts can pass for {column}; "
            'split by block, e.g. split_leave_one_out(recording, "run"), and read accuracies with '
            "care.",
            DesignWarning,
            stacklevel=2,
        )
    return table


def _several(table: pd.DataFrame, column: str, within: list[str]) -> pd.Series[bool]:
    return table.groupby(within)[column].transform("nunique") > 1


def _alone(table: pd.DataFrame, key: list[str], column: str) -> pd.DataFrame:
    """Groups of several trials in which a column has one value only."""
    groups = table.groupby(key, sort=False)[column].agg(["nunique", "first", "size"])
    kept = groups[(groups["nunique"] == 1) & (groups["size"] > 1)].reset_index()
    return kept.set_axis(["subject", "key", "nunique", "only", "n"], axis=1)
