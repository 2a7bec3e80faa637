"""What an encoder takes for alike: the similarity of stimuli and their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from phosphene import _random
from phosphene.data._ids import concept_text, resolve_ids
from phosphene.errors import DataError
from phosphene.reports._markup import small_picture
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet

# A figure has no room for more; the neighbours are found among all.
MOST_SHOWN = 300


def nearest_neighbours(
    bank: FeatureBank,
    ids: Sequence[str],
    k: int = 5,
    *,
    view: str | None = None,
    layer: str | None = None,
) -> pd.DataFrame:
    """The stimuli of largest cosine similarity to some, themselves left out.

    Parameters
    ----------
    bank : FeatureBank
        Vectors of all stimuli.
    ids : sequence of str
        Stimuli whose neighbours are wanted.
    k : int
        Neighbours of each; fewer if there are not enough.
    view, layer : str, optional
        Of the bank; its first view and its default layer when not given.

    Returns
    -------
    DataFrame
        ``stimulus``, ``place`` (1 is nearest), ``neighbour``, ``concept`` (of the neighbour),
        ``similarity``.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> bank = FeatureBank.from_arrays(["cat/1", "cat/2", "cup/1"], {"original": vectors})
    >>> nearest_neighbours(bank, ["cat/1"], k=1)["neighbour"].tolist()
    ['cat/2']
    """
    unit = _unit(bank, view, layer)
    rows = bank.resolve(ids)
    k = min(k, len(bank) - 1)
    if k < 1:
        raise DataError("neighbours need at least two stimuli", found=len(bank))
    scores = unit[rows] @ unit.T
    scores[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    concepts = bank.stimuli["concept"].to_numpy()
    return pd.DataFrame(
        {
            "stimulus": np.repeat([bank.ids[row] for row in rows], k),
            "place": np.tile(np.arange(1, k + 1), len(rows)),
            "neighbour": [bank.ids[column] for column in nearest.ravel()],
            "concept": concepts[nearest.ravel()],
            "similarity": np.take_along_axis(scores, nearest, axis=1).ravel(),
        }
    )


def similarity_map(
    bank: FeatureBank,
    *,
    view: str | None = None,
    layer: str | None = None,
    stimuli: StimulusSet | None = None,
    probes: Sequence[str] | None = None,
    k: int = 5,
    seed: int = 0,
) -> Figure:
    """Figure of the cosine similarities of a bank's stimuli, and of some nearest neighbours.

    Parameters
    ----------
    bank : FeatureBank
        Vectors.
    view, layer : str, optional
        Of the bank; its first view and its default layer when not given.
    stimuli : StimulusSet, optional
        Pictures to show; names otherwise.
    probes : sequence of str, optional
        Stimuli whose neighbours are shown; six drawn by ``seed`` when not given.
    k : int
        Neighbours of each.
    seed : int
        Of the draws: of the probes, and of 300 stimuli for the matrix where there are more.

    Returns
    -------
    Figure
        Left the matrix, ordered so that alike stimuli are neighbours (average linkage); right a
        row for each probe.
    """
    unit = _unit(bank, view, layer)
    stream = _random.generator(seed, "similarity map")
    shown = np.arange(len(bank))
    if len(shown) > MOST_SHOWN:
        shown = np.sort(stream.choice(shown, MOST_SHOWN, replace=False))
    if probes is None:
        drawn = stream.choice(len(bank), min(6, len(bank)), replace=False)
        probes = [bank.ids[row] for row in np.sort(drawn)]
    table = nearest_neighbours(bank, probes, k, view=view, layer=layer)
    k = int(table["place"].max())
    rows = len(probes)
    figure = Figure(figsize=(5.4 + 1.25 * (k + 1), max(4.8, 1.35 * rows)), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[5.4, 1.25 * (k + 1)])
    left, right = parts
    _matrix(left, unit[shown], len(bank), f"{view or bank.views[0]}, {layer or bank.default_layer}")
    _strips(right, table, list(probes), stimuli, bank)
    return figure


def _unit(bank: FeatureBank, view: str | None, layer: str | None) -> NDArray[np.float32]:
    vectors = bank.vectors(view or bank.views[0], layer)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return np.asarray(vectors / lengths, dtype=np.float32)


def _matrix(part: SubFigure, unit: NDArray[np.float32], n: int, title: str) -> None:
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    similarity = unit @ unit.T
    if len(unit) > 2:
        distance: NDArray[Any] = np.clip(1 - (similarity + similarity.T) / 2, 0, None)
        np.fill_diagonal(distance, 0)
        order = leaves_list(linkage(squareform(distance, checks=False), "average"))
        similarity = similarity[order][:, order]
    ax = part.subplots()
    off = similarity[~np.eye(len(similarity), dtype=bool)]
    drawn = ax.imshow(
        similarity,
        cmap="viridis",
        vmin=off.min() if off.size else 0,
        vmax=off.max() if off.size else 1,
    )
    ax.set_xticks([])
    ax.set_yticks([])
    kept = f"{len(unit)} of {n} stimuli" if len(unit) < n else f"{n} stimuli"
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(f"{kept}, alike ones next to one another", fontsize=8)
    part.colorbar(drawn, ax=ax, shrink=0.7, label="cosine similarity")


def _strips(
    part: SubFigure,
    table: pd.DataFrame,
    probes: Sequence[str],
    stimuli: StimulusSet | None,
    bank: FeatureBank,
) -> None:
    k = int(table["place"].max())
    axes = part.subplots(len(probes), k + 1, squeeze=False)
    concepts = dict(zip(bank.ids, bank.stimuli["concept"], strict=True))
    for line, probe in zip(axes, probes, strict=True):
        found = table[table["stimulus"] == probe]
        items = [
            (probe, ""),
            *zip(found["neighbour"], found["similarity"].map("{:.2f}".format), strict=True),
        ]
        for ax, (item, similarity) in zip(line, items, strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            label = concept_text(str(concepts[item])) or item
            picture = _picture(stimuli, item)
            if picture is None:
                ax.text(0.5, 0.5, label, ha="center", va="center", fontsize=7, wrap=True)
                ax.set_xlim(0, 1)
                ax.set_ylim(0, 1)
            else:
                ax.imshow(picture)
            ax.set_title(f"{label} {similarity}".strip(), fontsize=6.5)
            for spine in ax.spines.values():
                spine.set_visible(item == probe)
                spine.set_linewidth(2)


def _picture(stimuli: StimulusSet | None, item: str) -> Any:
    if stimuli is None:
        return None
    try:
        name = stimuli.ids[resolve_ids([item], stimuli.ids)[0]]
    except DataError:
        return None  # a bank may hold more than the folder
    return small_picture(stimuli.image(name))
