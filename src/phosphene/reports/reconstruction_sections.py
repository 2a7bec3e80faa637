"""Sections of a study of reconstructions: metrics between bounds, pictures, stage 2, copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene._registry import register
from phosphene.evaluation.memorisation import Memorisation
from phosphene.evaluation.protocol import UNKNOWN, Protocol, environment
from phosphene.evaluation.published_images import NOTE, published_reconstructions
from phosphene.reports import reconstruction_plots as plots
from phosphene.reports._markup import figure_html, table_html
from phosphene.reports.html import Report, Section
from phosphene.reports.report import ReportContext

_NAMES = {"fmri": "fMRI", "meg": "MEG", "eeg": "EEG", "ecog": "ECoG"}
_TRACE = ("query", "sample", "iteration", "loss")


@dataclass(frozen=True, eq=False, kw_only=True)
class ShownPictures:
    """Pictures of one person by one method.

    Attributes
    ----------
    title : str
        Method, modality, person.
    ids, labels : sequence of str
        Stimulus of every query, and what it is in words.
    truths : ndarray, shape (queries, H, W, 3)
        What was seen.
    stages : mapping of str to ndarray, shape (queries, H, W, 3) or (queries, samples, H, W, 3)
        Pictures by stage, in order.
    scores : array, shape (queries,)
        By which best, median and worst are told.
    metric, better : str
        What that score is, and which direction is better.
    copies : Memorisation, optional
        Nearest training picture of every query's last stage.
    nearest : ndarray, shape (queries, H, W, 3), optional
        Those training pictures.
    frames : mapping of int to mapping of int to ndarray, shape (H, W, 3)
        By query and iteration, pictures of stage 2 on their way.
    traces : DataFrame
        ``query``, ``sample``, ``iteration``, ``loss`` of stage 2; empty without one.
    """

    title: str
    ids: Sequence[str]
    labels: Sequence[str]
    truths: npt.NDArray[Any]
    stages: Mapping[str, npt.NDArray[Any]]
    scores: npt.ArrayLike
    metric: str
    better: str = "higher"
    copies: Memorisation | None = None
    nearest: npt.NDArray[Any] | None = None
    frames: Mapping[int, Mapping[int, npt.NDArray[Any]]] = field(default_factory=dict)
    traces: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_TRACE)))


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionFindings:
    """What a study of reconstructions found.

    Attributes
    ----------
    table : DataFrame
        ``modality``, ``row``, ``metric``, ``value``, ``low``, ``high``, ``better``, ``chance``,
        ``measure``, ``network``, ``layer``, ``version``.
    lower, upper : str or None
        Rows of the table that are bounds: what no brain gives, what the generator can at best.
    pictures : sequence of ShownPictures
        What is shown.
    protocols : mapping of str to Protocol
        By modality, or by name.
    gains : DataFrame, optional
        ``modality``, ``metric``, ``row``, ``over``, ``gain`` (positive is better), ``low``,
        ``high``.
    intro : str
        What was done.
    verdicts : sequence of str
        What follows, in words.
    licences : sequence of (str, str)
        Of weights and pictures.
    """

    table: pd.DataFrame
    pictures: Sequence[ShownPictures]
    protocols: Mapping[str, Protocol]
    lower: str | None = None
    upper: str | None = None
    gains: pd.DataFrame | None = None
    intro: str = ""
    verdicts: Sequence[str] = ()
    licences: Sequence[tuple[str, str]] = ()

    @property
    def simulated(self) -> bool:
        """Whether any of the data are simulated."""
        return any(protocol.simulated for protocol in self.protocols.values())

    @property
    def watermarks(self) -> list[str]:
        """What a reader must know first, each once."""
        marks = [mark for one in self.protocols.values() for mark in one.watermarks()]
        return list(dict.fromkeys(marks))

    def caption(self, what: str = "") -> str:
        """What a figure must say below it: of the modality (or name) that ``what`` holds."""
        words = what.lower().replace(",", " ").split()
        named = [one for name, one in self.protocols.items() if name.lower() in words]
        return next((one.caption() for one in (*named, *self.protocols.values())), "")


def reconstruction_sections(found: ReconstructionFindings) -> list[Section]:
    """All sections of a study that have something to say, in order."""
    made = [_verdicts(found), _metrics(found), *_grids(found), _stage_two(found), _copies(found)]
    return [section for section in made if section is not None]


@register("section", "reconstruction", order=74)
def reconstruction_section(about: ReportContext) -> Section | None:
    """A study of reconstructions, handed over as ``extras={"reconstruction": findings}``."""
    found = about.extras.get("reconstruction")
    if found is None:
        return None
    inner = "".join(f"<h3>{escape(s.title)}</h3>{s.html}" for s in reconstruction_sections(found))
    return Section("Reconstructed pictures", inner)


def write_reconstruction_report(
    found: ReconstructionFindings, path: str | Path, *, title: str, subtitle: str = ""
) -> Path:
    """Write one self-contained HTML file about a study of reconstructions.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    report = Report(
        title, subtitle, found.watermarks, footer="phosphene. This file is complete in itself."
    )
    for section in (*reconstruction_sections(found), _protocol(found)):
        report.add(section)
    return report.save(path)


