"""The contracts of methods: a new method subclasses one of these in one file.

- `Decoder`: fit, embed, similarity, evaluate, save and load; implement ``_fit`` and ``_embed``.
- `LinearDecoder`: one linear map of the signals; implement ``_solve``.
- `ContrastiveDecoder`: a brain encoder trained against a target space; override ``_build``,
  ``_pick_views``, ``_loss``, ``_on_epoch_end`` or ``similarity`` where the method differs.
"""

from __future__ import annotations

from phosphene.methods._contrastive import ContrastiveDecoder, Shapes
from phosphene.methods._decoder import Decoder
from phosphene.methods._linear import LinearDecoder

__all__ = ["ContrastiveDecoder", "Decoder", "LinearDecoder", "Shapes"]
