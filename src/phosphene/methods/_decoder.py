"""What every decoder offers: fit, embed, similarity, evaluate, save and load.

`Decoder` holds the parts that do not depend on how a decoder learns: guards, averaging, channel
alignment, scoring, protocol and files.

Constructors are dataclass fields: they only store parameters, and a subclass states its own
defaults by repeating the field. Fitted attributes end in an underscore.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator

from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, NotFittedError
from phosphene.evaluation import guards
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import (
    Embeddings,
    Gallery,
    Similarity,
    cosine_similarity,
)
from phosphene.evaluation.transductive import Step, get_steps
from phosphene.methods import _persistence, _protocol, _transductive
from phosphene.methods._brain import (
    align,
    as_recording,
    check_times,
    read_as_fitted,
    repeats,
)
from phosphene.methods._ranking import RankingMixin
from phosphene.methods._views import resolve_views
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.scaling import ChannelScaler

Floats = npt.NDArray[np.float32]


@dataclass(eq=False, repr=False, kw_only=True)
class Decoder(RankingMixin, BaseEstimator):  # type: ignore[misc]
    """Base of all decoders: from a recording to vectors in a target space.

    A subclass implements ``_fit`` and ``_embed``, and ``_arrays``/``_restore`` if it keeps more
    than the scaler.

    Parameters
    ----------
    views : sequence of str
        Views of the stimuli that serve as targets; ``"fovea"`` stands for its three levels.
    layer : str or None
        Layer of the bank; its default layer by default.
    average_repetitions : bool
        Average the training trials of each (subject, stimulus) pair.
    standardise : bool
        Z-score each channel (voxel) with the mean and deviation of the training data.
    random_state : int
        Seed of everything random in ``fit``.

    Attributes
    ----------
    train_stimuli_, train_concepts_, train_hashes_ : list of str
        What was seen in training; the guards of ``evaluate`` compare with it.
    space_ : str
        Hash of the target space.
    views_, gallery_view_, layer_ : tuple of str, str, str
        The views and the layer in use; ``gallery_view_`` is the one of inference.
    channel_names_, n_chans_, n_times_, sfreq_, modality_ : tuple of str, int, int or None, ...
        The input that the decoder takes.
    scaler_ : ChannelScaler
        Mean and deviation per channel.
    """

    views: Sequence[str] | str = ("original",)
    layer: str | None = None
    average_repetitions: bool = True
    standardise: bool = True
    random_state: int = 0

    # Rows of the paper's ablation, for `phosphene ablate`: label -> parameters that differ from the
    # full method, which is the row that changes nothing.
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    # Fitted attributes that are plain values and go to config.json; subclasses extend the tuple.
    _facts: ClassVar[tuple[str, ...]] = (
        "train_stimuli_",
        "train_concepts_",
        "train_hashes_",
        "space_",
        "views_",
        "gallery_view_",
        "layer_",
        "channel_names_",
        "n_chans_",
        "n_times_",
        "sfreq_",
        "modality_",
        "n_outputs_",
        "training_",
    )

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        train: Any,
        bank: FeatureBank,
        *,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Learn from training data.

        Parameters
        ----------
        train : Recording, mne.Epochs or (array, trials)
            Training trials; trials whose ``split`` is "test" are refused.
        bank : FeatureBank
            Vectors of at least the training stimuli.
        checkpoint : path, optional
            Folder in which an interrupted fit leaves its state and from which it goes on.
        progress : bool
            Show a bar when someone is watching.

        Returns
        -------
        Decoder
            Itself, fitted.

        Raises
        ------
        LeakError
            If test trials are among the data.
        DataError
            If stimuli are missing in the bank, channels are flat or hold NaN (by name), or a
            recording is there twice.
        """
        started = time.perf_counter()
        recording = as_recording(train)
        guards.check_fit(recording, bank)
        recording = canonical(recording, bank)
        self.views_, self.gallery_view_ = self._choose_views(bank)
        self.layer_ = self.layer if self.layer is not None else bank.default_layer
        self.space_ = bank.space(self.layer_)
        averaged = self.average_repetitions and repeats(recording)
        raw = recording
        seen = guards.remember_trials(raw)
        if averaged:
            recording = recording.average(by=("subject", "stimulus"))
        self._remember(recording, bank)
        self._fit(
            recording,
            bank,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            progress=progress,
            # Signals that nobody else holds may be standardised in place.
            owned=averaged,
        )
        self.training_ = _protocol.training_facts(self, raw, recording, bank, started)
        self.training_["trials"] = seen
        self._calibrate_held_out(raw, recording, bank)
        return self

    def _choose_views(self, bank: FeatureBank) -> tuple[list[str], str]:
        """Names of the views as the bank writes them, and the one of inference (the middle one)."""
        return resolve_views(self.views, bank.views)

    def _remember(self, recording: Recording, bank: FeatureBank) -> None:
        stimuli = list(dict.fromkeys(recording.trials["stimulus"].astype(str)))
        table = bank.stimuli.loc[stimuli]
        self.train_stimuli_ = stimuli
        concepts = recording.trials.get("concept", ())
        self.train_concepts_ = sorted({str(c) for c in concepts if str(c)})
        hashes = table.get("sha256", ())
        self.train_hashes_ = [str(h) if isinstance(h, str) else "" for h in hashes]
        self.channel_names_ = tuple(recording.sensors.names)
        self.n_chans_ = int(recording.shape[1])
        self.n_times_ = int(recording.shape[2]) if len(recording.shape) == 3 else None
        self.sfreq_ = None if recording.sfreq is None else float(recording.sfreq)
        self.modality_ = str(recording.modality)
        self.n_outputs_ = self._output_width(bank)

    def _fit(
        self,
        train: Recording,
        bank: FeatureBank,
        *,
        checkpoint: Path | None,
        progress: bool,
        owned: bool,
    ) -> None:
        """Learn from guarded, averaged data whose stimulus ids are the bank's; set ``scaler_``."""
        raise TypeError(f"{type(self).__name__} does not say how it learns")

    def check_subjects(
        self, subjects: Sequence[str], *, train: Sequence[str] | None = None
    ) -> None:
        """Refuse subjects that this decoder cannot decode; by default it takes all.

        Parameters
        ----------
        subjects : sequence of str
            Who is to be decoded.
        train : sequence of str, optional
            Who is trained on, before ``fit``; by default whom the fitted decoder knows.
        """

    # ---------------------------------------------------------------- inference
    def _embed(self, recording: Recording) -> Floats:
        """Vectors (trials, dimensions) of an aligned recording."""
        raise TypeError(f"{type(self).__name__} does not say how it embeds")

    def _output_space(self) -> str:
        """Space of the vectors of ``_embed``."""
        return self.space_

    def _output_width(self, bank: FeatureBank) -> int:
        """Their dimension."""
        return int(bank.dim(self.layer_))

    def embed(self, recording: Any) -> Embeddings:
        """Decode each trial into the target space.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            The channels of training, in any order.

        Returns
        -------
        Embeddings
            Shape (trials, dimensions), with the hash of the space.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        DataError
            If channels are missing (by name) or the time axis differs.
        """
        aligned = self._aligned(recording)
        return Embeddings(self._embed(aligned), aligned.trials, self._output_space())

    def similarity(
        self, recording: Any, gallery: FeatureBank, *, ids: Sequence[str] | None = None
    ) -> Similarity:
        """Cosine of each trial's vector with each candidate.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            Queries, one row each; nothing is averaged here.
        gallery : FeatureBank
            Bank of the same space.
        ids : sequence of str, optional
            Candidates; all stimuli of the bank by default.

        Returns
        -------
        Similarity
            Shape (trials, candidates).
        """
        return cosine_similarity(*self._cosine_parts(recording, gallery, ids))

    def _cosine_parts(
        self, recording: Any, gallery: FeatureBank, ids: Sequence[str] | None
    ) -> tuple[Embeddings, Gallery]:
        """Queries and candidates whose cosine is the score, for steps that change queries."""
        return self._queries(recording), self._candidates(gallery, ids)

    def _queries(self, recording: Any) -> Embeddings:
        """Vectors of the trials whose cosine with those of ``_candidates`` is the score."""
        return self.embed(recording)

    def evaluate(
        self,
        test: Any,
        gallery: FeatureBank,
        *,
        ids: Sequence[str] | None = None,
        repetitions: Literal["all"] | int = "all",
        zero_shot: bool = True,
        transductive: str | Step | Sequence[str | Step] = (),
        labels: str | None = None,
        name: str | None = None,
    ) -> Result:
        """Retrieve the seen stimulus of held-out trials.

        Parameters
        ----------
        test : HeldOut or Recording
            Test trials, averaged per (subject, stimulus) into queries.
        gallery : FeatureBank
            Vectors of the candidates.
        ids : sequence of str, optional
            Candidates; by default the distinct stimuli of the test trials.
        repetitions : "all" or int
            How many repetitions to average, the first ones in order of recording.
        zero_shot : bool
            Refuse test stimuli and test concepts that training has seen. False is for
            classification, where the classes are the same by design.
        transductive : str or sequence of str
            Steps that score the queries of a person together, in their order, e.g.
            ``("whiten", "csls(k=10)", "hungarian")``; see `phosphene.evaluation.transductive`.
            None by default; the result says which were used.
        labels : str, optional
            Column of the test trials with the answers, ``"stimulus"``, for rules of scoring that
            read them; the result is marked. Refused where no rule does.
        name : str, optional
            Name of the result; the method's by default.

        Returns
        -------
        Result
            Scores per query, with the protocol that says how they came about.

        Raises
        ------
        LeakError
            If training has seen what is tested.
        """
        self._require_fitted()
        started = time.perf_counter()
        limit = _limit(repetitions)
        steps = get_steps(transductive)
        self._check_labels(labels)
        held = test if isinstance(test, HeldOut) else self._read(test)
        if zero_shot:  # before the data are opened: what is refused has not been looked at
            guards.check_zero_shot(
                self.train_stimuli_,
                self.train_concepts_,
                self.train_hashes_,
                _canonical_table(held.trials, gallery),
                gallery,
            )
        self.check_subjects(list(dict.fromkeys(held.trials["subject"].astype(str))))
        openings: int | None = None
        if isinstance(held, HeldOut):
            recording = held.open(f"evaluate {type(self).__name__}")
            openings = held.opened
        else:
            recording = held
        recording = canonical(recording, gallery)
        if "trials" in self.training_:  # decoders that were saved by older versions lack it
            guards.check_trials(self.training_["trials"], recording)
        queries = recording.average(by=("subject", "stimulus"), max_repetitions=limit)
        if ids is None:
            ids = list(dict.fromkeys(recording.trials["stimulus"].astype(str)))
        scores = _transductive.scores(self, queries, gallery, ids, steps, labels)
        return _protocol.result(
            self,
            scores,
            recording,
            queries,
            gallery,
            openings=openings,
            zero_shot=zero_shot,
            name=name,
            started=started,
        )

    def _check_labels(self, labels: object) -> None:
        """Refuse answers that no rule of scoring reads, before the test data are opened."""
        if labels is not None:
            raise DataError(
                f"the scores of this {type(self).__name__} read no answers",
                found=f"labels={labels!r}",
                fix="leave labels out",
            )

    def _read(self, brain: Any) -> Recording:
        return read_as_fitted(brain, self.channel_names_, self.sfreq_, self.modality_)

    def _aligned(self, recording: Any) -> Recording:
        self._require_fitted()
        aligned = align(self._read(recording), self.channel_names_)
        check_times(aligned, self.n_times_, self.sfreq_)
        return aligned

    # -------------------------------------------------------------------- state
    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "training_")

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet",
                fix="call fit(train, bank) or from_pretrained(folder) first",
            )

    def _selection_rule(self) -> str:
        """How the final state was chosen, in the protocol's words."""
        return "fixed_epoch"

    def _validation_rule(self) -> str:
        """What was held out of the training data, in the protocol's words."""
        return "none"

    def _reads_names(self) -> bool:
        """Whether training or scoring needs the vectors of the concepts' names."""
        return False

    def _score_rule(self) -> str:
        """What a score is, in the protocol's words."""
        return "cosine"

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every fitted array by name, for model.safetensors."""
        return {"scaler.mean": self.scaler_.mean, "scaler.scale": self.scaler_.scale}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set what ``_arrays`` gave; the plain facts are already there."""
        self.scaler_ = ChannelScaler(arrays["scaler.mean"], arrays["scaler.scale"])

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json, model.safetensors, a README.md card and the manifest.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        StorageError
            If the folder cannot be written.
        """
        self._require_fitted()
        return _persistence.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **params: Any) -> Self:
        """Load what ``save_pretrained`` wrote; files are checked against their sha256.

        Parameters
        ----------
        folder : path
            The folder.
        **params
            Parameters to replace, such as ``device`` or an ``encoder`` that is code of your own.

        Raises
        ------
        ArtefactError
            If a file is missing, truncated or changed, or holds another kind of decoder.
        """
        return _persistence.load(cls, Path(folder), params)


def canonical(recording: Recording, bank: FeatureBank) -> Recording:
    """The recording with its stimulus ids written as the bank writes them.

    Raises
    ------
    DataError
        If a stimulus is not in the bank.
    """
    table = _canonical_table(recording.trials, bank)
    if table["stimulus"].equals(recording.trials["stimulus"]):
        return recording
    return recording.with_trials(table)


def _canonical_table(trials: pd.DataFrame, bank: FeatureBank) -> pd.DataFrame:
    wanted = trials["stimulus"].astype(str)
    distinct = list(dict.fromkeys(wanted))
    ids = bank.ids
    names = {name: ids[row] for name, row in zip(distinct, bank.resolve(distinct), strict=True)}
    return trials.assign(stimulus=wanted.map(names).astype(trials["stimulus"].dtype))


def _limit(repetitions: str | int) -> int | None:
    if repetitions == "all":
        return None
    if isinstance(repetitions, str) or int(repetitions) < 1:
        raise DataError(
            "this is no number of repetitions", found=repr(repetitions), expected='"all" or 1, 2...'
        )
    return int(repetitions)
