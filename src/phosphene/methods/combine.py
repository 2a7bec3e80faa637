"""Combine: parts of the methods, put together by configuration [ours].

    for x, i in batches:                        # x smoothed with a probability (NeuroBridge)
        h = encoder(x)                                              # one trunk
        for every target k:                     # a layer (Shallow Alignment, SAMGA) in a view (UBP)
            v[k] = frozen_encoder(view(image[i])) in its layer, of unit length
        without projection: a head per target;          b[k] = head[k](h)
        with projection:    targets mixed (SAMGA);      v = mean_k projector[k](v[k]);  b = head(h)
        loss = mean contrast(b, v)
        loss = (1 - w_m) loss + w_m MMD(b, v)                       # of the mixture (SAMGA)
        loss += w_r ramp (reconstruct(v | b) + reconstruct(b | v))  # of the first target (SSR)
        loss = (1 - w_t) loss + w_t contrast(head_t(h), name[i])    # BVSA
    M = cosine(b, v(candidate)), the mean over heads
    score = M, or M modulated by the similarity to the candidates' names (BVSA)

``level`` says what several views are. "all": each is a target of its own, so that no view has to be
the right one. "image" (UBP) and "names" (BVSA): from weak to strong they are three levels, and the
similarity to the picture, or to the name, chooses one per trial. Any encoder and any bank do.

Choices:

- Without a projection the first head is the encoder itself, the others, and that for names, are
  linear layers with a layer norm. With it, every target has a linear projector, a second one is
  shared, and the brain has one. All targets count the same; with ``target_dropout`` a trial does
  without some of them (SAMGA's layer dropout).
- The mean cosine is that of the heads' unit vectors side by side, which is what ``embed`` gives.
- Levels follow UBP's rule and wait for the end of the epoch; candidates are compared in the middle
  one. Positives, whitening and the choice of the epoch are as in all methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import normalize

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene._saving import sha256_json
from phosphene.methods._combined import Mixture, beside, check, stage_weight
from phosphene.methods._contracts import Shapes
from phosphene.methods._layers import require_layers
from phosphene.methods._modulated import unit
from phosphene.methods._targets import TargetsDecoder
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.objectives.masked import MaskedReconstruction
from phosphene.objectives.mmd import MMD
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.augment import smooth

_RECONSTRUCTORS = ("image_reconstruction", "brain_reconstruction")


@register("method", "combine")
@dataclass(eq=False, repr=False, kw_only=True)
class Combine(TargetsDecoder):
    """Views, layers, names and reconstruction of several methods, on one trunk.

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Brain encoder.
    views : sequence of str
        Views of the pictures.
    level, layers
        See `phosphene.methods._targets.TargetsDecoder`.
    projection : int or None
        Width of the space in which all targets are mixed; None for a head per target.
    target_dropout : float
        With which a trial does without a target of the mixture.
    mmd_weights, stage_epochs
        Weight of the MMD at the first and at the last of the first ``stage_epochs``, 0 after them.
    reconstruction_weight : float
        Of the two masked reconstructions between the first target and its head.
    warm_up : int
        Epochs over which that weight grows to its value.
    smoothing_probability, smoothing_kernel
        Share of training trials averaged over time, and over how many samples.
    text_weight : float
        Share of the contrast with the names in the loss.
    text_modulation, shuffle_names
        See `phosphene.methods._modulated.ModulatedDecoder`; "none" by default.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Examples
    --------
    >>> Combine(views=("fovea(k=51)", "original"), text_weight=0.2).level
    'all'
    """

    encoder: Any = "eegproject"
    views: Sequence[str] | str = ("original",)
    projection: int | None = None
    target_dropout: float = 0.0
    mmd_weights: tuple[float, float] = (0.0, 0.0)
    stage_epochs: int = 20
    reconstruction_weight: float = 0.0
    warm_up: int = 5
    smoothing_probability: float = 0.0
    smoothing_kernel: int = 5
    text_weight: float = 0.0
    text_modulation: str = "none"
    normalise: Normalise = "target"
    temperature: Temperature = "softplus"

    needs_text: ClassVar[bool] = False  # only with text_weight
    _facts: ClassVar[tuple[str, ...]] = (*TargetsDecoder._facts, "target_spaces_")

    _ramp: float = field(init=False, default=1.0)
    _mmd: float = field(init=False, default=0.0)

    def _reads_names(self) -> bool:
        return bool(self.text_weight)

    def _check_wishes(self, bank: FeatureBank) -> str:
        check(self)
        self.target_spaces_ = {layer: bank.space(layer) for layer in self._layers()}
        self.layer_ = self._layers()[0]
        self.space_ = bank.space(self.layer_)
        return super()._check_wishes(bank)

    def _output_width(self, bank: FeatureBank) -> int:
        return self.projection or sum(int(bank.dim(layer)) for layer, _ in self._places())

    def _output_space(self) -> str:
        places = self._places()
        if len(places) == 1 and self.projection is None:
            return self.space_
        return f"{super()._output_space()} of {sha256_json([places, self.target_spaces_])[:8]}"

    def _unit_targets(self) -> bool:
        return self.projection is None and self.normalise != "none"

    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        targets = {
            f"target {k}": unit(bank.stack(levels, layer, ids))
            for k, (layer, levels) in enumerate(self._places())
        }
        if self.text_weight:
            targets["text"] = unit(self._text_vectors(bank, ids))[None]
        return targets

    def _gallery(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        require_layers(bank, self.target_spaces_)
        found = {
            f"target {k}": bank.vectors(levels[len(levels) // 2], layer, ids)
            for k, (layer, levels) in enumerate(self._places())
        }
        if self._uses_names():
            found["text"] = self._text_vectors(bank, ids)
        return {name: unit(vectors) for name, vectors in found.items()}

    def _behind(self, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the heads are compared with: the targets, or their mixture."""
        found = {name: v for name, v in targets.items() if name.startswith("target")}
        if self.projection is None:
            return found
        return {"target 0": self.modules_["image projector"](list(found.values()))}

    def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**targets, "image": beside(self._behind(targets))}

    # ------------------------------------------------------------------------- modules
    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        widths = {name: width for name, width in shapes.widths.items() if name != "text"}
        trunk = self.projection or widths["target 0"]
        modules: dict[str, nn.Module] = {"encoder": self._make_encoder(shapes, trunk)}
        if (to := self.projection) is not None:
            own = [self._linear(f"projector of {name}", wide, to) for name, wide in widths.items()]
            shared = self._linear("image projector", to, to)
            modules["image projector"] = Mixture(own, shared, self.target_dropout)
            modules["brain projector"] = self._linear("brain projector", to, to)
            modules["mmd"] = MMD()
        for name in ["target 0"] if to else widths:
            if name != "target 0":
                modules[f"head of {name}"] = self._head(f"head of {name}", trunk, widths[name])
            modules[f"objective of {name}"] = self._make_objective()
        for name in _RECONSTRUCTORS if self.reconstruction_weight else ():
            modules[name] = self._named(name, lambda: MaskedReconstruction(trunk))
        if self.text_weight:
            modules["head of text"] = self._head("head of text", trunk, shapes.widths["text"])
            modules["objective of text"] = self._make_objective()
        return nn.ModuleDict(modules)

    def _linear(self, name: str, width: int, to: int) -> nn.Module:
        return self._named(name, lambda: Linear(width, to))

    def _head(self, name: str, width: int, to: int) -> nn.Module:
        return self._named(name, lambda: nn.Sequential(Linear(width, to), nn.LayerNorm(to)))

    def _augment(self, brain: torch.Tensor) -> torch.Tensor:
        return smooth(brain, self.smoothing_kernel, self.smoothing_probability, inplace=True)

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> dict[str, torch.Tensor]:
        modules, h = self.modules_, self._encode(brain, subject=subject)
        if self.projection is not None:
            out = {"target 0": modules["brain projector"](h)}
        else:
            heads = {f"target {k}": f"head of target {k}" for k in range(len(self._places()))}
            out = {name: modules[one](h) if one in modules else h for name, one in heads.items()}
        return {**out, "text": modules["head of text"](h)} if self.text_weight else out

    def _vector(self, z: Any) -> torch.Tensor:
        return beside(z)

    # ------------------------------------------------------------------------ training
    def _on_epoch_start(self, epoch: int) -> None:
        self._ramp = min(1.0, (epoch + 1) / self.warm_up) if self.warm_up else 1.0
        self._mmd = stage_weight(self.mmd_weights, self.stage_epochs, epoch)

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        ids, behind = targets.get("stimulus"), self._behind(targets)
        found = [self._contrast(name, z[name], v, ids) for name, v in behind.items()]
        loss, judged = torch.stack([part for part, _ in found]).mean(), found[0][1]
        v, b = behind["target 0"], z["target 0"]
        if self._mmd:
            mmd = self.modules_["mmd"](normalize(b.float(), dim=1), normalize(v.float(), dim=1))
            loss = torch.lerp(loss, mmd, self._mmd)
        if self.reconstruction_weight:
            picture, brain = (self.modules_[name] for name in _RECONSTRUCTORS)
            weight = self._ramp * self.reconstruction_weight
            loss = loss + weight * (picture(v, b) + brain(b, v))
        if self.text_weight:
            by_name, s = self._contrast("text", z["text"], targets["text"], ids)
            loss = torch.lerp(loss, by_name, self.text_weight)
            judged = s if self.level == "names" else judged
        self._choose_levels(judged, index)
        return loss

    def _contrast(
        self, name: str, z: torch.Tensor, v: torch.Tensor, ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        objective: Any = self.modules_[f"objective of {name}"]
        return objective.with_scores(z, v, ids)  # type: ignore[no-any-return]
