"""SSR: the original picture as semantic anchor, and masked reconstruction across modalities.

SSR, under review 2026. Only its abstract and its figure are public; what they do not say is our own
choice and marked [ours].

    for x, i in batches of 1024:                # x: mean of repetitions, smoothed as in NeuroBridge
        b = brain_projector(encoder(x))
        a = image_projector(mean of frozen_encoder(...) over blur, noise, low resolution, mosaic)
        o = image_projector(frozen_encoder(image[i]))                       # the anchor
        loss = (contrast(b, a) + contrast(b, o) + contrast(a, o)) / 3
        loss += ramp * .5 * (reconstruct(masked a from b) + reconstruct(masked b from a))
        adamw(lr=1e-4).step(loss)
    contrast(x, y): cross-entropy of s * x @ unit(y).T, mean of both directions
    reconstruct:    1 - cosine of hidden tokens (16 tokens of 32 numbers, half of them hidden)
    rows: all for contrast(b, o), 128 for both contrasts with a, 64 for the reconstructions
    score(x, candidate) = cosine(b, o(candidate))

Where we chose, and where we differ:

- Both kinds of picture share one projector, 1024 -> 512; the brain has its own [ours].
- The three contrasts weigh the same; with one switched off, the others share its weight [ours].
- b is compared as in NeuroBridge: image side of unit length, scale 2.73. For a with o both sides
  are of unit length and the scale is 1/0.07, as in CLIP: the length of a picture's vector means
  nothing, and cosines alone are too small for a scale of 2.73 [ours].
- All of a batch is compared with the original, which candidates are scored by; 128 random trials
  of it are compared with the augmented picture, and their pictures with each other
  (``augmented_trials``; None for all). In simulated worlds, with batches of 256, this and what
  follows cost up to two points of top-1. Without the anchor all trials meet the augmented picture
  [ours].
- The reconstructors, their loss, its weight .5 for each of the two and its linear ramp over 5
  epochs are [ours]: `phosphene.objectives.masked`. For speed they are small (32 wide, one head),
  hide the same tokens in all rows of a batch, positions enter keys but not values, a step
  reconstructs 64 trials (``reconstructed_trials``), and where both reconstruct they take turns,
  step by step, at twice the weight: the same loss in expectation.
- Gradients reach the projector through the anchor too unless ``stop_gradient=True`` [ours].
- Optimiser, batch size, number of epochs and smoothing are NeuroBridge's [ours].
- The epoch is chosen by accuracy on held-out training concepts [ours].
- Whitening, target space and positives are as in `phosphene.methods.neurobridge`.

With ``anchor=False`` and both reconstructions off this is NeuroBridge, to the bit, if ``gallery``
and the other settings agree: modules are initialised by name, and what is off is not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import torch
from torch import nn

from phosphene._registry import register
from phosphene.errors import DataError
from phosphene.methods._contracts import Shapes
from phosphene.methods.neurobridge import NeuroBridge
from phosphene.objectives._unit import unit
from phosphene.objectives.infonce import InfoNCE
from phosphene.objectives.masked import MaskedReconstruction, Reconstructor, mean_square_one
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import Picks

_NO_MASKING: Mapping[str, Any] = {"image_reconstruction": False, "brain_reconstruction": False}


@register("method", "ssr")
@dataclass(eq=False, repr=False, kw_only=True)
class SSR(NeuroBridge):
    """Contrast anchored in the original picture, with masked reconstruction (under review 2026).

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Brain encoder.
    views : sequence of str
        The augmented view, then the original.
    gallery : {"original", "augmented"}
        Which of them candidates are compared in.
    anchor : bool
        Compare with the original picture at all; False leaves the contrast of brain and augmented
        picture alone.
    augmented_original : bool
        Compare the augmented picture with the original; takes the anchor.
    stop_gradient : bool
        Keep gradients from reaching the image projector through the anchor.
    image_reconstruction : bool
        Reconstruct the masked vector of the augmented picture, from the brain's.
    brain_reconstruction : bool
        Reconstruct the masked vector of the brain, from the augmented picture's.
    augmented_trials : int or None
        How many of a batch's trials are compared with the augmented picture, where there is an
        anchor to compare all with; None for all.
    reconstructed_trials : int or None
        How many of these are reconstructed in a step; None for all.
    reconstruction_weight : float
        Of each of the two beside the contrast.
    warm_up : int
        Epochs over which that weight grows to its value; 0 for none.
    mask_ratio, reconstructor
        See `phosphene.objectives.masked.MaskedReconstruction`.
    **other
        See `phosphene.methods.neurobridge.NeuroBridge`.

    Examples
    --------
    >>> SSR(reconstructor="mlp").gallery
    'original'
    """

    views: Sequence[str] | str = ("mean_of", "original")
    gallery: Literal["augmented", "original"] = "original"
    anchor: bool = True
    augmented_original: bool = True
    stop_gradient: bool = False
    image_reconstruction: bool = True
    brain_reconstruction: bool = True
    augmented_trials: int | None = 128
    reconstructed_trials: int | None = 64
    reconstruction_weight: float = 0.5
    warm_up: int = 5
    mask_ratio: float = 0.5
    reconstructor: Reconstructor = "attention"

    # Share of the reconstructions' weight that the current epoch has.
    _ramp: float = field(init=False, default=1.0)
    # Steps since the epoch's start, and its number: which reconstruction is next.
    _turn: int = field(init=False, default=0)

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "baseline": {"anchor": False, **_NO_MASKING},
        "+ anchor": _NO_MASKING,
        "+ reconstruction": {"anchor": False},
        "SSR": {},
        "no augmented-original term": {"augmented_original": False},
        "no image reconstruction": {"image_reconstruction": False},
        "no brain reconstruction": {"brain_reconstruction": False},
        "stop gradients at the anchor": {"stop_gradient": True},
        "reconstruct by an MLP": {"reconstructor": "mlp"},
        "augmented gallery": {"gallery": "augmented"},
    }

    def _choose_views(self, bank: FeatureBank) -> tuple[list[str], str]:
        if self.reconstruction_weight < 0 or self.warm_up < 0:
            raise DataError(
                "reconstruction_weight and warm_up cannot be negative",
                found=f"{self.reconstruction_weight}, {self.warm_up}",
            )
        for name in ("augmented_trials", "reconstructed_trials"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise DataError(
                    f"{name} is a number of a batch's trials",
                    found=value,
                    expected="2 or more, or None for all",
                )
        if self.stop_gradient and not self.anchor:
            raise DataError(
                "there is no anchor to stop gradients at",
                found="stop_gradient=True, anchor=False",
                fix="anchor=True, or stop_gradient=False",
            )
        views, gallery_view = super()._choose_views(bank)
        if self.anchor and len(views) != 2:
            raise DataError(
                "SSR takes two views: the augmented one, and the original as anchor",
                found=f"views={tuple(views)}",
                fix='views=("mean_of", "original"), or anchor=False',
            )
        return views, gallery_view

    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        targets = super()._targets(bank, ids)
        if self.anchor:
            targets["original"] = bank.stack(self.views_[1:], self.layer_, ids)
        return targets

    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        modules = super()._build(shapes)
        objective: Any = modules["objective"]
        objective.unit_targets = True  # `_loss` scales them
        if self.anchor and self.augmented_original:
            modules["image_objective"] = InfoNCE("none", "fixed")
        width = self.projection or shapes.widths["image"]
        for name in self._reconstructions():
            modules[name] = self._named(
                name,
                lambda: MaskedReconstruction(
                    width, self.mask_ratio, self.reconstructor, scaled_inputs=True
                ),
            )
        return modules

    def _reconstructions(self) -> list[str]:
        wanted = {
            "image_reconstruction": self.image_reconstruction,
            "brain_reconstruction": self.brain_reconstruction,
        }
        return [name for name, on in wanted.items() if on and self.reconstruction_weight > 0]

    def _on_epoch_start(self, epoch: int) -> None:
        self._ramp = min(1.0, (epoch + 1) / self.warm_up) if self.warm_up else 1.0
        self._turn = epoch  # an epoch of one step has another turn than the one before

    def _pick_views(self, index: torch.Tensor) -> Picks:
        if not self.anchor:
            return super()._pick_views(index)
        # A batch is in random order: its first trials stand for all.
        n = _at_most(self.augmented_trials, len(index))
        return {"image": torch.zeros(n, dtype=torch.long, device=index.device)}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        modules, ids = self.modules_, targets.get("stimulus")
        # Scaled to unit length once for all terms that take them so.
        z, pictures = z.float(), self._project(targets)
        long = {name: v.float() for name, v in pictures.items() if name != "stimulus"}
        short = {name: unit(v) for name, v in long.items()}
        compared = long if self.normalise == "none" else short
        if self.stop_gradient:
            compared, short = ({**v, "original": v["original"].detach()} for v in (compared, short))
        n = len(short["image"])
        few, known = z[:n], None if ids is None else ids[:n]
        terms = [modules["objective"](few, compared["image"], known)]
        if self.anchor:
            terms.append(modules["objective"](z, compared["original"], ids))
        if "image_objective" in modules:
            terms.append(modules["image_objective"](short["image"], short["original"][:n], known))
        loss: torch.Tensor = sum(terms[1:], terms[0]) / len(terms)
        if names := self._reconstructions():
            # They take turns, step by step, with all of the weight.
            name, self._turn = names[self._turn % len(names)], self._turn + 1
            n = _at_most(self.reconstructed_trials, n)
            picture, brain = short["image"][:n] * z.shape[1] ** 0.5, mean_square_one(few[:n])
            own, other = (brain, picture) if name == "brain_reconstruction" else (picture, brain)
            weight = self._ramp * self.reconstruction_weight * len(names)
            loss = loss + weight * modules[name](own, other)
        return loss


def _at_most(limit: int | None, n: int) -> int:
    return n if limit is None else min(limit, n)
