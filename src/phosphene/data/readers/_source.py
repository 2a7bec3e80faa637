"""What a reader says about its files.

Which they were, whether anything vouches for them, and whether they hold as much as they should.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phosphene._logging import get_logger
from phosphene._manifest import sha256_file
from phosphene._registry import did_you_mean
from phosphene.data.datasets import DatasetInfo
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)


def one_of(value: str, choices: Iterable[str], what: str) -> None:
    """Raise unless a value is one of the choices.

    Raises
    ------
    DataError
        Listing them.
    """
    known = list(choices)
    if value not in known:
        raise DataError(
            f"there is no {what} {value!r}",
            expected="one of " + ", ".join(known),
            fix=did_you_mean(str(value), known),
        )


def read_op(reader: str, files: Iterable[Path], info: DatasetInfo | None = None) -> dict[str, Any]:
    """Entry for a recording's history; files whose digest is known are checked against it.

    ``verified`` is False where no digest is known for one of the files: a changed byte in their
    values may then have gone unseen.

    Raises
    ------
    DataError
        If a file's SHA-256 is another than the data set's.
    """
    known = info.sha256 if info is not None else {}
    names, verified = [], True
    for file in files:
        names.append(file.name)
        digest = next((d for path, d in known.items() if _same_place(file, path)), None)
        if digest is None:
            verified = False
        elif (found := sha256_file(file)) != digest.removeprefix("sha256:"):
            raise DataError(
                f"{file} is not the file that the data set holds",
                found=f"SHA-256 {found}",
                expected=digest,
                fix="download it again",
            )
    return {"op": "read", "reader": reader, "files": names, "verified": verified}


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put the name of a file into errors about what was in it."""
    try:
        yield
    except DataError as error:
        if Path(path).name in str(error):
            raise
        raise DataError(
            f"{path}: {error.what}", found=error.found, expected=error.expected, fix=error.fix
        ) from error


def verifiable(recording: Recording) -> bool:
    """Whether all files that a recording was read from are known by their digests."""
    reads = [entry for entry in recording.history if entry.get("op") == "read"]
    return bool(reads) and all(entry.get("verified") for entry in reads)


def _same_place(file: Path, known: str) -> bool:
    parts = tuple(part for part in known.split("/") if part)
    return file.parts[-len(parts) :] == parts


def check_counts(
    found: Mapping[str, int], info: DatasetInfo, *, strict: bool, where: str | Path
) -> None:
    """Compare counts with those that the data set is known to have.

    Parameters
    ----------
    found : mapping of str to int
        By the names of ``info.expected``; names that it does not have are not compared.
    info : DatasetInfo
        The data set.
    strict : bool
        Raise, rather than log a warning.
    where : str or path
        How the message calls the files.

    Raises
    ------
    DataError
        Listing every count that differs.
    """
    wrong = {k: n for k, n in found.items() if k in info.expected and info.expected[k] != n}
    if not wrong:
        return
    error = DataError(
        f"{where} does not hold what {info.title} has",
        found=listing((f"{name} {n}" for name, n in wrong.items()), 8),
        expected=listing((f"{name} {info.expected[name]}" for name in wrong), 8),
        fix="complete the files, or read part of a data set with strict=False",
    )
    if strict:
        raise error
    logger.warning("%s", error.message.replace("\n", ";"))
