"""ATM-S: attention between channels, single trials, image and text vectors.

Li, Wei, Li, Zou, Liu: Visual decoding and reconstruction via EEG embeddings with guided diffusion,
NeurIPS 2024, arXiv:2403.07721.

    for x, i in batches of 64:                  # x: 63 channels x 250 samples, single trials
        b = head(tsconv(channel_transformer(x, subject)))
        v = unit(frozen_image_encoder(image[i]));  t = unit(frozen_text_encoder(name[i]))
        contrast(y) = mean of cross_entropy(l), cross_entropy(l.T)  with  l = s * b @ y.T
        loss = .99 * contrast(v) + .01 * contrast(t)
        adamw(lr=3e-4).step(loss)               # s is learned, 2.66 at the start
    score(x, candidate) = cosine(b, v(candidate))

Where we differ from paper and released code:

- The released loss normalises neither side, but its image and text vectors are of unit length when
  they are extracted. Those of a bank need not be, so that ``normalise="target"`` computes the same.
- s is the raw number ln(1/0.07) = 2.66, as there: the exponential of CLIP is missing.
- The subject's token is left out after the attention; there it goes on in the place of the last
  channel. Heads are 62 samples wide (250 // 4), projections lead to 248 and back, as there.
- A share of the training trials gets the token for unseen subjects; there it is never trained.
- Trials of one stimulus are positives of one another.
- The text part needs vectors of the concepts' names in the space of the pictures (CLIP). With
  ``text_weight=None`` it is .01 where the bank has them, else 0; ``text_weight_`` says which.
- Image vectors are those of a deterministic preprocessing; the released extraction crops at random.
- Scores are cosines; there s * b @ v.T, which ranks alike.
- The epoch is chosen by accuracy on held-out training concepts, there on the test images.
- AdamW has torch's default weight decay of .01, which the released code leaves untouched.
- The paper's 63 channels are whitened (MVNN); here channels are z-scored with training statistics
  unless the recording comes whitened (``standardise=False``).
- Target vectors are the bank's. The paper takes CLIP ViT-H/14 (1024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from phosphene._registry import register
from phosphene.errors import DataError
from phosphene.methods._contracts import ContrastiveDecoder
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.loop import Optimiser
from phosphene.training.paired import Picks

_PAPER_WEIGHT = 0.01


@register("method", "atms")
@dataclass(eq=False, repr=False, kw_only=True)
class ATMS(ContrastiveDecoder):
    """Attention between channels on single trials, against image and text vectors (NeurIPS 2024).

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Brain encoder.
    views : sequence of str
        Target views.
    text_weight : float, optional
        Share of the text part in the loss; by default .01 where the bank carries vectors of names
        in the space of the pictures, else 0.
    average_repetitions : bool
        Single trials by default.
    normalise, temperature, temperature_init
        Targets of unit length, learned scale ln(1/0.07) = 2.66 at the start.
    optimiser, lr, weight_decay, batch_size, epochs
        The paper's.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Attributes
    ----------
    text_weight_ : float
        What was used.

    Examples
    --------
    >>> ATMS(epochs=10).average_repetitions
    False
    """

    encoder: Any = "atms"
    views: Sequence[str] | str = ("original",)
    text_weight: float | None = None
    average_repetitions: bool = False
    normalise: Normalise = "target"
    temperature: Temperature = "raw"
    temperature_init: float | None = float(np.log(1 / 0.07))
    optimiser: Optimiser = "adamw"
    lr: float = 3e-4
    weight_decay: float = 0.01
    batch_size: int = 64
    epochs: int = 40

    _facts: ClassVar[tuple[str, ...]] = (*ContrastiveDecoder._facts, "text_weight_")

    def _targets(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        targets = super()._targets(bank, ids)
        self.text_weight_ = self._weight(bank)
        if self.text_weight_ > 0:
            targets["text"] = bank.text_vectors(ids)[None]
        return targets

    def _reads_names(self) -> bool:
        return self.text_weight_ > 0

    def _weight(self, bank: FeatureBank) -> float:
        if self.text_weight is not None and not 0 <= self.text_weight <= 1:
            raise DataError(
                "text_weight is a share of the loss", found=self.text_weight, expected="0 to 1"
            )
        usable = bank.text is not None and bank.text.space() == bank.space(self.layer_)
        if self.text_weight and not usable:
            raise DataError(
                "the text part of the loss needs vectors of the concepts' names in the space of "
                "the pictures",
                found="a bank without any" if bank.text is None else "names in another space",
                expected=f"names in space {bank.space(self.layer_)[:16]}",
                fix="bank.with_text(...) with the text encoder of the same joint model (CLIP), or "
                "text_weight=0",
            )
        if self.text_weight is not None:
            return float(self.text_weight)
        return _PAPER_WEIGHT if usable else 0.0

    def _pick_views(self, index: torch.Tensor) -> Picks:
        return {**super()._pick_views(index), "text": 0}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        image = super()._loss(z, targets, index)
        if "text" not in targets:
            return image
        # Rows of one name have equal vectors: whether they count as positives of one another, or
        # only each as its own, the mean is the same.
        text = self.modules_["objective"](z, targets["text"])
        return torch.lerp(image, text, self.text_weight_)
