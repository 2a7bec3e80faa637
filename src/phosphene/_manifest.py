"""Checksums of everything that phosphene writes.

One flipped bit in an array file is read back silently wrong, so a folder of ours carries a
``manifest.json`` with the size and SHA-256 of every file in it. Files up to ``CHECK_ON_LOAD`` bytes
are checked when the folder is loaded; larger ones have a digest per block and each block is checked
the first time that it is read (`CheckedArray`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import ArtefactError, listing

CHECK_ON_LOAD = 256 * 2**20
BLOCK = 16 * 2**20
MANIFEST = "manifest.json"
VERSION = 1


def jsonable(value: Any) -> Any:
    """Turn numpy values, paths, tuples and sets into what JSON knows; NaN and inf become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [jsonable(item) for item in sorted(value)]
    if isinstance(value, Iterable):
        return [jsonable(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def sha256_json(obj: Any) -> str:
    """SHA-256 of the canonical JSON form (sorted keys, no spaces) of ``obj``.

    Examples
    --------
    >>> sha256_json({"b": 1, "a": (2, 3)}) == sha256_json({"a": [2, 3], "b": 1})
    True
    """
    text = json.dumps(jsonable(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    for block in _blocks(Path(path)):
        digest.update(block)
    return digest.hexdigest()


def sha256_array(array: Any) -> str:
    """SHA-256 over dtype, shape and values (C order) of an array or array-like, read in pieces.

    Examples
    --------
    >>> import numpy as np
    >>> sha256_array(np.zeros(4)) == sha256_array(np.zeros((2, 2)))
    False
    """
    digest = hashlib.sha256(f"{np.dtype(array.dtype).str}{tuple(array.shape)}".encode())
    for chunk in row_chunks(array):
        digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()


def row_chunks(array: Any, size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Pieces of about ``size`` bytes along the first axis, so that nothing is loaded whole."""
    shape = tuple(array.shape)
    if not shape or 0 in shape:
        yield np.asarray(array)
        return
    per_row = np.dtype(array.dtype).itemsize * math.prod(shape[1:])
    step = max(1, size // per_row)
    for start in range(0, shape[0], step):
        yield np.asarray(array[start : start + step])


def write_manifest(
    folder: str | Path, *, kind: str | None = None, changed: Iterable[str] | None = None
) -> dict[str, Any]:
    """Write ``manifest.json`` with size and SHA-256 of every file below ``folder``.

    Parameters
    ----------
    folder : path
        Hidden files (names that start with a dot) are left out.
    kind : str, optional
        What the folder holds, e.g. ``"recording"``; `verify_folder` can ask for it.
    changed : iterable of str, optional
        Relative names of the files written since the manifest was. Only these are hashed anew, so
        that damage to the others is still noticed. Default: all files.

    Returns
    -------
    dict
        The manifest.
    """
    from phosphene._saving import write_json

    folder = Path(folder)
    old: dict[str, Any] = {}
    if changed is not None and (folder / MANIFEST).exists():
        previous = read_manifest(folder)
        kind = kind or previous["kind"]
        fresh = set(changed)
        old = {name: entry for name, entry in previous["files"].items() if name not in fresh}
    files = {name: old.get(name) or _describe(folder / name) for name in _contents(folder)}
    body = {"version": VERSION, "kind": kind or "", "files": files}
    manifest = {**body, "sha256": sha256_json(body)}
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a folder, after a check against its own digest.

    Raises
    ------
    ArtefactError
        If it is missing, unreadable, changed or of an unknown version.
    """
    path = Path(folder) / MANIFEST
    again = "copy the folder again from its source, or write it anew"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        body = {key: manifest[key] for key in ("version", "kind", "files")}
        stated = manifest["sha256"]
    except FileNotFoundError:
        raise ArtefactError(
            f"{path} is missing",
            found="a folder that phosphene did not finish writing, or another folder",
            expected=f"a folder with {MANIFEST}",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} cannot be read", found=error, fix=again) from error
    if body["version"] != VERSION:
        raise ArtefactError(
            f"{path} is of another version", found=body["version"], expected=VERSION
        )
    if (found := sha256_json(body)) != stated or set(manifest) != {*body, "sha256"}:
        raise ArtefactError(
            f"{path} was changed", found=f"sha256 {found}", expected=f"sha256 {stated}", fix=again
        )
    return {**body, "sha256": stated}


def verify_folder(
    folder: str | Path,
    *,
    kind: str | None = None,
    full: bool = False,
    allow_extra: bool = False,
) -> dict[str, Any]:
    """Check a folder against its manifest.

    Parameters
    ----------
    folder : path
        A folder with a manifest.
    kind : str, optional
        Raise unless the folder holds this.
    full : bool
        Also read files above ``CHECK_ON_LOAD``, which are otherwise checked block by block when
        they are read.
    allow_extra : bool
        Accept files that the manifest does not list.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ArtefactError
        Naming the file with what was found and expected, if one is missing, truncated, changed or
        not listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if kind is not None and manifest["kind"] != kind:
        raise ArtefactError(
            f"{folder} holds something else", found=manifest["kind"] or "unnamed", expected=kind
        )
    files: dict[str, Any] = manifest["files"]
    present = set(_contents(folder))
    if missing := [name for name in files if name not in present]:
        raise ArtefactError(
            f"files are missing in {folder}: {listing(missing)}",
            found=f"{len(present)} files",
            expected=f"{len(files)} files",
        )
    if not allow_extra and (extra := sorted(present - set(files))):
        raise ArtefactError(
            f"files in {folder} that its manifest does not list: {listing(extra)}",
            found=f"{len(present)} files",
            expected=f"{len(files)} files",
            fix="move them elsewhere",
        )
    for name, entry in files.items():
        verify_file(folder / name, entry, full=full)
    return manifest


def verify_file(path: Path, entry: Mapping[str, Any], *, full: bool = False) -> None:
    """Check one file against its entry in a manifest."""
    size = path.stat().st_size
    if size != entry["size"]:
        raise ArtefactError(
            f"{path} is {'truncated' if size < entry['size'] else 'too long'}",
            found=f"{size} bytes",
            expected=f"{entry['size']} bytes",
        )
    if "blocks" not in entry or full:
        _compare(str(path), sha256_file(path), entry["sha256"])


def open_checked(path: str | Path) -> CheckedArray | np.memmap[Any, Any]:
    """Memory-map an npy file; one with block digests in the manifest beside it comes checked."""
    path = Path(path)
    if (path.parent / MANIFEST).exists():
        entry = read_manifest(path.parent)["files"].get(path.name, {})
        if "blocks" in entry:
            return CheckedArray(path, entry)
    return _memory_map(path)


class CheckedArray:
    """Array-like over a large npy file that checks each block on its first read.

    It has ``shape``, ``dtype``, ``ndim``, ``len`` and indexing as a numpy memory map has; what
    indexing returns has been compared with the SHA-256 in the manifest.

    Parameters
    ----------
    path : Path
        The npy file.
    entry : mapping
        Its entry in the manifest: ``size``, ``block_size`` and ``blocks`` (digests in order).
    """

    def __init__(self, path: Path, entry: Mapping[str, Any]) -> None:
        self.path = path
        self._digests: list[str] = list(entry["blocks"])
        self._block = int(entry["block_size"])
        self._checked = np.zeros(len(self._digests), dtype=bool)
        verify_file(path, entry)
        self._check(np.array([0]))  # the header lies in it: it says how to read all the rest
        self._map = _memory_map(path)
        self.shape: tuple[int, ...] = self._map.shape
        self.dtype: np.dtype[Any] = self._map.dtype
        self.ndim: int = self._map.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        done = f"{int(self._checked.sum())} of {len(self._digests)} blocks checked"
        return f"CheckedArray({self.path.name}, shape={self.shape}, dtype={self.dtype}, {done})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the file again instead of receiving a copy of its content.
        return open_checked, (self.path,)

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> Any:
        self._check(self._touched(key))
        return self._map[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = np.asarray(self[:])
        if dtype is not None and np.dtype(dtype) != whole.dtype:
            return whole.astype(dtype)
        return whole.copy() if copy else whole

    def take(self, rows: Any) -> NDArray[Any]:
        """Copy of the given rows of the first axis."""
        return np.array(self[np.asarray(rows, dtype=np.int64)])

    def _touched(self, key: Any) -> NDArray[np.int64]:
        first = key[0] if isinstance(key, tuple) and key else key
        everything = np.arange(len(self._digests))
        scattered = self.ndim > 1 and self._map.flags["F_CONTIGUOUS"]
        if first is None or first is Ellipsis or scattered:
            return everything
        rows = np.atleast_1d(np.arange(len(self))[first]).ravel()
        row_bytes = self._map.strides[0]
        if rows.size == 0 or row_bytes == 0:
            return everything[:0]
        begin = self._map.offset + rows * row_bytes
        low, high = begin // self._block, (begin + row_bytes - 1) // self._block
        marks = np.zeros(len(self._digests) + 1, dtype=np.int64)
        np.add.at(marks, low, 1)
        np.add.at(marks, high + 1, -1)
        return np.flatnonzero(np.cumsum(marks[:-1]) > 0)

    def _check(self, blocks: NDArray[np.int64]) -> None:
        todo = blocks[~self._checked[blocks]]
        if todo.size == 0:
            return
        with self.path.open("rb") as file:
            for number in todo.tolist():
                file.seek(number * self._block)
                found = hashlib.sha256(file.read(self._block)).hexdigest()
                start = number * self._block
                where = f"{self.path}, bytes {start} to {start + self._block}"
                _compare(where, found, self._digests[number])
                self._checked[number] = True


def _memory_map(path: Path) -> np.memmap[Any, Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise ArtefactError(f"{path} cannot be read as an array", found=error) from error


def _compare(where: str, found: str, expected: str) -> None:
    if found != expected:
        raise ArtefactError(
            f"{where} was changed after it was written",
            found=f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix="copy the file again from its source, or compute it anew",
        )


def _describe(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size <= CHECK_ON_LOAD:
        return {"size": size, "sha256": sha256_file(path)}
    whole = hashlib.sha256()
    blocks = []
    for block in _blocks(path):
        whole.update(block)
        blocks.append(hashlib.sha256(block).hexdigest())
    return {"size": size, "sha256": whole.hexdigest(), "block_size": BLOCK, "blocks": blocks}


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _contents(folder: Path) -> list[str]:
    names = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            names.append(name.as_posix())
    return sorted(name for name in names if name != MANIFEST)
