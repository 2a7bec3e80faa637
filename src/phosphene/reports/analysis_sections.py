"""Sections of analyses: figures with what they mean, tables behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from phosphene._registry import register
from phosphene.evaluation.result import Result
from phosphene.reports._markup import figure_html, table_html
from phosphene.reports.html import Report, Section
from phosphene.reports.protocol_sections import protocol_section, software_section
from phosphene.reports.report import ReportContext

_MOST_ROWS = 60


@dataclass(frozen=True, eq=False)
class AnalysisPart:
    """One table of an analysis with its figure.

    Parameters
    ----------
    name : str
        Of files; letters and dashes.
    title : str
        Heading.
    table : DataFrame
        The numbers.
    figure : Figure, optional
        What is drawn of them.
    caption : str
        What the figure shows.
    notes : tuple of str
        What a reader must know, such as what could not be computed and why.
    """

    name: str
    title: str
    table: pd.DataFrame
    figure: Figure | None = None
    caption: str = ""
    notes: tuple[str, ...] = field(default=())


def part_section(part: AnalysisPart, protocol: str = "") -> Section:
    """A section of an analysis: figure, notes, table.

    Parameters
    ----------
    part : AnalysisPart
        What is shown.
    protocol : str
        The protocol in one line; it ends the caption of the figure.
    """
    pieces = []
    if part.figure is not None:
        pieces.append(figure_html(part.figure, " ".join(filter(None, [part.caption, protocol]))))
    pieces += [f'<p class="soft">{escape(note)}</p>' for note in part.notes]
    shown = part.table.head(_MOST_ROWS)
    columns = {str(name): str(name).replace("_", " ") for name in shown.columns}
    if len(columns) and len(shown):
        rows = [{str(k): _cell(v) for k, v in row.items()} for row in shown.to_dict("records")]
        numbers = [str(c) for c in shown.columns if pd.api.types.is_numeric_dtype(shown[c])]
        more = f"{len(shown)} of {len(part.table)} rows; " if len(part.table) > _MOST_ROWS else ""
        inner = table_html(rows, columns, numbers=numbers)
        pieces.append(
            f"<details><summary>Numbers ({more}all in {escape(part.name)}.csv)</summary>"
            f"{inner}</details>"
        )
    return Section(part.title, "".join(pieces))


@register("section", "analyses", order=70)
def analyses_section(about: ReportContext) -> Section | None:
    """Analyses that are handed to a report as ``extras={"analyses": [AnalysisPart, ...]}``."""
    parts: Sequence[AnalysisPart] = about.extras.get("analyses", ())
    if not parts:
        return None
    caption = about.results[0].protocol.caption()
    inner = "".join(
        f"<h3>{escape(part.title)}</h3>{part_section(part, caption).html}" for part in parts
    )
    return Section("Analyses", inner)


def write_analysis_report(
    result: Result, parts: Sequence[AnalysisPart], path: str | Path, *, title: str
) -> Path:
    """Write one HTML file with a section per part and the protocol of the run.

    Parameters
    ----------
    result : Result
        Of the run that was analysed.
    parts : sequence of AnalysisPart
        What was found.
    path : path
        The file.
    title : str
        Heading.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    about = ReportContext([result])
    protocol = result.protocol
    facts = [protocol.dataset or "", (protocol.modality or "").upper(), result.name]
    report = Report(title, " · ".join(filter(None, facts)), about.watermarks())
    for part in parts:
        report.add(part_section(part, protocol.caption()))
    for made in (protocol_section(about), software_section(about)):
        if made is not None:
            report.add(made)
    return report.save(path)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.4g}"
    return str(value)
