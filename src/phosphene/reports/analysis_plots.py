"""Figures of analyses: each takes ``ax``, returns the Figure and shows chance and interval.

Colours as in `phosphene.reports.plots`; around chance ``PuOr_r``, whose halves can be told apart
with any kind of colour blindness. Maps and matrices are in `phosphene.reports.analysis_maps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.analysis.clusters import ClusterTest
from phosphene.analysis.time import TemporalGeneralisation, TimeCurve
from phosphene.errors import DataError
from phosphene.evaluation.result import METRICS
from phosphene.reports.plots import (
    _CEILING,
    _CHANCE,
    _MARKERS,
    COLOURS,
    _axes,
    _chance_line,
    _finish,
    _percent,
    _plain_ticks,
    _styles,
)

_INK = "#1a1d21"
_ROUND = tuple(m * 10**e for e in range(5) for m in (1, 2, 5))
_LABELS = {
    "gallery": "candidates (N)",
    "repetitions": "test repetitions averaged",
    "concepts": "training concepts",
}


def time_curve(
    curves: TimeCurve | Mapping[str, TimeCurve],
    tests: Mapping[str, ClusterTest] | ClusterTest | None = None,
    *,
    ceiling: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Score against time with its 95 % interval; bars below mark clusters above chance.

    Parameters
    ----------
    curves : TimeCurve or mapping of str to TimeCurve
        One line each.
    tests : ClusterTest or mapping of str to ClusterTest, optional
        Of these curves; significant points are marked.
    ceiling : float, optional
        Noise ceiling of the score.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
    """
    lines = {"": curves} if isinstance(curves, TimeCurve) else dict(curves)
    if not lines:
        raise DataError("there is nothing to draw", found="no curves")
    known = {"": tests} if isinstance(tests, ClusterTest) else dict(tests or {})
    figure, axes = _axes(ax, (6.4, 3.6))
    first = next(iter(lines.values()))
    for (name, curve), style in zip(lines.items(), _styles(), strict=False):
        table = curve.table()
        label = name or f"mean of {len(curve.subjects)} people" * (len(curve.subjects) > 1)
        axes.plot(table["time"], table["value"], lw=2, label=label or None, zorder=4, **style)
        axes.fill_between(
            table["time"], table["low"], table["high"], color=style["color"], alpha=0.18, lw=0
        )
    _chance_line(axes, [curve.chance for curve in lines.values()])
    if ceiling is not None:
        axes.axhline(ceiling, label="noise ceiling", **_CEILING)
    low, high = axes.get_ylim()
    step = 0.035 * (high - low)
    for row, (name, style) in enumerate(zip(lines, _styles(), strict=False)):
        if name in known:
            _mark(axes, lines[name], known[name], low - (row + 0.5) * step, style["color"])
    axes.set_ylim(low - (len(known) + 0.5) * step, high)
    if first.times.min() < 0:
        axes.axvline(0.0, color=_INK, lw=0.8, zorder=1)
    axes.set_xlabel("time from stimulus onset (s)")
    axes.set_ylabel(_score(first.metric))
    _percent(axes, first.metric)
    _finish(axes, any(curve.simulated for curve in lines.values()))
    return figure


def _mark(axes: Axes, curve: TimeCurve, test: ClusterTest, height: float, colour: str) -> None:
    on = test.significant
    if not on.any():
        return
    half = np.diff(curve.times).mean() / 2 if len(curve.times) > 1 else curve.window / 2
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        axes.plot(
            [curve.times[start] - half, curve.times[stop - 1] + half], [height, height],
            color=colour, lw=4, solid_capstyle="butt", zorder=4,
            label=f"cluster, p ≤ {test.alpha:g}" if start == edges[0] else None,
        )  # fmt: skip


