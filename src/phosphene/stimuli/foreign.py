"""Feature files of other people and programs: read into a bank, and banks written as npz.

Files of released code (UBP's and ATM's ``.pt``, NICE's ``.npy``) hold vectors but not what they are
of. The order of a matrix must therefore be stated; it is never guessed. What a file says about its
encoder cannot be checked, and the bank's provenance says that: kind ``foreign``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene import _registry
from phosphene._saving import sha256_file
from phosphene._unpickle import load_npy, load_pt
from phosphene.data._ids import resolve_ids
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.stimuli._npz import export_npz, import_npz, is_npz, read_npz
from phosphene.stimuli.views import View, get_view

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank

__all__ = ["export_npz", "import_features", "import_npz"]

Key = str | Sequence[str]


def import_features(
    path: str | os.PathLike[str],
    *,
    encoder: str,
    ids: Sequence[str] | None = None,
    stimuli: StimulusSet | None = None,
    concepts: Sequence[str] | None = None,
    view: str | View = "original",
    layer: str = "vector",
    key: Key | Mapping[str, Key] | None = None,
) -> FeatureBank:
    """A bank of the vectors in a feature file that phosphene did not write.

    Pickled files are read by a machine that builds plain data only and runs nothing.

    Parameters
    ----------
    path : path
        ``.pt`` of `torch.save`, ``.npy`` or ``.npz``, recognised by content. It may hold a matrix
        (n, d) or (n, 1, d), a dict from names to vectors, or a dict of such things (use ``key``).
    encoder : str
        What made the vectors, as declared by whoever made the file; cannot be checked.
    ids : sequence of str, optional
        Stimulus ids. For a matrix: those of its rows, in order. For a dict from names to vectors:
        which of them, in any spelling of the path; all of them when nothing is given.
    stimuli : StimulusSet, optional
        Instead of ``ids``: the set's ids in the set's order, and its concepts.
    concepts : sequence of str, optional
        Concept of each id; from the set or the ids when not given.
    view : str or View
        What was done to the pictures, as declared.
    layer : str
        Name of the layer, as declared.
    key : str, sequence of str, or mapping of view to these, optional
        Where the vectors are in a dict, a sequence leading into nested dicts. A mapping reads
        several views: ``{"fovea(k=45)": ("img_features", "low"), ...}``.

    Returns
    -------
    FeatureBank
        With provenance of kind ``foreign``: file name, sha256, layout and declared encoder.

    Raises
    ------
    DataError
        If the file is missing, damaged or holds more than plain data; if the key is missing (those
        found are listed); if rows and ids differ in number; if vectors are not finite numbers.

    Examples
    --------
    NICE's file of the 200 test images::

        import_features("clip_feature_maps_test.npy", ids=test_images, encoder="clip ViT-L/14")

    UBP's, a dict from image path to vector for each level of blur::

        import_features("ubp_train.pt", encoder="open_clip RN50",
                        key={"gaussian(k=45)": ("img_features", "low"),
                             "gaussian(k=51)": ("img_features", "medium")})
    """
    from phosphene.stimuli.bank import FeatureBank

    file = Path(path)
    if ids is not None and stimuli is not None:
        raise DataError("ids and stimuli are both given", expected="one of them")
    if stimuli is not None:
        ids = stimuli.ids
        concepts = stimuli.concepts.tolist() if concepts is None else concepts
    wanted = None if ids is None else [str(id) for id in ids]
    content = _read(file)
    keys: dict[str, Key | None] = (
        {_name(shown): where for shown, where in key.items()}
        if isinstance(key, Mapping)
        else {_name(view): key}
    )
    arrays, layouts = {}, {}
    for shown, where in keys.items():
        found, place = _walk(content, where, file)
        names, vectors = _matrix(found, wanted, place, file)
        if wanted is None:
            wanted = names  # the first dict's own; those of other views must be the same
        arrays[shown, layer] = vectors
        layouts[shown] = {
            "key": place,
            "layout": "matrix" if names is None else "by name",
        }
    assert wanted is not None
    origin = {"name": file.name, "views": layouts}
    return FeatureBank.from_arrays(
        wanted,
        arrays,
        concepts=concepts,
        layer=layer,
        provenance={
            "kind": "foreign",
            # Not merely an id: vectors of a declared encoder are never taken for computed ones.
            "encoder": {"id": str(encoder), "declared": True},
            "layers": [layer],
            "files": {sha256_file(file): origin},
        },
    )


# -- reading ----------------------------------------------------------------------------------


def _read(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            start = stream.read(6)
    except OSError as error:
        raise DataError(f"the feature file {file} cannot be read", found=error) from error
    if start == b"\x93NUMPY":
        return load_npy(file)
    if start[:4] == b"PK\x03\x04" and is_npz(file):
        return read_npz(file)
    return load_pt(file)


def _name(view: str | View) -> str:
    """Canonical name of a view; of a kind that phosphene does not have, the name as it is."""
    if isinstance(view, str) and view.partition("(")[0].strip() not in _registry.names("view"):
        return view
    return get_view(view).name


def _walk(content: Any, key: Key | None, file: Path) -> tuple[Any, str]:
    """What is under a key, and how the key is written."""
    path = () if key is None else (key,) if isinstance(key, str) else tuple(key)
    for depth, step in enumerate(path):
        known = content if isinstance(content, dict) else {}
        if step not in known:
            where = " / ".join(path[:depth]) or "the file"
            raise DataError(
                f"{file} has no {step!r} in {where}",
                found=listing(map(repr, known), 12) if known else _described(content),
                expected="a key of the dict",
            )
        content = content[step]
    if isinstance(content, dict) and not _by_name(content):
        if key is None and len(content) == 1:  # there is nothing to mistake it for
            ((only, inner),) = content.items()
            found, rest = _walk(inner, None, file)
            return found, f"{only} / {rest}" if rest else str(only)
        raise DataError(
            f"{file} holds several things",
            found=listing((f"{k!r}: {_described(v)}" for k, v in content.items()), 12),
            expected="key=... to say which of them, a tuple for keys within keys",
        )
    return content, " / ".join(path)


def _by_name(content: Mapping[Any, Any]) -> bool:
    """Whether a dict leads from names to vectors, and not from kinds of things to matrices."""
    vectors = all(
        isinstance(value, np.ndarray) and value.ndim in (1, 2) and value.shape[:-1] in ((), (1,))
        for value in content.values()
    )
    return bool(content) and vectors


def _matrix(
    found: Any, ids: list[str] | None, place: str, file: Path
) -> tuple[list[str] | None, NDArray[np.float32]]:
    """Names of a dict, None for a matrix, and vectors (n, d) in the order of the ids."""
    what = f"{file}, {place}" if place else str(file)
    names: list[str] | None = None
    if isinstance(found, dict):
        names = [str(name) for name in found]
        rows = range(len(names)) if ids is None else resolve_ids(ids, names)
        values = [np.asarray(value).reshape(-1) for value in found.values()]
        widths = {len(value) for value in values}
        if len(widths) > 1:
            raise DataError(f"{what}: vectors differ in width", found=listing(sorted(widths)))
        array = np.stack([values[row] for row in rows])
    else:
        array = _rows(found, what)
        if ids is None:
            raise DataError(
                f"{what} does not say which stimuli its {len(array)} rows are of",
                expected="ids=... or stimuli=..., in the order of the rows",
            )
        if len(array) != len(ids):
            raise DataError(f"{what} has another number of rows than there are ids",
                            found=f"{len(array)} rows of {array.shape[1]} numbers",
                            expected=f"{len(ids)} rows")  # fmt: skip
    if array.dtype.kind != "f":
        raise DataError(f"{what} does not hold floating-point vectors",
                        found=array.dtype, expected="float16, float32 or float64")  # fmt: skip
    with np.errstate(over="ignore"):  # reported below, by name
        narrow = array.astype(np.float32)
    if bad := np.flatnonzero(~np.isfinite(narrow).all(axis=1)).tolist():
        known = ids if ids is not None else names
        raise DataError(
            f"{what}: {len(bad)} vectors are not finite",
            found=listing(known[row] if known is not None else row for row in bad),
        )
    return names, narrow


def _rows(found: Any, what: str) -> NDArray[Any]:
    """A matrix (n, d) from what may also be a list of vectors or have an axis of length 1."""
    if isinstance(found, (list, tuple)) or (
        isinstance(found, np.ndarray) and found.dtype == object and found.ndim
    ):
        parts = [np.asarray(part) for part in found]
        if not parts or len({part.shape for part in parts}) > 1:
            raise DataError(f"{what}: vectors differ in shape", found=_described(found))
        found = np.stack(parts)
    if isinstance(found, np.ndarray) and found.ndim == 3 and found.shape[1] == 1:
        found = found[:, 0]
    if not isinstance(found, np.ndarray) or found.ndim != 2 or 0 in found.shape:
        raise DataError(f"{what} does not hold one vector per stimulus",
                        found=_described(found), expected="shape (n, d) or (n, 1, d)")  # fmt: skip
    return found


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} of {value.dtype}"
    if isinstance(value, (dict, list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
