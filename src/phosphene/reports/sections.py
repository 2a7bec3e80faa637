"""Sections that every report of retrieval has: results, figures and pictures."""

from __future__ import annotations

from html import escape

import pandas as pd
from matplotlib.figure import Figure

from phosphene._registry import register
from phosphene.evaluation.result import METRICS, Result, show
from phosphene.reports import plots
from phosphene.reports._markup import figure_html, table_html
from phosphene.reports.grids import grid_html, grid_rows
from phosphene.reports.html import Section
from phosphene.reports.report import ReportContext

_COLUMNS = {
    "method": "method",
    "who": "subjects",
    "queries": "queries",
    "gallery": "gallery",
    "top1": "top-1",
    "top5": "top-5",
    "median_rank": "median rank",
    "two_way": "two-way",
    "chance": "chance",
    "ceiling": "ceiling",
}
_NUMBERS = [key for key in _COLUMNS if key not in ("method", "who")]


@register("section", "results", order=10)
def results_section(about: ReportContext) -> Section:
    """Table of all methods with intervals; transductive scores never share a table with others."""
    intro = f"<p>{escape(about.intro)}</p>" if about.intro else ""
    parts = [intro]
    kinds: dict[str, list[Result]] = {}
    for result in about.methods.values():
        kinds.setdefault(_kind(result), []).append(result)
    for kind, results in kinds.items():
        caption = "" if len(kinds) == 1 and kind == "inductive" else f"{kind} scores"
        rows = [_row(result, _people(result)) for result in results]
        parts.append(table_html(rows, _columns(results), numbers=_NUMBERS, caption=caption))
    several = [r for r in about.methods.values() if len(r.subjects) > 1 or len(r.seeds) > 1]
    if several:
        inner = ""
        for kind in dict.fromkeys(_kind(result) for result in several):
            alike = [result for result in several if _kind(result) == kind]
            rows = [_row(part, _who(part)) for result in alike for part in result.split()]
            caption = "" if kind == "inductive" else f"{kind} scores"
            inner += table_html(rows, _columns(alike), numbers=_NUMBERS, caption=caption)
        parts.append(f"<details><summary>Every subject and seed</summary>{inner}</details>")
    parts.append(
        '<p class="small soft">In brackets: 95&nbsp;% bootstrap intervals, over stimuli within a '
        "subject, crossed over subjects and stimuli for several subjects. Ties count as their "
        "expectation, so that a constant predictor scores exactly chance. Two-way: share of wrong "
        "candidates that score below the true one (chance 50&nbsp;%). Chance and ceiling are of "
        "top-1.</p>"
    )
    return Section("Results", "".join(parts))


@register("section", "accuracy", order=20)
def accuracy_section(about: ReportContext) -> Section:
    """Bars of top-1 and top-5, accuracy against gallery size, distribution of ranks."""
    figures = [
        figure_html(
            _pair(about),
            "Accuracy with 95 % intervals; dots are subjects, dotted is chance"
            + (", dashed the noise ceiling. " if _ceilings(about) else ". ")
            + _protocol(about),
        )
    ]
    sizes = {r: set(r.table["n_gallery"]) for r in about.methods.values()}
    if all(len(s) == 1 and max(s) > 2 for s in sizes.values()):
        figures.append(
            figure_html(
                _curves(about),
                "Left: expected top-1 accuracy with the true image among N candidates drawn from "
                "the gallery, exact rather than sampled. Right: share of the queries whose seen "
                "image is at a given rank or better. " + _protocol(about),
            )
        )
    return Section("Accuracy", "".join(figures))


@register("section", "repetitions", order=30)
def repetitions_section(about: ReportContext) -> Section | None:
    """Accuracy against the number of averaged test repetitions."""
    table = about.repetitions
    if table is None:
        parts = [
            result.tables["repetitions"].assign(method=name)
            for name, result in about.methods.items()
            if "repetitions" in result.tables
        ]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        return None
    chance = next(iter(about.methods.values())).chance
    figure = plots.accuracy_by_repetitions(table, chance=chance, simulated=about.simulated)
    return Section(
        "Repetitions",
        figure_html(
            figure,
            "Top-1 accuracy against the number of test repetitions averaged. " + _protocol(about),
        ),
    )


@register("section", "learning", order=40)
def learning_section(about: ReportContext) -> Section | None:
    """Training loss and validation accuracy by epoch."""
    histories = {
        name: result.tables["history"]
        for name, result in about.methods.items()
        if "history" in result.tables and not result.tables["history"].empty
    }
    known = {q for table in histories.values() for q in table if table[q].notna().any()}
    quantities = [quantity for quantity in ("loss", "val_top1") if quantity in known]
    if not quantities:
        return None
    figure, axes = plots.panels(len(quantities))
    for quantity, ax in zip(quantities, axes, strict=True):
        plots.learning_curves(histories, quantity, simulated=about.simulated, ax=ax)
    kept = any("selected" in table for table in histories.values())
    note = (
        "Thin lines are single trainings, thick ones their mean"
        + (", dots the epochs that were kept" if kept else "")
        + ". Validation is on training concepts that were held out, never on test data."
    )
    return Section("Learning curves", figure_html(figure, note))


