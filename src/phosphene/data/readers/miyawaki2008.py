"""Miyawaki et al. 2008, block patterns with 28 x 28 figures, as re-packed by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._manifest import sha256_array
from phosphene._registry import register
from phosphene.data.datasets import get_dataset
from phosphene.data.readers._mat5 import read_mat5
from phosphene.data.readers._source import check_counts, naming, read_op
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing

SIDE = 28
PARTS = {"train": "Trn", "test": "Test"}
KEYS = tuple(f"{what}{part}" for part in PARTS.values() for what in ("fmri", "stim", "label"))


@register("reader", "miyawaki2008")
def read_miyawaki2008(
    path: str | Path, *, strict: bool = True, name: str = "miyawaki2008"
) -> Recording:
    """Read the block patterns.

    Parameters
    ----------
    path : path
        ``miyawaki_structured_28x28.mat``.
    strict : bool
        Refuse another number of blocks, voxels, sessions or figures than the file is known to
        have; else log it.
    name : str
        Name of the recording.

    Returns
    -------
    Recording
        Signals (blocks, voxels), float32. Trials: ``stimulus`` is the figure, by a hash of its
        pixels (``figure-1a2b3c4d``); ``session`` is what the file calls its label; ``label``
        repeats that number, so that whoever takes it for a class can be shown that it is not
        (`phosphene.data.blocks.confounded_blocks`); ``file_split`` is the file's own split, which
        mixes sessions and repeats figures and is therefore not ``split``; ``sample`` is the place
        in the re-packed series, where the file says it. `read_miyawaki2008_stimuli` has the
        figures.

    Raises
    ------
    DataError
        If the file is missing or damaged, lacks a field, or holds other counts.

    Notes
    -----
    doi:10.1016/j.neuron.2008.11.004.
    """
    path = Path(path)
    content = _load(path)
    tables, signals = [], []
    for split, part in PARTS.items():
        voxels, figures, labels = (
            _matrix(content, f"{what}{part}", path) for what in ("fmri", "stim", "label")
        )
        if not len(voxels) == len(figures) == labels.size:
            raise DataError(
                f"{path}: the fields of {part!r} differ in length",
                found=f"{len(voxels)} patterns, {len(figures)} figures, {labels.size} labels",
            )
        number = labels.ravel()
        if (number != np.round(number)).any() or number.min() < 0 or number.max() > 1e6:
            raise DataError(f"{path}: label{part} holds other things than session numbers")
        table = pd.DataFrame(
            {
                "stimulus": [figure_id(figure) for figure in figures],
                "session": [str(int(n)) for n in number],
                "label": [str(int(n)) for n in number],
                "file_split": split,
            }
        )
        place = content.get("train_indices" if split == "train" else "test_indices")
        if place is not None and np.size(place) == len(table):
            table["sample"] = np.asarray(place, dtype=np.int64).ravel()
        tables.append(table)
        with np.errstate(over="ignore"):  # becomes inf, and is named by the check
            signals.append(voxels.astype(np.float32))
    if signals[0].shape[1] != signals[1].shape[1]:
        raise DataError(
            f"{path}: the two parts have other voxels",
            found=f"{signals[0].shape[1]} and {signals[1].shape[1]}",
        )
    trials = pd.concat(tables, ignore_index=True)
    counts = {
        "trials": len(trials),
        "voxels": signals[0].shape[1],
        "sessions": trials["session"].nunique(),
        "stimuli": trials["stimulus"].nunique(),
    }
    info = get_dataset("miyawaki2008")
    check_counts(counts, info, strict=strict, where=path)
    with naming(path):
        recording = Recording.from_arrays(
            np.concatenate(signals), trials, modality="fmri", name=name
        )
    return recording.with_history(read_op("miyawaki2008", [path], info))


def read_miyawaki2008_stimuli(path: str | Path) -> StimulusSet:
    """The figures as pictures, 28 x 28, white on black.

    Parameters
    ----------
    path : path
        ``miyawaki_structured_28x28.mat``.

    Returns
    -------
    StimulusSet
        Ids as in `read_miyawaki2008`; the values 0 to 1 of the file are rounded to 0 to 255.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    path = Path(path)
    content = _load(path)
    figures: dict[str, NDArray[np.uint8]] = {}
    for part in PARTS.values():
        for figure in _matrix(content, f"stim{part}", path):
            pixels = np.round(255 * figure.reshape(SIDE, SIDE)).astype(np.uint8)
            figures.setdefault(figure_id(figure), np.repeat(pixels[..., None], 3, axis=2))
    return StimulusSet.from_arrays(list(figures), list(figures.values()), list(figures))


def figure_id(pixels: NDArray[np.float64]) -> str:
    """Id of a figure by its pixels, to six decimals, shape (784,)."""
    rounded = np.round(np.asarray(pixels, dtype=np.float64), 6) + 0.0  # no negative zeros
    return f"figure-{sha256_array(np.ascontiguousarray(rounded))[:8]}"


def _load(path: Path) -> dict[str, NDArray[Any]]:
    content = read_mat5(path, [*KEYS, "train_indices", "test_indices"])
    if missing := [key for key in KEYS if key not in content]:
        raise DataError(
            f"{path} lacks {listing(map(repr, missing))}",
            found=listing(content, 12) or "none of them",
            expected="the fields of miyawaki_structured_28x28.mat",
        )
    return content


def _matrix(content: dict[str, Any], key: str, path: Path) -> NDArray[np.float64]:
    values = np.asarray(content[key])
    if values.dtype.kind not in "iufb" or values.ndim != 2 or not values.size:
        raise DataError(
            f"{path}: {key} is no matrix of numbers", found=f"{values.dtype}, shape {values.shape}"
        )
    if key.startswith("stim"):
        if values.shape[1] != SIDE**2:
            raise DataError(
                f"{path}: {key} holds no figures", found=values.shape, expected=f"(n, {SIDE**2})"
            )
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError(f"{path}: {key} has values outside 0 to 1")
    return values.astype(np.float64)
