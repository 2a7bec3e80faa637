"""StimulusSet: the images that were shown, by id; read only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._manifest import sha256_array, sha256_file
from phosphene._validation import as_ids, require_columns, require_unique
from phosphene.data import _html
from phosphene.data._decode import MAX_PIXELS, SUFFIXES, WHITE, Colour, decode_image
from phosphene.data._ids import concept_of, concept_text, concepts_of, resolve_ids
from phosphene.errors import DataError, listing

__all__ = [
    "MAX_PIXELS",
    "Source",
    "StimulusSet",
    "concept_of",
    "concept_text",
    "decode_image",
    "resolve_ids",
]

Source = Path | NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]
COLUMNS = ("concept", "caption", "licence", "path", "sha256")


@dataclass(frozen=True, eq=False, repr=False)
class StimulusSet:
    """Images by id, with concept, caption and licence; loaded and hashed only when asked for.

    Parameters
    ----------
    table : DataFrame
        Indexed by stimulus id (text). Columns ``concept`` (default: from the id), ``caption``,
        ``licence``, ``path`` ("" if not a file) and ``sha256`` (of the content, "" until computed;
        may be declared for generated pictures); any more are kept.
    sources : mapping of id to path, ndarray or callable
        Where each image comes from: a file, uint8 pixels, or a function that makes them.

    Raises
    ------
    DataError
        If an id occurs twice or has no source.
    """

    table: pd.DataFrame
    sources: Mapping[str, Source] = field(repr=False)
    _known: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        table = self.table.copy()
        table.index = pd.Index(as_ids(table.index), dtype="str", name="stimulus")
        require_unique(table.index.tolist(), "stimulus id")
        if missing := [name for name in table.index if name not in self.sources]:
            raise DataError(f"stimuli without an image: {listing(missing)}")
        if "concept" not in table:
            table["concept"] = concepts_of(table.index)
        for name in COLUMNS:
            values = as_ids(table[name]) if name in table else [""] * len(table)
            table[name] = pd.Series(list(values), index=table.index, dtype="str")
        kept = [*COLUMNS, *(name for name in table.columns if name not in COLUMNS)]
        object.__setattr__(self, "table", table[kept])

    @classmethod
    def from_folder(cls, folder: str | Path) -> StimulusSet:
        """All images below a folder; ids are paths relative to it, with forward slashes.

        Parameters
        ----------
        folder : path
            Files that are not images, and hidden ones, are skipped. The concept is the folder that
            an image lies in.

        Raises
        ------
        DataError
            If the folder does not exist or holds no image.
        """
        root = Path(folder)
        if not root.is_dir():
            raise DataError(
                f"the image folder {root} does not exist"
                if not root.exists()
                else f"{root} is not a folder",
                fix="give the folder that holds the images",
            )
        files = {}
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            hidden = any(part.startswith(".") for part in relative.parts)
            if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
                files[relative.as_posix()] = path
        if not files:
            raise DataError(
                f"there are no images in {root}", expected="files " + " ".join(sorted(SUFFIXES))
            )
        return cls._from_files(files, {"concept": concepts_of(files)})

    @classmethod
    def from_csv(cls, path: str | Path) -> StimulusSet:
        """Images listed in a CSV file.

        Parameters
        ----------
        path : path
            Columns ``stimulus`` (id) and ``path`` (relative to the CSV file, or absolute); one of
            them may be missing and then equals the other. Optional: ``concept``, ``caption``,
            ``licence`` and any more.

        Raises
        ------
        DataError
            If neither column is there, an id occurs twice, or files are missing.
        """
        path = Path(path)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as a table", found=error) from error
        if "path" not in table and "stimulus" not in table:
            require_columns(table, ["stimulus", "path"], str(path))
        ids = table["stimulus" if "stimulus" in table else "path"]
        places = table["path" if "path" in table else "stimulus"]
        require_unique(ids.tolist(), f"{path}: stimulus id")
        files = {
            name: path.parent / place
            for name, place in zip(ids.tolist(), places.tolist(), strict=True)
        }
        if missing := [str(file) for file in files.values() if not file.is_file()]:
            raise DataError(f"{path} lists images that do not exist: {listing(missing)}")
        more = {str(c): table[c].tolist() for c in table.columns if c not in ("stimulus", "path")}
        return cls._from_files(files, more)

    @classmethod
    def _from_files(cls, files: Mapping[str, Path], columns: Mapping[str, Any]) -> StimulusSet:
        table = pd.DataFrame(dict(columns), index=pd.Index(list(files), dtype="str"))
        table["path"] = [file.as_posix() for file in files.values()]
        return cls(table, dict(files))

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[str],
        images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        concepts: Sequence[str] | None = None,
    ) -> StimulusSet:
        """Images from memory.

        Parameters
        ----------
        ids : sequence of str, length n
            Unique ids.
        images : sequence of ndarray of uint8, each (H, W, 3)
            In the order of the ids.
        concepts : sequence of str, optional
            Default: taken from the ids.

        Raises
        ------
        DataError
            If lengths differ or an id occurs twice.

        Examples
        --------
        >>> import numpy as np
        >>> images = np.zeros((2, 4, 4, 3), np.uint8)
        >>> s = StimulusSet.from_arrays(["dog/a.png", "cat/a.png"], images)
        >>> s.concepts.tolist(), s.duplicates()
        (['dog', 'cat'], [['dog/a.png', 'cat/a.png']])
        """
        names = [str(name) for name in ids]
        require_unique(names, "stimulus id")
        if len(images) != len(names) or (concepts is not None and len(concepts) != len(names)):
            raise DataError(
                "ids, images and concepts differ in length",
                found=f"{len(names)} ids, {len(images)} images"
                + ("" if concepts is None else f", {len(concepts)} concepts"),
            )
        columns = {} if concepts is None else {"concept": [str(c) for c in concepts]}
        table = pd.DataFrame(columns, index=pd.Index(names, dtype="str"))
        sources = dict(zip(names, map(np.asarray, images), strict=True))
        return cls(table, sources)

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, stimulus: object) -> bool:
        return stimulus in self.table.index

    def __repr__(self) -> str:
        return f"StimulusSet({len(self)} images of {self.concepts.nunique()} concepts)"

    def _repr_html_(self) -> str:
        return _html.stimuli_html(self)

    @property
    def ids(self) -> list[str]:
        """Stimulus ids, in the order of the table."""
        return [str(name) for name in self.table.index]

    @property
    def concepts(self) -> pd.Series[str]:
        """Concept of each stimulus, indexed by id."""
        return self.table["concept"].copy()

    def image(self, stimulus: str, background: Colour = WHITE) -> NDArray[np.uint8]:
        """The image of a stimulus.

        Parameters
        ----------
        stimulus : str
            Its id.
        background : tuple of int
            Red, green and blue of what lies under transparent pixels.

        Returns
        -------
        ndarray of uint8, shape (H, W, 3)

        Raises
        ------
        DataError
            If the id is unknown or the file cannot be read as an image.
        """
        source = self._source(stimulus)
        if callable(source):
            source = source()
        try:
            return decode_image(source, background)
        except DataError as error:
            if isinstance(source, Path):
                raise
            raise DataError(
                f"stimulus {stimulus!r}: {error.what}", found=error.found, expected=error.expected
            ) from error

    def hash(self, stimulus: str) -> str:
        """SHA-256 of a stimulus' content: bytes of its file, or its pixels, or as declared."""
        source = self._source(stimulus)
        if declared := str(self.table.loc[stimulus, "sha256"]):
            return declared
        if stimulus not in self._known:
            if isinstance(source, Path):
                try:
                    self._known[stimulus] = sha256_file(source)
                except OSError as error:
                    raise DataError(f"the image {source} cannot be read", found=error) from error
            else:
                self._known[stimulus] = sha256_array(source() if callable(source) else source)
        return self._known[stimulus]

    def hashes(self) -> pd.Series[str]:
        """SHA-256 of the content of every stimulus, indexed by id."""
        values = [self.hash(name) for name in self.ids]
        return pd.Series(values, index=self.table.index, dtype="str", name="sha256")

    def duplicates(self) -> list[list[str]]:
        """Groups of ids whose content is the same to the byte."""
        hashes = self.hashes()
        twice = hashes[hashes.duplicated(keep=False)]
        return [[str(n) for n in group.index] for _, group in twice.groupby(twice, sort=False)]

    def select(self, ids: Iterable[str]) -> StimulusSet:
        """Some of the stimuli, in the order given; paths may be longer or shorter than the ids.

        Raises
        ------
        DataError
            Listing the ids that are missing or ambiguous.
        """
        table = self.table.iloc[resolve_ids(list(ids), self.ids)]
        kept = {name: self.sources[name] for name in table.index}
        return StimulusSet(table, kept, self._known)

    def load_images(self, ids: Iterable[str] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Images one after another, so that they need not all be in memory."""
        for name in self.ids if ids is None else ids:
            yield self.image(name)

    def _source(self, stimulus: str) -> Source:
        if stimulus not in self.sources:
            resolve_ids([stimulus], self.ids)
            raise DataError(f"stimulus {stimulus!r} is known under another path", fix="use select")
        return self.sources[stimulus]
