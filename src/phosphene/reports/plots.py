"""Figures of results: each takes ``ax``, returns the Figure and shows chance and interval.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with colour
blindness can tell apart; lines differ in style and marker as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from phosphene.errors import DataError
from phosphene.evaluation.result import METRICS, Result
from phosphene.evaluation.retrieval import n_way_curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Names of the training history's columns for people.
QUANTITIES = {
    "loss": "training loss",
    "val_top1": "validation top-1 accuracy",
    "val_top5": "validation top-5 accuracy",
}
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_CHANCE = "#6b7280"
_CEILING: dict[str, Any] = {"color": "#1a1d21", "lw": 1.5, "ls": (0, (4, 2)), "zorder": 3}
_PERCENT = ("top1", "top5", "two_way")


def accuracy_bars(
    results: Mapping[str, Result], metric: str = "top1", *, ax: Axes | None = None
) -> Figure:
    """One bar per method with its 95 % interval, a dot per subject, chance and noise ceiling.

    Parameters
    ----------
    results : mapping of name to Result
        Methods in the order of the bars.
    metric : str
        A name of `phosphene.evaluation.result.METRICS`.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
    """
    _require(results)
    figure, axes = _axes(ax, (1.6 + 1.1 * len(results), 3.6))
    label = METRICS[metric].label
    for i, (result, colour) in enumerate(zip(results.values(), cycle(COLOURS), strict=False)):
        value = result.value(metric)
        low, high = result.interval(metric)
        reach = [[value - low], [high - value]] if np.isfinite([low, high]).all() else None
        axes.bar(i, value, width=0.62, color=colour, alpha=0.8, zorder=2)
        axes.errorbar(i, value, yerr=reach, color="#1a1d21", capsize=5, lw=1.5, zorder=4)
        parts = result.split("subject") if len(result.subjects) > 1 else []
        if parts:
            values = [part.value(metric) for part in parts]
            spread = np.linspace(-0.18, 0.18, len(values))
            axes.scatter(
                i + spread, values, s=20, color="white", edgecolor="#1a1d21", lw=0.8, zorder=5
            )
        if metric in result.ceiling:
            top = result.ceiling[metric]
            axes.plot(
                [i - 0.4, i + 0.4], [top, top], label=_once(axes, "noise ceiling"), **_CEILING
            )
    _chance_line(axes, [result.chance_of(metric) for result in results.values()])
    crowded: dict[str, Any] = {}
    if len(results) > 6:
        crowded = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(results)), list(results), **crowded)
    axes.set_ylabel(f"{label} accuracy" if metric in ("top1", "top5") else label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    _percent(axes, metric)
    _finish(axes, _simulated(results), below=True)
    return figure


def n_way(results: Mapping[str, Result], *, k: int = 1, ax: Axes | None = None) -> Figure:
    """Top-k accuracy against the number of candidates, from two to the whole gallery."""
    _require(results)
    figure, axes = _axes(ax)
    curve = None
    for (name, result), style in zip(results.items(), _styles(), strict=False):
        curve = n_way_curve(result.table, k=k)
        axes.plot(curve["n"], curve["accuracy"], label=name, lw=2, **style)
    if curve is not None:
        axes.plot(curve["n"], curve["chance"], color=_CHANCE, ls=":", lw=1.5, label="chance")
    axes.set_xscale("log")
    axes.set_xlabel("candidates (N)")
    axes.set_ylabel(f"top-{k} accuracy")
    axes.set_ylim(0, 1.02)
    _plain_ticks(axes)
    _percent(axes, "top1")
    _finish(axes, _simulated(results))
    return figure


def rank_distribution(results: Mapping[str, Result], *, ax: Axes | None = None) -> Figure:
    """Share of the queries whose true candidate is at rank r or better."""
    _require(results)
    figure, axes = _axes(ax)
    size = 1
    for (name, result), style in zip(results.items(), _styles(), strict=False):
        ranks = np.sort(result.table["rank"].to_numpy())
        size = max(size, int(result.table["n_gallery"].max()))
        share = np.arange(1, len(ranks) + 1) / len(ranks)
        axes.step(
            np.concatenate([[1], ranks, [size]]), np.concatenate([[0], share, [1]]),
            where="post", label=f"{name} (median {np.median(ranks):g})", lw=2, **style,
        )  # fmt: skip
    places = np.arange(1, size + 1)
    axes.plot(places, places / size, color=_CHANCE, ls=":", lw=1.5, label="chance")
    axes.set_xscale("log")
    axes.set_xlabel("rank of the seen image")
    axes.set_ylabel("queries at this rank or better")
    axes.set_ylim(0, 1.02)
    _plain_ticks(axes)
    _percent(axes, "top1")
    _finish(axes, _simulated(results))
    return figure


def accuracy_by_repetitions(
    table: pd.DataFrame,
    metric: str = "top1",
    *,
    chance: float | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Accuracy against the number of averaged repetitions.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``repetitions`` and the metric, with ``<metric>_low`` and
        ``<metric>_high`` if there are intervals and ``ceiling`` if known. Rows of several
        subjects or seeds are averaged.
    metric : str
        Column to draw.
    chance : float, optional
        Chance level.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if table.empty:
        raise DataError("there is nothing to draw", found="an empty table")
    figure, axes = _axes(ax)
    low, high = f"{metric}_low", f"{metric}_high"
    columns = [c for c in (metric, low, high, "ceiling") if c in table]
    means = table.groupby(["method", "repetitions"], sort=True)[columns].mean().reset_index()
    methods = list(dict.fromkeys(table["method"]))
    for (name, style), marker in zip(
        zip(methods, _styles(), strict=False), cycle(_MARKERS), strict=False
    ):
        rows = means[means["method"] == name]
        axes.plot(rows["repetitions"], rows[metric], label=name, lw=2, marker=marker, **style)
        if low in rows and high in rows:
            axes.fill_between(
                rows["repetitions"], rows[low], rows[high], alpha=0.15, color=style["color"], lw=0
            )
    if "ceiling" in means and means["ceiling"].notna().any():
        ceiling = means.groupby("repetitions")["ceiling"].mean()
        axes.plot(ceiling.index, ceiling.to_numpy(), label="noise ceiling", **_CEILING)
    if chance is not None:
        _chance_line(axes, [chance])
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(means["repetitions"])))
    axes.set_xlabel("test repetitions averaged")
    label = METRICS[metric].label if metric in METRICS else metric
    axes.set_ylabel(f"{label} accuracy")
    axes.set_ylim(bottom=0)
    _plain_ticks(axes)
    _percent(axes, metric)
    _finish(axes, simulated)
    return figure


def learning_curves(
    histories: Mapping[str, pd.DataFrame],
    columns: str | Sequence[str] = "val_top1",
    *,
    chance: float | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """A quantity against training epochs: the mean of a method's runs and each run faintly.

    Parameters
    ----------
    histories : mapping of method to DataFrame
        Column ``epoch`` and the quantities; ``subject``, ``seed`` and ``fold`` tell runs apart.
        A boolean column ``selected`` marks the epoch that was kept.
    columns : str or sequence of str
        What to draw, where a history has it.
    chance : float, optional
        Chance level.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    figure, axes = _axes(ax)
    drawn = False
    for (method, history), style in zip(histories.items(), _styles(), strict=False):
        for name, line in zip([n for n in names if n in history], cycle(_LINES), strict=False):
            look = {**style, "ls": line} if len(names) > 1 else style
            keys = [k for k in ("subject", "seed", "fold") if k in history]
            runs = [r for _, r in history.groupby(keys, sort=True)] if keys else [history]
            if len(runs) > 1:
                for run in runs:
                    axes.plot(run["epoch"], run[name], lw=0.8, alpha=0.3, **look)
            mean = history.groupby("epoch")[name].mean()
            label = method if len(names) == 1 else f"{method}, {name}"
            axes.plot(mean.index, mean.to_numpy(), lw=2, label=label, **look)
            if "selected" in history:
                kept = history[history["selected"].astype(bool)]
                axes.scatter(kept["epoch"], kept[name], s=36, zorder=5, color=style["color"],
                             edgecolor="white")  # fmt: skip
            drawn = True
    if not drawn:
        raise DataError("no history holds what is to be drawn", expected=", ".join(names))
    if chance is not None:
        _chance_line(axes, [chance])
    axes.set_xlabel("epoch")
    axes.set_ylabel(_readable(names))
    if any("top" in name or "acc" in name for name in names):
        axes.set_ylim(bottom=0)
        _percent(axes, "top1")
    _finish(axes, simulated)
    return figure


