"""What was shown in the trials of THINGS-MEG: the image tables and the table of trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene.data._ids import concept_of, concept_text, parts_of
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

CATCH = 999999
PATHS, CONCEPTS = "image_paths.csv", "image_concept_index.csv"
ATTRIBUTES = "sample_attributes_P{}.csv"
COLUMNS = ("trial_type", "session_nr", "run_nr", "image_path")
KINDS = ("exp", "test", "catch")
SOURCE = "the metadata of THINGS (OSF jum2f)"


def find_table(name: str, places: Iterable[Path]) -> Path | None:
    """A table in one of the folders, or at most three levels below, the nearest first."""
    for place in places:
        for depth in ("", "*/", "*/*/", "*/*/*/"):
            if found := sorted(place.glob(depth + name)):
                return found[0]
    return None


def require_table(name: str, places: list[Path], source: str) -> Path:
    """As `find_table`; an error where there is none."""
    if (path := find_table(name, places)) is None:
        raise DataError(
            f"{name} is missing",
            found=f"no such file in {listing(places)} or three levels below",
            fix=f"copy it there from {source}, or pass images=FOLDER",
        )
    return path


def read_image_ids(path: Path, concepts: Path | None) -> list[str]:
    """Stimulus of each row: path relative to the folder of images, ``aardvark/aardvark_01b.jpg``.

    Raises
    ------
    DataError
        If a row is no image, one comes twice, or the concept numbers disagree with the folders.
    """
    ids = []
    for number, line in enumerate(_lines(path), start=1):
        parts = parts_of(line.strip().strip('"'))
        if len(parts) < 2 or not parts[-1].lower().endswith((".jpg", ".jpeg", ".png")):
            raise DataError(
                f"{path}, line {number} is no image",
                found=repr(line)[:100],
                expected="such as images/aardvark/aardvark_01b.jpg",
            )
        if not parts[-1].startswith(parts[-2]) or not line.isprintable():
            raise DataError(
                f"{path}, line {number}: the file is not named after its folder",
                found=repr(line)[:100],
            )
        ids.append("/".join(parts[-2:]))
    if len(set(ids)) < len(ids):
        raise DataError(f"{path} names images twice", found=listing(_twice(ids), 3))
    if concepts is not None:
        numbers = _lines(concepts)
        folders = [concept_of(stimulus) for stimulus in ids]
        pairs = set(zip(numbers, folders, strict=False))
        if len(numbers) != len(ids) or not len(pairs) == len(set(numbers)) == len(set(folders)):
            raise DataError(
                f"{path} and {concepts} do not fit",
                found=f"{len(ids)} images of {len(set(folders))} folders; {len(numbers)} numbers, "
                f"{len(set(numbers))} different",
                expected="one number per image, and one per folder",
            )
        if not all(number.strip().isdigit() for number in numbers):
            raise DataError(f"{concepts} holds something else than numbers of concepts")
    return ids


def _twice(ids: list[str]) -> list[str]:
    names = pd.Series(ids)
    return [str(name) for name in names[names.duplicated()].unique()]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text", found=str(error)[:200]) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    return lines


def read_attributes(path: Path, events: NDArray[np.int64], parts: Sequence[Path]) -> pd.DataFrame:
    """Columns ``kind`` (exp, test, catch), ``session``, ``run`` and ``file``, one row per event.

    Raises
    ------
    DataError
        If the table is damaged or has other catch trials than the events.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is no table", found=str(error)[:200]) from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise DataError(
            f"{path} lacks the columns {listing(map(repr, missing))}",
            found=listing(map(ascii, table.columns), 20),
        )
    if len(table) != len(events):
        raise DataError(
            f"{path} does not fit the epochs",
            found=f"{len(table)} rows for {len(events)} trials in "
            f"{listing((part.name for part in parts), 9)}",
            fix="use the table and the epochs of the same person, with all parts of the epochs",
        )
    if (gaps := np.flatnonzero(table[list(COLUMNS)].isna().any(axis=1).to_numpy())).size:
        raise DataError(f"{path} lacks values in row {int(gaps[0]) + 1}")
    kind = table["trial_type"]
    if odd := sorted(set(kind) - set(KINDS)):
        raise DataError(f"{path}: unknown kinds of trials", found=listing(map(ascii, odd)))
    wrong = np.flatnonzero((kind == "catch").to_numpy() != (events == CATCH))
    if wrong.size:
        raise DataError(
            f"{path} has other catch trials than {listing((part.name for part in parts), 9)}",
            found=f"first in row {int(wrong[0]) + 1}, {wrong.size} in all",
            expected=f"catch where the event is {CATCH}",
        )
    for column in ("session_nr", "run_nr"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if not numbers.between(1, 99).all() or (numbers % 1 != 0).any():
            raise DataError(f"{path}: {column!r} holds other things than small numbers")
        table[column] = numbers.astype(int).astype(str)
    files = ["/".join(parts_of(name)[-1:]) for name in table["image_path"]]
    return pd.DataFrame(
        {"kind": kind, "session": table["session_nr"], "run": table["run_nr"], "file": files}
    )


def trials_of(
    events: NDArray[np.int64],
    ids: list[str],
    attributes: pd.DataFrame,
    subject: str,
    where: Path,
    tables: Path,
    strict: bool,
) -> pd.DataFrame:
    """Trials without the catch trials; column ``row`` is the position among all events.

    Raises
    ------
    DataError
        If an event stands for no image, or the two tables name different images.
    """
    rows = np.flatnonzero(events != CATCH)
    numbers = events[rows]
    if (beyond := numbers[(numbers < 1) | (numbers > len(ids))]).size:
        raise DataError(
            f"{where} has events that stand for no image of {tables}",
            found=listing(np.unique(beyond).tolist()),
            expected=f"1 to {len(ids)}, or {CATCH} for a catch trial",
        )
    stimuli = [ids[number - 1] for number in numbers.tolist()]
    shown = attributes.iloc[rows].reset_index(drop=True)
    named = np.array([stimulus.rpartition("/")[2] for stimulus in stimuli])
    wrong = np.flatnonzero(named != shown["file"].to_numpy(dtype=str))
    if wrong.size:
        first = int(wrong[0])
        message = f"the events of {where} and the table of trials name different images"
        found = f"{named[first]} and {shown['file'][first]} in trial {int(rows[first]) + 1}"
        if strict:
            raise DataError(
                message,
                found=f"{found}; {wrong.size} in all",
                fix="use files of the same person and release; strict=False believes the events",
            )
        logger.warning("%s: %s; %d in all", message, found, wrong.size)
    table = pd.DataFrame({"stimulus": pd.Series(stimuli, dtype="str"), "row": rows})
    table["concept"] = [concept_of(stimulus) for stimulus in stimuli]
    table["text"] = [concept_text(concept) for concept in table["concept"]]
    table["split"] = np.where(shown["kind"] == "test", "test", "train")
    table = table.assign(subject=subject, session=shown["session"], run=shown["run"])
    both = set(table.loc[table["split"] == "test", "stimulus"])
    both &= set(table.loc[table["split"] == "train", "stimulus"])
    if both:
        raise DataError(
            f"images of {where} are both training and test", found=listing(sorted(both), 3)
        )
    return table.assign(repetition=table.groupby("stimulus").cumcount())
