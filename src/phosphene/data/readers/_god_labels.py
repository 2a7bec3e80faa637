"""Labels of the GOD files: numbers whose whole part is a category and whose rest is a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phosphene.data.readers._bdata import BData
from phosphene.errors import DataError, listing

LABELS = ("stimulus_id", "Label", "image_id")
IMAGE_SCALE = 1_000_000


def stimuli_of(
    data: BData, names: str | Sequence[str], rows: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Category and file name of the picture of each sample, from labels ``category.image``.

    Parameters
    ----------
    data : BData
        The file.
    names : str or sequence of str
        Spellings of the key with the labels.
    rows : ndarray of int, optional
        Samples; all by default.

    Returns
    -------
    categories, images : ndarrays of str, shape (samples,)
        ``n01443537`` and ``n01443537_22563.JPEG``.

    Raises
    ------
    DataError
        If a label is no category and picture, or has no name in a file that names labels.
    """
    key = data.require(names)
    labels = data.column(key)
    labels = labels if rows is None else labels[rows]
    if named := data.names(key, labels):
        images = [name if "." in name else f"{name}.JPEG" for name in named]
        categories = [name.partition("_")[0] for name in images]
    else:
        categories = category_names(labels, data.path, key)
        # The category takes up to eight digits, which leaves a double some 2e-9 of the rest.
        numbers = (labels - np.floor(labels)) * IMAGE_SCALE
        wrong = (np.abs(numbers - np.round(numbers)) > 0.05) | (np.round(numbers) < 1)
        if wrong.any():
            raise DataError(
                f"{data.path}: values of {key!r} are no category.image",
                found=listing(map(repr, labels[wrong].tolist())),
                expected="such as 1443537.022563",
            )
        images = [
            f"{c}_{n}.JPEG"
            for c, n in zip(categories, np.round(numbers).astype(int).tolist(), strict=True)
        ]
    return np.array(categories, dtype=object), np.array(images, dtype=object)


def category_names(values: NDArray[np.float64], path: Path, key: str) -> list[str]:
    """WordNet ids of the whole part of numbers.

    Raises
    ------
    DataError
        If a number is missing or out of range.
    """
    if (bad := ~((values >= 1) & (values < 1e8))).any():
        raise DataError(
            f"{path}: {key} of {int(bad.sum())} samples is no WordNet id",
            found=listing(map(repr, values[bad].tolist())),
            expected="numbers from 1 to 99999999",
        )
    return [f"n{int(value):08d}" for value in np.floor(values)]