def _verdicts(found: ReconstructionFindings) -> Section | None:
    if not found.intro and not found.verdicts:
        return None
    items = "".join(f"<li>{escape(line)}</li>" for line in found.verdicts)
    intro = f"<p>{escape(found.intro)}</p>" if found.intro else ""
    return Section("What was found", intro + (f"<ul>{items}</ul>" if items else ""))


def _metrics(found: ReconstructionFindings) -> Section:
    parts = []
    for modality, table in found.table.groupby("modality", sort=False):
        name = _NAMES.get(str(modality), str(modality))
        figure = plots.metric_bars(
            table, lower=found.lower, upper=found.upper, simulated=found.simulated
        )
        bounds = [f"{what}: {row}" for what, row in
                  (("lower bound", found.lower), ("upper bound", found.upper)) if row]  # fmt: skip
        caption = (
            f"{name}. Bars are means, lines across them and bands 95 % intervals. "
            + "; ".join([*bounds, "two-way identification has chance .5"]).capitalize()
            + ". "
            + found.caption(str(modality))
        )
        parts.append(f"<h3>{escape(name)}</h3>{figure_html(figure, caption)}")
        parts.append(_table(table, name))
        if found.gains is not None:
            parts.append(_gains(found.gains[found.gains["modality"] == modality]))
    version = sorted({int(v) for v in found.table["version"]}) if "version" in found.table else []
    parts.append(
        '<p class="small soft">Scores are those of the pictures that are shown, the mean over a '
        "query's samples. Two-way: share of other pictures that the reconstruction is less like "
        "than the one that was seen, Pearson's r over the features, ties half. Distance: one less "
        "r, lower is better. Pixel metrics at 425 pixels."
        + (f" Version {', '.join(map(str, version))} of the metrics." if version else "")
        + "</p>"
    )
    parts.append(_published())
    return Section("Metrics", "".join(parts))


def _table(table: pd.DataFrame, name: str) -> str:
    """A line for each metric: there are more of them than of rows, and a page is narrow."""
    names = [str(row) for row in dict.fromkeys(table["row"])]
    lines = []
    for metric, part in table.groupby("metric", sort=False):
        arrow = "↓" if part["better"].iloc[0] == "lower" else "↑"
        cells = {
            str(line["row"]): (_number(line["value"]), _ends(line["low"], line["high"]))
            for line in part.to_dict("records")
        }
        lines.append({"metric": f"{metric}\N{NO-BREAK SPACE}{arrow}", **cells})
    heads = {"metric": ""} | {name: name for name in names}
    return table_html(lines, heads, numbers=names, caption=f"{name}: mean [95 % interval]")


def _gains(gains: pd.DataFrame) -> str:
    if gains.empty:
        return ""
    pairs = [f"{row} over {over}" for row, over in zip(gains["row"], gains["over"], strict=True)]
    lines = []
    for metric, part in gains.assign(pair=pairs).groupby("metric", sort=False):
        cells = {
            str(line["pair"]): (f"{line['gain']:+.3f}", _ends(line["low"], line["high"], "+"))
            for line in part.to_dict("records")
        }
        lines.append({"metric": str(metric), **cells})
    names = list(dict.fromkeys(pairs))
    return table_html(
        lines, {"metric": ""} | {name: name for name in names}, numbers=names,
        caption="Gain on the same pictures; positive is better, whichever the direction",
    )  # fmt: skip


def _grids(found: ReconstructionFindings) -> list[Section]:
    html = ""
    for shown in found.pictures:
        if len(shown.ids) < 3:
            continue
        words = None
        if shown.copies is not None and shown.nearest is not None:
            words = [f"r {value:.2f}" for value in shown.copies.table["similarity"]]
        figure = plots.reconstruction_grid(
            shown.truths, shown.stages, shown.scores, shown.ids, metric=shown.metric,
            better=shown.better, labels=shown.labels, nearest=shown.nearest,
            nearest_labels=words, n=2, simulated=found.simulated,
        )  # fmt: skip
        caption = (
            f"{shown.title}: the best, the median and the worst queries by {shown.metric}; of "
            "several samples the first. " + found.caption(shown.title)
        )
        html += f"<h3>{escape(shown.title)}</h3>{figure_html(figure, caption, kind='png')}"
    return [Section("Pictures: best, median and worst", html)] if html else []


