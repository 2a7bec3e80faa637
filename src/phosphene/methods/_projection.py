"""Decoders that compare in a space of their own, behind projectors, and what to compare there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from phosphene._saving import sha256_json
from phosphene.errors import SpaceMismatchError
from phosphene.evaluation.embeddings import PROJECTED, Gallery, gallery_embeddings
from phosphene.methods._decoder import Decoder
from phosphene.methods._inference import _projected
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._contrastive import ContrastiveDecoder


class GalleryEmbedder(Decoder):
    """Base of decoders whose ``embed`` may be of another space than the bank."""

    def embed_gallery(
        self: ContrastiveDecoder, gallery: FeatureBank, *, ids: Sequence[str] | None = None
    ) -> Gallery:
        """Candidates in the space of what ``embed`` returns, to compare the two by hand.

        Parameters
        ----------
        gallery : FeatureBank
            Bank of the space that the decoder was fitted in.
        ids : sequence of str, optional
            Candidates; all stimuli of the bank by default.

        Returns
        -------
        Gallery
            Vectors (items, dimensions), behind the decoder's projector if it has one.

        Raises
        ------
        SpaceMismatchError
            If the bank is of another space.
        """
        return project_gallery(self, gallery, ids, lambda projected: projected["image"])


def project_gallery(
    decoder: ContrastiveDecoder,
    gallery: FeatureBank,
    ids: Sequence[str] | None,
    choose: Callable[[dict[str, torch.Tensor]], torch.Tensor],
) -> Gallery:
    """Candidates in a decoder's space; ``choose`` makes vectors of what ``_project`` gives."""
    decoder._require_fitted()
    candidates = gallery_embeddings(gallery, ids, decoder.gallery_view_, decoder.layer_)
    if candidates.space != decoder.space_:
        raise SpaceMismatchError(
            "the bank is of another space than the decoder was fitted in",
            found=f"space {candidates.space[:16]}",
            expected=f"space {decoder.space_[:16]}",
            fix="use the encoder and the layer that the decoder was fitted with",
        )
    vectors = choose(_projected(decoder, gallery, candidates.ids)).numpy().astype(np.float32)
    return replace(candidates, vectors=vectors, space=decoder._output_space())


def projected_space(decoder: ContrastiveDecoder) -> str:
    """Name of the space behind a decoder's projectors: that of these very weights and no others."""
    found = hashlib.sha256()
    for name, value in decoder.modules_.state_dict().items():
        if "projector" in name:
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    digest = sha256_json({"space": decoder.space_, "projectors": found.hexdigest()})
    return f"{PROJECTED}{type(decoder).__name__} ({digest[:16]})"
