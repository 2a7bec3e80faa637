"""Recordings of people whom a registered reader finds below a folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene._logging import get_logger
from phosphene.config import ReaderData
from phosphene.data.finding import Source, find_sources
from phosphene.errors import RecipeError, listing
from phosphene.runs.reading import read_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phosphene.data.recording import Recording

logger = get_logger(__name__)


def read_people(data: ReaderData, channels: Sequence[str] | None = None) -> list[Recording]:
    """Read the people of a recipe's section ``data`` of kind ``reader``, one recording each.

    Parameters
    ----------
    data : ReaderData
        Which reader, where, and who.
    channels : sequence of str, optional
        Channels to read; a reader that cannot choose reads all of them.

    Returns
    -------
    list of Recording
        A reader of whole data sets (bids) returns one for all people.

    Raises
    ------
    DataError
        The reader's own: nothing at the root, an unknown person, damaged files.
    RecipeError
        If people are named to a reader that knows one file only.
    """
    read = _registry.get("reader", data.reader)
    known = inspect.signature(read).parameters
    params = {name: _below(data.root, known[name], value) for name, value in data.params.items()}
    if channels is not None and "channels" in known:
        # Channels that are not read take no memory.
        params.setdefault("channels", list(channels))
    recordings = []
    for source in _sources(data, list(known)):
        logger.info("reading %s of %s", source.label, data.root)
        recordings.append(read_source(Source(source.reader, source.label,
                                             {**source.arguments, **params})))  # fmt: skip
    return recordings


def _sources(data: ReaderData, known: Sequence[str]) -> list[Source]:
    people = data.people()
    if people is not None and {"root", "subject"} <= set(known):
        # Straight to the reader, whose error says what it looked for and whom it found.
        return [
            Source(data.reader, f"subject {who}", {"root": data.root, "subject": who})
            for who in people
        ]
    if people is not None and not {"subject", "subjects"} & set(known):
        raise RecipeError(
            f"data.subject: the reader {data.reader!r} reads one file and knows no subjects",
            found=listing(map(str, people)),
            fix="leave data.subject out, and name the file in data.root",
        )
    names = None if people is None else [str(who) for who in people]
    found = find_sources(data.root, reader=data.reader, subjects=names)
    # Of what was found, that which the recipe speaks of (one task of several, say).
    fits = [
        source
        for source in found
        if all(source.arguments.get(name, value) == value for name, value in data.params.items())
    ]
    return fits or found[:1]


def _below(root: Path, parameter: inspect.Parameter, value: Any) -> Any:
    """A path that exists below the data's root is taken from there; other values as they are."""
    if isinstance(value, str) and "Path" in str(parameter.annotation):
        path = Path(value).expanduser()
        return root / path if value and (root / path).exists() else value
    return value
