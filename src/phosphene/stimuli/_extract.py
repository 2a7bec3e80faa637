"""Extraction: what the store lacks is computed and kept, then the bank is put together from it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phosphene._device import cache_folder
from phosphene._logging import get_logger, progress
from phosphene.data._decode import Colour
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, StorageError, listing
from phosphene.stimuli._address import (
    DTYPES,
    content_hashes,
    encoder_address,
    extraction_provenance,
    reason,
)
from phosphene.stimuli._arrays import Room, narrow
from phosphene.stimuli._bank_files import array_name
from phosphene.stimuli._pipeline import Needs, Pipeline, Work
from phosphene.stimuli._store import Array, Pair, VectorStore
from phosphene.stimuli.encoders import ImageEncoder
from phosphene.stimuli.views import View, parts_of

OnError = Literal["raise", "skip"]
ROUNDS = 3
"""How often damaged parts of the store are computed again before the disk is given up."""
COMBINED = 4096
"""Stimuli whose parts are combined at once."""
_log = get_logger(__name__)


def feature_cache(cache: str | os.PathLike[str] | None) -> Path:
    """The folder that vectors are kept in; the user's cache when none is given."""
    return Path(cache) if cache is not None else cache_folder() / "features"


class Extraction:
    """Vectors of (stimuli x views x layers), each computed once and kept.

    Parameters
    ----------
    stimuli : StimulusSet
        Pictures.
    encoder : ImageEncoder
        What they go through.
    views : sequence of View
        Those of the bank; only their parts go through the encoder.
    layers : sequence of str
        Canonical names.
    dtype : {"float32", "float16"}
        Number format of store and bank.
    background : tuple of int
        Colour under transparent pixels.
    on_error : {"raise", "skip"}
        What to do about pictures that cannot be read.
    cache : path, optional
        Folder of the store.
    batch_size : int
        Pictures per chunk of the store.
    show_progress : bool
        Show a bar when someone is watching.
    """

    def __init__(
        self,
        stimuli: StimulusSet,
        encoder: ImageEncoder,
        views: Sequence[View],
        layers: Sequence[str],
        *,
        dtype: str,
        background: Colour,
        on_error: OnError,
        cache: str | os.PathLike[str] | None,
        batch_size: int,
        show_progress: bool,
    ) -> None:
        if batch_size < 1:
            raise DataError("batch_size counts pictures", found=batch_size, expected="at least 1")
        for name, value, known in (("dtype", dtype, DTYPES),
                                   ("on_error", on_error, ("raise", "skip"))):  # fmt: skip
            if value not in known:
                raise DataError(f"unknown {name}", found=value, expected=" or ".join(known))
        self._began = time.perf_counter()
        self.stimuli, self.encoder = stimuli, encoder
        self.views, self.layers = list(views), tuple(layers)
        self.parts = parts_of(views)
        self.root = feature_cache(cache)
        self.address = encoder_address(encoder, background, dtype)
        self.dtype = np.dtype(dtype)
        self.skip = on_error == "skip"
        self.batch_size, self.show_progress = batch_size, show_progress
        self._pipeline = Pipeline(stimuli, encoder, self.dtype, background, skip=self.skip)
        self._store = VectorStore(self.root, self.address, label=encoder.id)
        self._hashes, missing = content_hashes(stimuli, skip=self.skip)
        self._broken = {id: reason(stimuli, id, error) for id, error in missing.items()}
        self._passes = 0
        self._known: int | None = None

    @property
    def ids(self) -> list[str]:
        """Stimuli that have vectors, in the order of the set."""
        return [id for id in self.stimuli.ids if id not in self._broken]

    @property
    def hashes(self) -> list[str]:
        """Content digests of :attr:`ids`."""
        return [self._hashes[id] for id in self.ids]

    @property
    def timings(self) -> dict[str, float]:
        """What it took: passes made now, passes known before, seconds."""
        return {
            "encoder_passes": self._passes,
            "from_cache": self._known or 0,
            "seconds": time.perf_counter() - self._began,
        }

    def provenance(self, aliases: dict[str, str]) -> dict[str, Any]:
        """Origin of the vectors, with what was left out."""
        skipped = {id: self._broken[id] for id in self.stimuli.ids if id in self._broken}
        return extraction_provenance(
            self.encoder, self.address, self.views, self.layers, aliases, skipped
        )

    def run(self) -> None:
        """Compute and keep what the store lacks.

        Raises
        ------
        DataError
            If a picture cannot be read and none may be skipped, or if none can be read.
        StorageError
            If the store cannot be written. What was finished is kept in either case.
        """
        work = list(self._plan())
        planned = sum(len(item.ids) * len(item.needs) for item in work)
        if self._known is None:
            self._known = len(set(self.hashes)) * len(self.parts) - planned
        _log.info("%s: %d passes to make, %d known", self.encoder.id, planned, self._known)
        unreadable: dict[str, str] = {}
        for item, made in progress(
            self._pipeline.run(work), total=len(work), desc=f"features of {self.encoder.id}",
            unit="batch", enabled=self.show_progress,
        ):  # fmt: skip
            if made.ids:
                self._store.add(made.hashes, made.vectors)
            self._passes += len(made.ids) * len(item.needs)
            for id, error in made.broken.items():
                unreadable[self._hashes[id]] = reason(self.stimuli, id, error)
        # An equal picture under another id is as broken.
        self._broken |= {
            id: unreadable[digest] for id, digest in self._hashes.items() if digest in unreadable
        }
        if self._broken:
            first = next(iter(self._broken.values()))
            if not self.ids:
                raise DataError(f"none of {len(self._broken)} pictures can be read", found=first)
            _log.warning(
                "left out %d of %d pictures that cannot be read: %s; the first: %s",
                len(self._broken),
                len(self.stimuli),
                listing(self._broken),
                first,
            )

    def arrays(self, folder: Path | None = None) -> dict[Pair, Array]:
        """Vectors (n, d) by view and layer, in the order of :attr:`ids`; after :meth:`run`.

        Parameters
        ----------
        folder : Path, optional
            Where they become npy files; else they are in memory, or mapped from a file that
            vanishes with them when they are large.
        """
        for attempt in range(ROUNDS):
            if attempt:
                self.run()
            if (found := self._put_together(folder)) is not None:
                return found
        raise StorageError(
            f"{self._store.folder} gives back other content than was written to it",
            fix="check the disk, or choose another cache folder",
        )

    def _plan(self) -> Iterator[Work]:
        """Batches of stimuli that lack the same vectors; equal pictures are encoded once.

        The limits of batches depend on the set alone and not on what is known already, so that an
        encoder whose rounding depends on its batch gives the same bits after a kill.
        """
        first: dict[str, str] = {}
        for id, digest in zip(self.ids, self.hashes, strict=True):
            first.setdefault(digest, id)
        items = list(first.items())
        for start in range(0, len(items), self.batch_size):
            groups: dict[Needs, list[tuple[str, str]]] = {}
            for digest, id in items[start : start + self.batch_size]:
                if needs := self._needs(digest):
                    groups.setdefault(needs, []).append((id, digest))
            for needs, rows in groups.items():
                yield Work(tuple(id for id, _ in rows), tuple(d for _, d in rows), needs)

    def _needs(self, digest: str) -> Needs:
        """The views of a picture that lack layers, with these layers."""
        needs = []
        for view in self.parts:
            lacking = self._store.lacking(digest, [(view.name, layer) for layer in self.layers])
            if lacking:
                needs.append((view, tuple(layer for _, layer in lacking)))
        return tuple(needs)

    def _put_together(self, folder: Path | None) -> dict[Pair, Array] | None:
        """The arrays of the bank; None if the store turned out to be damaged."""
        if any(self._needs(digest) for digest in set(self.hashes)):
            return None
        ids = self.ids
        wanted = [view.name for view in self.views]
        filled = [view.name for view in self.parts]
        names = list(dict.fromkeys([*wanted, *filled]))
        widths = {layer: self._store.width(layer) for layer in self.layers}
        total = len(ids) * sum(widths.values()) * len(names) * self.dtype.itemsize
        room = Room(self.dtype, total, self.root, folder)
        arrays: dict[Pair, Array] = {}
        for name, layer in ((name, layer) for name in names for layer in self.layers):
            shape = (len(ids), widths[layer])
            arrays[name, layer] = (
                room.own(array_name(len(arrays)), shape) if name in wanted else room.passing(shape)
            )
        if self._store.fill(self.hashes, {p: a for p, a in arrays.items() if p[0] in filled}):
            return None
        for view in self.views:
            if view.name not in filled:
                for layer in self.layers:
                    self._combine(view, layer, arrays, ids)
        if folder is not None:
            for array in arrays.values():
                if isinstance(array, np.memmap):
                    array.flush()  # the file is read next, and not every system shares its pages
        return {pair: array for pair, array in arrays.items() if pair[0] in wanted}

    def _combine(
        self, view: View, layer: str, arrays: dict[Pair, Array], ids: Sequence[str]
    ) -> None:
        for start in range(0, len(ids), COMBINED):
            rows = slice(start, start + COMBINED)
            parts = [np.asarray(arrays[p.name, layer][rows], np.float32) for p in view.parts]
            made = view.combine(parts)
            arrays[view.name, layer][rows] = narrow(made, self.dtype, ids[rows], view.name, layer)
