"""Files of a result: CSV and JSON for people, npz for the scores; no pickles."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phosphene._manifest import MANIFEST
from phosphene._saving import (
    read_json,
    read_table,
    verify_folder,
    write_bytes,
    write_json,
    write_manifest,
    write_table,
)
from phosphene.errors import ArtefactError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.similarity import Similarity

KIND = "result"
FORMAT = 1
QUERIES, PROTOCOL, RESULT, SCORES = "queries.csv", "protocol.json", "result.json", "scores.npz"
FACTS = ("name", "config", "versions", "timings", "ceiling")
_FLAGS = ("uses_gallery_text", "transductive", "uses_test_labels")


def write(
    folder: Path,
    table: pd.DataFrame,
    protocol: Protocol,
    facts: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    scores: Similarity | None,
    *,
    manifest: bool,
) -> None:
    """Write every file of a result, the manifest last."""
    write_table(folder / QUERIES, table)
    write_json(folder / PROTOCOL, protocol.to_dict())
    written = [QUERIES, "queries.schema.json", PROTOCOL, RESULT]
    for name, content in tables.items():
        write_table(folder / "tables" / f"{name}.csv", content)
        written += [f"tables/{name}.csv", f"tables/{name}.schema.json"]
    kept: dict[str, Any] | None = None
    if scores is not None:
        write_bytes(folder / SCORES, _packed(scores))
        write_table(folder / "score_queries.csv", scores.queries)
        written += [SCORES, "score_queries.csv", "score_queries.schema.json"]
        kept = {flag: getattr(scores, flag) for flag in _FLAGS}
        kept |= {"match": scores.match, "operations": list(scores.operations)}
    write_json(
        folder / RESULT, {"format": FORMAT, **facts, "tables": sorted(tables), "scores": kept}
    )
    if manifest:
        old = (folder / MANIFEST).exists()
        write_manifest(folder, kind=None if old else KIND, changed=written if old else None)


def read(folder: Path, *, verify: bool) -> dict[str, Any]:
    """Fields of the result in a folder."""
    if verify:
        verify_folder(folder)
    about = read_json(folder / RESULT)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / RESULT}: unknown format of a result",
            found=about.get("format") if isinstance(about, dict) else type(about).__name__,
            expected=FORMAT,
        )
    parts: dict[str, Any] = {name: about[name] for name in FACTS}
    parts["table"] = read_table(folder / QUERIES)
    parts["protocol"] = Protocol.from_dict(read_json(folder / PROTOCOL))
    parts["tables"] = {
        name: read_table(folder / "tables" / f"{name}.csv") for name in about["tables"]
    }
    if about["scores"] is not None:
        queries = read_table(folder / "score_queries.csv")
        parts["scores"] = _unpacked(folder / SCORES, queries, about["scores"])
    return parts


def _packed(scores: Similarity) -> bytes:
    arrays: dict[str, Any] = {
        "matrix": scores.matrix,
        "gallery_ids": np.asarray(scores.gallery_ids, dtype=np.str_),
    }
    if scores.gallery_concepts is not None:
        arrays["gallery_concepts"] = np.asarray(scores.gallery_concepts, dtype=np.str_)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(path: Path, queries: pd.DataFrame, about: Mapping[str, Any]) -> Similarity:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing") from None
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ArtefactError(f"{path} cannot be read", found=error) from error
    concepts = arrays.get("gallery_concepts")
    return Similarity(
        arrays["matrix"],
        queries,
        arrays["gallery_ids"].tolist(),
        None if concepts is None else concepts.tolist(),
        match=about["match"],
        operations=tuple(about.get("operations", ())),
        **{flag: bool(about[flag]) for flag in _FLAGS},
    )
