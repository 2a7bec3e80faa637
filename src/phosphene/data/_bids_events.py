"""``events.tsv`` of BIDS: which image was shown, and when."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phosphene._logging import get_logger
from phosphene._registry import did_you_mean
from phosphene._validation import require_columns
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

# Known from the names of the files, or counted over all of them.
_OURS = ("subject", "session", "run", "repetition", "stimulus", "concept")
_PARTS = ("train", "validation", "test")
LIKELY = ("stim_file", "stimulus_id", "stim_id", "stimulus", "image", "trial_type")


def image_events(path: Path, stim_column: str, concept_column: str | None) -> pd.DataFrame:
    """Events that name a stimulus: ``onset`` (s), ``stimulus`` and the table's other columns.

    Raises
    ------
    DataError
        If the file is missing or no table, a column is missing, or an onset is no number.
    """
    table = read_table(path)
    require_columns(table, ["onset"], str(path))
    if stim_column not in table:
        there = [name for name in LIKELY if name in table]
        raise DataError(
            f"{path} has no column {stim_column!r} that names the stimulus",
            found=f"columns {listing(map(repr, table.columns), 20)}",
            fix=f"pass stim_column={there[0]!r}"
            if there
            else did_you_mean(stim_column, table.columns),
        )
    if concept_column is not None:
        require_columns(table, [concept_column], str(path))
    rows = (table[stim_column] != "").to_numpy()
    lines = np.flatnonzero(rows) + 2
    table = table[rows].reset_index(drop=True)
    onset = pd.to_numeric(table["onset"], errors="coerce")
    wrong = lines[~np.isfinite(onset.to_numpy(dtype=float))]
    if wrong.size:
        raise DataError(
            f"{path} has trials without an onset", found=f"lines {listing(wrong.tolist())}"
        )
    out = pd.DataFrame({"stimulus": table[stim_column], "onset": onset.astype("float64")})
    if concept_column is not None:
        out["concept"] = table[concept_column]
    if len(table) and "split" in table and table["split"].isin(_PARTS).all():
        out["split"] = table["split"]
    for name in table.columns:
        if name in (*_OURS, *out.columns, "split", stim_column) or (table[name] == "").all():
            continue
        numbers = pd.to_numeric(table[name].replace("", None), errors="coerce")
        text = bool((numbers.isna() & (table[name] != "")).any())
        out[name] = table[name] if text else numbers.astype("float64")
    return out


def read_table(path: Path) -> pd.DataFrame:
    """A table of BIDS as text; ``n/a`` is empty.

    Raises
    ------
    DataError
        If the file is missing, no table or cut off within a line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str, keep_default_na=False)
        rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    except FileNotFoundError:
        raise DataError(
            f"there are no events {path}",
            fix="add the table, with onset and stimulus of every trial, or leave the run out",
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table", found=error) from error
    width = len(table.columns)
    if short := [line for line, row in enumerate(rows, 1) if row and len(row) < width]:
        raise DataError(
            f"{path} was cut off, or is no table",
            found=f"lines with fewer than {width} columns: {listing(short)}",
            fix="copy or download it again",
        )
    if not text.endswith("\n"):
        logger.warning("%s does not end with a line break: was it cut off?", path)
    return table.map(lambda cell: "" if cell.strip().lower() == "n/a" else cell.strip())


def read_json_file(path: Path) -> dict[str, Any]:
    """Content of a sidecar file; empty where there is none.

    Raises
    ------
    DataError
        If it is there but no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not valid JSON", found=error) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object", found=type(content).__name__)
    return content
