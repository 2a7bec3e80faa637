"""Single trials and streams: candidates ranked with confidence, for every decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.data.recording import Recording
from phosphene.evaluation import guards
from phosphene.evaluation._checks import query_names, unit_rows
from phosphene.evaluation.ranking import Ranking
from phosphene.evaluation.similarity import Gallery, gallery_embeddings
from phosphene.evaluation.temperature import Calibration
from phosphene.methods import _calibrating
from phosphene.methods._brain import as_recording
from phosphene.methods.ranker import Ranker, Scorer
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder


class RankingMixin:
    """What decoders offer for single trials: ``rank``, ``ranker``, ``calibrate``."""

    train_stimuli_: list[str]
    train_concepts_: list[str]
    train_hashes_: list[str]
    training_: dict[str, Any]

    @property
    def _decoder(self) -> Decoder:
        return cast("Decoder", self)

    @property
    def calibration_(self) -> Calibration | None:
        """Temperatures of the confidence; None where fit held no concepts out."""
        self._decoder._require_fitted()
        stored = self.training_.get("calibration")
        return None if stored is None else Calibration(**stored)

    def rank(
        self,
        epoch: Any,
        gallery: FeatureBank,
        *,
        ids: Sequence[str] | None = None,
        top: int | None = 5,
        abstain_below: float | None = None,
        repetitions: int | None = None,
        confidence: bool = True,
        subject: str | None = None,
    ) -> Ranking:
        """The best candidates for one or a few trials, with calibrated confidence.

        Parameters
        ----------
        epoch : array, Recording or mne.Epochs
            See `Ranker.__call__`; each trial is ranked, nothing is averaged.
        gallery : FeatureBank
            Bank of the same space.
        ids : sequence of str, optional
            Candidates; all stimuli of the bank by default.
        top : int or None
            Candidates to list; None for all.
        abstain_below : float, optional
            Withhold answers of less confidence than this.
        repetitions : int, optional
            Repetitions behind each trial, if these are averages.
        confidence : bool
            False for a plain ranking, of decoders without calibration too.
        subject : str, optional
            Whose trials arrays and unlabelled epochs are; by default the only subject of training.

        Returns
        -------
        Ranking

        Raises
        ------
        NotFittedError
            Before ``fit``; or if there is no calibration, and confidence is wanted.
        """
        ranker = Ranker(
            self._decoder,
            gallery,
            ids=ids,
            top=top,
            abstain_below=abstain_below,
            confidence=confidence,
            subject=subject,
            prepare=False,
        )
        return ranker(epoch, repetitions=repetitions)

    def ranker(
        self,
        gallery: FeatureBank,
        *,
        ids: Sequence[str] | None = None,
        top: int | None = 5,
        abstain_below: float | None = None,
        confidence: bool = True,
        subject: str | None = None,
    ) -> Ranker:
        """Prepare a gallery for a stream of epochs; parameters as for `rank`.

        Returns
        -------
        Ranker
            To be called with one epoch after the other.
        """
        return Ranker(
            self._decoder,
            gallery,
            ids=ids,
            top=top,
            abstain_below=abstain_below,
            confidence=confidence,
            subject=subject,
        )

    def calibrate(self, recording: Any, bank: FeatureBank, *, zero_shot: bool = True) -> Self:
        """Fit the confidence on training trials that ``fit`` has not seen.

        For decoders that hold no concepts out (``selection="fixed_epoch"``, closed forms), and in
        place of what ``fit`` found. No weight and no rank changes. What it is fitted on counts as
        training data in the guards of ``evaluate`` from then on.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            Training trials as they will be ranked, of concepts that were not fitted on: single
            trials, whose averages are then covered too. A few hundred, of as many pictures as
            possible.
        bank : FeatureBank
            Vectors of their stimuli, which are the candidates.
        zero_shot : bool
            False for classification: new stimuli of concepts that were fitted on.

        Returns
        -------
        Decoder
            Itself.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        LeakError
            If test trials are among the data, or stimuli or concepts that ``fit`` has seen.
        DataError
            If there are fewer than two concepts.
        """
        from phosphene.methods._decoder import canonical  # which imports this module

        self._decoder._require_fitted()
        raw = as_recording(recording)
        guards.check_fit(raw, bank)
        trials = canonical(self._decoder._aligned(raw), bank)
        _calibrating.refuse_seen(self._decoder, trials.trials, bank, zero_shot)
        source = "training concepts" if zero_shot else "training stimuli"
        found = _calibrating.fit_calibration(
            self._decoder, trials, bank, f"{source} handed to calibrate"
        )
        known, concepts = set(self.train_stimuli_), set(self.train_concepts_)
        before = self.calibration_
        details = dict((before.details if before else None) or {"stimuli": [], "concepts": []})
        stimuli = list(dict.fromkeys(trials.trials["stimulus"].astype(str)))
        new = [name for name in stimuli if name not in known]
        named = {c for c in trials.trials["concept"].astype(str) if c} - concepts
        details = {
            "stimuli": [*details["stimuli"], *new],
            "concepts": sorted({*details["concepts"], *named}),
        }
        hashes = bank.stimuli.loc[new].get("sha256", pd.Series("", index=new))
        self.train_stimuli_ = [*self.train_stimuli_, *new]
        self.train_hashes_ = [
            *self.train_hashes_,
            *(h if isinstance(h, str) else "" for h in hashes),
        ]
        self.train_concepts_ = sorted(concepts | named)
        self.training_["calibration"] = replace(found, details=details).to_dict()
        return self

    # -------------------------------------------------------------------- for methods
    def _held_out(self, recording: Recording) -> npt.NDArray[np.bool_] | None:
        """Which trials of the training data ``_fit`` held out, if it does; they calibrate."""
        return None

    def _calibrate_held_out(self, raw: Recording, averaged: Recording, bank: FeatureBank) -> None:
        """At the end of ``fit``."""
        held_out = self._held_out(averaged)
        if held_out is None or not held_out.any():
            return
        found = _calibrating.held_out_calibration(self._decoder, raw, held_out, averaged, bank)
        if found is not None:
            self.training_["calibration"] = found.to_dict()

    def _candidates(self, gallery: FeatureBank, ids: Sequence[str] | None) -> Gallery:
        """Candidates whose cosine with what ``_queries`` gives is the score."""
        return gallery_embeddings(gallery, ids, self._decoder.gallery_view_, self._decoder.layer_)

    def _scorer(self, gallery: FeatureBank, ids: Sequence[str]) -> Scorer:
        """A function from aligned trials to scores, with what depends on the gallery done."""
        candidates = self._candidates(gallery, ids)
        items = unit_rows(candidates.vectors, lambda: candidates.ids, "gallery item").T

        def scores(recording: Recording) -> npt.NDArray[Any]:
            vectors = self._decoder._queries(recording).vectors
            names = partial(query_names, recording.trials)
            return (unit_rows(vectors, names, "query") @ items).astype(np.float32)

        return scores
