"""A random sample of a bank's vectors, computed again and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene._random import generator
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import listing
from phosphene.stimuli._pipeline import SHARE, Pipeline, Work
from phosphene.stimuli.text import embed_texts
from phosphene.stimuli.text.prompts import templates
from phosphene.stimuli.verification import Check
from phosphene.stimuli.views import combine_views, get_view, parts_of

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

Again = Iterator[tuple[list[int], NDArray[np.float32]]]
"""Rows of the bank with their vectors (n, d)."""
Compute = Callable[[list[int], str, str], Again]
"""From rows, a view and a layer; rows whose picture cannot be read do not come back."""
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 3e-2}
"""Largest distance, relative to the vector's length, that rounding in another batch explains."""
HALF = 1e-3
"""What storing as float16 adds to it."""


def from_pictures(
    bank: FeatureBank, stimuli: StimulusSet, names: Sequence[str], encoder: Any
) -> Compute:
    """Vectors from pictures.

    Parameters
    ----------
    bank : FeatureBank
        Its provenance says how pictures are decoded.
    stimuli : StimulusSet
        Pictures.
    names : sequence of str
        Id in ``stimuli`` of each row of the bank.
    encoder : ImageEncoder
        What they go through.
    """
    background = tuple((bank.provenance.get("decoding") or {}).get("background", (255, 255, 255)))
    pipeline = Pipeline(stimuli, encoder, np.dtype(np.float32), background, skip=True)
    hashes = bank.stimuli["sha256"].tolist()

    def compute(rows: list[int], view: str, layer: str) -> Again:
        chosen = get_view(view)
        needs = tuple((part, (layer,)) for part in parts_of([chosen]))
        for start in range(0, len(rows), SHARE):
            share = rows[start : start + SHARE]
            row_of = {names[row]: row for row in share}
            work = Work(tuple(row_of), tuple(hashes[row] for row in share), needs)
            made = pipeline.make(work)
            if made.ids:
                vectors = {name: array for (name, _), array in made.vectors.items()}
                yield [row_of[id] for id in made.ids], combine_views([chosen], vectors)[chosen.name]

    return compute


def from_texts(bank: FeatureBank, encoder: Any) -> Compute:
    """Vectors from the texts that the bank was made of."""
    texts = bank.stimuli["caption"].tolist()
    prompt = bank.provenance.get("prompt", "{concept}")
    if len(templates(prompt)) == 1:
        prompt = "{concept}"  # the captions are in it already

    def compute(rows: list[int], view: str, layer: str) -> Again:
        yield rows, embed_texts([texts[row] for row in rows], encoder, prompt)[0]

    return compute


def compare(bank: FeatureBank, compute: Compute, sample: int, seed: int) -> Check:
    """Compute a random sample of (stimulus, view, layer) again and compare it.

    Parameters
    ----------
    bank : FeatureBank
        What is checked.
    compute : callable
        From :func:`from_pictures` or :func:`from_texts`.
    sample : int
        How many vectors; all if there are fewer.
    seed : int
        Which ones.
    """
    pairs, n = list(bank.arrays), len(bank)
    total = n * len(pairs)
    drawn = generator(seed, "bank", "verify").choice(total, min(sample, total), replace=False)
    rows_of: dict[tuple[str, str], list[int]] = {}
    for number in sorted(int(value) for value in drawn):
        rows_of.setdefault(pairs[number // n], []).append(number % n)
    half = any(np.dtype(array.dtype) == np.float16 for array in bank.arrays.values())
    limit = TOLERANCE.get(str(bank.provenance.get("precision")), TOLERANCE["fp32"]) + HALF * half
    worst, wrong, compared = 0.0, [], 0
    for (view, layer), rows in rows_of.items():
        left = set(rows)
        for part, again in compute(rows, view, layer):
            left -= set(part)
            kept = np.asarray(bank.arrays[view, layer][np.asarray(part)], np.float32)
            for row, distance in zip(part, _distances(kept, again), strict=True):
                compared, worst = compared + 1, max(worst, distance)
                if not distance <= limit:
                    wrong.append(f"{bank.ids[row]} / {view} / {layer}: {distance:.2g}")
        wrong += [f"{bank.ids[row]} / {view} / {layer}: unreadable" for row in sorted(left)]
    if wrong:
        message = f"not what the encoder gives (limit {limit:.2g}): {listing(wrong)}"
        return Check("vectors", "failed", compared, worst, message)
    if not compared:
        return Check("vectors", "not checkable", message="no vector was drawn")
    return Check("vectors", "passed", compared, worst, f"limit {limit:.2g}")


def _distances(kept: NDArray[np.float32], again: NDArray[np.float32]) -> list[float]:
    """Distance of each row to what it should be, relative to the length of that."""
    if kept.shape != again.shape:
        return [float("inf")] * len(kept)
    length = np.maximum(np.linalg.norm(again, axis=1), np.finfo(np.float32).tiny)
    return [float(value) for value in np.linalg.norm(kept - again, axis=1) / length]
