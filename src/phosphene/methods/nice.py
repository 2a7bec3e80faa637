"""NICE: natural image contrast EEG (temporal-spatial convolution against CLIP image vectors).

Song, Liu, Li, Wang, Lin, Jin, Gao: Decoding natural images from EEG for object recognition,
ICLR 2024, arXiv:2308.13234.

    for x, image in batches of 1000:            # x: channels x times, mean of the repetitions
        b = head(tsconv(x));  v = frozen_encoder(image)
        l = 14.3 * unit(b) @ unit(v).T
        loss = (cross_entropy(l) + cross_entropy(l.T)) / 2
        adam(lr=2e-4, betas=(.5, .999)).step(loss)
    score(x, candidate) = cosine(b, v(candidate))

The paper's variants put attention between channels in front of the convolutions:
``NICE(encoder="tsconv-sa")`` self-attention, ``NICE(encoder="tsconv-ga")`` graph attention
(`phosphene.encoders.channel_attention`, which says where their released code has no effect).

Where we differ from paper and released code:

- The scale is 1/0.07 = 14.3 and constant. The released code declares it a parameter but never hands
  it to the optimiser, so that this is what it does.
- All randomness follows from ``random_state``; the released code draws its seed unseeded.
- The epoch is chosen by accuracy on held-out training concepts. The paper takes 740 random training
  trials and their loss; exemplars of one concept are then on both sides.
- Candidates are the exact test pictures. The paper compares with class centres (means over several
  pictures of a concept): pass a bank of those vectors as the gallery to reproduce it.
- Trials of one stimulus are positives of one another (this matters for single trials only).
- The paper's 63 channels are whitened (MVNN); here channels are z-scored with training statistics
  unless the recording comes whitened (``standardise=False``).
- Target vectors are the bank's. The paper takes CLIP ViT-L/14 (768).
- TSConv is computed by an exact rearrangement (`phosphene.encoders.tsconv`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phosphene._registry import register
from phosphene.methods._contracts import ContrastiveDecoder
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.training.loop import Optimiser


@register("method", "nice")
@dataclass(eq=False, repr=False, kw_only=True)
class NICE(ContrastiveDecoder):
    """Temporal-spatial convolution aligned with image vectors (ICLR 2024).

    Parameters
    ----------
    encoder : str, nn.Module or callable
        Brain encoder: "tsconv" (NICE), "tsconv-sa" (NICE-SA), "tsconv-ga" (NICE-GA), or another.
    views : sequence of str
        Target views.
    normalise, temperature, temperature_init
        Both sides of unit length, constant scale 1/0.07.
    optimiser, lr, weight_decay, betas, batch_size, epochs
        The paper's.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Examples
    --------
    >>> NICE(epochs=40).lr
    0.0002
    """

    encoder: Any = "tsconv"
    views: Sequence[str] | str = ("original",)
    normalise: Normalise = "both"
    temperature: Temperature = "fixed"
    temperature_init: float | None = 1 / 0.07
    optimiser: Optimiser = "adam"
    lr: float = 2e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.5, 0.999)
    batch_size: int = 1000
    epochs: int = 200
