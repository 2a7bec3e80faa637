"""NeuroBridge: the mean vector of augmented pictures, and a linear projection on both sides.

NeuroBridge, AAAI 2026.

    for x, i in batches of 1024:                # x: 17 channels x 250 samples, mean of repetitions
        x = moving_average(x, 5) for 30 % of the trials, else x
        v = mean of frozen_encoder(a(image[i])) over a in blur, noise, low resolution, mosaic
        b = brain_projector(eegproject(x));  p = image_projector(v)     # linear, to 512 numbers
        l = 2.73 * b @ unit(p).T
        loss = (cross_entropy(l) + cross_entropy(l.T)) / 2;  adamw(lr=1e-4).step(loss)
    score(x, candidate) = cosine(b, p(candidate))

The paper takes EEGProject within subjects and TSConv with 63 channels across subjects
(``NeuroBridge(encoder="tsconv")``). For voxels there is no time to smooth over, so that
``encoder="mlp"`` trains without that augmentation.

Where we differ from paper and released code:

- Candidates are augmented as the targets are (``gallery="augmented"``, the paper's);
  ``gallery="original"`` compares with the pictures as they were shown, and needs
  ``views=("mean_of", "original")``.
- The vectors of the four augmentations are averaged once, in the bank, with fixed noise [ours].
- Near the ends of a trial the moving average is over the samples that there are [ours].
- The projectors are linear layers with a bias, initialised as torch does [ours].
- The scale is softplus(ln(1/0.07)) = 2.73 and stays there.
- The epoch is chosen by accuracy on held-out training concepts.
- Trials of one stimulus are positives of one another (pooled subjects, single trials).
- The recording is z-scored per channel with training statistics; hand over a whitened one with
  ``standardise=False`` for MVNN.
- Target vectors are the bank's. The paper takes CLIP RN50 (1024).
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
from phosphene.errors import DataError
from phosphene.methods._contracts import ContrastiveDecoder, Shapes
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.augment import check_smoothing, smooth
from phosphene.training.loop import Optimiser
from phosphene.training.paired import Picks


@register("method", "neurobridge")
@dataclass(eq=False, repr=False, kw_only=True)
class NeuroBridge(ContrastiveDecoder):
    """Contrast with the mean of augmented pictures, behind linear projectors (AAAI 2026).

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Brain encoder.
    views : sequence of str
        The view to train on, then, for ``gallery="original"``, the one of the pictures as shown.
    gallery : {"augmented", "original"}
        Which of them candidates are compared in.
    projection : int or None
        Width of the space that both sides are projected to; None for the bank's own, without
        projectors.
    smoothing_probability : float
        With which a training trial is averaged over time.
    smoothing_kernel : int
        Over how many samples.
    normalise, temperature, temperature_init, learn_temperature
        Image side of unit length, constant scale softplus(ln(1/0.07)) = 2.73.
    optimiser, lr, weight_decay, batch_size, epochs
        The paper's.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Examples
    --------
    >>> NeuroBridge(smoothing_probability=0.0).projection
    512
    """

    encoder: Any = "eegproject"
    views: Sequence[str] | str = ("mean_of",)
    gallery: Literal["augmented", "original"] = "augmented"
    projection: int | None = 512
    smoothing_probability: float = 0.3
    smoothing_kernel: int = 5
    normalise: Normalise = "target"
    temperature: Temperature = "softplus"
    temperature_init: float | None = None
    learn_temperature: bool = False
    optimiser: Optimiser = "adamw"
    lr: float = 1e-4
    weight_decay: float = 1e-4
    batch_size: int = 1024
    epochs: int = 50

    # Rounded, then smoothed and rounded again, or rounded once: the same within bf16.
    _takes_rounded: ClassVar[bool] = True

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "no image augmentation": {"views": ("original",)},
        "no EEG augmentation": {"smoothing_probability": 0.0},
        "no projectors": {"projection": None},
        "original gallery": {"views": ("mean_of", "original"), "gallery": "original"},
        "NeuroBridge": {},
    }

    def _choose_views(self, bank: FeatureBank) -> tuple[list[str], str]:
        check_smoothing(self.smoothing_kernel, self.smoothing_probability)
        if self.projection is not None and self.projection < 1:
            raise DataError("projection is a width", found=self.projection, expected=">= 1 or None")
        if self.gallery not in ("augmented", "original"):
            raise DataError(
                "unknown gallery", found=repr(self.gallery), expected="augmented or original"
            )
        views, _ = super()._choose_views(bank)
        if self.gallery == "original" and len(views) != 2:
            raise DataError(
                "candidates as they were shown need a view of their own",
                found=f"views={tuple(views)}",
                expected="the view to train on, then the original",
                fix='views=("mean_of", "original")',
            )
        return views, views[1 if self.gallery == "original" else 0]

    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        return {"image": bank.stack(self.views_[:1], self.layer_, ids)}

    def _pick_views(self, index: torch.Tensor) -> Picks:
        return {"image": 0}

    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        modules, width = super()._build(shapes), shapes.widths["image"]
        if (out := self.projection) is not None:
            for name in ("brain_projector", "image_projector"):
                modules[name] = self._named(name, lambda: Linear(width, out))
        return modules

    def _augment(self, brain: torch.Tensor) -> torch.Tensor:
        # The batch was gathered for this step alone.
        return smooth(brain, self.smoothing_kernel, self.smoothing_probability, inplace=True)

    def _projects(self) -> bool:
        return self.projection is not None

    def _output_width(self, bank: FeatureBank) -> int:
        return self.projection or super()._output_width(bank)

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> Any:
        z = self._encode(brain, subject=subject)
        return z if self.projection is None else self.modules_["brain_projector"](z)

    def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.projection is None:
            return targets
        pictures = {name: v for name, v in targets.items() if name != "stimulus"}
        rows = [len(v) for v in pictures.values()]
        # All of them in one product.
        stacked = (
            torch.cat([*pictures.values()]) if len(rows) > 1 else next(iter(pictures.values()))
        )
        projected = self.modules_["image_projector"](stacked).split(rows)
        return {**targets, **dict(zip(pictures, projected, strict=True))}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        return super()._loss(z, self._project(targets), index)
