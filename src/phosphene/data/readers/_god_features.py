"""The vectors that come with GOD: pictures and categories by layer of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.readers._bdata import BData, opened_bdata
from phosphene.data.readers._god_labels import category_names, stimuli_of
from phosphene.data.readers._source import one_of
from phosphene.errors import DataError, listing

Kind = Literal["train", "test", "category", "candidate"]
KINDS = {"train": 1, "test": 2, "category": 3, "candidate": 4}
IDS = ("FeatureType", "ImageID", "CatID")


@dataclass(frozen=True, eq=False)
class GodFeatures:
    """Vectors of pictures and categories.

    ``FeatureBank.from_arrays(f.ids, {"original": f.vectors}, concepts=f.concepts)`` makes a bank.

    Attributes
    ----------
    layer : str
        Layer of the network, e.g. "cnn8".
    vectors : ndarray of float32, shape (n, d)
        One row per stimulus.
    table : DataFrame
        ``stimulus`` (unique; a picture's file name or a category), ``concept`` and ``kind``
        ("train", "test", "category" for the mean over a test category's pictures, "candidate" for
        that of another category).
    """

    layer: str
    vectors: NDArray[np.float32]
    table: pd.DataFrame

    @property
    def ids(self) -> list[str]:
        """Stimulus ids, row by row."""
        return [str(name) for name in self.table["stimulus"]]

    @property
    def concepts(self) -> list[str]:
        """Category of each row."""
        return [str(name) for name in self.table["concept"]]


def read_god_features(
    path: str | Path, layer: str, kinds: Sequence[Kind] = ("train", "test", "category")
) -> GodFeatures:
    """Read the vectors of one layer.

    Parameters
    ----------
    path : path
        ``ImageFeatures.h5``.
    layer : str
        "cnn1" to "cnn8", "hmax1" to "hmax3", "gist" or "sift".
    kinds : sequence of str
        Which: training pictures, test pictures, means of the test categories (what imagery is
        compared with) and means of other categories. A candidate of the same category as a mean
        asked for before it is left out.

    Returns
    -------
    GodFeatures

    Raises
    ------
    DataError
        If the file is missing, damaged, lacks the layer, or has two vectors for a stimulus.

    Notes
    -----
    doi:10.1038/ncomms15037.
    """
    for kind in kinds:
        one_of(kind, get_args(Kind), "kind of vector")
    path = Path(path)
    with opened_bdata(path) as data:
        layer_columns = data.columns(_layer(data, layer))
        table = _table(data)
        wanted = table["kind"].isin(list(kinds))
        # The order of kinds decides which of two vectors for a category is kept.
        rank = table["kind"].map({kind: i for i, kind in enumerate(kinds)})
        kept = table[wanted].assign(rank=rank[wanted]).sort_values("rank", kind="stable")
        kept = kept.drop_duplicates("stimulus").sort_index()
        if not len(kept):
            raise DataError(
                f"{path} has no vectors of the kinds {listing(kinds)}",
                found=listing(table["kind"].unique()),
            )
        vectors = data.read(layer_columns, kept.index.to_numpy(dtype=np.int64))
    if not np.isfinite(vectors).all():
        bad = kept["stimulus"].to_numpy()[~np.isfinite(vectors).all(axis=1)]
        raise DataError(f"{path}: vectors of {layer!r} hold NaN or infinite values: {listing(bad)}")
    return GodFeatures(layer, vectors, kept.drop(columns="rank").reset_index(drop=True))


def feature_table(path: Path) -> pd.DataFrame:
    """Stimulus, concept and kind of every vector of a features file."""
    with opened_bdata(path) as data:
        return _table(data)


def _layer(data: BData, layer: str) -> str:
    key = data.require(layer)
    if key in IDS or not len(data.columns(key)):
        raise DataError(
            f"{data.path}: {layer!r} is no layer",
            found=listing([k for k in data.keys if k not in IDS], 20),
        )
    return key


def _table(data: BData) -> pd.DataFrame:
    numbers = data.column("FeatureType")
    names = {float(number): kind for kind, number in KINDS.items()}
    if unknown := sorted({repr(v) for v in numbers.tolist() if v not in names}):
        raise DataError(
            f"{data.path}: FeatureType holds other values than 1 to 4", found=listing(unknown)
        )
    kind = np.array([names[float(v)] for v in numbers], dtype=object)
    category = category_names(data.column("CatID"), data.path, "CatID")
    stimulus = np.array(category, dtype=object)
    pictures = np.flatnonzero(numbers <= KINDS["test"])
    own, images = stimuli_of(data, "ImageID", pictures)
    if (odd := np.flatnonzero(own != stimulus[pictures])).size:
        raise DataError(
            f"{data.path}: ImageID and CatID disagree",
            found=listing(f"{images[i]} in {stimulus[pictures[i]]}" for i in odd.tolist()),
        )
    stimulus[pictures] = images
    table = pd.DataFrame({"stimulus": stimulus, "concept": category, "kind": kind})
    if (double := table.duplicated(["stimulus", "kind"])).any():
        raise DataError(
            f"{data.path} has more than one vector for a stimulus",
            found=listing(table.loc[double, "stimulus"].unique()),
        )
    return table
