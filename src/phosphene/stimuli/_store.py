"""Vectors kept by content: what was once computed is found again, whatever set asks for it.

A store is one folder per address: everything that a vector depends on besides the picture, the
view and the layer. It holds one chunk file per batch with all views and layers of that batch,
written atomically, so that a killed run keeps what it finished. A chunk is named by what it
answers for; the first of several processes to write it decides its bits, and all of them read it.
Opening a store reads only the heads of its files (20 ms for 16,540 pictures of nine views); the
vectors come later, chunk by chunk, each compared with its checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phosphene._logging import get_logger
from phosphene._saving import sha256_json, write_bytes, write_json
from phosphene.errors import DataError

Pair = tuple[str, str]
"""View and layer, both by canonical name."""
Array = NDArray[Any]
_BROKEN = (SafetensorError, ValueError, KeyError, TypeError)
_log = get_logger(__name__)


@dataclass(frozen=True)
class _Chunk:
    path: Path
    pairs: Mapping[Pair, int]  # number of the pair's tensor


class VectorStore:
    """The vectors of one address, by item (content hash), view and layer.

    Parameters
    ----------
    root : Path
        Folder of all stores.
    address : mapping
        Everything that the vectors depend on besides item, view and layer; JSON values, among
        them ``dtype``, the number format that vectors are kept in.
    label : str
        Readable beginning of the folder's name.
    """

    def __init__(self, root: Path, address: Mapping[str, Any], label: str) -> None:
        readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in label)[:60]
        self.folder = root / f"{readable}-{sha256_json(dict(address))[:32]}"
        self.address = dict(address)
        self.dtype = np.dtype(address["dtype"])
        self._chunks: dict[Path, _Chunk] = {}
        self._where: dict[str, list[tuple[Path, int]]] = {}
        self._widths: dict[str, int] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._open(path)

    def lacking(self, item: str, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
        """The pairs of view and layer that an item has no vector for."""
        return tuple(pair for pair in pairs if self._locate(item, pair) is None)

    def width(self, layer: str) -> int:
        """Width of the vectors of a layer that some item has."""
        return self._widths[layer]

    def add(self, items: Sequence[str], vectors: Mapping[Pair, Array]) -> None:
        """Write one chunk: for each view and layer an array (n, d) in the order of ``items``.

        Raises
        ------
        DataError
            If the width of a layer is not what it was before.
        StorageError
            If it cannot be written; what was written before is intact.
        """
        pairs = sorted(vectors)
        arrays = [np.ascontiguousarray(vectors[pair], self.dtype) for pair in pairs]
        for (view, layer), array in zip(pairs, arrays, strict=True):
            if (known := self._widths.setdefault(layer, array.shape[1])) != array.shape[1]:
                raise DataError(f"the width of layer {layer!r} changed, at view {view!r}",
                                found=array.shape[1], expected=known)  # fmt: skip
        index = json.dumps(
            {
                "items": list(items),
                "pairs": pairs,
                "widths": [array.shape[1] for array in arrays],
            }
        )
        name = _name(index)
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            about = self.folder / "about.json"
            if not about.exists():
                write_json(about, self.address)
            digests = [_digest(name, number, array) for number, array in enumerate(arrays)]
            tensors = {str(number): array for number, array in enumerate(arrays)}
            metadata = {"index": index, "sha256": json.dumps(digests)}
            write_bytes(path, save(tensors, metadata=metadata))
        self._open(path)

    def fill(self, items: Sequence[str], targets: Mapping[Pair, Array]) -> list[Path]:
        """Copy vectors of the items into arrays (n, d), reading every chunk once.

        Parameters
        ----------
        items : sequence of str
            One per row; all must be there, see :meth:`lacking`.
        targets : mapping of (view, layer) to array, shape (n, d)
            What to fill, possibly memory-mapped.

        Returns
        -------
        list of Path
            Chunks that turned out to be damaged. They are removed and their items lack again;
            the targets are then not to be used.
        """
        wanted: dict[Path, dict[Pair, tuple[list[int], list[int]]]] = {}
        for row, item in enumerate(items):
            for pair in targets:
                found = self._locate(item, pair)
                if found is None:
                    raise KeyError(item)
                into, source = wanted.setdefault(found[0], {}).setdefault(pair, ([], []))
                into.append(row)
                source.append(found[1])
        damaged = []
        for path, parts in wanted.items():
            try:
                self._copy(path, parts, targets)
            except (OSError, *_BROKEN) as error:
                self._drop(path, error)
                damaged.append(path)
        return damaged

    def _copy(
        self,
        path: Path,
        parts: Mapping[Pair, tuple[list[int], list[int]]],
        targets: Mapping[Pair, Array],
    ) -> None:
        numbers = self._chunks[path].pairs
        with safe_open(path, framework="numpy") as file:
            # From the file and not from memory: another process may have written it meanwhile.
            digests = json.loads(file.metadata()["sha256"])
            for pair, (into, source) in parts.items():
                array = file.get_tensor(str(numbers[pair]))
                if _digest(path.stem, numbers[pair], array) != digests[numbers[pair]]:
                    raise ValueError("its content is not what was written")
                targets[pair][into] = array[source]

    def _locate(self, item: str, pair: Pair) -> tuple[Path, int] | None:
        for path, row in self._where.get(item, ()):
            if pair in self._chunks[path].pairs:
                return path, row
        return None

    def _open(self, path: Path) -> None:
        if path in self._chunks:
            return
        try:
            with safe_open(path, framework="numpy") as file:
                text = file.metadata()["index"]
            if _name(text) != path.stem:
                raise ValueError("its head is not what was written")
            index = json.loads(text)
            pairs = {(view, layer): number for number, (view, layer) in enumerate(index["pairs"])}
            for (_, layer), width in zip(pairs, index["widths"], strict=True):
                self._widths[layer] = int(width)
        except (OSError, *_BROKEN) as error:
            self._drop(path, error)
            return
        self._chunks[path] = _Chunk(path, pairs)
        for row, item in enumerate(index["items"]):
            self._where.setdefault(item, []).append((path, row))

    def _drop(self, path: Path, error: Exception) -> None:
        # A cache can always be computed again, so a damaged part is no reason to stop.
        _log.warning("computing again what %s held: %s", path, error)
        for item in [item for item, places in self._where.items() if path in dict(places)]:
            self._where[item] = [place for place in self._where[item] if place[0] != path]
        self._chunks.pop(path, None)
        if not isinstance(error, OSError):
            with suppress(OSError):
                path.unlink()


def _name(index: str) -> str:
    return hashlib.sha256(index.encode()).hexdigest()[:32]


def _digest(name: str, number: int, array: Array) -> str:
    digest = hashlib.sha256(f"{name} {number} {array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
