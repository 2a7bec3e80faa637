"""What the parts of a split share: images, their content, concepts, people, sessions, runs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._validation import require_columns
from phosphene.data._ids import resolve_ids
from phosphene.data._trials import natural_key
from phosphene.data.recording import Recording
from phosphene.data.sketches import content_digests
from phosphene.errors import LeakError, listing

PARTS = ("train", "validation", "test")
# Pairs of parts in the order of their importance.
PAIRS = (("train", "test"), ("validation", "test"), ("train", "validation"))
COLUMNS = ["parts", "what", "n_shared", "examples"]


def parts_of_column(trials: pd.DataFrame, column: str = "split") -> dict[str, NDArray[np.int64]]:
    """Positions of the training, validation and test trials that a column marks.

    Examples
    --------
    >>> parts_of_column(pd.DataFrame({"split": ["train", "test", "train"]}))["train"].tolist()
    [0, 2]
    """
    require_columns(trials, [column], "the trial table")
    marks = trials[column].to_numpy()
    return {part: np.flatnonzero(marks == part) for part in PARTS}


def overlap_table(
    trials: pd.DataFrame,
    parts: Mapping[str, NDArray[np.int64]] | None = None,
    hashes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """What the parts of a split share.

    Parameters
    ----------
    trials : DataFrame
        Table of trials.
    parts : mapping of "train", "validation" and "test" to positions, optional
        The column ``split`` by default.
    hashes : mapping of stimulus id to SHA-256, optional
        Content of the images (`StimulusSet.hashes`), to find one image under two names.

    Returns
    -------
    DataFrame
        Columns ``parts`` ("train/test" ...), ``what`` ("stimulus", "image content", "concept",
        "subject", "session", "run"), ``n_shared`` and ``examples`` (at most five). A session is
        that of a person, a run that of a session.

    Examples
    --------
    >>> trials = pd.DataFrame({"stimulus": ["a/1", "a/2", "b/1"], "concept": ["a", "a", "b"],
    ...     "subject": "01", "session": ["1", "2", "2"], "run": "1",
    ...     "split": ["train", "test", "test"]})
    >>> table = overlap_table(trials)
    >>> table[table["n_shared"] > 0][["what", "examples"]].values.tolist()
    [['concept', 'a'], ['subject', '01']]
    """
    parts = parts_of_column(trials) if parts is None else parts
    trials = trials.reset_index(drop=True)
    session = trials["subject"] + "/" + trials["session"]
    columns = {name: trials[name] for name in ("stimulus", "concept")}
    if hashes is not None:
        columns["image content"] = trials["stimulus"].map(_lookup(hashes, trials))
    columns |= {
        "subject": trials["subject"],
        "session": session,
        "run": session + "/" + trials["run"],
    }
    rows = []
    for one, other in PAIRS:
        first, second = (np.asarray(parts.get(name, ()), dtype=np.int64) for name in (one, other))
        if not len(first) or not len(second):
            continue
        for what, values in columns.items():
            shared = sorted(set(values.iloc[first]) & set(values.iloc[second]), key=natural_key)
            if what == "image content":
                shared = _names_of(shared, trials["stimulus"], values, first, second)
            shared = [value for value in shared if value]
            rows.append((f"{one}/{other}", what, len(shared), listing(shared)))
    return pd.DataFrame(rows, columns=COLUMNS)


def shared_positions(parts: Mapping[str, NDArray[np.int64]]) -> tuple[str, str, list[int]] | None:
    """The first two parts that have trials in common, with these trials."""
    for one, other in combinations(parts, 2):
        shared = np.intersect1d(parts[one], parts[other])
        if shared.size:
            return one, other, shared.tolist()
    return None


def refuse_shared_signals(recording: Recording, parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise if a part holds trials with the signals of another part's trials.

    Raises
    ------
    LeakError
        Naming the recordings (subject/session/run).
    """
    trials = recording.trials
    place = (trials["subject"] + "/" + trials["session"] + "/" + trials["run"]).to_numpy()
    digests = np.array(content_digests(recording))
    for one, other in combinations(parts, 2):
        rows = parts[other]
        again = rows[np.isin(digests[rows], digests[parts[one]]) & (digests[rows] != "")]
        if len(again):
            raise LeakError(
                f"{len(again)} trials in {other} have the signals of trials in {one}",
                found="subject/session/run " + listing(dict.fromkeys(place[again])),
                expected="every trial once",
                fix="a file was copied under another name: leave the copy out",
            )


def _lookup(hashes: Mapping[str, str], trials: pd.DataFrame) -> dict[str, str]:
    names = [str(name) for name in trials["stimulus"].unique()]
    known = [str(name) for name in hashes.keys()]  # noqa: SIM118  (a Series iterates its values)
    rows = resolve_ids(names, known)
    return {name: str(hashes[known[row]]) for name, row in zip(names, rows.tolist(), strict=True)}


def _names_of(
    shared: list[str], stimulus: pd.Series[str], content: pd.Series[str], first: Any, second: Any
) -> list[str]:
    out = []
    for digest in shared:
        names = [
            str(stimulus.iloc[rows][content.iloc[rows] == digest].iloc[0])
            for rows in (first, second)
        ]
        out.append(" = ".join(dict.fromkeys(names)))
    return out
