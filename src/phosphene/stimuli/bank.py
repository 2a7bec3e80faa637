"""The feature bank: vectors by stimulus, view and layer, with where they came from."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene import _registry
from phosphene._saving import sha256_array, sha256_json
from phosphene.data._ids import concept_text, concepts_of, resolve_ids
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError, listing
from phosphene.stimuli._bank_files import read_bank, write_bank
from phosphene.stimuli.encoders import ImageEncoder, check_layers, get_encoder
from phosphene.stimuli.views import View, expand_views, get_view
from phosphene.stimuli.views._names import shorthand

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

    def __post_init__(self) -> None:
        if not self.arrays:
            raise DataError("a feature bank needs at least one array of vectors")
        if not self.stimuli.index.is_unique:
            twice = self.stimuli.index[self.stimuli.index.duplicated()].unique()
            raise DataError("stimulus ids are not unique", found=listing(twice))
        expected = {(view, layer) for view in self.views for layer in self.layers}
        if absent := sorted(expected - set(self.arrays)):
            raise DataError("every view needs every layer", found=f"none for {listing(absent)}")
        for layer in self.layers:
            widths = {view: self.arrays[view, layer].shape for view in self.views}
            good = (len(self.stimuli), next(iter(widths.values()))[-1])
            if wrong := {view: shape for view, shape in widths.items() if tuple(shape) != good}:
                raise DataError(f"vectors of layer {layer!r} differ in shape", found=wrong,
                                expected=f"{good}: stimuli x width")  # fmt: skip
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
        cache: str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        precision: str = "auto",
        progress: bool = True,
    ) -> FeatureBank:
        """Run an image encoder over views of pictures, once.

        Finished batches are kept by content (picture, view, layer, encoder, weights,
        preprocessing, precision, versions): a killed extraction goes on where it was, more views
        or pictures cost only themselves, and a changed parameter never finds old vectors.

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
        cache : path, optional
            Folder of finished batches; the user's cache folder when not given.
        batch_size : int
            Pictures per batch, which is also what a kill can lose.
        precision : {"auto", "fp32", "bf16"}
            Number format for an encoder given by name.
        progress : bool
            Show a bar when someone is watching.
        """
        from phosphene.stimuli._extract import encoder_address, extract

        network = get_encoder(encoder, precision=precision)
        chosen = expand_views(views)
        asked = check_layers(network, layers)
        arrays, timings = extract(
            stimuli,
            network,
            chosen,
            asked,
            cache=cache,
            batch_size=batch_size,
            show_progress=progress,
        )
        address = encoder_address(network)
        provenance = {
            "kind": "extracted",
            "encoder": {
                "id": address.pop("encoder"),
                "weights_hash": address.pop("weights_hash"),
                "preprocessing": address.pop("preprocessing"),
            },
            **address,
            "views": {view.name: {"kind": view.kind, **view.params} for view in chosen},
            "layers": list(asked),
        }
        hashes = stimuli.hashes()
        table = _table(
            stimuli.ids,
            concept=[str(c) for c in stimuli.table["concept"]],
            sha256=[str(hashes[id]) for id in stimuli.ids],
            caption=[str(c) for c in stimuli.table["caption"]],
        )
        default = network.default_layer if network.default_layer in asked else asked[-1]
        return cls(table, arrays, provenance, default, timings)

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
        arrays: dict[Key, NDArray[np.float32]] = {}
        for key, value in vectors.items():
            view, name = key if isinstance(key, tuple) else (key, layer)
            array = np.array(value, dtype=np.float32)
            if array.ndim != 2 or len(array) != len(ids):
                raise DataError(f"vectors of view {view!r} do not fit the ids",
                                found=array.shape, expected=(len(ids), "width"))  # fmt: skip
            if bad := np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
                raise DataError(
                    f"vectors of view {view!r} are not finite",
                    found=listing(ids[row] for row in bad),
                )
            arrays[view, name] = array
        table = _table(
            [str(id) for id in ids],
            concept=concepts_of(ids) if concepts is None else concepts,
            sha256=[""] * len(ids) if hashes is None else hashes,
            caption=[""] * len(ids),
        )
        names = list(dict.fromkeys(name for _, name in arrays))
        default = layer if layer in names else (names[-1] if names else layer)
        return cls(table, arrays, {"kind": "arrays", **dict(provenance or {})}, default)

    @classmethod
    def from_text(
        cls,
        concepts: Sequence[str] | Mapping[str, str],
        encoder: Any = "use",
        prompt: str = "{concept}",
    ) -> FeatureBank:
        """A bank of text vectors, as the view ``text``.

        Parameters
        ----------
        concepts : sequence of str, or mapping of id to text
            Concept names, which are then the ids too, or texts by stimulus id.
        encoder : str or TextEncoder
            Registered text encoder.
        prompt : str
            Template; ``{concept}`` stands for the text.
        """
        from phosphene.stimuli.text import embed_texts

        ids = [str(id) for id in concepts]
        if isinstance(concepts, Mapping):
            texts = [str(text) for text in concepts.values()]
        else:
            texts = [concept_text(id) for id in ids]
        vectors, captions, origin = embed_texts(texts, encoder, prompt)
        names = concepts_of(ids)
        table = _table(ids, concept=names, sha256=[""] * len(ids), caption=captions)
        provenance = {"kind": "text", "encoder": origin, "prompt": prompt}
        return cls(table, {("text", "vector"): vectors}, provenance, "vector")

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
        return np.asarray(resolve_ids(list(ids), self.ids, what="stimulus"), dtype=np.intp)

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
        array = self.arrays[self._view(view), self._layer(layer)]
        rows = slice(None) if ids is None else self.resolve(ids)
        return np.array(array[rows], dtype=np.float32)

    def stack(
        self,
        views: Sequence[str | View] | None = None,
        layer: str | None = None,
        ids: Iterable[str] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors of several views, shape (views, n, d); the word ``fovea`` means three levels."""
        names = self.views if views is None else self.expand(views)
        rows = slice(None) if ids is None else self.resolve(ids)
        n = len(self) if isinstance(rows, slice) else len(rows)
        stacked = np.empty((len(names), n, self.dim(layer)), dtype=np.float32)
        for place, name in zip(stacked, names, strict=True):
            place[:] = self.arrays[name, self._layer(layer)][rows]
        return stacked

    def expand(self, views: Sequence[str | View] | str | View) -> tuple[str, ...]:
        """Canonical names of views in this bank, from names and shorthands such as ``fovea``."""
        specs = [views] if isinstance(views, (str, View)) else views
        names: list[str] = []
        for spec in specs:
            several = None if spec in self.views else shorthand(spec)
            names += [self._view(view) for view in (several or (spec,))]
        return tuple(names)

    def space(self, layer: str | None = None) -> str:
        """Digest of the space that vectors of a layer live in; views share it."""
        name = self._layer(layer)
        encoder = self.provenance.get("encoder") or {"id": "undeclared", "dim": self.dim(name)}
        return str(sha256_json({"encoder": encoder, "layer": name}))

    @functools.cached_property
    def hash(self) -> str:
        """Digest of ids, vectors and provenance."""
        arrays = {
            f"{view}/{layer}": sha256_array(array) for (view, layer), array in self.arrays.items()
        }
        columns = {name: list(self.stimuli[name]) for name in ("concept", "sha256", "caption")}
        return str(
            sha256_json(
                {
                    "ids": self.ids,
                    "stimuli": columns,
                    "arrays": arrays,
                    "provenance": self.provenance,
                    "default_layer": self.default_layer,
                }
            )
        )

    def select(self, ids: Iterable[str]) -> FeatureBank:
        """The bank of some of the stimuli, in the order given."""
        rows = self.resolve(ids)
        arrays = {key: np.asarray(array[rows]) for key, array in self.arrays.items()}
        return FeatureBank(self.stimuli.iloc[rows], arrays, self.provenance, self.default_layer)

    # -- disk -------------------------------------------------------------------------------

    def save(
        self,
        folder: str | os.PathLike[str],
        dtype: Literal["float32", "float16"] | None = None,
    ) -> Path:
        """Write the bank: an npy file per view and layer, a table, JSON, and a manifest.

        Parameters
        ----------
        folder : path
            New, empty, or an older bank, which is replaced when all is written.
        dtype : {"float32", "float16"}, optional
            Number format on disk; as it is in memory when not given.
        """
        return write_bank(self if dtype is None else self._cast(dtype), folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = True) -> FeatureBank:
        """Read a bank that :meth:`save` wrote; its checksums are verified.

        Raises
        ------
        ArtefactError
            If a file is missing, truncated or changed, or the format is unknown.
        """
        parts, digest = read_bank(folder, mmap=mmap)
        bank = cls(**parts)
        bank.__dict__["hash"] = digest
        return bank

    # -- showing ----------------------------------------------------------------------------

    def __repr__(self) -> str:
        encoder = (self.provenance.get("encoder") or {}).get("id", "undeclared")
        return (
            f"FeatureBank({len(self)} stimuli, encoder {encoder!r}, "
            f"views {listing(self.views)}; layers {listing(self.layers)})"
        )

    def _repr_html_(self) -> str:
        encoder = self.provenance.get("encoder") or {}
        rows = {
            "stimuli": f"{len(self)} of {self.stimuli['concept'].nunique()} concepts",
            "encoder": encoder.get("id", "undeclared"),
            "weights": str(encoder.get("weights_hash", ""))[:16],
            "views": ", ".join(self.views),
            "layers": ", ".join(f"{layer} ({self.dim(layer)})" for layer in self.layers),
            "precision": self.provenance.get("precision", ""),
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value
        )
        return f"<table><caption>FeatureBank</caption>{cells}</table>"

    # -- private ----------------------------------------------------------------------------

    def _cast(self, dtype: str) -> FeatureBank:
        with np.errstate(over="ignore"):  # reported below, by view and layer
            arrays = {key: np.asarray(array, dtype=dtype) for key, array in self.arrays.items()}
        for key, array in arrays.items():
            if not np.isfinite(array).all():
                raise DataError(f"vectors of view {key[0]!r}, layer {key[1]!r} exceed {dtype}")
        return FeatureBank(self.stimuli, arrays, self.provenance, self.default_layer, self.timings)

    def _view(self, view: str | View) -> str:
        name = view.name if isinstance(view, View) else view
        if name in self.views:
            return name
        try:
            canonical = get_view(name).name
        except (UnknownNameError, DataError):
            canonical = name
        if canonical in self.views:
            return canonical
        raise UnknownNameError(
            f"the bank has no view {name!r}",
            expected="one of " + ", ".join(self.views),
            fix=_registry.did_you_mean(canonical, self.views) or "extract the bank with this view",
        )

    def _layer(self, layer: str | None) -> str:
        name = self.default_layer if layer is None else layer
        if name not in self.layers:
            raise UnknownNameError(
                f"the bank has no layer {name!r}",
                expected="one of " + ", ".join(self.layers),
                fix=_registry.did_you_mean(name, self.layers),
            )
        return name


def _table(ids: Sequence[str], **columns: Sequence[str]) -> pd.DataFrame:
    for name, values in columns.items():
        if len(values) != len(ids):
            raise DataError(f"{name} has another length than the ids",
                            found=len(values), expected=len(ids))  # fmt: skip
    return pd.DataFrame(
        {name: pd.Series([str(v) for v in values], dtype="str") for name, values in columns.items()}
    ).set_axis(pd.Index([str(id) for id in ids], dtype="str"), axis=0)
