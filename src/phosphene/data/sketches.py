"""Sketches: small records of which trials something has seen, to be compared with others later.

A fitted step or decoder cannot keep every trial that it saw. It keeps short digests of them, all of
them up to `KEPT`, beyond that those with the smallest values. Whether a digest would have been kept
is known from its value, so that two sets can still be compared: exactly where all were kept, on a
random share otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._manifest import row_chunks
from phosphene.data.recording import Recording

KEPT = 4096
WIDTH = 12  # hexadecimal digits: two of a hundred thousand trials agree by chance once in 50,000
_SAMPLED = 256

# Trials are named in three ways; which of them tells training from test depends on the design.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "trial": ("subject", "session", "run", "stimulus", "repetition"),
    "stimulus": ("subject", "stimulus"),
    "run": ("subject", "session", "run"),
}


def sketch(digests: Iterable[str]) -> dict[str, Any]:
    """A record of distinct digests, as plain values for JSON.

    Returns
    -------
    dict
        ``n``, the number of distinct digests, and ``kept``, the smallest `KEPT` of them in one
        text.

    Examples
    --------
    >>> sketch([digest("b"), digest("a"), digest("a")])["n"]
    2
    """
    distinct = sorted({d for d in digests if d})
    return {"n": len(distinct), "kept": "".join(distinct[:KEPT])}


def common(known: Mapping[str, Any], digests: Sequence[str]) -> tuple[NDArray[np.bool_], int]:
    """Which digests are in a sketch, and how many of them could be looked up.

    Examples
    --------
    >>> seen = sketch([digest("a"), digest("b")])
    >>> common(seen, [digest("b"), digest("c")])
    (array([ True, False]), 2)
    """
    text = str(known["kept"])
    kept = {text[i : i + WIDTH] for i in range(0, len(text), WIDTH)}
    complete = int(known["n"]) <= len(kept)
    last = "" if complete or not kept else max(kept)
    looked = [bool(d) and (complete or d <= last) for d in digests]
    found = np.array([ok and d in kept for ok, d in zip(looked, digests, strict=True)], dtype=bool)
    return found, sum(looked)


def digest(text: str) -> str:
    """Short digest of a text."""
    return blake2b(text.encode(), digest_size=WIDTH // 2).hexdigest()


def keys_of(trials: pd.DataFrame, level: str) -> list[str] | None:
    """Digests of the names of trials at a level; None where the table does not say them.

    Averaging forgets single trials, and the runs of what was averaged over runs.
    """
    columns = LEVELS[level]
    if any(name not in trials for name in columns):
        return None
    if level == "trial" and "n_averaged" in trials:
        return None
    parts = [trials[name].astype(str) for name in columns]
    if any((part == "").any() for part in parts):
        return None
    names = parts[0]
    for part in parts[1:]:
        names = names + "\x1f" + part
    distinct = {name: digest(name) for name in names.unique()}
    return [distinct[name] for name in names]


def sketch_trials(trials: pd.DataFrame) -> dict[str, Any]:
    """Sketches of a table of trials, one for each level that it can be named at."""
    found = {level: keys_of(trials, level) for level in LEVELS}
    return {level: sketch(keys) for level, keys in found.items() if keys is not None}


def content_digests(recording: Recording) -> list[str]:
    """Digest of the values of every trial, "" for a trial whose values are all the same.

    At most 256 values spread over the trial are looked at: measured values agree to the bit in a
    copy only.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0], [0.0, 0.0]])
    >>> names = {"stimulus": ["a", "b", "c", "d"]}
    >>> one, two, again, empty = content_digests(
    ...     Recording.from_arrays(x, names, modality="fmri"))
    >>> one == again, one == two, empty
    (True, False, '')
    """
    out: list[str] = []
    for chunk in row_chunks(recording.source):
        if not chunk.size:
            continue
        flat = chunk.reshape(len(chunk), -1)
        some = np.ascontiguousarray(flat[:, :: max(1, flat.shape[1] // _SAMPLED)][:, :_SAMPLED])
        varies = (some != some[:, :1]).any(axis=1)
        rows = some.view(np.uint8).reshape(len(some), -1)
        out += [
            blake2b(row.data, digest_size=WIDTH // 2).hexdigest() if use else ""
            for row, use in zip(rows, varies.tolist(), strict=True)
        ]
    return out


def copied_recordings(trials: pd.DataFrame, digests: Sequence[str]) -> pd.DataFrame:
    """Runs whose trials have the values of another run's trials.

    Parameters
    ----------
    trials : DataFrame
        With ``subject``, ``session`` and ``run``.
    digests : sequence of str
        Of the values of every trial (`content_digests`).

    Returns
    -------
    DataFrame
        Columns ``recording`` and ``copy`` (subject/session/run), ``n_shared`` and ``share`` (of the
        copy's trials); empty where there is none.
    """
    place = (trials["subject"] + "/" + trials["session"] + "/" + trials["run"]).to_numpy()
    table = pd.DataFrame({"place": place, "digest": list(digests)})
    table = table[table["digest"] != ""].drop_duplicates()
    sizes = table.groupby("place", sort=False).size()
    first = table.drop_duplicates("digest").set_index("digest")["place"]
    table["first"] = table["digest"].map(first)
    again = table[table["place"] != table["first"]]
    pairs = again.groupby(["first", "place"], sort=False).size().reset_index(name="n_shared")
    pairs["share"] = pairs["n_shared"] / pairs["place"].map(sizes)
    return pairs.set_axis(["recording", "copy", "n_shared", "share"], axis=1)
