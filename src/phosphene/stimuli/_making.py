"""The parts of new banks: extracted, of given arrays, of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from phosphene.data._ids import concept_text, concepts_of
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.stimuli._address import declared_spaces, resolve_layers, versions
from phosphene.stimuli._extract import Extraction
from phosphene.stimuli._store import Array, Pair
from phosphene.stimuli.encoders import ImageEncoder
from phosphene.stimuli.text import embed_texts, get_text_encoder
from phosphene.stimuli.views import View

Parts = tuple[pd.DataFrame, dict[Pair, Array], dict[str, Any], str, dict[str, float]]
"""Stimuli, arrays, provenance, default layer and timings: the fields of a bank."""


def extracted(
    stimuli: StimulusSet,
    encoder: ImageEncoder,
    views: Sequence[View],
    layers: Sequence[str] | str | None,
    **options: Any,
) -> Callable[[Path | None], Parts]:
    """Compute and keep what lacks; what is returned puts the bank together in a folder.

    Parameters
    ----------
    stimuli, encoder, views
        What goes through what.
    layers : sequence of str, optional
        By any spelling; the encoder's default layer when not given.
    **options
        Of :class:`Extraction`.
    """
    asked, aliases = resolve_layers(encoder, layers)
    work = Extraction(stimuli, encoder, views, asked, **options)
    work.run()
    default = encoder.default_layer if encoder.default_layer in asked else asked[-1]

    def put_together(folder: Path | None) -> Parts:
        arrays = work.arrays(folder)  # first: it may find that more pictures are broken
        about = stimuli.table.loc[work.ids]
        table = _table(
            work.ids,
            concept=about["concept"].tolist(),
            sha256=work.hashes,
            caption=about["caption"].tolist(),
        )
        return table, arrays, work.provenance(aliases), default, work.timings

    return put_together


def from_arrays(
    ids: Sequence[str],
    vectors: Mapping[str, ArrayLike] | Mapping[Pair, ArrayLike],
    concepts: Sequence[str] | None,
    hashes: Sequence[str] | None,
    provenance: Mapping[str, Any],
    layer: str,
) -> Parts:
    """Of vectors computed elsewhere; see :meth:`FeatureBank.from_arrays`."""
    arrays: dict[Pair, Array] = {}
    for key, value in vectors.items():
        view, name = key if isinstance(key, tuple) else (key, layer)
        array = np.array(value, dtype=np.float32)
        if array.ndim != 2 or len(array) != len(ids):
            raise DataError(f"vectors of view {view!r} do not fit the ids",
                            found=array.shape, expected=(len(ids), "width"))  # fmt: skip
        if bad := np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
            raise DataError(
                f"vectors of view {view!r} are not finite", found=listing(ids[row] for row in bad)
            )
        arrays[view, name] = array
    table = _table(
        [str(id) for id in ids],
        concept=concepts_of(ids) if concepts is None else concepts,
        sha256=[""] * len(ids) if hashes is None else hashes,
        caption=[""] * len(ids),
    )
    names = list(dict.fromkeys(name for _, name in arrays))
    default = layer if layer in names else (names[-1] if names else layer)
    return table, arrays, {"kind": "arrays", **provenance}, default, {}


def from_text(
    concepts: Sequence[str] | Mapping[str, str], encoder: Any, prompt: str | Sequence[str]
) -> Parts:
    """Of texts; see :meth:`FeatureBank.from_text`."""
    network = get_text_encoder(encoder)
    ids = [str(id) for id in concepts]
    if isinstance(concepts, Mapping):
        texts = [str(text) for text in concepts.values()]
    else:
        texts = [concept_text(id) for id in ids]
    vectors, captions, origin = embed_texts(texts, network, prompt)
    table = _table(ids, concept=concepts_of(ids), sha256=[""] * len(ids), caption=captions)
    provenance = {
        "kind": "text",
        "encoder": origin,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "versions": versions(getattr(network, "packages", ())),
        "spaces": declared_spaces(network, ["vector"]),
    }
    return table, {("text", "vector"): vectors}, provenance, "vector", {}


def _table(ids: Sequence[str], **columns: Sequence[str]) -> pd.DataFrame:
    for name, values in columns.items():
        if len(values) != len(ids):
            raise DataError(f"{name} has another length than the ids",
                            found=len(values), expected=len(ids))  # fmt: skip
    return pd.DataFrame(
        {name: pd.Series([str(v) for v in values], dtype="str") for name, values in columns.items()}
    ).set_axis(pd.Index([str(id) for id in ids], dtype="str"), axis=0)
