"""Which image is which number: the image tables of THINGS-EEG2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phosphene.data._ids import concept_of
from phosphene.data.readers._things_pickles import open_pickled
from phosphene.errors import DataError, listing

METADATA = "image_metadata.npy"
SUFFIXES = (".jpg", ".jpeg", ".png")
SPLIT_FOLDERS = {"train": ("training_images", "train_images"), "test": ("test_images",)}
_CONCEPT = re.compile(r"\d+_\w.*")


@dataclass(frozen=True)
class ImageTable:
    """Ids of the images, in order of their event number.

    Attributes
    ----------
    ids : dict of str to list of str
        For "train" and "test", ``training_images/00001_aardvark/aardvark_01b.jpg`` and so on.
    path : Path
        Where they come from.
    """

    ids: dict[str, list[str]]
    path: Path


def find_images(root: Path, folder: Path, images: str | Path | None) -> ImageTable:
    """The image table given, or the one that lies with the recordings.

    Parameters
    ----------
    root, folder : Path
        The data set's folder and the subject's; `image_metadata.npy` is looked for in root, in the
        folders below and beside it, and in the folders above the subject's.
    images : path, optional
        ``image_metadata.npy``, a folder with it, or a folder with ``training_images`` and
        ``test_images``.

    Raises
    ------
    DataError
        If there is no table, or it is damaged.
    """
    if images is not None:
        chosen = Path(images)
        if chosen.is_file():
            return read_metadata(chosen)
        places = [chosen]
    else:
        above = [root, root.parent, *(p for p in folder.parents if root in p.parents)]
        places = list(dict.fromkeys(above))
    every = [p for place in places if place.is_dir() for p in (place, *_below(place))]
    for place in every:
        if (place / METADATA).is_file():
            return read_metadata(place / METADATA)
    for place in every:
        if all(_first(place, names) for names in SPLIT_FOLDERS.values()):
            return _listed(place)
    raise DataError(
        f"nothing says which image belongs to which trial of {root}",
        found=f"no {METADATA} in {listing(places)} or one level below",
        expected=f"{METADATA} or the folders training_images and test_images",
        fix=f"download {METADATA} from OSF (y63gw) into the folder, or pass images=PATH",
    )


def _below(place: Path) -> list[Path]:
    skip = {name for names in SPLIT_FOLDERS.values() for name in names}
    try:
        return sorted(p for p in place.iterdir() if p.is_dir() and p.name not in skip)
    except OSError:  # a folder beside that we may not enter is not ours to read
        return []


def _first(place: Path, names: Sequence[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_dir()), None)


def read_metadata(path: Path) -> ImageTable:
    """Image table of the authors: four lists in a pickled dict."""
    value = open_pickled(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no dict", found=type(value).__name__)
    ids = {}
    for split, folders in SPLIT_FOLDERS.items():
        stem = "train" if split == "train" else "test"
        concepts = _names(value, f"{stem}_img_concepts", path)
        files = _names(value, f"{stem}_img_files", path)
        if len(concepts) != len(files):
            raise DataError(
                f"{path}: the lists for {split} differ in length",
                found=f"{len(concepts)} concepts and {len(files)} files",
            )
        pairs = zip(concepts, files, strict=True)
        ids[split] = [f"{folders[0]}/{concept}/{file}" for concept, file in pairs]
    return ImageTable(check_ids(ids, path), path)


def _names(value: dict[Any, Any], key: str, path: Path) -> list[str]:
    if key not in value:
        raise DataError(f"{path} lacks {key!r}", found=listing(map(repr, value), 9))
    names = value[key]
    if not isinstance(names, (list, tuple, np.ndarray)) or not len(names):
        raise DataError(f"{path}: {key!r} is no list of names", found=type(names).__name__)
    if odd := [name for name in names if not isinstance(name, str) or not name.isprintable()]:
        raise DataError(f"{path}: {key!r} holds something else than names", found=repr(odd[0])[:80])
    return [str(name) for name in names]


def _listed(place: Path) -> ImageTable:
    """The images in order of their names, which is the order of the event numbers."""
    ids = {}
    for split, folders in SPLIT_FOLDERS.items():
        folder = _first(place, folders)
        assert folder is not None
        found = sorted(
            f"{concept.name}/{image.name}"
            for concept in folder.iterdir()
            if concept.is_dir()
            for image in concept.iterdir()
            if image.suffix.lower() in SUFFIXES
        )
        ids[split] = [f"{folders[0]}/{name}" for name in found]
    return ImageTable(check_ids(ids, place), place)


def canonical(path: str) -> str:
    """Id of an image whichever way its folder is spelled.

    Examples
    --------
    >>> canonical("train_images/00001_aardvark/aardvark_01b.jpg")
    'training_images/00001_aardvark/aardvark_01b.jpg'
    """
    parts = [part for part in str(path).replace("\\", "/").split("/") if part not in ("", ".")]
    parts = parts[-3:]
    if len(parts) == 3 and parts[0] == "train_images":
        parts[0] = "training_images"
    return "/".join(parts)


def check_ids(ids: dict[str, list[str]], path: Path) -> dict[str, list[str]]:
    """Raise if ids are not those of images of numbered concepts, or come twice, or out of order."""
    for split, names in ids.items():
        for name in names:
            parts = name.split("/")
            if (
                len(parts) != 3
                or parts[0] not in SPLIT_FOLDERS[split]
                or not _CONCEPT.fullmatch(parts[1])
                or not parts[2].lower().endswith(SUFFIXES)
            ):
                raise DataError(
                    f"{path} names something else than images",
                    found=repr(name)[:120],
                    expected=f"such as {SPLIT_FOLDERS[split][0]}/00001_aardvark/aardvark_01b.jpg",
                )
        if len(set(names)) < len(names):
            twice = [name for name, count in Counter(names).items() if count > 1]
            raise DataError(f"{path} names images twice", found=listing(twice, 3))
        if names != sorted(names):
            at = next(i for i in range(1, len(names)) if names[i] < names[i - 1])
            raise DataError(
                f"{path} does not list the images in the order of their numbers",
                found=f"{names[at - 1]} before {names[at]}",
            )
    shared = {_word(name) for name in ids.get("train", [])}
    shared &= {_word(name) for name in ids.get("test", [])}
    if shared:
        raise DataError(
            f"{path}: concepts of the test are among those of the training",
            found=listing(sorted(shared)),
            expected="two sets without a common concept",
        )
    return ids


def _word(stimulus: str) -> str:
    return concept_of(stimulus).partition("_")[2]