def generalisation(
    found: TemporalGeneralisation, test: ClusterTest | None = None, *, ax: Axes | None = None
) -> Figure:
    """Score by training and test time; white is chance, a line surrounds significant clusters.

    Parameters
    ----------
    found : TemporalGeneralisation
        Scores.
    test : ClusterTest, optional
        Of ``found.by_subject``.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    figure, axes = _axes(ax, (4.8, 4.0))
    mean = found.by_subject.mean(axis=0)
    reach = max(float(np.abs(mean - found.chance).max()), 1e-6)
    t = found.times
    half = np.diff(t).mean() / 2 if len(t) > 1 else found.window / 2
    image = axes.imshow(
        mean, origin="lower", cmap="PuOr_r", vmin=found.chance - reach, vmax=found.chance + reach,
        extent=(t[0] - half, t[-1] + half, t[0] - half, t[-1] + half), aspect="equal",
    )  # fmt: skip
    if test is not None and test.significant.any() and not test.significant.all():
        axes.contour(t, t, test.significant.astype(float), levels=[0.5], colors=_INK, linewidths=1)
    axes.plot([t[0], t[-1]], [t[0], t[-1]], color=_INK, lw=0.8, ls=":")
    if t.min() < 0:
        axes.axvline(0.0, color=_INK, lw=0.8)
        axes.axhline(0.0, color=_INK, lw=0.8)
    axes.set_xlabel("tested at (s)")
    axes.set_ylabel("trained at (s)")
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label(f"{_score(found.metric)} (white: chance)")
    # Colours are even around chance; the scale shows what a score can be.
    lowest, highest = METRICS[found.metric].bounds
    bar.ax.set_ylim(max(found.chance - reach, lowest), min(found.chance + reach, highest))
    if found.metric != "mrr":
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    _finish(axes, found.simulated)
    return figure


def accuracy_curve(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    metric: str = "top1",
    ceiling: float | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Score against gallery size, repetitions or training concepts, with interval and chance.

    Parameters
    ----------
    tables : DataFrame or mapping of str to DataFrame
        What `gallery_curve`, `repetition_curve` or `concept_curve` gives; one line each.
    metric : str
        What ``value`` is.
    ceiling : float, optional
        Noise ceiling of the score.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    lines = {"": tables} if isinstance(tables, pd.DataFrame) else dict(tables)
    if not lines or any(table.empty for table in lines.values()):
        raise DataError("there is nothing to draw", found="an empty table")
    first = next(iter(lines.values()))
    axis = next((name for name in _LABELS if name in first), None)
    if axis is None:
        raise DataError("this is no curve", expected="a column " + ", ".join(_LABELS))
    figure, axes = _axes(ax)
    for (name, table), style, marker in zip(
        lines.items(), _styles(), cycle(_MARKERS), strict=False
    ):
        small: dict[str, Any] = {"marker": marker, "ms": 5} if len(table) <= 12 else {}
        axes.plot(table[axis], table["value"], lw=2, label=name or None, zorder=4, **small, **style)
        axes.fill_between(
            table[axis], table["low"], table["high"], color=style["color"], alpha=0.18, lw=0
        )
    axes.plot(first[axis], first["chance"], color=_CHANCE, ls=":", lw=1.5, label="chance")
    if ceiling is not None:
        axes.axhline(ceiling, label="noise ceiling", **_CEILING)
    axes.set_xscale("log")
    known = first[axis].to_numpy()
    ends = [known[0], known[-1]]
    # Round numbers between the ends, unless there are so few points that each gets its own.
    round_numbers = [n for n in _ROUND if 1.5 * ends[0] <= n <= ends[1] / 1.5]
    axes.set_xticks(known if len(known) <= 8 else sorted({*ends, *round_numbers}))
    axes.set_xlabel(_LABELS[axis])
    axes.set_ylabel(_score(metric))
    axes.set_ylim(bottom=0)
    _plain_ticks(axes)
    _percent(axes, metric)
    _finish(axes, simulated)
    return figure


def ablation(
    table: pd.DataFrame, *, most: int = 20, simulated: bool = False, ax: Axes | None = None
) -> Figure:
    """Score without each part, or with it alone; the line is the decoder of everything.

    Parameters
    ----------
    table : DataFrame
        What `ablate_sensors` or `ablate_bands` gives.
    most : int
        Parts to show: those that matter most; the figure says how many there are in all.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    whole = table[table["part"] == "everything"]
    rest = table[table["part"] != "everything"]
    if len(whole) != 1 or rest.empty:
        raise DataError("there is nothing to draw", expected="a row everything and others")
    mode, metric = str(rest["mode"].iloc[0]), str(rest["metric"].iloc[0])
    total = len(rest)
    if total > most:
        rest = rest.sort_values("value", ascending=mode == "drop", kind="stable").head(most)
    figure, axes = _axes(ax, (6.0, 1.2 + 0.27 * len(rest)))
    places = np.arange(len(rest))[::-1]
    value = rest["value"].to_numpy()
    axes.errorbar(
        value, places, xerr=np.stack([value - rest["low"], rest["high"] - value]).clip(min=0),
        fmt="o", ms=6, color=COLOURS[0], ecolor=COLOURS[0], capsize=3, lw=1.5, zorder=4,
        label="without it" if mode == "drop" else "alone",
    )  # fmt: skip
    full = whole.iloc[0]
    axes.axvline(full["value"], color=COLOURS[1], lw=1.8, ls="--", label="everything", zorder=3)
    axes.axvspan(full["low"], full["high"], color=COLOURS[1], alpha=0.12, lw=0)
    axes.axvline(full["chance"], color=_CHANCE, ls=":", lw=1.5, label="chance", zorder=3)
    axes.set_yticks(places, rest["part"].astype(str))
    axes.set_ylim(-0.7, len(rest) - 0.3)
    how = "fitted again" if rest["how"].iloc[0] == "refit" else "missing at test"
    shown = f", {len(rest)} of {total} parts" if total > len(rest) else ""
    axes.set_xlabel(f"{_score(metric)} ({how}{shown})")
    axes.grid(axis="y", visible=False)
    if metric != "mrr":
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    _legend_above(axes, 3)
    _simulated_note(axes, simulated)
    return figure


