"""Figures of aligned vectors: each takes ``ax``, returns the Figure and shows chance and interval.

Colours as in `phosphene.reports.plots`; maps in ``cividis``, which rises in grey.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.errors import DataError
from phosphene.evaluation.retrieval import n_way_hits
from phosphene.evaluation.statistics import group_interval
from phosphene.reports.analysis_maps import rank_image
from phosphene.reports.plots import (
    _CHANCE,
    _MARKERS,
    COLOURS,
    _axes,
    _finish,
    _percent,
    _plain_ticks,
    _styles,
)

_INK = "#1a1d21"
_NOTE = "#b45309"
CHANCE = {"identification": 0.5, "profile": 0.5, "correlation": 0.0}
"""What a decoder that knows nothing scores."""


def control_scores(
    summary: pd.DataFrame,
    score: str = "identification",
    *,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """A score of every row of an alignment table with its 95 % interval, by modality.

    Parameters
    ----------
    summary : DataFrame
        ``modality``, ``row``, ``score``, ``mean``, ``low``, ``high``.
    score : str
        Which score.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    chosen = summary[summary["score"] == score]
    if chosen.empty:
        raise DataError("there is nothing to draw", found=f"no score {score!r}")
    figure, axes = _axes(ax, (5.2, 3.8))
    rows = list(dict.fromkeys(chosen["row"]))
    modalities = list(dict.fromkeys(chosen["modality"]))
    places = {row: len(rows) - i for i, row in enumerate(rows)}
    for j, modality in enumerate(modalities):
        part = chosen[chosen["modality"] == modality]
        shift = (len(modalities) - 1 - 2 * j) * 0.12
        mean, low, high = (part[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
        height = np.array([places[row] + shift for row in part["row"]])
        axes.errorbar(
            mean, height, xerr=np.abs([mean - low, high - mean]), fmt=_MARKERS[j % len(_MARKERS)],
            color=COLOURS[j % len(COLOURS)], ms=6, lw=1.5, capsize=3, label=modality, zorder=4,
        )  # fmt: skip
    if score in CHANCE:
        axes.axvline(CHANCE[score], color=_CHANCE, ls=":", lw=1.5, label="chance")
    axes.set_yticks(list(places.values()), rows)
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.set_xlabel(score)
    _finish(axes, simulated)
    axes.legend(
        fontsize="small", edgecolor="none", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16)
    )
    return figure


def region_alpha_map(
    grid: pd.DataFrame,
    score: str = "identification",
    *,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Mean score by region and alpha; controls, which have no alpha, stand right of the line.

    Parameters
    ----------
    grid : DataFrame
        ``region``, ``column`` (e.g. ``alpha=0.1``, or a control), ``subject`` and the score.
    score : str
        Which score.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if score not in grid or grid.empty:
        raise DataError("there is nothing to draw", found=f"no score {score!r}")
    regions, columns = (list(dict.fromkeys(grid[name])) for name in ("region", "column"))
    means = grid.pivot_table(index="region", columns="column", values=score)
    means = means.loc[regions, columns]
    figure, axes = _axes(ax, (1.9 + 0.62 * len(columns), 1.5 + 0.42 * len(regions)))
    values = means.to_numpy()
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    for i, j in np.ndindex(values.shape):
        light = values[i, j] > low + 0.6 * (high - low)
        axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize="small",
                  color=_INK if light else "white")  # fmt: skip
    n_alphas = sum(column.startswith("alpha=") for column in columns)
    if 0 < n_alphas < len(columns):
        axes.axvline(n_alphas - 0.5, color="white", lw=4)
    axes.set_xticks(range(len(columns)), [c.replace("alpha=", "α ") for c in columns],
                    rotation=40, ha="right")  # fmt: skip
    axes.set_yticks(range(len(regions)), regions)
    axes.grid(visible=False)
    label = f"{score} (chance {CHANCE[score]:g})" if score in CHANCE else score
    figure.colorbar(image, ax=axes, shrink=0.85).set_label(label)
    # Of a mean over the people, as no cell has room for its own.
    cells = [cell[score].to_numpy(dtype=float) for _, cell in grid.groupby(["region", "column"])]
    if all(len(cell) > 1 for cell in cells):
        error = np.mean([cell.std(ddof=1) / np.sqrt(len(cell)) for cell in cells])
        most = max(map(len, cells))
        axes.set_xlabel(f"mean of {most} people; standard error {error:.2g} on average")
    _finish(axes, simulated)
    return figure


def set_size_curve(
    queries: pd.DataFrame,
    n_candidates: int,
    *,
    rows: Sequence[str] = ("aligned", "original", "centred", "alpha=1"),
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """How often the truth is the best of N candidates, against N, with 95 % intervals.

    Exact, as the N - 1 wrong answers are any of those that were compared with; see
    `phosphene.evaluation.retrieval.n_way_curve`.

    Parameters
    ----------
    queries : DataFrame
        ``row``, ``subject``, ``draw``, ``stimulus``, ``identification``.
    n_candidates : int
        Wrong answers that ``identification`` is a share of.
    rows : sequence of str
        Which rows.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if n_candidates < 2:
        raise DataError("a curve needs two wrong answers or more", found=n_candidates)
    figure, axes = _axes(ax)
    ways = np.unique(np.geomspace(2, n_candidates + 1, 12).round().astype(int))
    for (row, style), marker in zip(zip(rows, _styles(), strict=False), _MARKERS, strict=False):
        part = queries[queries["row"] == row]
        if part.empty:
            continue
        # The share counts a tie by half: a remainder of one half is one candidate that ties.
        ahead = (1 - part["identification"].to_numpy()) * n_candidates
        twice = np.round(2 * ahead).astype(int)
        hits = n_way_hits(twice // 2, 1 + twice % 2, n_candidates + 1, ways)
        table = pd.DataFrame(hits, columns=[str(n) for n in ways])
        table[["subject", "stimulus"]] = part[["subject", "stimulus"]].to_numpy()
        table = table.groupby(["subject", "stimulus"], as_index=False).mean()  # draws
        ends = [group_interval(table, str(n), bounds=(0.0, 1.0)) for n in ways]
        low, high = np.transpose(ends)
        mean = [table.groupby("subject")[str(n)].mean().mean() for n in ways]
        axes.plot(ways, mean, lw=2, marker=marker, ms=4, label=row, **style)
        axes.fill_between(ways, low, high, color=style["color"], alpha=0.12, lw=0)
    axes.plot(ways, 1 / ways, color=_CHANCE, ls=":", lw=1.5, label="chance")
    axes.set_xscale("log")
    axes.set_xlabel("candidates (N)")
    axes.set_ylabel("truth is the best of N")
    axes.set_ylim(0, 1.02)
    _plain_ticks(axes)
    _percent(axes, "top1")
    _finish(axes, simulated)
    return figure


def rsm_image(
    matrix: npt.ArrayLike, *, label: str = "", simulated: bool = False, ax: Axes | None = None
) -> Figure:
    """A similarity matrix in ranks of its pairs, from different (dark) to alike (bright).

    Parameters
    ----------
    matrix : array, shape (things, things)
        RSM.
    label : str
        Title.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    return rank_image(matrix, "similarity", label, simulated, ax)


def gain_scatter(
    gains: pd.DataFrame,
    first: str,
    second: str,
    *,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Gain of every test category in two modalities, with their correlation.

    Parameters
    ----------
    gains : DataFrame
        One row per category, one column per modality.
    first, second : str
        Columns.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    x, y = gains[first].to_numpy(), gains[second].to_numpy()
    if len(x) < 4:
        raise DataError("a correlation needs four categories or more", found=len(x))
    figure, axes = _axes(ax, (4.0, 3.6))
    axes.scatter(x, y, s=26, color=COLOURS[0], edgecolor="white", lw=0.6, zorder=4)
    axes.axhline(0.0, color=_CHANCE, ls=":", lw=1.5, zorder=3, label="no gain")
    axes.axvline(0.0, color=_CHANCE, ls=":", lw=1.5, zorder=3)
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        r = float(np.corrcoef(x, y)[0, 1])
        # Fisher's z: tanh(atanh(r) -+ 1.96 / sqrt(n - 3)).
        z = np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))
        low, high = np.tanh(z + np.array([-1.96, 1.96]) / np.sqrt(len(x) - 3))
        axes.set_title(f"r = {r:.2f} [{low:.2f}, {high:.2f}]", loc="left", fontsize="medium")
    axes.set_xlabel(f"gain, {first}")
    axes.set_ylabel(f"gain, {second}")
    _finish(axes, simulated)
    return figure
