"""Vectors kept by content: what was once computed is found again, whatever set asks for it.

A store is one folder per address (encoder, weights, preprocessing, precision, view, versions). It
holds chunk files, each written atomically and named by the content it answers for, so that a
killed run keeps what it finished and two processes at once can only write the same thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phosphene._logging import get_logger
from phosphene._saving import atomic_path, sha256_json, write_json

Vectors = NDArray[np.float32]
_log = get_logger(__name__)


class VectorStore:
    """The vectors of one address, by item (content hash) and layer.

    Parameters
    ----------
    root : Path
        Folder of all stores.
    address : mapping
        Everything that the vectors depend on besides the item and the layer; JSON values.
    label : str
        Readable beginning of the folder's name.
    """

    def __init__(self, root: Path, address: Mapping[str, Any], label: str) -> None:
        readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in label)[:60]
        self.folder = root / f"{readable}-{sha256_json(dict(address))[:32]}"
        self.address = dict(address)
        self._found: dict[tuple[str, str], Vectors] = {}
        self._read()

    def has(self, item: str, layers: Sequence[str]) -> bool:
        """Whether all the layers of an item are there."""
        return all((item, layer) in self._found for layer in layers)

    def get(self, items: Sequence[str], layer: str) -> Vectors:
        """Vectors of the items, shape (n, d)."""
        return np.stack([self._found[item, layer] for item in items])

    def add(self, items: Sequence[str], vectors: Mapping[str, Vectors]) -> None:
        """Write one chunk: for each layer an array (n, d) in the order of ``items``."""
        if not self._about.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._about, self.address)
        arrays = {
            layer: np.ascontiguousarray(array, np.float32) for layer, array in vectors.items()
        }
        name = sha256_json({"items": list(items), "layers": sorted(arrays)})[:32]
        metadata = {"items": json.dumps(list(items)), "sha256": _digest(arrays)}
        content = save(arrays, metadata=metadata)
        with atomic_path(self.folder / f"{name}.safetensors") as partial:
            partial.write_bytes(content)
        self._keep(items, arrays)

    @property
    def _about(self) -> Path:
        return self.folder / "about.json"

    def _keep(self, items: Sequence[str], arrays: Mapping[str, Vectors]) -> None:
        for layer, array in arrays.items():
            for item, row in zip(items, array, strict=True):
                self._found[item, layer] = row

    def _read(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="numpy") as file:
                    metadata = file.metadata()
                    arrays = {layer: file.get_tensor(layer) for layer in file.keys()}  # noqa: SIM118
                items = json.loads(metadata["items"])
                if _digest(arrays) != metadata["sha256"]:
                    raise ValueError("its content is not what was written")
                self._keep(items, arrays)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                # A cache can always be computed again, so a damaged part is no reason to stop.
                _log.warning("computing again what %s held: %s", path, error)


def _digest(arrays: Mapping[str, Vectors]) -> str:
    digest = hashlib.sha256()
    for layer in sorted(arrays):
        digest.update(f"{layer} {arrays[layer].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[layer]).tobytes())
    return digest.hexdigest()
