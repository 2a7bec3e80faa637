"""Figures of reconstructions: pictures good and bad, metrics between their bounds, stage 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from phosphene.errors import DataError
from phosphene.reports.grids import Group, _choose
from phosphene.reports.plots import COLOURS, _axes, _finish

Pictures = npt.NDArray[Any]
_KEPT = "#009E73"
_SOFT = "#c7ccd3"
_NOTE = "#b45309"
_BOUNDS: tuple[dict[str, Any], ...] = (
    {"color": "#6b7280", "ls": ":", "lw": 1.8},
    {"color": "#1a1d21", "ls": (0, (4, 2)), "lw": 1.5},
)


def best_median_worst(
    scores: npt.ArrayLike, ids: Sequence[str], n: int = 3, *, better: str = "higher"
) -> list[tuple[Group, int]]:
    """Which queries to show: ``n`` of the best, of the median and of the worst, in this order.

    Parameters
    ----------
    scores : array, shape (queries,)
        By which they are ordered.
    ids : sequence of str
        Stimuli; none is shown twice while there are others.
    n : int
        Queries per group; fewer, and as many in each group, if there are not enough.
    better : {"higher", "lower"}
        Which scores are better.

    Returns
    -------
    list of (group, row)

    Examples
    --------
    >>> best_median_worst([0.1, 0.9, 0.5], ["a", "b", "c"], 1)
    [('best', 1), ('median', 2), ('worst', 0)]
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) != len(ids) or len(values) < 3:
        raise DataError("best, median and worst need three queries or more, with a score each",
                        found=f"{len(values)} scores, {len(ids)} ids")  # fmt: skip
    if better not in ("higher", "lower"):
        raise DataError("unknown direction of a score", found=better, expected="higher or lower")
    if not np.isfinite(values).all():
        raise DataError("scores hold NaN or infinity", found=int((~np.isfinite(values)).sum()))
    order = np.argsort(values if better == "lower" else -values, kind="stable")
    return _choose(order, np.asarray(ids, dtype=object), n)