def panels(n: int, *, width: float = 4.8, height: float = 3.5) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` plots side by side, for functions that take ``ax``."""
    figure = Figure(figsize=(width * n, height), layout="constrained")
    return figure, list(figure.subplots(1, n, squeeze=False)[0])


def _readable(names: Sequence[str]) -> str:
    return ", ".join(QUANTITIES.get(name, name.replace("_", " ")) for name in names)


def _require(results: Mapping[str, Result]) -> None:
    if not results:
        raise DataError("there is nothing to draw", found="no results")


def _simulated(results: Mapping[str, Result]) -> bool:
    return any(result.protocol.simulated for result in results.values())


def _styles() -> cycle[dict[str, Any]]:
    # Numbers of colours and of lines have no common factor: a colour that comes again has another
    # line.
    count = len(COLOURS) * len(_LINES)
    return cycle(
        {"color": COLOURS[i % len(COLOURS)], "ls": _LINES[i % len(_LINES)]} for i in range(count)
    )


def _axes(ax: Axes | None, size: tuple[float, float] = (5.2, 3.6)) -> tuple[Figure, Axes]:
    """The axes to draw on and their figure; pyplot, which keeps figures, is not involved."""
    if ax is None:
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.add_subplot()
    ax.grid(alpha=0.25, lw=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax.get_figure(root=True), ax  # type: ignore[return-value]


def _chance_line(axes: Axes, levels: Sequence[float]) -> None:
    for level in sorted(set(np.round(levels, 9))):
        axes.axhline(level, color=_CHANCE, ls=":", lw=1.5, zorder=3, label=_once(axes, "chance"))


def _once(axes: Axes, label: str) -> str | None:
    """The label, unless the legend has it already."""
    return None if label in axes.get_legend_handles_labels()[1] else label


def _percent(axes: Axes, metric: str) -> None:
    if metric in _PERCENT:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _plain_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _finish(axes: Axes, simulated: bool, *, below: bool = False) -> None:
    """Legend, and the note that figures of simulated data always carry."""
    if axes.get_legend_handles_labels()[1]:
        look: dict[str, Any] = {"fontsize": "small", "framealpha": 0.85, "edgecolor": "none"}
        if below:  # bars may reach anywhere within the axes
            turned = any(label.get_rotation() for label in axes.get_xticklabels())
            place = (0.5, -0.32 if turned else -0.09)
            look |= {"loc": "upper center", "bbox_to_anchor": place, "ncols": 2}
        elif len(axes.get_legend_handles_labels()[1]) > 8:  # more would hide the lines
            look |= {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
        axes.legend(**look)
    if simulated:
        axes.set_title("simulated data", loc="right", fontsize="small", color="#b45309", pad=4)
