"""What every reconstructor offers: fit, decode, generate, reconstruct, save and load.

A reconstructor decodes one or more groups of features, each by ridge regression, and hands them to
a generator of pictures. A subclass says which generator (``_make_generator``); where it differs, it
says also which targets there are (``_groups``, ``_group_targets``), what follows the ridge
(``_after_fit``) and how pictures are made of decoded features (``_make``).
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

from phosphene._validation import refuse_test_trials
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.data.stimuli import StimulusSet
from phosphene.decoding.ridge import ALPHAS
from phosphene.errors import DataError, NotFittedError
from phosphene.evaluation import guards
from phosphene.evaluation.protocol import Protocol
from phosphene.methods import _reconstructor_files as files
from phosphene.methods._brain import (
    align,
    as_recording,
    check_times,
    read_as_fitted,
    repeats,
)
from phosphene.methods._decoder import _limit
from phosphene.methods._feature_decoder import FeatureDecoder, Floats
from phosphene.methods._reconstruction import Reconstruction
from phosphene.methods._reconstruction_files import Finished, pixels
from phosphene.methods._reconstruction_run import run
from phosphene.methods._reconstructor_checks import canonical, check_targets, fold_groups, hashes_of
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.scaling import ChannelScaler

# Groups of targets by the input of a generator that they stand for.
GROUPS = {"text_embeds": "text", "init_latents": "latent", "image_embeds": "image"}
INPUTS = {group: name for name, group in GROUPS.items()}
Features = dict[str, Floats]


@dataclass(eq=False, repr=False, kw_only=True)
class Reconstructor(BaseEstimator):  # type: ignore[misc]
    """Base of all reconstructors: from a recording to pictures.

    Parameters
    ----------
    rois : mapping of str to sequence of str, optional
        Regions by group of targets (``text``, ``latent``, ``image``, ...), for fMRI; a group that
        is not named uses all voxels.
    n_voxels : int, optional
        Each target uses only so many voxels (channels x times), those of largest absolute
        correlation with it in the training data.
    alphas : sequence of float
        Penalties to choose from, for each target, by exact leave-one-out.
    rescale : bool or sequence of str
        Groups whose decoded values are spread around the training mean as far as the true ones, or
        True for all. Ridge regression pulls them towards the mean.
    average_repetitions : bool
        Average the training trials of each (subject, stimulus) pair.
    standardise : bool
        Z-score each channel (voxel) with the mean and deviation of the training data.
    batch : int
        Queries whose pictures are made at a time; halved when the memory does not suffice.
    device : str
        ``auto`` is the first CUDA device when there is one, else the CPU.
    random_state : int
        Seed of everything random in ``fit``; that of the pictures is ``reconstruct``'s.

    Attributes
    ----------
    train_stimuli_, train_concepts_, train_hashes_ : list of str
        What was seen in training; the guards of ``reconstruct`` compare with it.
    channel_names_, n_chans_, n_times_, sfreq_, modality_ : tuple of str, int, int or None, ...
        The input that it takes.
    scaler_ : ChannelScaler
        Mean and deviation per channel.
    decoders_ : dict of str to FeatureDecoder
        The ridge regression of each group.
    generator_facts_ : dict
        Id, licence and hash of the weights of the generator.
    """

    rois: Mapping[str, Sequence[str]] | None = None
    n_voxels: int | None = None
    alphas: Sequence[float] = ALPHAS
    rescale: bool | Sequence[str] = False
    average_repetitions: bool = True
    standardise: bool = True
    batch: int = 8
    device: str = "auto"
    random_state: int = 0

    # Rows of the paper's ablation: label -> parameters that differ from the full method.
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # Parameters that decide how fast pictures are made, never which.
    _speed: ClassVar[frozenset[str]] = frozenset({"batch", "device"})

    # ------------------------------------------------------------------------ what a method says
    def _make_generator(self) -> Any:
        """The generator of pictures."""
        raise TypeError(f"{type(self).__name__} does not say what makes its pictures")

    def _groups(self) -> tuple[str, ...]:
        """Names of the groups of targets; by default all inputs that the generator takes."""
        return tuple(group for name, group in GROUPS.items() if name in self.generator_.takes)

    def _roi_names(self, group: str) -> tuple[str, ...]:
        """Under which names ``rois`` and ``rescale`` may speak of a group, the nearest first."""
        return (group,)

    def _group_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> Features:
        """True values of every group, (len(ids), ...)."""
        return {
            group: np.asarray(self.generator_.targets(INPUTS[group], stimuli, ids), np.float32)
            for group in self._groups()
        }

    def _training_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> Features:
        """Targets of the training pictures; what targets are may be learned from them."""
        return self._group_targets(stimuli, ids)

    def _after_fit(
        self, X: Floats, targets: Features, trials: pd.DataFrame, *, progress: bool
    ) -> None:
        """What else is fitted, on standardised signals and targets of the training trials."""

    def _make(self, features: Features, names: list[str], n: int, seed: int) -> list[Finished]:
        """Pictures of some queries."""
        inputs: dict[str, Any] = {INPUTS[group]: values for group, values in features.items()}
        made = self.generator_.generate(**inputs, n=n, seed=seed, ids=names, progress=False)
        return [Finished({"images": pixels(pictures)}) for pictures in made]

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Fitted arrays beside scaler and ridge, by name."""
        return {}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set what ``_arrays`` gave."""

    def _notes(self) -> tuple[str, ...]:
        """What the protocol says beside its fields."""
        spread = [group for group in self.decoders_ if group in self._rescaled()]
        note = f"decoded {', '.join(spread)}: spread restored to that of training"
        return (note,) if spread else ()

    # ------------------------------------------------------------------------------------ fitting
    @property
    def generator_(self) -> Any:
        """The generator of pictures; made when it is first needed."""
        if "_generator" not in self.__dict__:
            made = self._make_generator()
            if hasattr(self, "generator_facts_"):
                files.check_generator(self.generator_facts_, made)
            self._generator = made
        return self._generator

    def fit(
        self,
        train: Any,
        stimuli: StimulusSet,
        bank: FeatureBank | None = None,
        *,
        progress: bool = True,
    ) -> Self:
        """Learn from training data.

        Parameters
        ----------
        train : Recording, mne.Epochs or (array, trials)
            Training trials; trials whose ``split`` is "test" are refused.
        stimuli : StimulusSet
            At least the training pictures; no others are looked at.
        bank : FeatureBank, optional
            Vectors of the training pictures, for generators that need them.
        progress : bool
            Show bars when someone is watching.

        Returns
        -------
        Reconstructor
            Itself, fitted.

        Raises
        ------
        LeakError
            If test trials are among the data.
        DataError
            If pictures are missing, a region is unknown, channels are flat or hold NaN.
        """
        started = time.perf_counter()
        raw = as_recording(train)
        if raw.n_trials == 0:
            raise DataError("there is nothing to fit", found="0 trials", expected="training trials")
        refuse_test_trials(raw.trials, "fit")
        raw = canonical(raw, stimuli)
        seen = guards.remember_trials(raw)
        recording = raw
        if self.average_repetitions and repeats(raw):
            recording = raw.average(by=("subject", "stimulus"))
        self.__dict__.pop("_generator", None)
        self.__dict__.pop("generator_facts_", None)
        ids = list(dict.fromkeys(recording.trials["stimulus"].astype(str)))
        self._remember(recording, stimuli, ids)
        self._open(stimuli.select(ids), bank)
        self.generator_facts_ = files.generator_facts(self.generator_)
        columns = {group: self._columns(recording, group) for group in self._groups()}
        X = self._features(recording)
        place = {stimulus: row for row, stimulus in enumerate(ids)}
        rows = np.asarray([place[s] for s in recording.trials["stimulus"].astype(str)])
        distinct = self._training_targets(stimuli.select(ids), ids)
        self.decoders_ = {}
        for group, values in distinct.items():
            check_targets(group, values, ids)
            decoder = FeatureDecoder.fit(
                X, values[rows], columns[group], alphas=self.alphas, n_voxels=self.n_voxels,
                groups=fold_groups(recording.trials), device=self.device, progress=progress,
            )  # fmt: skip
            if group in self._rescaled():
                decoder = decoder.rescaled(values[rows].reshape(len(rows), -1).std(axis=0))
            self.decoders_[group] = decoder
        self.training_ = files.training_facts(raw, recording, seen)
        self._after_fit(
            X, {g: v[rows] for g, v in distinct.items()}, recording.trials, progress=progress
        )
        self.training_["seconds"] = time.perf_counter() - started
        return self

    def _open(self, stimuli: StimulusSet, bank: FeatureBank | None) -> None:
        """Hand the training pictures to a generator that answers with them."""

    def _remember(self, recording: Recording, stimuli: StimulusSet, ids: list[str]) -> None:
        self.train_stimuli_ = ids
        self.train_concepts_ = sorted({str(c) for c in recording.trials["concept"] if str(c)})
        self.train_hashes_ = [stimuli.hash(stimulus) for stimulus in ids]
        self.channel_names_ = tuple(recording.sensors.names)
        self.n_chans_ = int(recording.shape[1])
        self.n_times_ = int(recording.shape[2]) if len(recording.shape) == 3 else None
        self.sfreq_ = None if recording.sfreq is None else float(recording.sfreq)
        self.modality_ = str(recording.modality)
        self.scaler_ = (
            ChannelScaler.fit(recording, names=self.channel_names_)
            if self.standardise
            else ChannelScaler.identity(self.n_chans_)
        )

    def _columns(self, recording: Recording, group: str) -> npt.NDArray[np.int64]:
        """Features of the flattened signals that a group may use."""
        rois = dict(self.rois or {})
        names = {name for known in self._groups() for name in self._roi_names(known)}
        if unknown := sorted(set(rois) - names):
            raise DataError(
                f"rois names groups of targets that there are not: {', '.join(unknown)}",
                expected="some of " + ", ".join(sorted(names)),
            )
        used = np.ones(self.n_chans_, dtype=bool)
        for name in self._roi_names(group):
            if name in rois:
                used = recording.sensors.roi(rois[name])
                break
        return np.flatnonzero(np.repeat(used, self.n_times_ or 1)).astype(np.int64)

    def _rescaled(self) -> tuple[str, ...]:
        groups = self._groups()
        if isinstance(self.rescale, bool):
            return groups if self.rescale else ()
        wanted = {self.rescale} if isinstance(self.rescale, str) else set(self.rescale)
        names = {name for group in groups for name in self._roi_names(group)}
        if unknown := sorted(wanted - names):
            raise DataError(
                f"rescale names groups of targets that there are not: {', '.join(unknown)}",
                expected="some of " + ", ".join(sorted(names)),
            )
        return tuple(group for group in groups if wanted & set(self._roi_names(group)))

    # ---------------------------------------------------------------------------------- inference
    def _features(self, recording: Recording) -> Floats:
        scaled = self.scaler_.apply(recording.signals)
        return scaled.reshape(len(scaled), -1)

    def _read(self, brain: Any) -> Recording:
        return read_as_fitted(brain, self.channel_names_, self.sfreq_, self.modality_)

    def decode(self, recording: Any) -> Features:
        """Decoded features of each trial, by group; nothing is averaged here.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            The channels of training, in any order.

        Returns
        -------
        dict of str to ndarray, shape (trials, ...)
            What :meth:`generate` takes.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        DataError
            If channels are missing (by name) or the time axis differs.
        """
        self._require_fitted()
        aligned = align(self._read(recording), self.channel_names_)
        check_times(aligned, self.n_times_, self.sfreq_)
        X = self._features(aligned)
        decoded = {group: decoder.predict(X) for group, decoder in self.decoders_.items()}
        return {group: self._shaped(group, values) for group, values in decoded.items()}

    def encode(self, stimuli: StimulusSet, ids: Sequence[str]) -> Features:
        """True features of pictures, as ``decode`` would give them if it were perfect."""
        self._require_fitted()
        found = self._group_targets(stimuli.select(ids), stimuli.select(ids).ids)
        flat = {group: values.reshape(len(values), -1) for group, values in found.items()}
        return {
            group: self._shaped(group, values[:, self.decoders_[group].units])
            for group, values in flat.items()
        }

    def _shaped(self, group: str, values: Floats) -> Floats:
        shape = self.decoders_[group].shape
        whole = values.shape[1] == int(np.prod(shape))
        return values.reshape(-1, *shape) if whole else values

    def generate(
        self,
        features: Mapping[str, npt.ArrayLike],
        queries: pd.DataFrame | Sequence[str],
        *,
        n: int = 1,
        seed: int = 0,
        folder: str | Path | None = None,
        protocol: Protocol | None = None,
        progress: bool = True,
    ) -> Reconstruction:
        """Pictures of features that are decoded, or true, or anything else.

        Parameters
        ----------
        features : mapping of str to array
            As :meth:`decode` and :meth:`encode` give them, one row per query.
        queries : DataFrame or sequence of str
            ``subject``, ``stimulus`` and ``concept`` of the queries, or their stimulus ids.
        n, seed, folder, progress
            As for :meth:`reconstruct`.
        protocol : Protocol, optional
            How the features came about; says that they were given by default.

        Returns
        -------
        Reconstruction
        """
        self._require_fitted()
        given = Protocol(method=files.method_name(self), notes=("features that were given",))
        return run(self, features, queries, n=n, seed=seed, folder=folder,
                   protocol=protocol or given, progress=progress)  # fmt: skip

    def reconstruct(
        self,
        recording: Any,
        *,
        n: int = 1,
        seed: int = 0,
        folder: str | Path | None = None,
        repetitions: Literal["all"] | int = "all",
        zero_shot: bool = True,
        stimuli: StimulusSet | None = None,
        progress: bool = True,
    ) -> Reconstruction:
        """Pictures of what was seen in held-out trials.

        Parameters
        ----------
        recording : HeldOut or Recording
            Test trials, averaged per (subject, stimulus) into queries.
        n : int
            Samples per query.
        seed : int
            Seed of the pictures: noise depends on it, on subject and stimulus id of the query and
            on the number of the sample.
        folder : path, optional
            Where finished pictures are kept; an interrupted call goes on at the next one.
        repetitions : "all" or int
            How many repetitions to average, the first ones in order of recording.
        zero_shot : bool
            Refuse test stimuli and test concepts that training has seen.
        stimuli : StimulusSet, optional
            Pictures of the test, of which only checksums are compared with those of training.
        progress : bool
            Show bars when someone is watching.

        Returns
        -------
        Reconstruction

        Raises
        ------
        LeakError
            If training has seen what is tested.
        DataError
            If channels or times differ from training, or ``folder`` holds another call's pictures.
        """
        self._require_fitted()
        limit = _limit(repetitions)
        held = recording if isinstance(recording, HeldOut) else self._read(recording)
        if zero_shot:  # before the data are opened: what is refused has not been looked at
            guards.check_zero_shot(
                self.train_stimuli_, self.train_concepts_, self.train_hashes_, held.trials,
                hashes_of(held.trials, stimuli),
            )  # fmt: skip
        openings: int | None = None
        if isinstance(held, HeldOut):
            test = held.open(f"reconstruct with {type(self).__name__}")
            openings = held.opened
        else:
            test = held
        guards.check_trials(self.training_["trials"], test)
        averaged = test.average(by=("subject", "stimulus"), max_repetitions=limit)
        protocol = files.protocol(self, test, averaged, seed, openings, zero_shot)
        return run(self, self.decode(averaged), averaged.trials, n=n, seed=seed, folder=folder,
                   protocol=protocol, progress=progress)  # fmt: skip

    # -------------------------------------------------------------------------------------- state
    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "training_")

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet",
                fix="call fit(train, stimuli) or from_pretrained(folder) first",
            )

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json, model.safetensors, a README.md card and the manifest.

        The generator is not written: its weights stay where they are and are known by their hash.
        """
        self._require_fitted()
        return files.save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **params: Any) -> Self:
        """Load what ``save_pretrained`` wrote; files are checked against their sha256.

        Parameters
        ----------
        folder : path
            The folder.
        **params
            Parameters to replace, such as ``device``, or a generator that is an object of yours.

        Raises
        ------
        ArtefactError
            If a file is missing or changed, or holds another kind of reconstructor; on first use,
            if the generator is not that of training.
        """
        return files.load(cls, Path(folder), params)
