"""Stimulus ids: how they are joined, and what they say about the concept shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import DataError, listing

_EXEMPLAR = re.compile(r"_\d+[a-z]?$")


def parts_of(stimulus: str) -> tuple[str, ...]:
    """Folder and file names of an id, whatever slashes it was written with."""
    return tuple(p for p in stimulus.replace("\\", "/").split("/") if p not in ("", "."))


def concept_of(stimulus: str) -> str:
    """Concept of an image: its folder, or without one its name less the exemplar's number.

    Parameters
    ----------
    stimulus : str
        Stimulus id, usually a relative path.

    Returns
    -------
    str

    Examples
    --------
    >>> concept_of("training_images/00001_aardvark/aardvark_01b.jpg")
    '00001_aardvark'
    >>> concept_of("aircraft_carrier_03.png")
    'aircraft_carrier'
    """
    parts = parts_of(str(stimulus))
    if len(parts) > 1:
        return parts[-2]
    return _stem_concept(parts[0]) if parts else ""


def concepts_of(stimuli: Iterable[str]) -> list[str]:
    """Concept of each stimulus, as `concept_of`, except where one folder holds all images.

    Then the folder is a place and not a concept, and the names of the files decide.

    Examples
    --------
    >>> concepts_of(["images/dog_01.jpg", "images/cat_01.jpg"])
    ['dog', 'cat']
    """
    ids = [str(stimulus) for stimulus in stimuli]
    unique = {stimulus: parts_of(stimulus) for stimulus in dict.fromkeys(ids)}
    one_folder = len({parts[:-1] for parts in unique.values()}) == 1
    if len(unique) > 1 and one_folder:
        names = {stimulus: _stem_concept(parts[-1]) for stimulus, parts in unique.items()}
        # Exemplars of a single concept, each with a number, leave the folder its say.
        if len(set(names.values())) > 1:
            return [names[stimulus] for stimulus in ids]
    return [concept_of(stimulus) for stimulus in ids]


def concept_text(concept: str) -> str:
    """Words for a concept: no leading number, spaces for underscores, no trailing digits.

    Examples
    --------
    >>> concept_text("00002_aircraft_carrier"), concept_text("bat1"), concept_text("mouse2")
    ('aircraft carrier', 'bat', 'mouse')
    """
    words = re.sub(r"^\d+_", "", str(concept)).replace("_", " ").strip()
    shorter = re.sub(r"\d+$", "", words).strip()
    # A WordNet id such as n01440764 would be left with a single letter.
    return shorter if len(shorter) > 1 else words


def resolve_ids(
    wanted: Sequence[str] | Iterable[str], available: Iterable[str], what: str = "stimulus"
) -> NDArray[np.int64]:
    """Position in ``available`` of each wanted id.

    An id matches exactly, or else through its path: ``images/dog/dog_01.jpg`` and
    ``dog/dog_01.jpg`` are the same picture when one path ends in the other and no second id fits as
    well; ``train_images`` and ``training_images``, two spellings of one folder of THINGS-EEG2, are
    the same. The order of either list is never trusted.

    Parameters
    ----------
    wanted : sequence of str, length n
        May hold an id several times.
    available : sequence of str
        Unique ids.
    what : str
        What the ids stand for, in messages.

    Returns
    -------
    ndarray of int, shape (n,)

    Raises
    ------
    DataError
        Listing the ids that are missing or fit several.

    Examples
    --------
    >>> resolve_ids(["images/dog/dog_01.jpg", "cat/c.png"], ["cat/c.png", "dog/dog_01.jpg"])
    array([1, 0])
    """
    names = [str(name) for name in wanted]
    known = [str(name) for name in available]
    exact = {name: position for position, name in enumerate(known)}
    if len(exact) < len(known):
        twice = sorted({name for name in known if known.count(name) > 1})
        raise DataError(f"{what} ids occur more than once: {listing(map(repr, twice))}")
    unique = list(dict.fromkeys(names))
    found = {name: exact[name] for name in unique if name in exact}
    if len(found) < len(unique):
        found |= _by_path([name for name in unique if name not in exact], known, found, what)
    return np.array([found[name] for name in names], dtype=np.int64)


def _place_of(name: str) -> tuple[str, ...]:
    """Folders and file of an id, a folder that has two spellings under one of them."""
    return tuple("training_images" if p == "train_images" else p for p in parts_of(name))


def _by_path(
    names: list[str], known: list[str], taken: dict[str, int], what: str
) -> dict[str, int]:
    by_file: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for position, name in enumerate(known):
        if parts := _place_of(name):
            by_file.setdefault(parts[-1], []).append((parts, position))
    found: dict[str, int] = {}
    users: dict[int, list[str]] = {position: [name] for name, position in taken.items()}
    missing: list[str] = []
    ambiguous: list[str] = []
    for name in names:
        wanted = _place_of(name)
        fits: list[tuple[int, int]] = []
        for parts, position in by_file.get(wanted[-1], []) if wanted else []:
            length = min(len(parts), len(wanted))
            if parts[-length:] == wanted[-length:]:
                fits.append((length, position))
        longest = max((length for length, _ in fits), default=0)
        best = [position for length, position in fits if length == longest]
        if not best:
            missing.append(name)
        elif len(best) > 1:
            ambiguous.append(f"{name!r} fits {listing((repr(known[p]) for p in best), 3)}")
        else:
            found[name] = best[0]
            users.setdefault(best[0], []).append(name)
    # Two different pictures whose paths both end in the one known name: which of them is it?
    for position, claims in users.items():
        if len(claims) > 1:
            ambiguous.append(f"{listing(map(repr, claims), 3)} all fit {known[position]!r}")
    if missing or ambiguous:
        _refuse(missing, ambiguous, known, len(names) + len(taken), what)
    return found


def _refuse(missing: list[str], ambiguous: list[str], known: list[str], n: int, what: str) -> None:
    plural = {"stimulus": "stimuli"}.get(what, f"{what}s")
    problems: list[Any] = []
    if missing:
        problems.append(f"{len(missing)} of {n} {plural} are missing: {listing(missing)}")
    if ambiguous:
        problems.append(f"{len(ambiguous)} {what} ids are ambiguous: {listing(ambiguous)}")
    raise DataError(
        "; ".join(problems),
        found=f"{len(known)} {plural} such as {listing(known, 3)}" if known else f"no {plural}",
        fix="give both sides the same ids (relative paths)",
    )


def _stem_concept(name: str) -> str:
    stem = name.rsplit(".", 1)[0] if "." in name[1:] else name
    return _EXEMPLAR.sub("", stem) or stem
