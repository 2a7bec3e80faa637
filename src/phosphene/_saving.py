"""Writing that survives a kill and a full disk, and reading that never runs code.

Every file is written beside its final place, flushed to the disk and then renamed over the old
one, so that a reader finds the old content or the new, never a mixture. Formats: JSON, YAML, CSV,
npy and safetensors; no pickles.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene._manifest import (
    MANIFEST,
    CheckedArray,
    jsonable,
    open_checked,
    read_manifest,
    row_chunks,
    sha256_array,
    sha256_file,
    sha256_json,
    verify_folder,
    write_manifest,
)
from phosphene._tables import read_table, write_table
from phosphene.errors import ArtefactError, DataError, PhospheneError, StorageError

__all__ = [
    "CheckedArray",
    "atomic_folder",
    "atomic_path",
    "jsonable",
    "open_checked",
    "read_array",
    "read_json",
    "read_manifest",
    "read_table",
    "read_tensors",
    "read_yaml",
    "require_replaceable",
    "sha256_array",
    "sha256_file",
    "sha256_json",
    "verify_folder",
    "write_array",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_table",
    "write_tensors",
    "write_text",
    "write_yaml",
]

_REASONS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large for this file system",
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "the path is a folder, not a file",
    errno.EEXIST: "a file of this name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an input/output error",
}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well it replaces ``path``.

    Parameters
    ----------
    path : path
        Final place; missing folders are made.

    Yields
    ------
    Path
        Where the block writes (and closes) the file.

    Raises
    ------
    StorageError
        If writing fails (no space, no permission); the old file is untouched and the temporary one
        is removed.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; when the block ends well it takes its place.

    An existing folder is replaced only if it is empty or carries a manifest of ours.

    Raises
    ------
    StorageError
        If writing fails, or if ``path`` holds files that phosphene did not write.
    """
    path = Path(path)
    require_replaceable(path)
    token = uuid.uuid4().hex[:8]
    partial = path.with_name(f".{path.name}.{token}.tmp")
    old = path.with_name(f".{path.name}.{token}.old")
    try:
        with _storage_errors(path):
            partial.mkdir(parents=True)
            yield partial
            for part in [*partial.rglob("*"), partial]:
                _sync(part)
            if path.exists():
                path.replace(old)
            try:
                partial.replace(path)
            except OSError:
                if old.exists():
                    old.replace(path)
                raise
            _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise unless `atomic_folder` may put a folder in this place.

    Raises
    ------
    StorageError
        If ``path`` is a file, or holds files that phosphene did not write.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path} is a file, not a folder", fix="choose another folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).exists():
        raise StorageError(
            f"{path} holds files that phosphene did not write",
            expected="a new or empty folder, or one that phosphene wrote",
            fix="choose another folder",
        )


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except PhospheneError:
        raise
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"{path} could not be written: {_REASONS[error.errno]}",
            found=error,
            fix="free some space and run again; what was saved before is intact"
            if full
            else "choose another folder or mend its permissions",
        ) from error


def _sync(path: Path) -> None:
    # A rename may reach the disk before the content does: after a power cut the file were empty.
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open folders, and orders renames itself
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, obj: Any) -> None:
    """Write readable JSON atomically; numpy values are converted, NaN and inf become null."""
    text = json.dumps(jsonable(obj), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises
    ------
    ArtefactError
        If the file is missing or is not JSON.
    """
    try:
        return json.loads(_read_bytes(path))
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON", found=error) from error


def write_yaml(path: str | Path, obj: Any) -> None:
    """Write YAML atomically, keys in the order given."""
    import yaml

    write_text(path, yaml.safe_dump(jsonable(obj), sort_keys=False, allow_unicode=True))


def read_yaml(path: str | Path) -> Any:
    """Read YAML (plain data only).

    Raises
    ------
    ArtefactError
        If the file is missing or is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(_read_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid YAML", found=error) from error


def write_array(path: str | Path, array: Any) -> None:
    """Write an array as npy atomically, piece by piece when it is large or memory-mapped.

    Raises
    ------
    DataError
        If the array holds Python objects, which only a pickle could store.
    """
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        array = np.asarray(array)
    dtype = np.dtype(array.dtype)
    if dtype.hasobject:
        raise DataError(f"{path}: an array of Python objects is not saved", found=dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(array.shape),
    }
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in row_chunks(array):
            file.write(np.ascontiguousarray(chunk).data)


def read_array(path: str | Path, *, mmap: bool = False) -> Any:
    """Read an npy file, whole or as a memory map.

    Parameters
    ----------
    path : path
        The npy file.
    mmap : bool
        Map the file instead of loading it. A file with block digests in the manifest beside it
        comes as a `CheckedArray`, which checks each block on its first read.

    Raises
    ------
    ArtefactError
        If the file is missing, truncated or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"{path} is missing")
    array = open_checked(path)
    return array if mmap else np.array(array)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named tensors (torch or numpy) as safetensors, atomically.

    Parameters
    ----------
    path : path
        The file.
    tensors : mapping of str to torch.Tensor or ndarray
        Moved to the CPU and made contiguous.
    metadata : mapping, optional
        Stored in the file's header; values that are not text are stored as JSON.
    """
    import torch
    from safetensors.torch import save

    ready = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            tensor = torch.from_numpy(np.array(tensor))
        # A copy, because safetensors refuses tensors that share memory (tied weights).
        ready[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    notes = {
        key: value if isinstance(value, str) else json.dumps(jsonable(value))
        for key, value in (metadata or {}).items()
    }
    write_bytes(path, save(ready, metadata=notes))


def read_tensors(
    path: str | Path, *, framework: str = "torch"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a safetensors file.

    Parameters
    ----------
    path : path
        The file.
    framework : {"torch", "numpy"}
        Type of the tensors returned.

    Returns
    -------
    tensors : dict of str to torch.Tensor or ndarray
    metadata : dict of str to str

    Raises
    ------
    ArtefactError
        If the file is missing, truncated or of another format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"{path} is missing")
    try:
        with safe_open(path, framework="pt" if framework == "torch" else "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read as safetensors", found=error) from error


def load_array_file(path: str | Path) -> NDArray[Any]:
    """Load a foreign npy file without ever unpickling.

    Raises
    ------
    DataError
        If the file is missing, unreadable or holds Python objects.
    """
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array", found=error) from error


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read", found=error) from error
