"""Tables as CSV files that come back exactly as they were.

A CSV file does not say that ``01`` is a name and not a number, nor whether an empty cell is an
empty text or a missing value. A small ``<name>.schema.json`` beside it does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene.errors import ArtefactError, DataError, listing

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {"i": "int", "u": "int", "f": "float", "b": "bool"}


def schema_path(path: str | Path) -> Path:
    """Where the schema of a table lies: ``queries.csv`` has ``queries.schema.json``."""
    path = Path(path)
    return path.with_name(f"{path.stem}.schema.json")


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with its schema beside it, atomically.

    Columns hold text, integers, floats or booleans, with or without missing values; any other
    content is refused by name. A default index is not written; another one is, and is restored.

    Raises
    ------
    DataError
        If a column cannot be written, or column names are not unique texts.
    """
    import pandas as pd

    from phosphene._saving import write_json, write_text

    index: str | None = None
    if not (isinstance(table.index, pd.RangeIndex) and table.index.equals(_default(len(table)))):
        if table.index.nlevels > 1:
            raise DataError(f"{path}: a table with a several-level index is not saved")
        index = str(table.index.name) if table.index.name is not None else "index"
        table = table.rename_axis(index).reset_index()
    names = list(table.columns)
    if any(not isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise DataError(
            f"{path}: column names are not unique texts", found=listing(map(repr, names), 20)
        )
    columns: dict[str, Any] = {}
    cells: dict[str, list[str]] = {}
    for name in names:
        columns[name], cells[name] = _encode(path, name, table[name])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*(cells[name] for name in names), strict=True))
    schema = {"version": 1, "rows": len(table), "index": index, "columns": columns}
    write_text(path, text.getvalue())
    write_json(schema_path(path), schema)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote.

    Raises
    ------
    ArtefactError
        If the file or its schema is missing, or they do not belong together.
    """
    import pandas as pd

    from phosphene._saving import read_json

    path = Path(path)
    schema = read_json(schema_path(path))
    if not path.is_file():
        raise ArtefactError(f"{path} is missing")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (ValueError, csv.Error) as error:
        raise ArtefactError(f"{path} cannot be read as CSV", found=error) from error
    names = list(schema["columns"])
    if header != names or any(len(row) != len(names) for row in rows):
        raise ArtefactError(
            f"{path} has other columns than its schema", found=header, expected=names
        )
    if len(rows) != schema["rows"]:
        raise ArtefactError(
            f"{path} has another number of rows", found=len(rows), expected=schema["rows"]
        )
    content = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = pd.DataFrame(
        {
            name: _decode(path, name, content[i], schema["columns"][name])
            for i, name in enumerate(names)
        },
        index=_default(len(rows)),
    )
    if schema["index"] is not None:
        table = table.set_index(schema["index"])
    return table


def _default(n: int) -> pd.RangeIndex:
    import pandas as pd

    return pd.RangeIndex(n)


def _encode(path: str | Path, name: str, column: Any) -> tuple[dict[str, Any], list[str]]:
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing = column.isna().to_numpy(dtype=bool)
    dtype = str(column.dtype)
    kind = _KINDS.get(getattr(column.dtype, "kind", ""), "")
    present = column[~missing]
    if not kind:
        values = present.tolist()
        if all(isinstance(value, str) for value in values):
            kind, dtype = "text", "str"
        elif all(isinstance(value, (bool, np.bool_)) for value in values):
            kind, dtype = "bool", "boolean"
        else:
            odd = next(value for value in values if not isinstance(value, str))
            raise DataError(
                f"{path}: column {name!r} cannot be written",
                found=f"{type(odd).__name__} {odd!r}",
                expected="text, integers, floats or booleans",
            )
    write: Callable[[Any], str] = repr if kind == "float" else str
    cells = [""] * len(column)
    for row, value in zip(np.flatnonzero(~missing).tolist(), present.tolist(), strict=True):
        cells[row] = write(value)
    gaps: Any = np.flatnonzero(missing).tolist()
    # In nearly all tables every empty cell is a gap or none is; only a mixture needs the list.
    if gaps and all(row_missing or cell for row_missing, cell in zip(missing, cells, strict=True)):
        gaps = "empty"
    return {"kind": kind, "dtype": dtype, "missing": gaps}, cells


def _decode(path: Path, name: str, cells: Any, entry: dict[str, Any]) -> pd.Series[Any]:
    import pandas as pd

    missing = np.zeros(len(cells), dtype=bool)
    if entry["missing"] == "empty":
        missing[:] = [cell == "" for cell in cells]
    else:
        missing[entry["missing"]] = True
    parse: dict[str, Callable[[str], Any]] = {
        "float": float,
        "int": int,
        "bool": {"True": True, "False": False}.__getitem__,
    }
    try:
        convert = parse.get(entry["kind"], str)
        values = [None if gap else convert(cell) for gap, cell in zip(missing, cells, strict=True)]
        if entry["kind"] == "float":
            floats = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
            return pd.Series(floats).astype(entry["dtype"])
        return pd.Series(values, dtype=entry["dtype"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ArtefactError(f"{path}: column {name!r} cannot be read", found=error) from error
