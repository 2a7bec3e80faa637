"""One call that makes pictures: query after query, kept as they are finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import phosphene
from phosphene._logging import progress as progress_bar
from phosphene._saving import sha256_json
from phosphene.errors import DataError, listing
from phosphene.evaluation.protocol import Protocol
from phosphene.methods._protocol import describe_params
from phosphene.methods._reconstruction import Reconstruction, assemble, summary
from phosphene.methods._reconstruction_files import Finished, PictureFolder
from phosphene.reconstruction._memory import in_batches

if TYPE_CHECKING:
    from phosphene.methods._reconstructor import Reconstructor

_COLUMNS = ("subject", "stimulus", "concept")


def run(
    model: Reconstructor,
    features: Mapping[str, Any],
    queries: pd.DataFrame | Sequence[str],
    *,
    n: int,
    seed: int,
    folder: str | Path | None,
    protocol: Protocol,
    progress: bool,
) -> Reconstruction:
    """Make the pictures of all queries that a folder does not hold yet."""
    table = _table(queries)
    values = _checked(model, features, table)
    if isinstance(n, bool) or int(n) != n or n < 1:
        raise DataError("the number of samples of a query", found=n, expected="1 or more")
    names = [f"{row.subject}/{row.stimulus}" for row in table.itertuples()]
    store: PictureFolder | None = None
    done: dict[int, Finished] = {}
    if folder is not None:
        store = PictureFolder(Path(folder), _call(model, names, int(n), int(seed)))
        values = store.features(values)
        known = {row: store.read(row) for row in range(len(table))}
        done = {row: part for row, part in known.items() if part is not None}
    todo = [row for row in range(len(table)) if row not in done]

    def work(places: Sequence[int]) -> list[Finished]:
        rows = [todo[place] for place in places]
        chosen = {group: array[rows] for group, array in values.items()}
        return model._make(chosen, [names[row] for row in rows], int(n), int(seed))

    def one_by_one() -> Iterator[tuple[int, Finished]]:
        batches = in_batches(
            work, len(todo), max(int(model.batch), 1), "make pictures",
            "close other programs, or choose a device with more memory",
        )  # fmt: skip
        for places, parts in batches:
            for place, part in zip(places, parts, strict=True):
                yield todo[place], part

    made = progress_bar(
        one_by_one(), total=len(todo), desc="reconstruct", unit="query", enabled=progress
    )
    for row, part in made:
        done[row] = part
        if store is not None:
            store.write(row, part)
    if store is not None and (todo or not (store.folder / "manifest.json").is_file()):
        store.close(summary(table, protocol))
    return assemble(table, [done[row] for row in range(len(table))], protocol)


def _table(queries: pd.DataFrame | Sequence[str]) -> pd.DataFrame:
    if not isinstance(queries, pd.DataFrame):
        queries = pd.DataFrame({"stimulus": [str(query) for query in queries]})
    found = {name: queries.get(name, pd.Series([""] * len(queries))) for name in _COLUMNS}
    table = pd.DataFrame({name: [str(v) for v in column] for name, column in found.items()})
    if len(table) == 0:
        raise DataError("there is nothing to reconstruct", found="0 queries")
    if (twice := table.duplicated(["subject", "stimulus"])).any():
        raise DataError(
            "queries occur more than once: " + listing(table["stimulus"][twice]),
            fix="average the trials of a stimulus",
        )
    return table.astype("str")


def _checked(
    model: Reconstructor, features: Mapping[str, Any], table: pd.DataFrame
) -> dict[str, Any]:
    """The features as arrays of one row per query; those of another width are refused."""
    if set(features) != set(model.decoders_):
        raise DataError(
            "these are not the groups of features that pictures are made of",
            found=", ".join(sorted(features)) or "none",
            expected=", ".join(model.decoders_),
        )
    values: dict[str, Any] = {}
    for group, given in features.items():
        decoder = model.decoders_[group]
        array = np.asarray(given, np.float32)
        whole = len(decoder.units) == int(np.prod(decoder.shape))
        shape = decoder.shape if whole else (len(decoder.units),)
        if array.shape != (len(table), *shape):
            raise DataError(
                f"the features of the group {group!r} have another shape",
                found=array.shape,
                expected=(len(table), *shape),
            )
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if bad.any():
            raise DataError(
                f"the features of the group {group!r} hold NaN or infinite values",
                found="queries " + listing(table["stimulus"].to_numpy()[bad]),
                expected="finite numbers",
            )
        values[group] = array
    return values


def _call(model: Reconstructor, names: list[str], n: int, seed: int) -> dict[str, Any]:
    """What decides the pictures beside the features, so that no folder mixes those of two calls."""
    params = describe_params(model)
    kept = {key: value for key, value in params.items() if key not in model._speed}
    return {
        "settings": sha256_json([kept, model.generator_facts_]),
        "queries": sha256_json(names),
        "n": n,
        "seed": seed,
        "library": phosphene.__version__,
    }
