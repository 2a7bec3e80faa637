"""Fitting the temperature of a decoder on trials of training concepts that it did not learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene._logging import get_logger
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation.temperature import Calibration, calibration_curves
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder

logger = get_logger(__name__)

# Enough for a standard error of T of a few per cent; more would cost time in every fit.
_MAX_QUERIES = 1000
_MAX_CANDIDATES = 2000
_PAIR = ["subject", "stimulus"]


def held_out_calibration(
    decoder: Decoder, raw: Recording, held_out: npt.NDArray[np.bool_], averaged: Recording,
    bank: FeatureBank,
) -> Calibration | None:  # fmt: skip
    """The calibration on what ``fit`` held out; None where it can have none.

    ``held_out`` marks trials of ``averaged``; single trials of their concepts are in ``raw``.
    """
    concepts = set(averaged.trials["concept"].astype(str)[held_out])
    rows = raw.trials["concept"].astype(str).isin(concepts).to_numpy()
    try:
        decoder._check_labels(None)  # a rule that reads the answers has no confidence
        trials = raw.select(np.flatnonzero(rows))
        return fit_calibration(decoder, trials, bank, "training concepts that fit held out")
    except DataError as error:  # nor has one that diverged; what was trained is not lost for it
        logger.info("the decoder has no confidence: %s", error.what)
        return None


def fit_calibration(
    decoder: Decoder, trials: Recording, bank: FeatureBank, source: str
) -> Calibration:
    """Temperatures for single trials and for averages, and for galleries of many sizes.

    Parameters
    ----------
    decoder : Decoder
        Fitted.
    trials : Recording
        Trials whose stimulus ids are the bank's.
    bank : FeatureBank
        Vectors of at least these stimuli, all of which are candidates.
    source : str
        What rankings say of them.
    """
    seed = decoder.random_state
    stimuli = sorted(set(trials.trials["stimulus"].astype(str)))
    if len(stimuli) > _MAX_CANDIDATES:
        draw = _random.generator(seed, "calibration", "candidates")
        stimuli = sorted(draw.choice(stimuli, _MAX_CANDIDATES, replace=False).tolist())
        trials = trials.select(stimulus=stimuli)
    seen = trials.trials.drop_duplicates("stimulus").set_index("stimulus")["concept"].astype(str)
    # Where a concept has no name, its pictures are concepts of their own.
    concepts = [seen[name] or f"of {name}" for name in stimuli]
    if len(set(concepts)) < 2:
        raise DataError(
            "the temperature is fitted on candidates of several concepts",
            found=f"{len(stimuli)} stimuli of one concept",
            expected="trials of at least two concepts",
        )
    column = {name: i for i, name in enumerate(stimuli)}
    base = 1
    if "n_averaged" in trials.trials:
        base = int(np.median(trials.trials["n_averaged"].to_numpy(dtype=float)))
    rows: dict[str, list[list[float]]] = {"distinct": [], "repeated": []}
    levels = _levels(trials.trials)
    sizes: list[int] = []
    for level in levels:
        queries = _queries(trials, level, seed)
        scores = decoder.similarity(queries, bank, ids=stimuli).matrix
        true = queries.trials["stimulus"].astype(str).map(column).to_numpy(dtype=np.int64)
        sizes, curves = calibration_curves(scores, true, concepts, seed)
        for kind, values in curves.items():
            rows[kind].append(values)
    return Calibration(
        sizes,
        [base * level for level in levels],
        rows,
        candidates=sizes[-2],
        queries=trials.n_trials,
        concepts=len(set(concepts)),
        source=source,
    )


def _levels(trials: pd.DataFrame) -> list[int]:
    """Numbers of repetitions to average: powers of two up to what half of the stimuli have."""
    most = int(np.median(trials.groupby(_PAIR, sort=False).size()))
    powers = [2**k for k in range(most.bit_length()) if 2**k <= most]
    return sorted({1, *powers, most})


def _queries(trials: Recording, level: int, seed: int) -> Recording:
    """Single trials, or averages of exactly so many; at most a thousand of them."""
    draw = _random.generator(seed, "calibration", "queries", level)
    if level == 1:
        chosen = draw.permutation(trials.n_trials)[:_MAX_QUERIES]
        return trials.select(np.sort(chosen))
    groups = trials.trials.groupby(_PAIR, sort=False)
    enough = np.flatnonzero(groups.size().to_numpy() >= level)
    chosen = draw.permutation(enough)[:_MAX_QUERIES]
    rows = np.flatnonzero(np.isin(groups.ngroup().to_numpy(), chosen))
    return trials.select(rows).average(by=_PAIR, max_repetitions=level)


def refuse_seen(decoder: Decoder, trials: pd.DataFrame, bank: FeatureBank, zero_shot: bool) -> None:
    """Refuse calibration on what the decoder was fitted on.

    Raises
    ------
    LeakError
        Naming the shared stimuli, pictures or concepts.
    """
    before = decoder.calibration_
    added: dict[str, Any] = dict((before.details if before else None) or {})
    fitted = dict(zip(decoder.train_stimuli_, decoder.train_hashes_, strict=False))
    for name in added.get("stimuli", ()):  # to be calibrated once more on the same is no leak
        fitted.pop(name, None)
    stimuli = list(dict.fromkeys(trials["stimulus"].astype(str)))
    pictures = {digest for digest in fitted.values() if digest}
    hashes = bank.stimuli["sha256"] if "sha256" in bank.stimuli else pd.Series(dtype=object)
    shared = [s for s in stimuli if s in fitted or hashes.get(s, "") in pictures]
    what = "stimuli"
    if not shared and zero_shot:
        known = set(decoder.train_concepts_) - set(added.get("concepts", ()))
        shared, what = sorted(known & set(trials["concept"].astype(str)) - {""}), "concepts"
    if shared:
        raise LeakError(
            f"the decoder was fitted on {len(shared)} {what} of the calibration: {listing(shared)}",
            expected=f"{what} that fit has not seen: it is sure of those that it knows",
            fix="hold some training concepts out before fit "
            "(phosphene.data.splits.hold_out_concepts), and calibrate on these",
        )
