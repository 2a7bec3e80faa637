"""A gallery that is prepared once for a stream of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene.data.recording import Recording
from phosphene.errors import DataError, NotFittedError
from phosphene.evaluation.ranking import Ranking, rank_scores
from phosphene.methods._brain import as_recording
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder

# From an aligned recording to scores (trials, candidates).
Scorer = Callable[[Recording], npt.NDArray[Any]]


class Ranker:
    """A gallery that is prepared once, to be ranked for one epoch after the other.

    Made by ``decoder.ranker``. The candidates' vectors are read, checked and led through the
    decoder's image side when it is made; a call does what depends on the epoch. Whether this gives
    the scores of ``decoder.similarity`` is tried on two made-up epochs; if not, as for a method
    with a rule of its own, calls go through ``similarity``.

    Attributes
    ----------
    ids : list of str
        The candidates.
    prepared : bool
        Whether the candidates' vectors are kept ready.
    """

    def __init__(
        self,
        decoder: Decoder,
        gallery: FeatureBank,
        *,
        ids: Sequence[str] | None = None,
        top: int | None = 5,
        abstain_below: float | None = None,
        confidence: bool = True,
        subject: str | None = None,
        prepare: bool = True,
    ) -> None:
        decoder._require_fitted()
        _check(decoder, top, abstain_below, confidence)
        rows = range(len(gallery.ids)) if ids is None else gallery.resolve(list(ids))
        # In the order of their ids, which is that of ties.
        self.ids = sorted(gallery.ids[row] for row in rows)
        self.decoder, self._top, self._abstain_below = decoder, top, abstain_below
        self._calibration = decoder.calibration_ if confidence else None
        people = decoder.training_["subjects"]
        self._subject = subject or (people[0] if len(people) == 1 else "")
        self._blank: dict[int, Recording] = {}
        known = gallery.stimuli["concept"].reindex(self.ids).fillna("").astype(str)
        self._concepts = known.tolist() if (known != "").all() else None
        self._repeated = self._concepts is not None and bool(known.duplicated().any())
        self._score: Scorer = lambda x: decoder.similarity(x, gallery, ids=self.ids).matrix
        self.prepared = prepare and self._try(decoder._scorer, gallery)

    def _try(self, scorer: Callable[..., Scorer], gallery: FeatureBank) -> bool:
        """Take the quick way if it leads to the same scores."""
        decoder = self.decoder
        noise = _random.generator(0, "epochs that nobody had").standard_normal(
            (2, decoder.n_chans_, *([] if decoder.n_times_ is None else [decoder.n_times_]))
        )
        shape = (1, -1) + (1,) * (noise.ndim - 2)
        mean, scale = (v.reshape(shape) for v in (decoder.scaler_.mean, decoder.scaler_.scale))
        subject = self._subject or next(iter(decoder.training_["subjects"]), "")
        epochs = self._wrap(mean + scale * noise).with_trials(
            {"stimulus": ["0", "1"], "subject": [subject] * 2}
        )
        slow = self._score(epochs)  # what is wrong with the gallery is said here
        quick = scorer(gallery, self.ids)
        same = quick(epochs)
        if same.shape != slow.shape or not np.allclose(same, slow, rtol=1e-5, atol=1e-6):
            return False
        self._score = quick
        return True

    def __call__(self, epoch: Any, *, repetitions: int | None = None) -> Ranking:
        """Rank the candidates for each trial.

        Parameters
        ----------
        epoch : array, Recording or mne.Epochs
            One trial (channels, times) or several (trials, channels, times) in the decoder's order
            of channels, or (voxels,) and (trials, voxels). Epochs need no metadata.
        repetitions : int, optional
            Repetitions behind each trial, if these are averages; by default what a recording's
            ``n_averaged`` says, or 1.

        Returns
        -------
        Ranking

        Raises
        ------
        DataError
            If the shape, the channels or the rate are others than in training, or values are not
            finite.
        """
        aligned = self._read(epoch)
        scores = self._score(aligned)
        inverse, notes = self._inverse(aligned.trials, len(scores), repetitions)
        return rank_scores(
            scores,
            self.ids,
            self._concepts,
            inverse_temperature=inverse,
            top=self._top,
            abstain_below=self._abstain_below,
            notes=notes,
        )

    def _read(self, epoch: Any) -> Recording:
        if isinstance(epoch, (Recording, tuple)):
            return self.decoder._aligned(epoch)
        if type(epoch).__module__.partition(".")[0] == "mne":
            return self.decoder._aligned(self._from_epochs(epoch))
        if not hasattr(epoch, "__array__"):
            as_recording(epoch)  # which says what is wrong with it
        decoder = self.decoder
        one = (decoder.n_chans_, *([] if decoder.n_times_ is None else [decoder.n_times_]))
        signals = np.asarray(epoch, dtype=np.float32)
        if signals.shape == one:
            signals = signals[None]
        if signals.shape[1:] != one or not len(signals):
            raise DataError(
                "the epoch's shape is not that of training",
                found=f"shape {np.shape(epoch)}",
                expected=f"{one} or (trials, {', '.join(map(str, one))})",
                fix="cut and resample as the training data were; channels in the order of "
                "decoder.channel_names_",
            )
        if not np.isfinite(signals).all():
            bad = np.flatnonzero(~np.isfinite(signals).all(axis=tuple(range(2, signals.ndim))))
            names = {decoder.channel_names_[i % decoder.n_chans_] for i in bad}
            raise DataError(f"the epoch holds NaN or infinity in {', '.join(sorted(names))}")
        return self._wrap(signals)

    def _wrap(self, signals: npt.NDArray[Any]) -> Recording:
        """A recording of trials without labels; its table is made once for each number of them."""
        n = len(signals)
        if n not in self._blank:
            decoder = self.decoder
            times = None
            if decoder.n_times_ is not None:
                times = np.arange(decoder.n_times_) / (decoder.sfreq_ or 1.0)
            self._blank[n] = Recording.from_arrays(
                np.zeros(signals.shape, np.float32),
                {"stimulus": [f"trial {i}" for i in range(n)], "subject": [self._subject] * n},
                times=times,
                modality=decoder.modality_,  # type: ignore[arg-type]
                channel_names=decoder.channel_names_,
                check=False,
            )
        return replace(self._blank[n], store=np.asarray(signals, dtype=np.float32))

    def _from_epochs(self, epochs: Any) -> Recording:
        """Epochs as they come from an amplifier, with or without metadata."""
        metadata = getattr(epochs, "metadata", None)
        if metadata is not None and "stimulus" in metadata:
            return Recording.from_epochs(epochs, check=False)
        unlabelled = epochs.copy()
        names = [f"trial {i}" for i in range(len(epochs))]
        table = {"stimulus": names, "concept": "unknown", "subject": self._subject}
        unlabelled.metadata = pd.DataFrame(table)
        return Recording.from_epochs(unlabelled, concept="concept", check=False)

    def _inverse(
        self, trials: pd.DataFrame, n: int, repetitions: int | None
    ) -> tuple[npt.NDArray[np.float64] | None, tuple[str, ...]]:
        """1 / T of every trial, and in what it is extrapolated."""
        if repetitions is not None and repetitions < 1:
            raise DataError("repetitions counts trials", found=repetitions, expected="at least 1")
        if self._calibration is None:
            return None, ()
        counts = np.full(n, repetitions or 1)
        if repetitions is None and "n_averaged" in trials:
            counts = trials["n_averaged"].to_numpy(dtype=np.int64)
        inverse, size = np.empty(n), len(self.ids)
        notes: list[str] = []
        for count in np.unique(counts).tolist():
            inverse[counts == count] = self._calibration.inverse_temperature(
                size, count, repeated=self._repeated
            )
            notes += self._calibration.notes(size, count)
        return inverse, tuple(dict.fromkeys(notes))


def _check(
    decoder: Decoder, top: int | None, abstain_below: float | None, confidence: bool
) -> None:
    if top is not None and top < 1:
        raise DataError("top counts candidates", found=top, expected="at least 1, or None for all")
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise DataError(
            "the threshold is a confidence",
            found=f"abstain_below={abstain_below}",
            expected="0 to 1",
        )
    if abstain_below is not None and not confidence:
        raise DataError(
            "answers are withheld by their confidence",
            found=f"abstain_below={abstain_below}, confidence=False",
            fix="leave one of them out",
        )
    if confidence and decoder.calibration_ is None:
        raise NotFittedError(
            f"this {type(decoder).__name__} has no confidence: no training concepts were held out",
            fix="decoder.calibrate(recording, bank) on training trials of concepts that it was not "
            "fitted on; or confidence=False for a ranking without",
        )
