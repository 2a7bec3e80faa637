"""What decoders share that train a brain encoder against a target space by contrast.

A method overrides what differs, and nothing else:

- ``_targets``, ``_gallery``: which vectors of the bank are targets, and candidates;
- ``_build``: the modules (brain encoder, objective, projectors, ...);
- ``_start``: state beside parameters (``self._state``), such as a level per trial;
- ``_pick_views``: which level of which target each trial of a batch is compared with;
- ``_augment``, ``_forward``, ``_loss``: one step;
- ``_on_epoch_start``, ``_on_epoch_end``, ``_learning_rate``: between steps;
- ``_finish``: after training, with the held-out training concepts at hand;
- ``_vector``, ``_project``, ``_scores``: what is embedded, what image-side modules make of the
  bank's vectors, and how candidates are scored (validation included).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phosphene import _random, _registry
from phosphene._device import resolve_device, resolve_precision
from phosphene._saving import sha256_json
from phosphene.data.recording import Recording
from phosphene.encoders._base import BrainEncoder
from phosphene.encoders.subject import SubjectReadIn
from phosphene.errors import DataError
from phosphene.evaluation.embeddings import gallery_place
from phosphene.evaluation.similarity import Embeddings, Gallery, Similarity
from phosphene.methods._adaptation import AdaptableDecoder
from phosphene.methods._decoder import Floats
from phosphene.methods._inference import (
    cosine_parts,
    encode_all,
    prepare_scores,
    score,
    validator,
)
from phosphene.methods._projection import GalleryEmbedder, projected_space
from phosphene.methods._protocol import describe_params
from phosphene.methods._weights import load_weights
from phosphene.methods.ranker import Scorer
from phosphene.objectives.infonce import InfoNCE, Normalise, Temperature
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.checkpoint import CheckpointFolder
from phosphene.training.loop import Optimiser, Settings, Task, train
from phosphene.training.paired import PairedData, Picks
from phosphene.training.scaling import ChannelScaler
from phosphene.training.selection import Selection, validation_mask


@dataclass(frozen=True)
class Shapes:
    """What the modules of a method are built from.

    Parameters
    ----------
    n_chans : int
    n_times : int or None
        None for voxels.
    widths : dict of str to int
        Width of each target by name.
    subjects : list of str
        Subjects of the training data, in the order of ``Batch.subject``.
    """

    n_chans: int
    n_times: int | None
    widths: dict[str, int]
    subjects: list[str] = field(default_factory=list)


@dataclass(eq=False, repr=False, kw_only=True)
class ContrastiveDecoder(GalleryEmbedder, AdaptableDecoder):
    """Base of methods that align a brain encoder with a target space by a contrastive loss.

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Registered name, a module (B, C, T) -> (B, D), or a function of ``n_chans``, ``n_times``
        and ``n_outputs`` that returns one.
    encoder_params : mapping, optional
        Further arguments of the encoder.
    normalise, temperature, temperature_init, learn_temperature
        See `phosphene.objectives.infonce.InfoNCE`.
    optimiser : {"adamw", "adam"}
    lr, weight_decay : float
    betas : tuple of float
    batch_size, epochs : int
    selection : {"held_out_concepts", "fixed_epoch"}
        Keep the epoch with the best accuracy on held-out training concepts, or the last one.
    validation_fraction : float
        Share of training concepts held out; they are then not trained on.
    patience : int, optional
        Stop after so many epochs without a better one.
    device, precision : str
        "auto" takes CUDA where there is one, and bf16 where the device gains from it.
    max_resident_bytes : int, optional
        Signals larger than this are read from their memory map batch by batch.
    subject_layers, subject_width
        See `phosphene.methods._adaptation.AdaptableDecoder`.
    views, layer, average_repetitions, standardise, random_state
        See `Decoder`.

    Attributes
    ----------
    history_ : DataFrame
        Per epoch: ``epoch``, ``loss``, ``val_top1``, ``val_top5``, ``lr``, ``seconds``.
    selected_epoch_ : int
        The epoch whose weights are kept, from 0.
    modules_ : nn.ModuleDict
        The trained modules.
    device_, precision_ : str
        What "auto" came to.
    """

    encoder: Any = "eegproject"
    encoder_params: Mapping[str, Any] | None = None
    normalise: Normalise = "both"
    temperature: Temperature = "exp"
    temperature_init: float | None = None
    learn_temperature: bool = True
    optimiser: Optimiser = "adamw"
    lr: float = 1e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 1024
    epochs: int = 50
    selection: Selection = "held_out_concepts"
    validation_fraction: float = 0.1
    patience: int | None = None
    device: str = "auto"
    precision: str = "auto"
    max_resident_bytes: int | None = None

    _facts: ClassVar[tuple[str, ...]] = (
        *AdaptableDecoder._facts,
        "history_",
        "selected_epoch_",
        "device_",
        "precision_",
        "_shapes",
    )
    _checkpoint_seconds: ClassVar[float] = 15.0

    # ------------------------------------------------------- what methods override
    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Target vectors (levels, stimuli, width) by name; levels are the views by default."""
        vectors = bank.stack(self.views_, self.layer_, ids)
        if self._unit_targets():
            for level in torch.from_numpy(vectors):
                level.div_(level.norm(dim=1, keepdim=True).clamp_min_(1e-12))
        return {"image": vectors}

    def _unit_targets(self) -> bool:
        """Whether targets are scaled to unit length once here, rather than in every step.

        Where image-side modules come in between, or a method has targets of its own, it is the
        objective that scales them.
        """
        own = ContrastiveDecoder
        plain = type(self)._targets is own._targets and type(self)._project is own._project
        return plain and self.normalise != "none"

    def _gallery(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Vectors (candidates, width) by name that ``_scores`` compares with."""
        view, layer = gallery_place(bank, self.gallery_view_, self.layer_)
        return {"image": bank.vectors(view, layer, ids)}

    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        """All modules, each initialised from its own stream (`_named`)."""
        return nn.ModuleDict(
            {
                "encoder": self._make_encoder(shapes, shapes.widths["image"]),
                "objective": self._make_objective(),
            }
        )

    def _start(self, data: PairedData) -> None:
        """Set ``self._state``: tensors that belong to the training and are not parameters."""

    def _pick_views(self, index: torch.Tensor) -> Picks:
        """Target levels of some trials: the view of inference by default."""
        return {"image": self.views_.index(self.gallery_view_)}

    def _augment(self, brain: torch.Tensor) -> torch.Tensor:
        """Change a training batch; draws from torch's global generator repeat on resumption."""
        return brain

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> Any:
        """Whatever ``_loss``, ``_vector`` and ``_scores`` take, from prepared signals.

        ``subject`` (B,) numbers ``shapes.subjects``; -1 is nobody of the training data.
        """
        return self._encode(brain, subject=subject)

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        """Loss of a batch; ``targets["stimulus"]`` is there where stimuli repeat.

        Runs under autocast where training does; objectives compute in float32 themselves.
        """
        loss: torch.Tensor = self.modules_["objective"](
            z, targets["image"], targets.get("stimulus")
        )
        return loss

    def _on_epoch_start(self, epoch: int) -> None:
        """Called before the first batch of an epoch."""

    def _on_epoch_end(self, epoch: int) -> None:
        """Called after the last step of an epoch, before validation."""

    def _finish(
        self, data: PairedData, held_out: npt.NDArray[np.bool_] | None, bank: FeatureBank
    ) -> None:
        """Called once, with the weights that are kept; ``held_out`` marks validation trials."""

    def _learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        return self.lr

    def _vector(self, z: Any) -> torch.Tensor:
        """The embedding (B, D) among what ``_forward`` returned."""
        return z  # type: ignore[no-any-return]

    def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Target vectors after image-side modules; there are none by default.

        Applied to the gallery before ``_scores``; a method with such modules also calls it in
        ``_loss``.
        """
        return targets

    def _projects(self) -> bool:
        """Whether ``_project`` leads into another space, by modules named "... projector"."""
        return type(self)._project is not ContrastiveDecoder._project

    def _scores(self, z: Any, gallery: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Scores (queries, candidates): the cosine by default. Also used for validation.

        Free of modules: it gets float64 at inference.
        """
        queries = nn.functional.normalize(self._vector(z), dim=1)
        return queries @ nn.functional.normalize(gallery["image"], dim=1).T

    def _uses_names(self) -> bool:
        """Whether ``_scores`` reads the names of the candidates (the protocol says so)."""
        return False

    # --------------------------------------------------------------------- helpers
    def _named(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        """Build a module from the random stream of its name, whatever else is built."""
        with _random.seeded(self.random_state, "init", name):
            return make()

    def _make_encoder(self, shapes: Shapes, n_outputs: int, name: str = "encoder") -> nn.Module:
        """The brain encoder under a name, behind a layer per subject where these are asked for."""
        if self.subject_width is not None and not self.subject_layers:
            raise DataError(
                "subject_width is the width of the subjects' layers, and there are none",
                found=f"subject_width={self.subject_width}, subject_layers=False",
                fix="subject_layers=True, or leave subject_width out",
            )
        width = self.subject_width or shapes.n_chans
        module = self._bare_encoder(shapes, width, n_outputs, name)
        if not self.subject_layers:
            return module
        return self._named(
            f"{name} subjects",
            lambda: SubjectReadIn(module, shapes.n_chans, len(shapes.subjects), width),
        )

    def _bare_encoder(self, shapes: Shapes, n_chans: int, n_outputs: int, name: str) -> nn.Module:
        if isinstance(self.encoder, nn.Module):
            return deepcopy(self.encoder)
        make = self.encoder
        if isinstance(make, str):
            make = _registry.get("encoder", make)
        params = {"n_chans": n_chans, "n_times": shapes.n_times, "n_outputs": n_outputs}
        if getattr(make, "takes_subject", False):
            params["n_subjects"] = len(shapes.subjects)
        params.update(self.encoder_params or {})
        module = self._named(name, lambda: make(**params))
        if not isinstance(module, nn.Module):
            raise DataError(
                "the encoder is no torch module",
                found=type(module).__name__,
                expected="a registered name, an nn.Module, or a function that returns one",
            )
        return module

    def _make_objective(self) -> InfoNCE:
        return InfoNCE(
            self.normalise,
            self.temperature,
            self.temperature_init,
            self.learn_temperature,
            unit_targets=self._unit_targets(),
        )

    def _encode(
        self, brain: torch.Tensor, name: str = "encoder", *, subject: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run the encoder of a name; ``subject`` reaches it if it declares ``takes_subject``."""
        encoder = self.modules_[name]
        known: dict[str, Any] = {}
        if getattr(encoder, "takes_subject", False):
            known["subject"] = subject
        if self._prepare() is not None:
            known["prepared"] = True
        return encoder(brain, **known)  # type: ignore[no-any-return]

    def _prepare(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """The encoder's parameter-free transform, if it has one that may run once per data set."""
        encoder = self.modules_["encoder"]
        augments = type(self)._augment is not ContrastiveDecoder._augment
        if not isinstance(encoder, BrainEncoder) or augments:
            return None
        return None if type(encoder).prepare is BrainEncoder.prepare else encoder.prepare

    # Whether `_augment` and `_forward`, where they are its own, take signals rounded to bf16.
    _takes_rounded: ClassVar[bool] = False

    def _signal_dtype(self, precision: str) -> torch.dtype:
        """bf16 where the encoder would round its input to it in any case, else float32."""
        own, kind = ContrastiveDecoder, type(self)
        untouched = kind._augment is own._augment and kind._forward is own._forward
        encoder = self.modules_["encoder"]
        rounded = isinstance(encoder, BrainEncoder) and encoder.starts_with_product
        low = precision == "bf16" and rounded and (untouched or kind._takes_rounded)
        return torch.bfloat16 if low else torch.float32

    # --------------------------------------------------------------------- fitting
    def _fit(
        self,
        train_data: Recording,
        bank: FeatureBank,
        *,
        checkpoint: Path | None,
        progress: bool,
        owned: bool,
    ) -> None:
        device = resolve_device(self.device)
        precision = resolve_precision(self.precision, device)
        self.device_, self.precision_ = str(device), precision
        held_out = self._held_out(train_data)
        fingerprint = "" if checkpoint is None else self._fingerprint(train_data, bank)
        targets = self._targets(bank, self.train_stimuli_)
        fitted = None if held_out is None else np.flatnonzero(~held_out)
        self.scaler_ = (
            ChannelScaler.fit(train_data, fitted, names=self.channel_names_)
            if self.standardise
            else ChannelScaler.identity(self.n_chans_)
        )
        widths = {name: int(value.shape[2]) for name, value in targets.items()}
        subjects = list(dict.fromkeys(train_data.trials["subject"].astype(str)))
        shapes = Shapes(self.n_chans_, self.n_times_, widths, subjects)
        self._shapes = asdict(shapes)
        self._subjects, self._adapted = subjects, {}
        self.modules_ = self._build(shapes).to(device)
        data = PairedData.build(
            train_data,
            bank,
            targets=targets,
            scaler=self.scaler_,
            prepare=self._prepare(),
            device=device,
            max_resident_bytes=self.max_resident_bytes,
            owned=owned,
            dtype=self._signal_dtype(precision),
        )
        self._state: dict[str, torch.Tensor] = {}
        self._start(data)
        task = Task(
            self.modules_,
            lambda batch: self._forward(self._augment(batch.brain), batch.subject),
            self._loss,
            self._pick_views,
            self._on_epoch_start,
            self._on_epoch_end,
            self._learning_rate,
            None if held_out is None else validator(self, data, held_out, bank, precision),
            self._state,
        )
        settings = Settings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=self.betas,
            optimiser=self.optimiser,
            seed=self.random_state,
            selection=self.selection,
            patience=self.patience,
            precision=precision,
            progress=progress,
            description=type(self).__name__,
        )
        folder = None
        if checkpoint is not None:
            folder = CheckpointFolder(
                checkpoint, fingerprint, every_seconds=self._checkpoint_seconds
            )
        rows = None if fitted is None else torch.from_numpy(fitted).to(device)
        history = train(task, data, settings, rows=rows, checkpoint=folder)
        self.history_, self.selected_epoch_ = history.epochs, history.selected_epoch
        self.modules_.zero_grad(set_to_none=True)
        self._finish(data, held_out, bank)

    def _fingerprint(self, recording: Recording, bank: FeatureBank) -> str:
        return sha256_json(
            {
                "class": type(self).__qualname__,
                "params": describe_params(self),
                "precision": self.precision_,
                "device": self.device_,
                "recording": recording.fingerprint,
                "bank": bank.hash,
            }
        )

    # ------------------------------------------------------------------- inference
    def _output_space(self) -> str:
        return projected_space(self) if self._projects() else self.space_

    def _embed(self, recording: Recording) -> Floats:
        return self._vector(encode_all(self, recording)).numpy()

    def similarity(
        self, recording: Any, gallery: FeatureBank, *, ids: Sequence[str] | None = None
    ) -> Similarity:
        """Scores of each trial against each candidate, by the method's rule (cosine by default).

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
        return score(self, self._aligned(recording), gallery, ids)

    def _cosine_parts(
        self, recording: Any, gallery: FeatureBank, ids: Sequence[str] | None
    ) -> tuple[Embeddings, Gallery]:
        return cosine_parts(self, self._aligned(recording), gallery, ids)

    def _scorer(self, gallery: FeatureBank, ids: Sequence[str]) -> Scorer:
        return prepare_scores(self, gallery, ids)

    def _held_out(self, recording: Recording) -> npt.NDArray[np.bool_] | None:
        if self.selection != "held_out_concepts":
            return None
        return validation_mask(recording, self.validation_fraction, self.random_state)

    # ----------------------------------------------------------------------- state
    def _selection_rule(self) -> str:
        return self.selection

    def _validation_rule(self) -> str:
        if self.selection == "fixed_epoch":
            return "none"
        return f"{100 * self.validation_fraction:g} % of the training concepts"

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        weights = {
            f"modules.{name}": value.detach().cpu().numpy()
            for name, value in self.modules_.state_dict().items()
        }
        return {**super()._arrays(), **weights}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._restore(arrays)
        shapes = Shapes(**self._shapes)
        self._subjects = shapes.subjects
        modules = self._build(shapes)
        load_weights(modules, arrays, type(self).__name__)
        device = resolve_device(self.device)
        self.modules_ = modules.to(device).eval()
