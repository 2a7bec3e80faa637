"""Shallow Alignment: contrast with an intermediate layer of a large vision model (2026).

    u(image) = vectors of the layer at 60 % of the vision model's depth
    for x, image in batches of 1024:            # x: channels x samples, mean of the repetitions
        b = linear(encoder(x), 512);  v = linear(u(image), 512)
        l = softplus(s) * b @ unit(v).T
        loss = (cross_entropy(l) + cross_entropy(l.T)) / 2;  adamw(lr=1e-4).step(loss)
    score(x, candidate) = cosine(b, v(candidate))

The last layer of a vision model keeps what a picture means and drops how it looks; brain signals
hold much of the latter, and a layer on the way has both.

Where we differ from paper and released code:

- The layer is the bank's nearest to the relative ``depth`` among *its* layers in their order: 0 is
  the first, 1 the last [ours]. If the bank holds a selection of the model's layers, depth is
  counted in that selection; ``layer`` names one instead. The paper takes about 60 % of the depth of
  InternViT and 35 % of ViT-H.
- The brain encoder leads to the width of the layer and is followed by a linear projector [ours].
- Image side of unit length, learned scale softplus, AdamW, batch and epochs are those of UBP [ours
  where the paper is silent].
- The epoch is chosen by top-1 on held-out training concepts, never on the test.
- Trials of one stimulus are positives of one another (pooled subjects, single trials).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene.data.recording import Recording
from phosphene.evaluation.embeddings import Embeddings, Gallery
from phosphene.evaluation.similarity import Similarity
from phosphene.methods._contracts import ContrastiveDecoder, Shapes
from phosphene.methods._layers import at_depth, require_layers
from phosphene.objectives.infonce import Normalise, Temperature
from phosphene.stimuli.bank import FeatureBank


@register("method", "shallow_alignment")
@dataclass(eq=False, repr=False, kw_only=True)
class ShallowAlignment(ContrastiveDecoder):
    """Contrast with an intermediate layer, linear projectors on both sides (2026).

    Parameters
    ----------
    layer : str or None
        Layer of the bank; by default the one at ``depth``.
    depth : float
        Relative depth among the bank's layers in order, from 0 to 1; read if ``layer`` is None.
    projection : int
        Width of the space in which both sides are compared.
    normalise, temperature, batch_size, epochs, lr
        As in `phosphene.UBP`.
    **other
        See `phosphene.methods._contracts.ContrastiveDecoder`.

    Examples
    --------
    >>> ShallowAlignment().depth
    0.6
    """

    depth: float = 0.6
    projection: int = 512
    normalise: Normalise = "target"
    temperature: Temperature = "softplus"

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "first layer": {"depth": 0.0},
        "last layer": {"depth": 1.0},
        "full": {},
    }

    def _fit(
        self,
        train_data: Recording,
        bank: FeatureBank,
        *,
        checkpoint: Path | None,
        progress: bool,
        owned: bool,
    ) -> None:
        if self.layer is None:
            self.layer_ = at_depth(bank.layers, self.depth)
            self.space_ = bank.space(self.layer_)
        super()._fit(train_data, bank, checkpoint=checkpoint, progress=progress, owned=owned)

    def _output_width(self, bank: FeatureBank) -> int:
        return self.projection

    def _build(self, shapes: Shapes) -> nn.ModuleDict:
        width = shapes.widths["image"]
        modules = {"encoder": self._make_encoder(shapes, width)}
        for side in ("brain projector", "image projector"):
            modules[side] = self._named(side, lambda: Linear(width, self.projection))
        return nn.ModuleDict({**modules, "objective": self._make_objective()})

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.modules_["brain projector"](self._encode(brain, subject=subject))
        return z

    def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**targets, "image": self.modules_["image projector"](targets["image"])}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        return super()._loss(z, self._project(targets), index)

    def similarity(
        self, recording: Any, gallery: FeatureBank, *, ids: Sequence[str] | None = None
    ) -> Similarity:
        """Cosine of each trial with each candidate; the gallery needs the decoder's layer."""
        self._require_fitted()
        require_layers(gallery, {str(self.layer_): self.space_})
        return super().similarity(recording, gallery, ids=ids)

    def _cosine_parts(
        self, recording: Any, gallery: FeatureBank, ids: Sequence[str] | None
    ) -> tuple[Embeddings, Gallery]:
        require_layers(gallery, {str(self.layer_): self.space_})
        return super()._cosine_parts(recording, gallery, ids)
