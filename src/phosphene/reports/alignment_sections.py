"""Sections of a study of aligned vectors: every result with its controls and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene._registry import register
from phosphene.evaluation.protocol import UNKNOWN, Protocol, environment
from phosphene.reports import alignment_plots as plots
from phosphene.reports._markup import figure_html, table_html
from phosphene.reports.alignment_embedding import embedding_maps
from phosphene.reports.alignment_statistics import statistics_section
from phosphene.reports.html import Report, Section
from phosphene.reports.plots import panels
from phosphene.reports.report import ReportContext

_NAMES = {
    "fmri": "fMRI", "meg": "MEG", "ecog": "ECoG", "eeg": "EEG", "seen": "seen images",
    "imagined": "imagined images",
}  # fmt: skip
SHOWN = ("identification", "correlation", "rsa_test")


@dataclass(frozen=True, eq=False, kw_only=True)
class AlignmentFindings:
    """What a study of aligned vectors found.

    Attributes
    ----------
    summary : DataFrame
        ``modality``, ``row``, ``score``, ``mean``, ``low``, ``high``, and ``gain``, ``gain_low``,
        ``gain_high`` of the aligned vectors over the row.
    queries : DataFrame
        ``modality``, ``row``, ``subject``, ``draw``, ``stimulus`` and the scores.
    grid : DataFrame
        ``region``, ``column``, ``subject``, ``identification``, ``correlation``.
    words : DataFrame
        ``modality``, ``subject``, ``row``, ``stimulus``, ``top1``, ``top5``, ``words``.
    statistics : DataFrame
        Tests as published and as they hold, ``question`` by question.
    embedding : DataFrame
        ``stage`` (before, after), ``category``, ``split``, ``cluster``, ``x``, ``y``, ``share``.
    rsms : mapping of str to ndarray
        Similarities of test categories: before, after, the brain's.
    region : str
        Whose similarities vectors were aligned to in all but the grid.
    n_candidates, n_words : int
        Wrong answers of the identification, words of the vocabulary.
    verdicts : sequence of str
        What follows, in words.
    protocols : mapping of modality to Protocol
        How the numbers came about.
    licences : sequence of (str, str)
        Of what the study rests on.
    """

    summary: pd.DataFrame
    queries: pd.DataFrame
    grid: pd.DataFrame
    words: pd.DataFrame
    statistics: pd.DataFrame
    embedding: pd.DataFrame
    rsms: Mapping[str, npt.NDArray[np.float64]]
    region: str
    n_candidates: int
    n_words: int
    verdicts: Sequence[str]
    protocols: Mapping[str, Protocol]
    licences: Sequence[tuple[str, str]] = field(default=())

    @property
    def simulated(self) -> bool:
        """Whether any of the data are simulated."""
        return any(protocol.simulated for protocol in self.protocols.values())

    @property
    def watermarks(self) -> list[str]:
        """What a reader must know first, each once."""
        marks = [mark for one in self.protocols.values() for mark in one.watermarks()]
        return list(dict.fromkeys(marks))


def label(modality: str) -> str:
    """How people write a modality."""
    return _NAMES.get(modality, modality)


def table_rows(summary: pd.DataFrame, modality: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read: scores with intervals, and the gains."""
    heads = ["row"]
    for score in SHOWN:
        heads += [score.replace("_", " "), "[low, high]"]
    for score in SHOWN[:2]:
        heads += [f"gain, {score}", "[low, high]"]
    cells = []
    for row, pairs in _pairs(summary, modality):
        cells.append([row, *(text for pair in pairs for text in pair)])
    return heads, cells


