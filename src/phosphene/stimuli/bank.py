"""The feature bank: vectors by stimulus, view and layer, with where they came from."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene._saving import atomic_folder, require_replaceable
from phosphene.data._ids import resolve_ids
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.stimuli._arrays import check_arrays, pick_rows, read_into
from phosphene.stimuli._bank_files import (
    TEXT,
    bank_digest,
    describe_bank,
    narrowed,
    read_bank,
    write_bank,
)
from phosphene.stimuli._companion import text_of_concepts, text_vectors
from phosphene.stimuli._lookup import find_layer, find_view, find_views
from phosphene.stimuli._merge import concatenate, merge
from phosphene.stimuli._show import bank_html, bank_text
from phosphene.stimuli.encoders import ImageEncoder, get_encoder
from phosphene.stimuli.spaces import space_digest
from phosphene.stimuli.views import View, expand_views

if TYPE_CHECKING:
    from phosphene.stimuli.verification import Verification

Key = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureBank:
    """Vectors of stimuli by view and layer.

    Made by :meth:`extract`, :meth:`from_arrays`, :meth:`from_text` or :meth:`load`. Stimuli are
    addressed by id; order is never relied on.

    Attributes
    ----------
    stimuli : pandas.DataFrame
        Index: stimulus ids; columns ``concept``, ``sha256``, ``caption``.
    arrays : mapping of (view, layer) to array, shape (n, d)
        The vectors, possibly memory-mapped; use :meth:`vectors` and :meth:`stack` to read them.
    provenance : dict
        Encoder, weights, preprocessing, precision, views and versions.
    default_layer : str
        Layer that is meant when none is named.
    timings : dict
        What the extraction took, e.g. ``encoder_passes``; not part of the bank's hash.
    text : FeatureBank or None
        Vectors of the concepts' names, see :meth:`with_text`.

    Examples
    --------
    >>> bank = FeatureBank.from_arrays(["a_01", "b_01"], {"original": np.eye(2)})
    >>> bank.vectors("original", ids=["b_01"])
    array([[0., 1.]], dtype=float32)
    """

    stimuli: pd.DataFrame
    arrays: Mapping[Key, Any]
    provenance: dict[str, Any]
    default_layer: str
    timings: dict[str, float] = field(default_factory=dict)
    text: FeatureBank | None = None

    def __post_init__(self) -> None:
        if not self.arrays:
            raise DataError("a feature bank needs at least one array of vectors")
        if not self.stimuli.index.is_unique:
            twice = self.stimuli.index[self.stimuli.index.duplicated()].unique()
            raise DataError("stimulus ids are not unique", found=listing(twice))
        check_arrays(self.arrays, len(self.stimuli))
        self._layer(self.default_layer)

    # -- making -----------------------------------------------------------------------------

    @classmethod
    def extract(
        cls,
        stimuli: StimulusSet,
        encoder: str | ImageEncoder = "efficientnet-lite0",
        views: Iterable[str | View] | str | View = ("original",),
        layers: Sequence[str] | str | None = None,
        *,
        dtype: Literal["float32", "float16"] = "float32",
        background: tuple[int, int, int] = (255, 255, 255),
        on_error: Literal["raise", "skip"] = "raise",
        out: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        precision: str = "auto",
        device: str = "auto",
        progress: bool = True,
    ) -> FeatureBank:
        """Run an image encoder over views of pictures, once.

        Finished batches are kept by content (picture, view, layer, encoder, weights,
        preprocessing, decoding, precision, number format, versions): a killed extraction goes on
        where it was, more views or pictures cost only themselves, and a changed parameter never
        finds old vectors. A view composed of vectors (``mean_of``) costs no pass of its own.

        Parameters
        ----------
        stimuli : StimulusSet
            Pictures.
        encoder : str or ImageEncoder
            Registered name or an encoder.
        views : iterable of str or View
            E.g. ``["original", "fovea"]``; the bare word ``fovea`` means three levels of blur.
        layers : sequence of str, optional
            Layers of the encoder; its default layer when not given. All come from one pass.
        dtype : {"float32", "float16"}
            Number format that vectors are kept in.
        background : tuple of int
            Red, green and blue, 0 to 255, of what lies under transparent pixels.
        on_error : {"raise", "skip"}
            What to do about a picture that cannot be read: stop and name it, or leave it out; then
            ``provenance["skipped"]`` says why. Everything finished is kept in either case.
        out : path, optional
            Folder that the bank is saved in without being held in memory; the bank that is
            returned reads from there.
        cache : path, optional
            Folder of finished batches; the user's cache folder when not given.
        batch_size : int
            Pictures per batch, which is also what a kill can lose.
        precision : {"auto", "fp32", "bf16"}
            Number format of the computation, for an encoder given by name.
        device : str
            ``auto``, ``cpu``, ``cuda`` ..., for an encoder given by name.
        progress : bool
            Show a bar when someone is watching.

        Raises
        ------
        DataError
            If a picture cannot be read, or ``float16`` cannot hold a value; the file, or view,
            layer and stimulus are named.
        StorageError
            If the disk is full; what was finished is kept.
        """
        from phosphene.stimuli._making import extracted

        if out is not None:
            require_replaceable(out)  # before hours of work, not after
        network = get_encoder(encoder, precision=precision, device=device)
        job = extracted(
            stimuli,
            network,
            expand_views(views),
            layers,
            dtype=dtype,
            background=background,
            on_error=on_error,
            cache=cache,
            batch_size=batch_size,
            show_progress=progress,
        )
        if out is None:
            return cls(*job(None))
        with atomic_folder(Path(out)) as partial:
            describe_bank(cls(*job(partial)), partial)
        return cls.load(out)

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[str],
        vectors: Mapping[str, ArrayLike] | Mapping[Key, ArrayLike],
        *,
        concepts: Sequence[str] | None = None,
        hashes: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        layer: str = "vector",
    ) -> FeatureBank:
        """A bank of vectors that were computed elsewhere.

        Parameters
        ----------
        ids : sequence of str
            Stimulus ids, one per row.
        vectors : mapping
            From view, or from (view, layer), to an array of shape (n, d).
        concepts : sequence of str, optional
            Concept of each stimulus; derived from the ids when not given.
        hashes : sequence of str, optional
            Content digests of the pictures.
        provenance : mapping, optional
            What is known of their origin. Give ``{"encoder": {"id": ...}}`` so that banks of
            different encoders are not taken for one space; without it the space is known by its
            width only.
        layer : str
            Layer that plain view keys stand for.
        """
        from phosphene.stimuli._making import from_arrays

        return cls(*from_arrays(ids, vectors, concepts, hashes, provenance or {}, layer))

    @classmethod
    def from_text(
        cls,
        concepts: Sequence[str] | Mapping[str, str],
        encoder: Any = "use",
        prompt: str | Sequence[str] = "{concept}",
    ) -> FeatureBank:
        """A bank of text vectors, as the view ``text``.

        Parameters
        ----------
        concepts : sequence of str, or mapping of id to text
            Concept names, which are then the ids too, or texts by stimulus id.
        encoder : str or TextEncoder
            Registered text encoder.
        prompt : str or sequence of str
            Template, in which ``{concept}`` stands for the text, or the name of known ones; of
            several a text gets the mean of the unit-length vectors.
        """
        from phosphene.stimuli._making import from_text

        return cls(*from_text(concepts, encoder, prompt))

    @classmethod
    def from_foreign(cls, path: str | os.PathLike[str], **options: Any) -> FeatureBank:
        """A bank of another program's file; see `phosphene.stimuli.foreign.import_features`."""
        from phosphene.stimuli.foreign import import_features

        return import_features(path, **options)

    # -- reading ----------------------------------------------------------------------------

    @functools.cached_property
    def ids(self) -> list[str]:
        """Stimulus ids."""
        return list(self.stimuli.index)

    @property
    def views(self) -> tuple[str, ...]:
        """Canonical names of the views."""
        return tuple(dict.fromkeys(view for view, _ in self.arrays))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(dict.fromkeys(layer for _, layer in self.arrays))

    def __len__(self) -> int:
        return len(self.stimuli)

    def dim(self, layer: str | None = None) -> int:
        """Width of the vectors of a layer."""
        return int(self.arrays[self.views[0], self._layer(layer)].shape[1])

    def resolve(self, ids: Iterable[str]) -> NDArray[np.intp]:
        """Rows of stimulus ids; ids that are missing are listed in the error."""
        wanted = list(ids)
        try:
            return np.fromiter(map(self._rows.__getitem__, wanted), np.intp, len(wanted))
        except (KeyError, TypeError):  # other spellings of paths, or an error that lists them
            return np.asarray(resolve_ids(wanted, self.ids, what="stimulus"), dtype=np.intp)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids)}

    def vectors(
        self, view: str | View, layer: str | None = None, ids: Iterable[str] | None = None
    ) -> NDArray[np.float32]:
        """Vectors of one view as a fresh array.

        Parameters
        ----------
        view : str or View
            View of the bank, by any spelling of its name.
        layer : str, optional
            Default :attr:`default_layer`.
        ids : iterable of str, optional
            Stimuli, in the order wanted; all when not given.

        Returns
        -------
        ndarray of float32, shape (n, d)

        Raises
        ------
        DataError
            If ids are missing; they are listed.
        UnknownNameError
            If the view or layer is not in the bank; the nearest names are listed.
        """
        array = self.arrays[find_view(self.views, view), self._layer(layer)]
        rows = None if ids is None else self.resolve(ids)
        found = np.empty((len(self) if rows is None else len(rows), array.shape[1]), np.float32)
        read_into(found, array, rows)
        return found

    def stack(
        self,
        views: Sequence[str | View] | None = None,
        layer: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of several views, shape (views, n, d); the word ``fovea`` means three levels."""
        names = self.views if views is None else self.expand(views)
        rows = None if ids is None else self.resolve(ids)
        n = len(self) if rows is None else len(rows)
        stacked = np.empty((len(names), n, self.dim(layer)), dtype=np.float32)
        for place, name in zip(stacked, names, strict=True):
            read_into(place, self.arrays[name, self._layer(layer)], rows)
        return stacked

    def rows(
        self, rows: ArrayLike, views: ArrayLike = 0, layer: str | None = None
    ) -> NDArray[np.float32]:
        """Vectors by position: of each stimulus the view that is named for it.

        Reads what is asked for and nothing else, also from a bank that is mapped from disk.

        Parameters
        ----------
        rows : array of int, shape (n,)
            Positions of stimuli in :attr:`ids`, see :meth:`resolve`.
        views : int or array of int, shape (n,)
            Position in :attr:`views`, for all or for each row.
        layer : str, optional
            Default :attr:`default_layer`.

        Returns
        -------
        ndarray of float32, shape (n, d)

        Examples
        --------
        >>> bank = FeatureBank.from_arrays(["a", "b"], {"one": np.eye(2), "two": 2 * np.eye(2)})
        >>> bank.rows([0, 1, 1], [0, 0, 1])
        array([[1., 0.],
               [0., 1.],
               [0., 2.]], dtype=float32)
        """
        name = self._layer(layer)
        return pick_rows([self.arrays[view, name] for view in self.views], rows, views)

    def expand(self, views: Sequence[str | View] | str | View) -> tuple[str, ...]:
        """Canonical names of views in this bank, from names and shorthands such as ``fovea``."""
        return find_views(self.views, views)

    def space(self, layer: str | None = None) -> str:
        """Digest of the space that vectors of a layer live in; views share it.

        A joint space that encoders declare is one; see `phosphene.stimuli.spaces`.
        """
        name = self._layer(layer)
        return space_digest(self.provenance, name, self.dim(name))

    @functools.cached_property
    def hash(self) -> str:
        """Digest of ids, vectors and provenance."""
        return bank_digest(self)

    def select(self, ids: Iterable[str]) -> FeatureBank:
        """The bank of some of the stimuli, in the order given."""
        rows = self.resolve(ids)
        arrays = {key: np.asarray(array[rows]) for key, array in self.arrays.items()}
        return replace(self, stimuli=self.stimuli.iloc[rows], arrays=arrays, timings={})

    def with_text(self, text: Any = "use", prompt: str | Sequence[str] = "photo") -> FeatureBank:
        """The bank with vectors of its concepts' names beside those of the pictures.

        ``text`` is a text encoder, or a bank of names (:meth:`from_text`) whose ids are the
        concepts; ``prompt`` is as there, ``photo`` for "A photo of a {concept}."

        Raises
        ------
        DataError
            If a stimulus has no concept, or a concept is not in the bank of names.
        """
        return replace(self, text=text_of_concepts(self, text, prompt))

    def text_vectors(self, ids: Iterable[str] | None = None) -> NDArray[np.float32]:
        """Vectors of the names of the stimuli's concepts, shape (n, d); see :meth:`with_text`."""
        return text_vectors(self, ids)

    def merge(self, other: FeatureBank) -> FeatureBank:
        """One bank with the views and layers of both, over the same stimuli in any order.

        Raises
        ------
        DataError
            If stimuli, their pictures or the origin (encoder, weights, precision, versions) differ.
        """
        return merge(self, other)

    @staticmethod
    def concatenate(banks: Sequence[FeatureBank]) -> FeatureBank:
        """One bank, in memory, with the stimuli of all, of the same views, layers and origin.

        Raises
        ------
        DataError
            If views, layers or origin differ, or an id occurs twice.
        """
        return concatenate(banks)

    # -- checking ---------------------------------------------------------------------------

    @property
    def folder(self) -> Path | None:
        """Where the bank was loaded from, None for one made in memory."""
        return self.__dict__.get("_folder")

    def verify(
        self,
        stimuli: StimulusSet | None = None,
        encoder: Any = None,
        *,
        sample: int = 16,
        seed: int = 0,
    ) -> Verification:
        """Check that the bank still is what it says.

        All checksums of its files and the digest of its content; that the pictures have the
        content that was recorded; that the encoder is the recorded one; and that a random sample
        of (stimulus, view, layer), computed again, gives the kept vectors within the rounding of
        the precision. What cannot be checked is reported as such, never as passed.

        Parameters
        ----------
        stimuli : StimulusSet, optional
            The pictures; without them neither they nor vectors of pictures can be checked.
        encoder : str, ImageEncoder or TextEncoder, optional
            What the vectors came from; made again from the recorded name when not given.
        sample : int
            How many vectors are computed again.
        seed : int
            Which ones.

        Returns
        -------
        Verification
            Use ``passed``, ``complete`` and ``checks``, or print it.
        """
        from phosphene.stimuli._verify import verify

        return verify(self, stimuli, encoder, sample=sample, seed=seed)

    # -- disk -------------------------------------------------------------------------------

    def save(
        self,
        folder: str | os.PathLike[str],
        dtype: Literal["float32", "float16"] | None = None,
    ) -> Path:
        """Write the bank: an npy file per view and layer, a table, JSON, and a manifest.

        The folder is new, empty, or an older bank, which is replaced when all is written; the
        number format on disk is that in memory unless ``dtype`` names one.
        """
        return write_bank(self if dtype is None else narrowed(self, dtype), folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = True) -> FeatureBank:
        """Read a bank that :meth:`save` wrote; its checksums are verified.

        Raises
        ------
        ArtefactError
            If a file is missing, truncated or changed, or the format is unknown.
        """
        parts, digest = read_bank(folder, mmap=mmap)
        names = Path(folder) / TEXT
        bank = cls(**parts, text=cls.load(names, mmap=mmap) if names.is_dir() else None)
        # No fields: dataclasses.replace would carry them over to another bank.
        bank.__dict__.update(hash=digest, _folder=Path(folder))
        return bank

    # -- showing ----------------------------------------------------------------------------

    def __repr__(self) -> str:
        return bank_text(self)

    def _repr_html_(self) -> str:
        return bank_html(self)

    # -- private ----------------------------------------------------------------------------

    def _layer(self, layer: str | None) -> str:
        aliases = self.provenance.get("layer_aliases") or {}
        name = self.default_layer if layer is None else layer
        return find_layer(self.layers, aliases, name)
