"""Rank a gallery for new trials, of which nobody knows what was seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene.errors import DataError
from phosphene.runs.data import select_signals
from phosphene.runs.features import gallery_bank
from phosphene.runs.reading import read_recording
from phosphene.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

logger = get_logger(__name__)


def predict(
    run: Run | str | Path,
    recording: Any,
    gallery: Any,
    *,
    top: int = 5,
    abstain_below: float | None = None,
    fold: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Name the best candidates for every trial of an unlabelled recording.

    Parameters
    ----------
    run : Run or path
        A fitted run.
    recording : Recording or path
        Trials as the decoder was trained on: saved Recording, ``-epo.fif`` file or ``.npz``.
        Channels and time window are cut as the run's recipe says; nothing is averaged.
    gallery : FeatureBank or path
        Candidates: a bank of the run's space, its folder, or a folder of pictures, which then go
        through the run's image encoder.
    top : int
        Candidates per trial.
    abstain_below : float, optional
        Mark answers of less confidence as withheld.
    fold : str, optional
        Which decoder, where the run has several.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    DataFrame
        Columns ``trial`` (from 0), ``rank`` (from 1), ``stimulus``, ``concept``, ``score``,
        ``confidence`` (missing where the decoder has no calibration) and, with a threshold,
        ``withheld``.

    Raises
    ------
    DataError
        If channels are missing, the time axis differs or a file cannot be read.
    SpaceMismatchError
        If the gallery's vectors are of another space.
    NotFittedError
        If answers are to be withheld and the decoder has no calibration.
    """
    if top < 1:
        raise DataError("top counts candidates", found=top, expected="at least 1")
    run = (run if isinstance(run, Run) else Run.open(run)).retrieving()
    decoder = run.decoder(fold)
    trials = read_recording(recording, labelled=False)
    trials = select_signals(trials, run.recipe.data)
    bank = gallery_bank(gallery, run.recipe, decoder, progress=progress)
    known = decoder.calibration_ is not None
    ranking = decoder.rank(
        trials,
        bank,
        top=top,
        abstain_below=abstain_below,
        confidence=known or abstain_below is not None,
    )
    if not known:
        logger.info("no confidence: training held no concepts out to calibrate it on")
    for note in ranking.notes:
        logger.info("confidence: %s", note)
    table: pd.DataFrame = ranking.table()
    return table