def _pairs(summary: pd.DataFrame, modality: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """By row: (value, interval) of every score that is shown, and of the two gains."""
    part = summary[summary["modality"] == modality].set_index(["row", "score"])
    found = []
    for row in dict.fromkeys(row for row, _ in part.index):
        pairs = []
        for score in SHOWN:
            facts = part.loc[(row, score)]
            pairs.append((f"{facts['mean']:.3f}", f"[{facts['low']:.3f}, {facts['high']:.3f}]"))
        for score in SHOWN[:2]:
            facts = part.loc[(row, score)]
            ends = f"[{facts['gain_low']:+.3f}, {facts['gain_high']:+.3f}]"
            pairs.append(("", "") if row == "aligned" else (f"{facts['gain']:+.3f}", ends))
        found.append((row, pairs))
    return found


def alignment_sections(found: AlignmentFindings) -> list[Section]:
    """All sections of a study, in order."""
    return [
        _verdicts(found),
        _tables(found),
        _regions(found),
        _set_size(found),
        _structure(found),
        _embedding(found),
        _categories(found),
        statistics_section(found.statistics, _NAMES),
        _words(found),
    ]


@register("section", "alignment", order=72)
def alignment_section(about: ReportContext) -> Section | None:
    """A study of aligned vectors that is handed over as ``extras={"alignment": findings}``."""
    found = about.extras.get("alignment")
    if found is None:
        return None
    inner = "".join(f"<h3>{escape(s.title)}</h3>{s.html}" for s in alignment_sections(found))
    return Section("Brain-aligned vectors", inner)


def write_alignment_report(
    found: AlignmentFindings, path: str | Path, *, title: str, subtitle: str = ""
) -> Path:
    """Write one self-contained HTML file about a study of aligned vectors.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    report = Report(
        title, subtitle, found.watermarks, footer="phosphene. This file is complete in itself."
    )
    for section in (*alignment_sections(found), _protocol(found)):
        report.add(section)
    return report.save(path)


def _verdicts(found: AlignmentFindings) -> Section:
    items = "".join(f"<li>{escape(line)}</li>" for line in found.verdicts)
    return Section(
        "Does alignment help?",
        "<p>Vectors of categories are mapped so that their similarities follow those of brain "
        "responses of other people, and are decoded in place of the original ones. A gain over the "
        "original vectors alone says little: centring, PCA or whitening have gains of their own "
        f"and know no brain.</p><ul>{items}</ul>"
        '<p class="small soft">A control counts as beaten where the 95&nbsp;% interval of the '
        "difference lies above zero; intervals are not corrected for their number; "
        "below, among the tests, they are.</p>",
    )


def _tables(found: AlignmentFindings) -> Section:
    parts = []
    keys = {"row": "row"} | {score: score.replace("_", " ") for score in SHOWN}
    keys |= {f"gain {score}": f"gain, {score}" for score in SHOWN[:2]}
    numbers = [key for key in keys if key != "row"]
    for modality in found.protocols:
        rows = [
            dict(zip(keys, (row, *pairs), strict=True))
            for row, pairs in _pairs(found.summary, modality)
        ]
        people = len(set(found.queries.loc[found.queries["modality"] == modality, "subject"]))
        caption = f"{label(modality)}, {people} people"
        parts.append(table_html(rows, keys, numbers=numbers, caption=caption, strong=[0]))
    figure, axes = panels(2, width=5.0, height=4.2)
    for ax, score in zip(axes, SHOWN[:2], strict=True):
        named = found.summary.assign(modality=found.summary["modality"].replace(_NAMES))
        plots.control_scores(named, score, simulated=found.simulated, ax=ax)
    parts.append(
        figure_html(
            figure,
            "Identification and correlation can move in opposite directions: a mean that all "
            "vectors share raises the correlation and tells no category from another. Bars are "
            "95 % intervals over people and categories. " + _caption(found),
        )
    )
    parts.append(
        '<p class="small soft">Gain: aligned less the row. Identification: share of '
        f"{found.n_candidates} wrong candidates that correlate less with the decoded vector than "
        "the truth does; ties count half; chance .5. RSA test: rank correlation of similarities "
        "among the vectors with those in the person's responses, test categories; interval over "
        "people. Shuffled: aligned to RSMs with permuted categories, mean of the draws.</p>"
    )
    return Section("Aligned vectors beside their controls", "".join(parts))


def _regions(found: AlignmentFindings) -> Section:
    html = ""
    for score in SHOWN[:2]:
        figure = plots.region_alpha_map(found.grid, score, simulated=found.simulated)
        html += figure_html(
            figure,
            f"{score.capitalize()} by region that is both aligned to and decoded from. α 1 uses no "
            "brain; columns right of the line are controls. No cell was chosen by its score. "
            + _caption(found, next(iter(found.protocols))),
        )
    return Section("Region and alpha", html)


def _set_size(found: AlignmentFindings) -> Section:
    modalities = list(found.protocols)
    figure, axes = panels(len(modalities), width=4.2, height=3.6)
    for ax, modality in zip(axes, modalities, strict=True):
        part = found.queries[found.queries["modality"] == modality]
        plots.set_size_curve(part, found.n_candidates, simulated=found.simulated, ax=ax)
        ax.set_title(label(modality), loc="left", fontsize="medium")
    caption = "Bands are 95 % intervals over people and categories. "
    return Section(
        "Identification against the number of candidates",
        figure_html(figure, caption + _caption(found)),
    )


def _structure(found: AlignmentFindings) -> Section:
    figure, axes = panels(len(found.rsms), width=3.9, height=3.4)
    for ax, (name, matrix) in zip(axes, found.rsms.items(), strict=True):
        plots.rsm_image(matrix, label=name, simulated=found.simulated, ax=ax)
    return Section(
        "Similarity of test categories before and after",
        figure_html(
            figure,
            "One person who took no part in the alignment; the same categories in the same order, "
            "grouped by the person's own responses. RSA: rank correlation with that person's "
            "matrix. " + _caption(found, next(iter(found.protocols))),
        ),
    )


def _embedding(found: AlignmentFindings) -> Section:
    figure = embedding_maps(found.embedding, simulated=found.simulated)
    return Section(
        "Embedding before and after",
        figure_html(
            figure,
            "Directions from the mean in their first two principal components; the second map is "
            "turned to the first. Colours and markers are clusters of the original space, named by "
            "a category in their middle; filled are test categories, hollow those of training. "
            "Distances in a plane are a part of the whole: the share is below each map. "
            + _caption(found, next(iter(found.protocols))),
        ),
    )


def _categories(found: AlignmentFindings) -> Section:
    gains = category_gains(found.queries).rename(columns=_NAMES)
    first, *others = list(gains.columns)
    if not others or len(gains) < 4:
        return Section("Gain by category", "<p>Too few modalities or categories.</p>")
    figure, axes = panels(len(others), width=4.2, height=3.6)
    for ax, other in zip(axes, others, strict=True):
        plots.gain_scatter(gains, first, other, simulated=found.simulated, ax=ax)
    return Section(
        "Do the same categories gain?",
        figure_html(
            figure,
            "Identification of aligned less original vectors, a dot per test category, mean over "
            "people; correlation with its 95 % interval. The vectors are the same in both, so that "
            "part of the agreement is theirs. " + _caption(found),
        ),
    )


def category_gains(queries: pd.DataFrame, over: str = "original") -> pd.DataFrame:
    """Gain in identification of every test category (rows) by modality (columns)."""
    means = [
        part.pivot_table(index="stimulus", columns="modality", values="identification", sort=False)
        for part in (queries[queries["row"] == row] for row in ("aligned", over))
    ]
    return means[0] - means[1]


def _words(found: AlignmentFindings) -> Section:
    by = found.words.groupby(["modality", "row"], sort=False)[["top1", "top5"]].mean().reset_index()
    rows = [
        {
            "modality": label(str(line["modality"])),
            "row": str(line["row"]),
            "top1": f"{100 * line['top1']:.1f} %",
            "top5": f"{100 * line['top5']:.1f} %",
        }
        for line in by.to_dict("records")
    ]
    heads = {"modality": "modality", "row": "vectors", "top1": "first", "top5": "among five"}
    n = found.n_words
    caption = f"True word among {n} words; chance {100 / n:.1f} % and {500 / n:.1f} %"
    html = table_html(rows, heads, numbers=["top1", "top5"], caption=caption)
    who = found.words["subject"].iloc[0]
    shown = found.words[(found.words["subject"] == who) & (found.words["row"] == "aligned")]
    lines = [
        {"seen": str(line["stimulus"]), "words": str(line["words"])}
        for line in shown.to_dict("records")
    ]
    inner = table_html(lines, {"seen": "seen", "words": "nearest words, best first"})
    html += (
        f"<details><summary>Words for {escape(str(who))}, all test categories</summary>"
        f"{inner}</details>"
    )
    return Section("Named in words", html)


def _protocol(found: AlignmentFindings) -> Section:
    names = list(found.protocols)
    columns = [found.protocols[name].rows() for name in names]
    rows = []
    for cells in zip(*columns, strict=True):
        values = {name: cell[2] for name, cell in zip(names, cells, strict=True)}
        if any(value != UNKNOWN for value in values.values()):
            rows.append({"field": cells[0][1], **values})
    html = table_html(rows, {"field": "", **{name: name for name in names}})
    versions = [{"name": k, "version": v} for k, v in sorted(environment().items())]
    table = table_html(versions, {"name": "software", "version": "version"})
    html += f"<details><summary>Versions</summary>{table}</details>"
    if found.licences:
        items = "".join(f"<li>{escape(a)}: {escape(b)}</li>" for a, b in found.licences)
        html += f"<h3>Licences</h3><ul>{items}</ul>"
    return Section("Protocol", html)


def _caption(found: AlignmentFindings, modality: str | None = None) -> str:
    if modality is not None and modality in found.protocols:
        return found.protocols[modality].caption()
    shared = next(iter(found.protocols.values()))
    return shared.replace(modality=", ".join(found.protocols), time_window=None).caption()
