"""Small helpers of reconstructors: names of stimuli, folds, checks of targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.data._ids import resolve_ids
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing

FOLDS = 5


def canonical(recording: Recording, stimuli: StimulusSet) -> Recording:
    """The recording with its stimulus ids written as the set of pictures writes them."""
    wanted = recording.trials["stimulus"].astype(str)
    distinct = list(dict.fromkeys(wanted))
    rows = resolve_ids(distinct, stimuli.ids)
    names = {name: stimuli.ids[row] for name, row in zip(distinct, rows, strict=True)}
    renamed = wanted.map(names).astype(recording.trials["stimulus"].dtype)
    if renamed.equals(recording.trials["stimulus"]):
        return recording
    return recording.with_trials(recording.trials.assign(stimulus=renamed))


def fold_groups(trials: pd.DataFrame) -> npt.NDArray[Any]:
    """What stays together in a fold: concepts, or stimuli where there are few concepts."""
    concepts = trials["concept"].astype(str).to_numpy()
    enough = len(set(concepts)) >= FOLDS
    return concepts if enough else trials["stimulus"].astype(str).to_numpy()


def check_targets(group: str, values: npt.NDArray[Any], ids: Sequence[str]) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"targets of the group {group!r} hold NaN or infinite values",
            found="stimuli " + listing(ids[row] for row in np.flatnonzero(bad).tolist()),
            expected="finite numbers",
        )


def hashes_of(trials: pd.DataFrame, stimuli: StimulusSet | None) -> dict[str, str]:
    """Checksum of the picture of every stimulus of some trials; nothing without pictures."""
    if stimuli is None:
        return {}
    names = list(dict.fromkeys(trials["stimulus"].astype(str)))
    rows = resolve_ids(names, stimuli.ids)
    return {name: stimuli.hash(stimuli.ids[row]) for name, row in zip(names, rows, strict=True)}