@register("section", "retrieval", order=50)
def retrieval_section(about: ReportContext) -> Section | None:
    """Best, median and worst queries of the best method that kept its scores."""
    candidates = [r for r in about.methods.values() if r.scores is not None]
    if not candidates:
        return None
    best = max(candidates, key=lambda result: result.value("mrr"))
    size = min(5, best.scores.n_gallery) if best.scores is not None else 5
    grid = grid_html(grid_rows(best, 3, k=size), about.stimuli)
    text = (
        f'<p class="soft">Method <b>{escape(best.name)}</b>: the seen image and the first {size} '
        "retrieved with their scores; the true one is framed. Best, median and worst queries by "
        "the rank of the seen image, so that this is no selection of successes.</p>"
    )
    return Section("Retrieved images", text + grid)


@register("section", "nearest_training", order=60)
def nearest_section(about: ReportContext) -> Section | None:
    """Test pictures that resemble training pictures most."""
    tables = [r.tables["nearest_training"] for r in about.methods.values()
              if "nearest_training" in r.tables]  # fmt: skip
    if not tables:
        return None
    pairs = pd.concat(tables, ignore_index=True).drop_duplicates(["stimulus", "nearest"])
    pairs = pairs.sort_values(["cosine", "stimulus"], ascending=[False, True], kind="stable")
    middle = pairs["cosine"].median()
    rows = [
        {
            "stimulus": (row["concept"], row["stimulus"]),
            "nearest": (row["nearest_concept"], row["nearest"]),
            "cosine": f"{row['cosine']:.3f}",
        }
        for row in pairs.head(5).to_dict("records")
    ]
    columns = {"stimulus": "test image", "nearest": "nearest training image", "cosine": "cosine"}
    text = (
        '<p class="soft">A test image that is nearly a training image can be "decoded" by '
        f"remembering the latter. Median similarity to the nearest training image: {middle:.3f}. "
        "The most similar pairs:</p>"
    )
    return Section("Nearest training", text + table_html(rows, columns, numbers=["cosine"]))


def _protocol(about: ReportContext) -> str:
    """What decides the numbers of a figure, once where the methods agree."""
    captions: dict[str, list[str]] = {}
    for name, result in about.methods.items():
        captions.setdefault(result.protocol.caption(), []).append(name)
    if len(captions) == 1:
        return next(iter(captions))
    return " ".join(f"{', '.join(names)}: {caption}" for caption, names in captions.items())


def _kind(result: Result) -> str:
    protocol = result.protocol
    if protocol.uses_test_labels:
        return "oracle (test labels used)"
    return "transductive" if protocol.transductive else "inductive"


def _marked(about: ReportContext) -> dict[str, Result]:
    """Methods under names that say which are not inductive, as figures show them side by side."""
    kinds = {name: _kind(result).split(" ")[0] for name, result in about.methods.items()}
    return {
        name if kinds[name] == "inductive" else f"{name} ({kinds[name]})": result
        for name, result in about.methods.items()
    }


def _columns(results: list[Result]) -> dict[str, str]:
    known = any(result.ceiling for result in results)
    return {key: label for key, label in _COLUMNS.items() if key != "ceiling" or known}


def _row(result: Result, who: str) -> dict[str, object]:
    facts = result.summary()
    row: dict[str, object] = {
        "method": result.name,
        "who": who,
        "queries": facts["n_queries"],
        "gallery": facts["n_gallery"],
        "chance": show("top1", facts["chance"]),
        "ceiling": show("top1", facts["ceiling"]),
    }
    for metric in ("top1", "top5", "median_rank", "two_way"):
        low, high = (show(metric, bound).removesuffix(" %") for bound in result.interval(metric))
        row[metric] = (show(metric, result.value(metric)), f"[{low}, {high}]")
    return row


def _people(result: Result) -> str:
    people = str(len(result.subjects)) if len(result.subjects) > 1 else _who(result)
    return people + (f" × {len(result.seeds)} seeds" if len(result.seeds) > 1 else "")


def _who(result: Result) -> str:
    who = ", ".join(result.subjects) or "–"
    return f"{who}, seed {result.seeds[0]}" if len(result.seeds) == 1 else who


def _ceilings(about: ReportContext) -> bool:
    return any(set(result.ceiling) & {"top1", "top5"} for result in about.methods.values())


def _pair(about: ReportContext) -> Figure:
    size = max(next(iter(about.methods.values())).table["n_gallery"])
    metrics = ["top1", "top5"] if size > 5 else ["top1"]
    figure, axes = plots.panels(len(metrics), width=max(4.8, 1.2 + 0.8 * len(about.methods)))
    for metric, ax in zip(metrics, axes, strict=True):
        plots.accuracy_bars(_marked(about), metric, ax=ax)
        ax.set_title(METRICS[metric].label, loc="left", fontsize="medium")
    return figure


def _curves(about: ReportContext) -> Figure:
    figure, (left, right) = plots.panels(2)
    plots.n_way(_marked(about), ax=left)
    plots.rank_distribution(_marked(about), ax=right)
    return figure