def categories(
    table: pd.DataFrame,
    *,
    metric: str = "top1",
    most: int = 25,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Score by category with its interval and chance; the number of queries behind the name.

    Parameters
    ----------
    table : DataFrame
        What `category_accuracy` gives, best first. Of more than ``most`` categories, the best and
        the worst are shown, half and half.
    metric : str
        What ``value`` is.
    most : int
        Categories to show.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if table.empty:
        raise DataError("there is nothing to draw", found="an empty table")
    total = len(table)
    rows = table if total <= most else pd.concat([table.head(most // 2), table.tail(most // 2)])
    figure, axes = _axes(ax, (6.0, 1.2 + 0.25 * len(rows)))
    places = np.arange(len(rows))[::-1]
    value = rows["value"].to_numpy()
    reach = np.nan_to_num(np.stack([value - rows["low"], rows["high"] - value])).clip(min=0)
    axes.errorbar(value, places, xerr=reach, fmt="o", ms=6, color=COLOURS[0], capsize=3, lw=1.5,
                  zorder=4)  # fmt: skip
    levels = sorted(set(rows["chance"].round(9)))
    for level in levels:
        label = "chance" if level == levels[0] else None
        axes.axvline(level, color=_CHANCE, ls=":", lw=1.5, zorder=3, label=label)
    mean = float(np.average(table["value"], weights=table["queries"]))
    axes.axvline(mean, color=COLOURS[1], ls="--", lw=1.5, zorder=3, label="all queries")
    names = [f"{n} ({q})" for n, q in zip(rows["category"], rows["queries"], strict=True)]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    if total > len(rows):
        axes.axhline(len(rows) - most // 2 - 0.5, color=_INK, lw=0.8)
    shown = f" (best and worst {most // 2} of {total})" if total > len(rows) else ""
    axes.set_xlabel(_score(metric) + shown)
    axes.grid(axis="y", visible=False)
    if metric != "mrr":
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    _legend_above(axes, 2)
    _simulated_note(axes, simulated)
    return figure


def rsa_bars(
    table: pd.DataFrame,
    *,
    method: str = "spearman",
    space: str = "brain",
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Agreement of models with people's RDMs: interval, chance at 0, noise ceiling as a band.

    Parameters
    ----------
    table : DataFrame
        What `phosphene.analysis.rsa.rsa` gives. A star marks p < .05, uncorrected.
    method : str
        How RDMs were compared.
    space : str
        What the models were compared with.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    if table.empty:
        raise DataError("there is nothing to draw", found="an empty table")
    figure, axes = _axes(ax, (2.2 + 1.0 * len(table), 3.6))
    value = table["value"].to_numpy()
    for i, (row, colour) in enumerate(zip(table.to_dict("records"), cycle(COLOURS), strict=False)):
        axes.bar(i, row["value"], width=0.62, color=colour, alpha=0.8, zorder=2)
        star = "*" if row["p_value"] < 0.05 else ""
        axes.text(i, max(row["high"], row["value"]), star, ha="center", va="bottom", color=_INK)
    reach = np.nan_to_num(np.stack([value - table["low"], table["high"] - value])).clip(min=0)
    axes.errorbar(range(len(table)), value, yerr=reach, fmt="none", color=_INK, capsize=5, lw=1.5,
                  zorder=4)  # fmt: skip
    low, high = table["ceiling_low"].iloc[0], table["ceiling_high"].iloc[0]
    if np.isfinite([low, high]).all():
        axes.axhspan(low, high, color="#9ca3af", alpha=0.35, lw=0, label="noise ceiling", zorder=1)
    _chance_line(axes, [0.0])
    axes.set_xticks(range(len(table)), table["model"].astype(str))
    names = {"spearman": "Spearman's rho", "kendall": "Kendall's tau-a", "pearson": "Pearson's r"}
    axes.set_ylabel(f"{names.get(method, method)} with {space} RDM")
    axes.grid(axis="x", visible=False)
    _finish(axes, simulated, below=True)
    return figure


def _score(metric: str) -> str:
    label = METRICS[metric].label if metric in METRICS else metric
    return f"{label} accuracy" if metric in ("top1", "top5") else label


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False,
                fontsize="small", borderaxespad=0.2)  # fmt: skip


def _simulated_note(axes: Axes, simulated: bool) -> None:
    if simulated:
        axes.set_title("simulated data", loc="right", fontsize="small", color="#b45309", pad=4)