def reconstruction_grid(
    truths: Pictures,
    stages: Mapping[str, Pictures],
    scores: npt.ArrayLike,
    ids: Sequence[str],
    *,
    metric: str = "score",
    better: str = "higher",
    labels: Sequence[str] | None = None,
    nearest: Pictures | None = None,
    nearest_labels: Sequence[str] | None = None,
    n: int = 3,
    simulated: bool = False,
) -> Figure:
    """What was seen and what was made of it, for the best, the median and the worst queries.

    Parameters
    ----------
    truths : ndarray, shape (queries, H, W, 3)
        The pictures that were seen.
    stages : mapping of str to ndarray, shape (queries, H, W, 3) or (queries, samples, H, W, 3)
        Pictures after each stage, in order; of several samples the first is shown.
    scores : array, shape (queries,)
        By which best, median and worst are told.
    ids : sequence of str
        Stimulus of every query.
    metric, better : str
        What the score is, and whether "higher" or "lower" is better.
    labels : sequence of str, optional
        What was seen, in words.
    nearest : ndarray, shape (queries, H, W, 3), optional
        The training picture most like each last stage.
    nearest_labels : sequence of str, optional
        Words below them.
    n : int
        Queries in each group.
    simulated : bool
        Mark the figure as being of simulated data.

    Returns
    -------
    Figure
    """
    rows = best_median_worst(scores, ids, n, better=better)
    values = np.asarray(scores, dtype=np.float64)
    columns = {"seen": np.asarray(truths)}
    columns |= {name: _first(pictures) for name, pictures in stages.items()}
    if nearest is not None:
        columns["nearest training picture"] = np.asarray(nearest)
    for name, pictures in columns.items():
        if len(pictures) != len(ids):
            raise DataError(f"pictures of {name!r} and queries differ in number",
                            found=len(pictures), expected=len(ids))  # fmt: skip
    figure = Figure(
        figsize=(1.3 * len(columns) + 0.9, 1.42 * len(rows) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for number, (line, (group, row)) in enumerate(zip(axes, rows, strict=True)):
        for ax, (name, pictures) in zip(line, columns.items(), strict=True):
            _show(ax, pictures[row])
            if number == 0:
                ax.set_title(_wrapped(name), fontsize="small",
                             fontweight="bold" if name == "seen" else "normal")  # fmt: skip
        line[0].set_ylabel(f"{group}\n{values[row]:.3f}", fontsize="x-small")
        if labels is not None:
            line[0].set_xlabel(labels[row], fontsize="x-small", labelpad=2)
        if nearest is not None and nearest_labels is not None:
            line[-1].set_xlabel(nearest_labels[row], fontsize="x-small", labelpad=2)
    arrow = "higher" if better == "higher" else "lower"
    _foot(figure, f"ordered by {metric} ({arrow} is better)", simulated)
    return figure


def metric_bars(
    table: pd.DataFrame,
    *,
    lower: str | None = None,
    upper: str | None = None,
    metrics: Sequence[str] | None = None,
    columns: int = 4,
    simulated: bool = False,
) -> Figure:
    """A panel per metric: a bar per row with its interval, between a lower and an upper bound.

    Parameters
    ----------
    table : DataFrame
        ``row``, ``metric``, ``value``, ``low``, ``high``, ``better``; ``chance`` and ``measure``
        where known.
    lower, upper : str, optional
        Rows that are drawn as lines with their interval, not as bars: what no brain gives (e.g.
        shuffled brains) and what the generator can at best (e.g. the true features).
    metrics : sequence of str, optional
        Which, in order; all by default.
    columns : int
        Panels beside one another.
    simulated : bool
        Mark the figure as being of simulated data.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        If a bound or a metric is not in the table, or nothing is left to draw.
    """
    known = [str(name) for name in dict.fromkeys(table["metric"])]
    chosen = known if metrics is None else list(metrics)
    rows = [str(name) for name in dict.fromkeys(table["row"])]
    bounds = {name: name for name in (lower, upper) if name is not None}
    if missing := [n for n in bounds if n not in rows] + [m for m in chosen if m not in known]:
        raise DataError("the table lacks what is to be drawn", found=", ".join(missing),
                        expected=f"rows {', '.join(rows)}; metrics {', '.join(known)}")  # fmt: skip
    bars = [name for name in rows if name not in bounds]
    if not bars or not chosen:
        raise DataError("there is nothing to draw", found="no row besides the bounds")
    wide = min(columns, len(chosen))
    deep = -(-len(chosen) // wide)
    figure = Figure(
        figsize=(2.5 * wide + 1.6, (0.34 * len(bars) + 0.95) * deep + 0.5), layout="constrained"
    )
    axes = figure.subplots(deep, wide, squeeze=False, sharey=True)
    named = table.assign(row=table["row"].astype(str))
    for ax, metric in zip(axes.ravel(), chosen, strict=False):
        cells = named[named["metric"] == metric].set_index("row")
        _bars_of(ax, cells, bars, lower, upper)
        better = str(cells["better"].iloc[0])
        ax.set_title(f"{_wrapped(metric)}\n{better} is better", fontsize="small", loc="left")
    for ax in axes.ravel()[len(chosen) :]:
        ax.set_axis_off()
    for line in axes:
        line[0].set_yticks(range(len(bars)), [_wrapped(name, 26) for name in bars],
                           fontsize="small")  # fmt: skip
    axes[0, 0].set_ylim(len(bars) - 0.4, -0.6)
    handles = [
        Line2D([], [], label=name, **look)
        for name, look in zip((lower, upper), _BOUNDS, strict=True)
        if name is not None
    ]
    if "chance" in table and table["chance"].notna().any():
        handles.append(Line2D([], [], color=COLOURS[1], lw=1.0, label="chance"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small",
                  frameon=False)  # fmt: skip
    if simulated:
        figure.suptitle("simulated data", x=0.99, ha="right", fontsize="small", color=_NOTE)
    return figure


def filmstrip(
    frames: Mapping[int, Pictures],
    trace: pd.DataFrame,
    *,
    truth: Pictures | None = None,
    label: str = "",
    n: int = 8,
    simulated: bool = False,
) -> Figure:
    """Stage 2 of one query: pictures from left to right with the structural loss below them.

    Parameters
    ----------
    frames : mapping of int to ndarray, shape (H, W, 3)
        Pictures by iteration.
    trace : DataFrame
        ``iteration`` and ``loss``; the iteration of least loss is the one that is kept, and is
        framed in green where there is a picture of it.
    truth : ndarray, shape (H, W, 3), optional
        What was seen, set apart at the right: the optimisation never saw it.
    label : str
        What was seen, in words.
    n : int
        Pictures at most; the first, the last and the kept one are always among them.
    simulated : bool
        Mark the figure as being of simulated data.

    Returns
    -------
    Figure
    """
    if not frames or trace.empty:
        raise DataError("a filmstrip needs pictures and a trace",
                        found=f"{len(frames)} pictures, {len(trace)} iterations")  # fmt: skip
    loss = trace.set_index("iteration")["loss"].astype(float)
    times = sorted(frames)
    if lost := [at for at in times if at not in loss.index]:
        raise DataError("the trace lacks iterations that there are pictures of", found=lost)
    kept = int(loss.index.to_numpy()[loss.to_numpy().argmin()])
    shown = _thinned(times, kept, n)
    width = len(shown) + (truth is not None)
    figure = Figure(figsize=(1.25 * width + 0.3, 2.75), layout="constrained")
    grid = figure.add_gridspec(2, width, height_ratios=(1.25, 1))
    for place, at in enumerate(shown):
        ax = figure.add_subplot(grid[0, place])
        _show(ax, frames[at], frame=_KEPT if at == kept else _SOFT)
        mark = " (kept)" if at == kept else ""
        ax.set_title(f"{at}{mark}", fontsize="small")
        ax.set_xlabel(f"{loss[at]:.4g}", fontsize="x-small", labelpad=2)
    if truth is not None:
        ax = figure.add_subplot(grid[0, width - 1])
        _show(ax, truth)
        ax.set_title("seen", fontsize="small", fontweight="bold")
        ax.set_xlabel(label, fontsize="x-small", labelpad=2)
    ax = figure.add_subplot(grid[1, : len(shown)])
    _axes(ax)
    ax.plot(loss.index, loss.to_numpy(), color=COLOURS[0], lw=1.8, label="structural loss")
    ax.scatter(shown, loss.loc[shown], s=14, color=COLOURS[0], zorder=3)
    ax.scatter([kept], [loss[kept]], s=46, color=_KEPT, edgecolor="white", zorder=4, label="kept")
    ax.set_xlabel("iteration", fontsize="small")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(labelsize="small")
    _finish(ax, simulated)
    return figure


def loss_traces(traces: pd.DataFrame, *, simulated: bool = False, ax: Axes | None = None) -> Figure:
    """Structural loss of every query against the iteration, relative to its start.

    Parameters
    ----------
    traces : DataFrame
        ``query``, ``iteration``, ``loss``; ``sample`` where there are several.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
    """
    if traces.empty:
        raise DataError("there is nothing to draw", found="an empty trace")
    figure, axes = _axes(ax)
    keys = [key for key in ("query", "sample") if key in traces]
    curves = []
    for _, part in traces.groupby(keys, sort=False):
        curve = part.sort_values("iteration").set_index("iteration")["loss"].astype(float)
        share = curve / curve.iloc[0]
        curves.append(share)
        axes.plot(share.index, share.to_numpy(), color=COLOURS[0], lw=0.8, alpha=0.3)
        best = int(share.to_numpy().argmin())
        axes.plot(share.index[best], share.iloc[best], marker="o", ms=4, color=_KEPT, ls="",
                  label="kept" if len(curves) == 1 else None)  # fmt: skip
    # Runs may stop at different iterations; a mean of those left would jump, so each is held.
    whole = pd.concat(curves, axis=1).sort_index().ffill()
    axes.plot(whole.index, whole.mean(axis=1), color=COLOURS[0], lw=2.2, label="mean")
    axes.axhline(1.0, color=_BOUNDS[0]["color"], ls=":", lw=1.5, label="stage 1")
    axes.set_xlabel("iteration")
    axes.set_ylabel("structural loss / its start")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, simulated)
    return figure


def _bars_of(
    ax: Axes, cells: pd.DataFrame, bars: Sequence[str], lower: str | None, upper: str | None
) -> None:
    ax.grid(axis="x", alpha=0.25, lw=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    values = cells.loc[list(bars)]
    x = values["value"].to_numpy(dtype=float)
    places = np.arange(len(bars))
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(bars))]
    ax.barh(places, x, height=0.62, color=colours, alpha=0.8, zorder=2)
    low, high = (values[name].to_numpy(dtype=float) for name in ("low", "high"))
    known = np.isfinite(low) & np.isfinite(high)
    # From one end to the other: a value may lie outside the interval of a median.
    ax.hlines(places[known], low[known], high[known], color="#1a1d21", lw=1.6, zorder=5)
    for name, look in zip((lower, upper), _BOUNDS, strict=True):
        if name is None or name not in cells.index:
            continue
        value, least, most = (
            float(cells[column].to_numpy()[list(cells.index).index(name)])
            for column in ("value", "low", "high")
        )
        ax.axvline(value, zorder=4, **look)
        if np.isfinite([least, most]).all():
            ax.axvspan(least, most, color=look["color"], alpha=0.13, lw=0, zorder=1)
    if "chance" in cells and np.isfinite(chance := float(cells["chance"].iloc[0])):
        ax.axvline(chance, color=COLOURS[1], lw=1.0, zorder=3)
    if "measure" in cells and str(cells["measure"].iloc[0]) == "two_way":
        ax.set_xlim(0, 1.02)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(labelsize="small")


def _first(pictures: Pictures) -> Pictures:
    """The first sample of each query; which of several is better is not known to a decoder."""
    array = np.asarray(pictures)
    return array[:, 0] if array.ndim == 5 else array


def _show(ax: Axes, picture: Pictures, frame: str = _SOFT) -> None:
    array = np.asarray(picture)
    ax.imshow(array if array.dtype == np.uint8 else np.clip(array, 0, 1), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set(color=frame, linewidth=2.6 if frame == _KEPT else 0.8, visible=True)


def _thinned(times: Sequence[int], kept: int, n: int) -> list[int]:
    """At most ``n`` of the times, evenly, the ends and the kept one among them."""
    if len(times) <= max(n, 3):
        return list(times)
    chosen = {times[i] for i in np.linspace(0, len(times) - 1, max(n, 3)).round().astype(int)}
    if kept in times and kept not in chosen:
        inner = sorted(chosen - {times[0], times[-1]}, key=lambda at: (abs(at - kept), at))
        chosen = (chosen - {inner[0]}) | {kept}
    return sorted(chosen)


def _wrapped(name: str, width: int = 22) -> str:
    from textwrap import fill

    return fill(name, width)


def _foot(figure: Figure, text: str, simulated: bool) -> None:
    figure.supxlabel(text, fontsize="x-small", color="#5c6470")
    if simulated:
        figure.suptitle("simulated data", x=0.99, ha="right", fontsize="small", color=_NOTE)
