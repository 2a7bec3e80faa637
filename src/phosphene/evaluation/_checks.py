"""Checks that embeddings, galleries and scores share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.errors import DataError, listing

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Names = Callable[[], Sequence[str]]


def as_matrix(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    """A non-empty float32 matrix, or an error that names it."""
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(
            f"{what} must be a table of numbers",
            found=f"shape {matrix.shape}",
            expected="two dimensions, neither of them empty",
        )
    return matrix


def unique_ids(ids: Sequence[str], n: int) -> list[str]:
    """The ids as text, or an error that lists those that occur more than once."""
    names = [str(i) for i in ids]
    if len(names) != n:
        raise DataError(
            "the gallery's ids and vectors disagree in number",
            found=f"{len(names)} ids",
            expected=f"{n}",
        )
    counts = pd.Series(names).value_counts()
    if repeated := sorted(counts.index[counts > 1]):
        raise DataError(
            f"the gallery holds ids more than once: {listing(repeated)}",
            expected="every candidate once",
            fix="pass each stimulus id once; the order does not matter",
        )
    return names


def concept_names(concepts: Sequence[str] | None, n: int) -> list[str] | None:
    """The concepts as text, one per gallery item."""
    if concepts is None:
        return None
    names = [str(c) for c in concepts]
    if len(names) != n:
        raise DataError("concepts and gallery ids disagree in number", found=len(names), expected=n)
    return names


def query_names(trials: pd.DataFrame) -> list[str]:
    """How error messages call a query: its row and, if known, its subject and stimulus."""
    columns = [c for c in ("subject", "stimulus") if c in trials]
    if not columns:
        return [str(i) for i in trials.index]
    labels = [" ".join(row) for row in trials[columns].astype(str).to_numpy()]
    return [f"{i} ({label})" for i, label in zip(trials.index, labels, strict=True)]


def check_finite(matrix: Floats, names: Names, what: str, owner: str) -> None:
    """Raise with the names of the rows; they are made only then, as tables may be long."""
    finite = np.isfinite(matrix)
    if finite.all():
        return
    labels = names()
    bad = np.flatnonzero(~finite.all(axis=1)).tolist()
    raise DataError(
        f"{int((~finite).sum())} {what} values are NaN or infinite, in {len(bad)} of {len(matrix)} "
        f"rows: {owner} {listing(labels[i] for i in bad)}",
        expected="finite numbers",
        fix="a diverged training or an empty channel are the usual causes",
    )


def unit_rows(vectors: Floats, names: Names, owner: str) -> npt.NDArray[np.float64]:
    """Rows scaled to unit length, in float64."""
    wide = np.asarray(vectors, dtype=np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))[:, None]
    if (length == 0).any():
        labels = names()
        zero = np.flatnonzero(length[:, 0] == 0).tolist()
        raise DataError(
            f"vectors of length zero have no direction: {owner} {listing(labels[i] for i in zero)}",
            fix="check that the features or the recording are not empty",
        )
    scaled: npt.NDArray[np.float64] = wide / length
    return scaled
