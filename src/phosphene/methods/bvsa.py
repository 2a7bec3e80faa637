"""BVSA: text-guided foveation of the target, dynamic blur, scores modulated by names.

CVPR 2026; written from a description of the paper and of its released code.

    e_t[i] = e_v[i] = 1, I[i] = K[i] = 0                    # for every training trial i
    for each epoch:
        for x, i in batches of 1024:            # x: 17 channels x 250 samples, mean of repetitions
            b = eegproject(x);  b_t = text_head(b)
            v = unit(frozen_encoder(fovea(image[i], peak=.5 - .5 I[i], kernel=51 + 6 K[i])))
            t = unit(frozen_text_encoder("A photo of a {concept}."))
            loss = .5 * contrast(b, v) + .5 * contrast(b_t, t)      # four cross-entropies
            adamw(lr=1e-4).step(loss)
            for e, s in (e_t, s(b_t, t)), (e_v, s(b, v)):   # scaled similarity of the true pair
                e[i] = .3 * s + .7 * e[i]
                low, high = mean(e[i]) -+ 1.645 sd(e[i])    # over the batch, sd with n - 1
                next level = -1 if e[i] > high, +1 if e[i] < low, else 0    # of t: I, of v: K
        I, K = their next levels
    M = cosine(b, v(candidate, I = K = 0));  X = cosine(b_t, t(candidate));  score = M + M * X

Where we differ from paper and released code:

- ``preset="seed"`` is the text's form: names judge but are not trained on (``text_weight=0``), and
  the gate of the paper, which needs the answers. ``preset="code"`` is the released form: two
  encoders, its row gate, a gallery of three views. A preset overrides the parameters that it names.
- Our default trains a text head, as the code does, and scores by the label-free ``product``.
- The text head is Linear -> LayerNorm on the image head's vector, so that a second head costs
  little (``shared_trunk=False``: two encoders). Either head has a learned scale of its own.
- ``judge``: it is the smoothed similarity that is compared with the interval of smoothed ones, so
  that about a tenth of the trials is outside in every epoch. UBP's released code compares the
  current one (``judge="current"``, and in ``preset="code"``), from which the smoothed ones lag
  behind: while the fit gets better quickly, most trials are above the interval.
- Rules that read the test labels demand ``labels=``, warn, and mark their result.
- Thresholds and temperatures of rules are fitted on the held-out training concepts after training;
  until then, and with the oracle rules, the epoch is chosen by the scores of ``product``.
- Trials of one stimulus are positives of one another for the image part. For the text part those of
  one concept have equal vectors, with which that makes no difference.
- ``decouple="smooth"``: I = clip((mean(e) - e) / (1.645 sd(e)), -1, 1); the target lies between
  those of the two neighbouring peaks, scaled to unit length again.
- ``gallery_views``: the mean cosine of several views; the code's three are taken as those of I = 0.
- The row "vanilla" of the ablation is the plain contrast with sharp pictures and no text part.
- Prompt and target vectors are the bank's (paper: CLIP RN50, 1024). Another c than .5 means other
  views: ``views="bvsa(c=.2)"``.
- Epochs are chosen on held-out training concepts, there on the test images; channels are z-scored
  where the paper whitens (MVNN).
- ``shuffle_names`` gives each concept the name of another, in training and gallery: a control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene.methods import _bvsa_parts as parts
from phosphene.methods import _levels
from phosphene.methods._contracts import Shapes
from phosphene.methods._modulated import unit
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import PairedData, Picks


@register("method", "bvsa")
@dataclass(eq=False, repr=False, kw_only=True)
class BVSA(parts.PresetDecoder):
    """Foveation guided by text, blur by uncertainty, scores modulated by names (CVPR 2026).

    Parameters
    ----------
    preset : {None, "seed", "code"}
        Fixes the parameters in ``BVSA.presets``, whatever they are given as.
    views : sequence of str
        Nine views, peak by peak; the word "bvsa" stands for those of c = .5. Any number, of which
        the middle one is used, with ``decouple="off", dynamic=False``.
    decouple : {"discrete", "smooth", "off"}
        How similarity to the name chooses the peak.
    dynamic : bool
        Let similarity to the picture choose the kernel.
    judge : {"smoothed", "current"}
        Which similarity is compared with the interval.
    smoothing : float
        Weight of the current similarity in the smoothed one.
    significance : float
        Share of the trials outside the interval, were similarities normally distributed.
    text_weight : float
        Share of the text part in the loss. 0: no text head; then pictures and names must be in one
        space (CLIP).
    shared_trunk : bool
        One encoder for both heads.
    gallery_views : sequence of str, optional
        Views of a candidate whose mean cosine is taken; by default the view of inference alone.
    text_modulation, shuffle_names
        See `phosphene.methods._modulated.ModulatedDecoder`.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Examples
    --------
    >>> BVSA(text_modulation="none").significance
    0.1
    """

    preset: Literal["seed", "code"] | None = None
    views: Sequence[str] | str = ("bvsa",)
    decouple: Literal["discrete", "smooth", "off"] = "discrete"
    dynamic: bool = True
    judge: Literal["smoothed", "current"] = "smoothed"
    smoothing: float = 0.3
    significance: float = 0.10
    text_weight: float = 0.5
    shared_trunk: bool = True
    normalise: Normalise = "target"
    temperature: Temperature = "softplus"

    needs_text: ClassVar[bool] = True
    _takes_rounded: ClassVar[bool] = True  # nothing is between the signals and an encoder
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {"text_weight": 0.0, "text_modulation": "oracle_outer"},
        "code": {
            "text_weight": 0.5,
            "text_modulation": "oracle_row",
            "judge": "current",
            "shared_trunk": False,
            "gallery_views": ("fovea(k=45)", "fovea(k=51)", "fovea(k=57)"),
        },
    }
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "vanilla": {
            "views": ("original",),
            "text_weight": 0.0,
            "decouple": "off",
            "dynamic": False,
            "text_modulation": "none",
        },
        "+ decouple": {"dynamic": False, "text_modulation": "none"},
        "+ dynamic": {"text_modulation": "none"},
        "+ modulation": {},
        "shuffled names": {"shuffle_names": True},
    }

    def _chooses(self) -> bool:
        return self._setting("decouple") != "off" or self.dynamic

    def _trains_names(self) -> bool:
        return bool(self._setting("text_weight")) or self._setting("decouple") != "off"

    def _reads_names(self) -> bool:
        return self._trains_names() or self._uses_names()

    def _check_wishes(self, bank: FeatureBank) -> str:
        space = super()._check_wishes(bank)
        parts.check_levels(self)
        parts.check_names(self, bank)
        return space

    def _unit_targets(self) -> bool:
        return self.normalise != "none"

    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        targets = super()._targets(bank, ids)
        if self._setting("decouple") == "smooth":
            targets["neighbour"] = targets["image"]  # the same memory: the upper of two peaks
        if self._trains_names():
            names = self._text_vectors(bank, ids)
            targets["text"] = (unit(names) if self._unit_targets() else names)[None]
        return targets

    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        modules = super()._build(shapes)
        if self._setting("text_weight"):
            width, text = shapes.widths["image"], shapes.widths["text"]
            modules["text_objective"] = self._make_objective()
            modules["text_head"] = (
                self._named(
                    "text_head", lambda: nn.Sequential(Linear(width, text), nn.LayerNorm(text))
                )
                if self._setting("shared_trunk")
                else self._make_encoder(shapes, text, "text_head")
            )
        return modules

    def _start(self, data: PairedData) -> None:
        for name in ("peak", "kernel"):
            self._state[name] = torch.zeros(len(data), device=data.device)
            self._state[f"next_{name}"] = torch.zeros(len(data), device=data.device)
            self._state[f"{name}_smoothed"] = torch.ones(len(data), device=data.device)

    def _pick_views(self, index: torch.Tensor) -> Picks:
        if not self._chooses():
            return super()._pick_views(index)
        peak = 1 + self._state["peak"].index_select(0, index)
        row = 3 * peak.floor() + 1 + self._state["kernel"].index_select(0, index)
        return {"image": row.long(), "neighbour": (row + 3).clamp(max=8).long()}

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> Any:
        b = self._encode(brain, subject=subject)
        if not self._setting("text_weight"):
            return {"image": b, "text": b}
        if self._setting("shared_trunk"):
            return {"image": b, "text": self.modules_["text_head"](b)}
        return {"image": b, "text": self._encode(brain, "text_head", subject=subject)}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        objective: Any = self.modules_["objective"]
        v = targets["image"]
        if "neighbour" in targets:
            share = self._state["peak"].index_select(0, index).remainder(1)[:, None]
            v = torch.lerp(v, targets["neighbour"], share)
            v = nn.functional.normalize(v, dim=1) if self._unit_targets() else v
        loss, s = objective.with_scores(z["image"], v, targets.get("stimulus"))
        if self.dynamic:
            self._choose("kernel", s, index)
        if "text" not in targets:
            return loss  # type: ignore[no-any-return]
        if weight := self._setting("text_weight"):
            text: Any = self.modules_["text_objective"]
            by_text, s = text.with_scores(z["text"], targets["text"])
            loss = torch.lerp(loss, by_text, weight)
        else:
            b = z["image"].detach().float()
            b = nn.functional.normalize(b, dim=1) if self.normalise == "both" else b
            s = (b * targets["text"]).sum(1) * objective.scale.detach()
        if self._setting("decouple") != "off":
            self._choose("peak", s, index)
        return loss  # type: ignore[no-any-return]

    def _choose(self, name: str, s: torch.Tensor, index: torch.Tensor) -> None:
        """Update the smoothed similarities of a batch and the levels of the next epoch."""
        table = self._state[f"{name}_smoothed"]
        smoothed = _levels.smooth_similarity(table, index, s, self.smoothing)
        judged = s if self._setting("judge") == "current" else smoothed
        smooth = name == "peak" and self._setting("decouple") == "smooth"
        rule: Any = _levels.smooth_level if smooth else _levels.discrete_level
        level = rule(judged, smoothed, _levels.critical_value(self.significance))
        self._state[f"next_{name}"].index_copy_(0, index, level.float())

    def _on_epoch_end(self, epoch: int) -> None:
        for name in ("peak", "kernel"):
            self._state[name].copy_(self._state[f"next_{name}"])
