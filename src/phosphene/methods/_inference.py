"""Contrastive decoders at work: vectors of trials, scores of candidates, validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from phosphene.data.recording import Recording
from phosphene.evaluation.similarity import Embeddings, Similarity, gallery_embeddings
from phosphene.methods._outputs import cast_all, join
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import PairedData
from phosphene.training.selection import topk_accuracy

if TYPE_CHECKING:
    from phosphene.methods._contrastive import ContrastiveDecoder

_ROWS = 1024


@torch.no_grad()
def encode_all(decoder: ContrastiveDecoder, recording: Recording) -> Any:
    """``_forward`` over all trials, on the CPU, in float32 whatever training used."""
    device = next(decoder.modules_.parameters()).device
    decoder.modules_.eval()
    prepare = decoder._prepare()
    known = {name: code for code, name in enumerate(decoder._subjects)}
    names = recording.trials["subject"].astype(str) if "subject" in recording.trials else None
    parts = []
    for start in range(0, recording.n_trials, _ROWS):
        stop = min(start + _ROWS, recording.n_trials)
        block = decoder.scaler_.apply(recording.take(slice(start, stop)))
        brain = torch.from_numpy(block).to(device)
        codes = [-1] * len(brain)
        if names is not None:
            codes = [known.get(name, -1) for name in names.iloc[start:stop]]
        subject = torch.tensor(codes, device=device)
        z = decoder._forward(brain if prepare is None else prepare(brain), subject)
        parts.append(cast_all(z, torch.float32, "cpu"))
    return join(parts)


def score(
    decoder: ContrastiveDecoder,
    aligned: Recording,
    gallery: FeatureBank,
    ids: Sequence[str] | None,
) -> Similarity:
    """Scores (trials, candidates) by the method's rule; see ``ContrastiveDecoder.similarity``."""
    candidates = gallery_embeddings(gallery, ids, decoder.gallery_view_, decoder.layer_)
    z = encode_all(decoder, aligned)
    embedded = Embeddings(decoder._vector(z).numpy(), aligned.trials, decoder.space_)
    embedded.require_space(candidates)
    # In float64, so that a query's scores do not depend on the batch that it comes in.
    vectors = decoder._gallery(gallery, list(candidates.ids))
    device = next(decoder.modules_.parameters()).device
    placed = {name: torch.as_tensor(v).to(device) for name, v in vectors.items()}
    with torch.no_grad():
        wide = cast_all(decoder._project(placed), torch.float64, "cpu")
    matrix = decoder._scores(cast_all(z, torch.float64), wide)
    return Similarity(
        matrix.numpy(),
        aligned.trials,
        candidates.ids,
        candidates.concepts,
        uses_gallery_text=candidates.uses_names or decoder._uses_names(),
    )


def validator(
    decoder: ContrastiveDecoder,
    data: PairedData,
    held_out: npt.NDArray[np.bool_],
    bank: FeatureBank,
    precision: str,
) -> Callable[[], dict[str, float]]:
    """Retrieval among the held-out stimuli, by the method's own rule of scoring."""
    rows = torch.from_numpy(np.flatnonzero(held_out)).to(data.device)
    stimuli, true = torch.unique(data.stimulus[rows], return_inverse=True)
    vectors = decoder._gallery(bank, [data.stimuli[i] for i in stimuli.tolist()])
    gallery = {name: torch.as_tensor(v).to(data.device) for name, v in vectors.items()}

    def validate() -> dict[str, float]:
        decoder.modules_.eval()
        scores = []
        for part in torch.split(rows, _ROWS):
            brain = data.source.take(part)
            with torch.autocast(data.device.type, torch.bfloat16, enabled=precision == "bf16"):
                z = decoder._forward(brain, data.subject[part])
            candidates = decoder._project(gallery)
            scores.append(decoder._scores(cast_all(z, torch.float32), candidates))
        matrix = torch.cat(scores)
        return {f"val_top{k}": float(topk_accuracy(matrix, true, k)) for k in (1, 5)}

    return validate
