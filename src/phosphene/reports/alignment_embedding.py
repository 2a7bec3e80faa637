"""Maps of aligned vectors in two dimensions, by types of categories."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phosphene.errors import DataError
from phosphene.reports.plots import _MARKERS, COLOURS, _axes, panels


def embedding_map(
    embedding: pd.DataFrame, *, simulated: bool = False, ax: Axes | None = None
) -> Figure:
    """Categories in the plane: colour and marker by cluster, test categories filled.

    Clusters beyond the seventh take the colours again with other markers, so that each pair of
    colour and marker is one cluster's, also in grey.

    Parameters
    ----------
    embedding : DataFrame
        ``category``, ``split``, ``cluster``, ``x``, ``y``, ``share`` of the variance.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if embedding.empty:
        raise DataError("there is nothing to draw", found="no categories")
    figure, axes = _axes(ax, (4.4, 4.2))
    for cluster, style in cluster_styles(embedding).items():
        for split, filled in (("train", False), ("test", True)):
            chosen = (embedding["cluster"] == cluster) & (embedding["split"] == split)
            part = embedding[chosen]
            axes.scatter(
                part["x"], part["y"], s=34 if filled else 16, marker=style["marker"],
                facecolor=style["color"] if filled else "none", edgecolor=style["color"],
                lw=0.9, alpha=1.0 if filled else 0.55, zorder=4 if filled else 3,
                label=f"{cluster}, {split}",
            )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    share = float(embedding["share"].iloc[0])
    axes.set_xlabel(f"{100 * share:.0f} % of the variance")
    if simulated:
        axes.set_title("simulated data", loc="right", fontsize="small", color="#b45309", pad=4)
    return figure


def embedding_maps(embedding: pd.DataFrame, *, simulated: bool = False) -> Figure:
    """Maps before and after side by side, with one legend.

    Parameters
    ----------
    embedding : DataFrame
        As of `embedding_map`, with ``stage`` (before, after).
    simulated : bool
        Mark the figure as being of simulated data.
    """
    stages = list(dict.fromkeys(embedding["stage"]))
    figure, axes = panels(len(stages), width=4.2, height=4.6)
    for ax, stage in zip(axes, stages, strict=True):
        embedding_map(embedding[embedding["stage"] == stage], simulated=simulated, ax=ax)
        ax.set_title(stage, loc="left", fontsize="medium")
    handles = [
        Line2D([], [], ls="", ms=6, label=cluster, markerfacecolor=style["color"],
               markeredgecolor=style["color"], marker=style["marker"])
        for cluster, style in cluster_styles(embedding).items()
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, fontsize="small", frameon=False
    )
    return figure


def cluster_styles(embedding: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Colour and marker of every cluster, in the order of their numbers."""
    names = sorted(set(embedding["cluster"]), key=lambda name: (_number(name), name))
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": _MARKERS[(i + i // len(COLOURS)) % len(_MARKERS)],
        }
        for i, name in enumerate(names)
    }


def _number(name: str) -> float:
    head = str(name).split(" ", 1)[0]
    return float(head) if head.isdigit() else np.inf