def _stage_two(found: ReconstructionFindings) -> Section | None:
    html = ""
    for shown in found.pictures:
        if shown.traces.empty:
            continue
        for row, _ in _middle(shown):
            trace = shown.traces[shown.traces["query"] == row]
            if "sample" in trace:
                trace = trace[trace["sample"] == trace["sample"].min()]
            figure = plots.filmstrip(
                shown.frames[row], trace, truth=shown.truths[row], label=shown.labels[row],
                simulated=found.simulated,
            )  # fmt: skip
            caption = (
                f"{shown.title}: the median query that was filmed, {shown.labels[row]}. "
                "Iterations from left to right, the structural loss below each picture. The loss "
                "compares with decoded features; what was seen takes no part in it. "
                + found.caption(shown.title)
            )
            html += figure_html(figure, caption, kind="png")
        figure = plots.loss_traces(shown.traces, simulated=found.simulated)
        html += figure_html(figure, f"{shown.title}: all queries. {found.caption(shown.title)}")
    return Section("Stage 2", html) if html else None


def _middle(shown: ShownPictures) -> list[tuple[int, float]]:
    """The query of median score among those with pictures of their way; neither best nor worst."""
    scores = np.asarray(shown.scores, dtype=np.float64)
    filmed = sorted((row for row in shown.frames if shown.frames[row]), key=lambda r: scores[r])
    return [(row, float(scores[row])) for row in filmed[len(filmed) // 2 :][:1]]


def _copies(found: ReconstructionFindings) -> Section | None:
    rows = []
    for shown in found.pictures:
        copies = shown.copies
        if copies is None:
            continue
        means = copies.table[["similarity", "to_truth", "truth_nearest"]].mean()
        rows.append({
            "what": shown.title,
            "share": (f"{copies.share:.2f}", _ends(copies.low, copies.high)),
            "chance": f"{copies.chance:.3f}",
            "similarity": _number(means["similarity"]),
            "to_truth": _number(means["to_truth"]),
            "truth_nearest": _number(means["truth_nearest"]),
            "n": str(copies.n_training),
        })  # fmt: skip
    if not rows:
        return None
    heads = {
        "what": "", "share": "nearer to a training picture", "chance": "by chance",
        "similarity": "r to nearest training picture", "to_truth": "r to what was seen",
        "truth_nearest": "r of what was seen to its nearest", "n": "training pictures",
    }  # fmt: skip
    one = next(s.copies for s in found.pictures if s.copies is not None)
    return Section(
        "Copies of training pictures",
        table_html(rows, heads, numbers=list(heads)[1:])
        + '<p class="small soft">Share of reconstructions that are more like some training picture '
        "than like what was seen. By chance: if all were equally near. Similarities near 1 to "
        "training pictures, where those of what was seen are lower, are copies. Measured by "
        f"{escape(one.network)}, {escape(one.layer)}.</p>",
    )


def _published() -> str:
    wide = published_reconstructions()
    metrics = list(dict.fromkeys(wide["metric"]))
    rows = []
    for (method, dataset), part in wide.groupby(["method", "dataset"], sort=False):
        values = dict(zip(part["metric"], part["value"], strict=True))
        rows.append({"method": f"{method}, {dataset}, subjects {part['subjects'].iloc[0]}",
                     **{m: _number(v) for m, v in values.items()}})  # fmt: skip
    table = table_html(rows, {"method": ""} | {m: m for m in metrics}, numbers=metrics)
    return (
        f"<details><summary>Published scores, by other networks</summary><p>{escape(NOTE)}</p>"
        f"{table}</details>"
    )


def _protocol(found: ReconstructionFindings) -> Section:
    names = list(found.protocols)
    rows = []
    for cells in zip(*(found.protocols[name].rows() for name in names), strict=True):
        values = {name: cell[2] for name, cell in zip(names, cells, strict=True)}
        if any(value != UNKNOWN for value in values.values()):
            rows.append({"field": cells[0][1], **values})
    html = table_html(rows, {"field": "", **{n: _NAMES.get(n, n) for n in names}})
    versions = [{"name": k, "version": v} for k, v in sorted(environment().items())]
    table = table_html(versions, {"name": "software", "version": "version"})
    html += f"<details><summary>Versions</summary>{table}</details>"
    if found.licences:
        items = "".join(f"<li>{escape(a)}: {escape(b)}</li>" for a, b in found.licences)
        html += f"<h3>Licences</h3><ul>{items}</ul>"
    return Section("Protocol", html)


def _number(value: Any) -> str:
    return f"{float(value):.3f}"


def _ends(low: Any, high: Any, sign: str = "") -> str:
    if not np.isfinite([float(low), float(high)]).all():
        return ""
    return f"[{float(low):{sign}.3f}, {float(high):{sign}.3f}]"
