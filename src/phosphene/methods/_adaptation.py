"""Decoders that know their subjects, and their adaptation to new ones (`_new_subject`)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch

from phosphene._saving import jsonable
from phosphene.data.recording import Recording
from phosphene.errors import DataError, SpaceMismatchError, listing
from phosphene.evaluation import guards
from phosphene.methods._brain import as_recording, repeats
from phosphene.methods._decoder import Decoder, canonical
from phosphene.methods._new_subject import NewSubject, train_subject
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.loop import Settings
from phosphene.training.scaling import ChannelScaler

if TYPE_CHECKING:
    from phosphene.methods._contrastive import ContrastiveDecoder


@dataclass(eq=False, repr=False, kw_only=True)
class AdaptableDecoder(Decoder):
    """Base of decoders that know their subjects and can be adapted to new ones.

    Parameters
    ----------
    subject_layers : bool
        Lead each subject's channels through a linear layer of his own, in front of the encoder
        (`phosphene.encoders.subject.SubjectReadIn`). Only subjects of the training data, and those
        that the decoder was adapted to, can then be decoded.
    subject_width : int, optional
        What the layers lead to; the number of channels by default. For voxels, give a few hundred.
    """

    subject_layers: bool = False
    subject_width: int | None = None

    # Set by fit and from_pretrained: whom the decoder was trained on, and adapted to.
    _subjects: list[str] = field(init=False)
    _adapted: dict[str, NewSubject] = field(init=False)

    @property
    def adapted_(self) -> list[dict[str, Any]]:
        """Per subject that the decoder was adapted to: ``subject``, ``trials``, settings, ..."""
        self._require_fitted()
        return list(self.training_.get("adapted", []))

    def check_subjects(
        self, subjects: Sequence[str], *, train: Sequence[str] | None = None
    ) -> None:
        """Refuse subjects without a layer, where the decoder has layers per subject.

        Parameters
        ----------
        subjects : sequence of str
            Who is to be decoded.
        train : sequence of str, optional
            Who is trained on, before ``fit``; by default whom the fitted decoder knows.

        Raises
        ------
        DataError
            Names the subjects without a layer.
        NotFittedError
            If the decoder is not fitted and ``train`` is not given.
        """
        if not self.subject_layers:
            return
        if train is None:
            self._require_fitted()
            train = [*self._subjects, *self._adapted]
        if unknown := sorted(set(map(str, subjects)) - set(map(str, train))):
            raise DataError(
                f"there is no layer for subject {listing(unknown)}: subject_layers=True knows the "
                "subjects that were trained on",
                found=f"subject {listing(unknown)}",
                expected=f"one of {listing(train)}",
                fix="decoder.adapt(recording, bank) with a few minutes of training trials of "
                "this subject, or train with subject_layers=False",
            )

    def adapt(
        self,
        recording: Any,
        bank: FeatureBank,
        *,
        epochs: int = 100,
        lr: float = 1e-2,
        weight_decay: float = 3.0,
        progress: bool = True,
    ) -> Self:
        """A decoder for one more subject, from a few minutes of his training trials.

        Trains one matrix for his channels by the method's own loss; everything else is frozen,
        normalisation and dropout as at inference. See ``docs/adaptation`` for how much data it
        needs.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            Training trials of one subject whom the decoder does not know.
        bank : FeatureBank
            Vectors of their stimuli, of the space that the decoder was fitted in.
        epochs : int
            Passes over the trials. The last state is kept: a few minutes leave nothing to hold out.
        lr, weight_decay : float
            Of AdamW, on the difference between the matrix and its start.
        progress : bool
            Show a bar when someone is watching.

        Returns
        -------
        Decoder
            A new one; this one is left as it is. What it was adapted on counts as training data
            in its guards and its protocol.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        LeakError
            If test trials are among the data.
        DataError
            If there is more than one subject, a known one, or fewer than two stimuli.
        SpaceMismatchError
            If the bank is of another space.
        """
        self._require_fitted()
        raw = as_recording(recording)
        guards.check_fit(raw, bank)
        raw = canonical(self._aligned(raw), bank)
        subject = self._new_subject(raw, bank)
        averaged = raw
        if self.average_repetitions and repeats(raw):
            averaged = raw.average(by=("subject", "stimulus"))
        settings = Settings(
            epochs=epochs,
            batch_size=max(2, min(cast("ContrastiveDecoder", self).batch_size, averaged.n_trials)),
            lr=lr,
            weight_decay=weight_decay,
            seed=self.random_state,
            selection="fixed_epoch",
            progress=progress,
            description=f"adapting {type(self).__name__}",
        )
        new = copy.deepcopy(self)
        new._adapted[subject] = train_subject(
            cast("ContrastiveDecoder", new), averaged, bank, settings
        )
        new._count_as_trained(averaged, bank)
        facts = {
            "subject": subject,
            "trials": int(raw.n_trials),
            "stimuli": int(raw.trials["stimulus"].nunique()),
            "fingerprint": raw.fingerprint,
            "bank": bank.hash,
            "epochs": epochs,
            "lr": lr,
            "weight_decay": weight_decay,
        }
        new.training_ = {**self.training_, "adapted": [*self.adapted_, jsonable(facts)]}
        return new

    def _new_subject(self, recording: Recording, bank: FeatureBank) -> str:
        """The name of the only, unknown subject of data that can be adapted to."""
        people = sorted(set(recording.trials["subject"].astype(str)))
        if len(people) != 1:
            raise DataError(
                "a decoder is adapted to one subject at a time",
                found=f"{len(people)} subjects: {listing(people)}",
                fix="recording.select(subject=...), and adapt the adapted decoder to the next one",
            )
        if people[0] in (*self._subjects, *self._adapted):
            raise DataError(
                f"the decoder knows subject {people[0]} already",
                expected="a subject that it was neither trained on nor adapted to",
                fix="adapt the decoder as it was before, with all trials of this subject",
            )
        if recording.trials["stimulus"].nunique() < 2:
            raise DataError(
                "there is nothing to contrast with",
                found="trials of a single stimulus",
                expected="trials of at least two stimuli",
            )
        if bank.space(self.layer_) != self.space_:
            raise SpaceMismatchError(
                "the bank is of another space than the decoder",
                found=f"space {bank.space(self.layer_)[:16]}",
                expected=f"space {self.space_[:16]}",
                fix="use the encoder and the layer that the decoder was fitted with",
            )
        return people[0]

    def _count_as_trained(self, recording: Recording, bank: FeatureBank) -> None:
        """Add what was adapted on to what ``evaluate`` refuses as seen."""
        before = dict(zip(self.train_stimuli_, self.train_hashes_, strict=True))
        concepts = set(self.train_concepts_)
        self._remember(recording, bank)
        seen = before | dict(zip(self.train_stimuli_, self.train_hashes_, strict=True))
        self.train_stimuli_, self.train_hashes_ = list(seen), list(seen.values())
        self.train_concepts_ = sorted(concepts | set(self.train_concepts_))

    # ----------------------------------------------------------------------- state
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        found = super()._arrays()
        for i, new in enumerate(self._adapted.values()):
            found[f"adapted.{i}.mean"] = new.scaler.mean
            found[f"adapted.{i}.scale"] = new.scaler.scale
            for name, value in new.maps.items():
                found[f"adapted.{i}.map.{name}"] = value.cpu().numpy()
        return found

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._restore(arrays)
        self._adapted = {}
        for i, facts in enumerate(self.training_.get("adapted", [])):
            start = f"adapted.{i}.map."
            maps = {
                name.removeprefix(start): torch.from_numpy(np.array(value))
                for name, value in arrays.items()
                if name.startswith(start)
            }
            scaler = ChannelScaler(arrays[f"adapted.{i}.mean"], arrays[f"adapted.{i}.scale"])
            self._adapted[facts["subject"]] = NewSubject(scaler, maps)
