"""Contrastive decoders at work: vectors of trials, scores of candidates, validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phosphene.data.recording import Recording
from phosphene.evaluation.similarity import Embeddings, Gallery, Similarity, gallery_embeddings
from phosphene.methods._outputs import cast_all, join, pick
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import PairedData
from phosphene.training.selection import topk_accuracy

if TYPE_CHECKING:
    from phosphene.methods._contrastive import ContrastiveDecoder
    from phosphene.methods._new_subject import NewSubject

_ROWS = 1024


@torch.no_grad()
def encode_all(decoder: ContrastiveDecoder, recording: Recording) -> Any:
    """``_forward`` over all trials, on the CPU, in float32 whatever training used."""
    decoder.modules_.eval()
    names = np.full(recording.n_trials, "", dtype=object)
    if "subject" in recording.trials:
        names = recording.trials["subject"].astype(str).to_numpy()
    decoder.check_subjects(list(dict.fromkeys(names)))
    groups = [(new, np.flatnonzero(names == who)) for who, new in decoder._adapted.items()]
    groups = [(new, rows) for new, rows in groups if len(rows)]
    if not groups:
        return join(_encode_rows(decoder, recording, names, None))
    others = np.flatnonzero(~np.isin(names, list(decoder._adapted)))
    parts = [] if not len(others) else _encode_rows(decoder, recording, names, others)
    for new, rows in groups:
        with new.installed(decoder.modules_):
            parts += _encode_rows(decoder, recording, names, rows, new)
    order = np.concatenate([others, *(rows for _, rows in groups)])
    return pick(join(parts), torch.from_numpy(np.argsort(order)))


def _encode_rows(
    decoder: ContrastiveDecoder,
    recording: Recording,
    names: npt.NDArray[Any],
    rows: npt.NDArray[np.intp] | None,
    new: NewSubject | None = None,
) -> list[Any]:
    """Outputs for some trials, of one new subject or of nobody new; for all without ``rows``."""
    device = next(decoder.modules_.parameters()).device
    prepare = decoder._prepare()
    scaler = decoder.scaler_ if new is None else new.scaler
    known = {name: code for code, name in enumerate(decoder._subjects)}
    parts = []
    n = recording.n_trials if rows is None else len(rows)
    for start in range(0, n, _ROWS):
        block: Any = slice(start, min(start + _ROWS, n))
        if rows is not None:
            block = rows[block]
        brain = torch.from_numpy(scaler.apply(recording.take(block))).to(device)
        if new is not None:
            brain = new.lead(brain)
        codes = [known.get(name, -1) for name in names[block]]
        subject = torch.tensor(codes, device=device)
        z = decoder._forward(brain if prepare is None else prepare(brain), subject)
        parts.append(cast_all(z, torch.float32, "cpu"))
    return parts


def score(
    decoder: ContrastiveDecoder,
    aligned: Recording,
    gallery: FeatureBank,
    ids: Sequence[str] | None,
    rule: Callable[..., torch.Tensor] | None = None,
) -> Similarity:
    """Scores (trials, candidates) by the method's rule; see ``ContrastiveDecoder.similarity``.

    ``rule`` takes the place of ``_scores`` where a method reads more than z and the gallery.
    """
    candidates = gallery_embeddings(gallery, ids, decoder.gallery_view_, decoder.layer_)
    z = encode_all(decoder, aligned)
    embedded = Embeddings(decoder._vector(z).numpy(), aligned.trials, decoder.space_)
    embedded.require_space(candidates)
    # In float64, so that a query's scores do not depend on the batch that it comes in.
    wide = _projected(decoder, gallery, candidates.ids)
    matrix = (rule or decoder._scores)(cast_all(z, torch.float64), wide)
    return Similarity(
        matrix.numpy(),
        aligned.trials,
        candidates.ids,
        candidates.concepts,
        uses_gallery_text=candidates.uses_names or decoder._uses_names(),
    )


def prepare_scores(
    decoder: ContrastiveDecoder, gallery: FeatureBank, ids: Sequence[str]
) -> Callable[[Recording], npt.NDArray[Any]]:
    """A function from aligned trials to their scores, with the candidates read and projected."""
    from phosphene.methods._contrastive import ContrastiveDecoder  # which imports this module

    wide = _projected(decoder, gallery, ids)
    rule: Callable[..., torch.Tensor] = decoder._scores
    if type(decoder)._scores is ContrastiveDecoder._scores:  # then candidates are scaled once
        units = nn.functional.normalize(wide["image"], dim=1).T

        def rule(z: Any, _: Any) -> torch.Tensor:
            return nn.functional.normalize(decoder._vector(z), dim=1) @ units

    def scores(aligned: Recording) -> npt.NDArray[Any]:
        found = rule(cast_all(encode_all(decoder, aligned), torch.float64), wide)
        return found.numpy().astype(np.float32)

    return scores


@torch.no_grad()
def _projected(
    decoder: ContrastiveDecoder, gallery: FeatureBank, ids: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Candidates by name after image-side modules, in float64."""
    device = next(decoder.modules_.parameters()).device
    vectors = decoder._gallery(gallery, list(ids))
    placed = {name: torch.as_tensor(v).to(device) for name, v in vectors.items()}
    wide: dict[str, torch.Tensor] = cast_all(decoder._project(placed), torch.float64, "cpu")
    return wide


def cosine_parts(
    decoder: ContrastiveDecoder,
    aligned: Recording,
    gallery: FeatureBank,
    ids: Sequence[str] | None,
) -> tuple[Embeddings, Gallery]:
    """Query vectors and projected candidates, whose cosine is the default score."""
    candidates = gallery_embeddings(gallery, ids, decoder.gallery_view_, decoder.layer_)
    vectors = decoder._vector(encode_all(decoder, aligned)).numpy()
    images = _projected(decoder, gallery, candidates.ids)["image"].numpy()
    embeddings = Embeddings(vectors, aligned.trials, decoder.space_)
    embeddings.require_space(candidates)
    space = decoder._output_space()
    return replace(embeddings, space=space), replace(candidates, vectors=images, space=space)


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
