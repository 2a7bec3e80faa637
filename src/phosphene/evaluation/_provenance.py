"""What the records of training and test say about each other; the guards and the audit ask here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from phosphene.data.sketches import LEVELS, common, keys_of

# Operations of a history that learn from trials although they keep no sketch of them.
LEARNING = ("whitening", "standardise", "zscore", "voxel_select")


@dataclass(frozen=True)
class StepRecord:
    """What a step of a history has seen of the test.

    Attributes
    ----------
    step : str
        Name of the operation.
    n_seen, n_looked_up : int
        Test trials that it was fitted on, of those that could be looked up.
    level : str
        How trials were told apart: "trial", "stimulus" or "run"; "" where they could not be.
    """

    step: str
    n_seen: int = 0
    n_looked_up: int = 0
    level: str = ""


def separating_levels(
    seen: Mapping[str, Mapping[str, Any]], trials: pd.DataFrame
) -> dict[str, list[str]]:
    """Digests of the test trials at the levels at which training has none of them.

    Parameters
    ----------
    seen : mapping
        Sketches of the training trials by level (`phosphene.data.sketches.sketch_trials`).
    trials : DataFrame
        Test trials.
    """
    found = {}
    for level in LEVELS:
        if level in seen and (keys := keys_of(trials, level)) is not None:
            shared, looked = common(seen[level], keys)
            if looked and not shared.any():
                found[level] = keys
    return found


def step_records(
    history: Iterable[Mapping[str, Any]],
    seen: Mapping[str, Mapping[str, Any]],
    trials: pd.DataFrame,
) -> list[StepRecord]:
    """For every step of a history that learned from trials, how many test trials it saw."""
    entries = [dict(entry) for entry in history]
    learned = [e for e in entries if "fitted_trials" in e or _learns(e)]
    if not learned:
        return []
    keys = separating_levels(seen, trials)
    out = []
    for entry in learned:
        best = StepRecord(str(entry.get("op", "step")))
        for level, sketched in dict(entry.get("fitted_trials") or {}).items():
            if level not in keys:
                continue
            hit, looked = common(sketched, keys[level])
            mine = StepRecord(best.step, int(hit.sum()), looked, str(level))
            if looked and (not best.level or mine.n_seen > best.n_seen):
                best = mine
        out.append(best)
    return out


def _learns(entry: Mapping[str, Any]) -> bool:
    fitted_on = str(entry.get("fitted_on", ""))
    # Steps that treat each trial or run by itself say so in words instead of a fingerprint.
    return entry.get("op") in LEARNING and " " not in fitted_on


def shared_content(known: Mapping[str, Any], digests: Sequence[str]) -> list[int]:
    """Positions of the trials whose values are among those of training."""
    found, _ = common(known, digests)
    return [int(i) for i in np.flatnonzero(found)]


def where(trials: pd.DataFrame, rows: Sequence[int]) -> list[str]:
    """Names of the recordings that trials belong to, each once: subject/session/run."""
    some = trials.iloc[list(rows)]
    return list(dict.fromkeys(some["subject"] + "/" + some["session"] + "/" + some["run"]))
