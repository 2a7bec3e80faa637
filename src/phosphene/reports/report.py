"""Reports of results: every registered section that has something to say, in order.

A section is a function from a `ReportContext` to a `Section` or None, registered as
``register("section", name, order=...)`` in any module of this package. So a new kind of section is
a new file; nothing here changes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene import _registry
from phosphene._registry import register
from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.reports.html import Report

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet


@dataclass(frozen=True)
class ReportContext:
    """What sections may draw on.

    Parameters
    ----------
    results : sequence of Result
        Any number of methods, subjects and seeds, merged or not.
    stimuli : StimulusSet, optional
        Pictures of the gallery.
    repetitions : DataFrame, optional
        Accuracy by number of averaged repetitions; see `plots.accuracy_by_repetitions`. By default
        the results' own tables ``repetitions``.
    intro : str
        A paragraph that says what was done (plain text).
    extras : mapping
        What further sections look for, by name.
    """

    results: Sequence[Result]
    stimuli: StimulusSet | None = None
    repetitions: pd.DataFrame | None = None
    intro: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.results:
            raise DataError("a report needs at least one result")

    @cached_property
    def methods(self) -> dict[str, Result]:
        """One result per method, its subjects and seeds merged, in the order given."""
        parts: dict[str, list[Result]] = {}
        for result in self.results:
            parts.setdefault(result.name, []).append(result)
        return {n: p[0] if len(p) == 1 else Result.merge(p) for n, p in parts.items()}

    @property
    def simulated(self) -> bool:
        """Whether any result is of simulated data."""
        return any(result.protocol.simulated for result in self.results)

    def watermarks(self) -> list[str]:
        """Watermarks of all methods; one that not all share names those it concerns."""
        owners: dict[str, list[str]] = {}
        for name, result in self.methods.items():
            for mark in result.protocol.watermarks():
                owners.setdefault(mark, []).append(name)
        everyone = len(self.methods)
        return [
            mark if len(names) == everyone else f"{', '.join(names)}: {mark}"
            for mark, names in owners.items()
        ]


def write_report(
    results: Result | Iterable[Result],
    path: str | Path,
    *,
    title: str = "Retrieval of seen images from brain recordings",
    subtitle: str | None = None,
    **context: Any,
) -> Path:
    """Write one self-contained HTML file about some results.

    Parameters
    ----------
    results : Result or iterable of Result
        Methods, subjects and seeds; those of one method are merged.
    path : path
        The file.
    title, subtitle : str
        Heading; by default the subtitle says what was decoded and when.
    **context
        Other fields of `ReportContext`, such as ``stimuli``.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If there is no result, or those of one method have different protocols.
    StorageError
        If the file cannot be written.
    """
    parts = [results] if isinstance(results, Result) else list(results)
    about = ReportContext(parts, **context)
    report = Report(
        title,
        _subtitle(about) if subtitle is None else subtitle,
        about.watermarks(),
        footer=_footer(about),
    )
    for section in sections():
        made = section(about)
        if made is not None:
            report.add(made)
    return report.save(path)


def sections() -> list[Any]:
    """Builders of all registered sections, in the order they appear in."""
    entries = [entry for entry in _registry.entries("section") if "order" in entry.info]
    return [entry.obj for entry in sorted(entries, key=lambda e: (e.info["order"], e.name))]


@register("section", "result_report")
def write_result_report(result: Result, path: str | Path, **more: Any) -> Path:
    """Report of a single result: what ``Result.report`` writes."""
    return write_report([result], path, **more)


def _subtitle(about: ReportContext) -> str:
    protocol = next(iter(about.methods.values())).protocol
    n = len({subject for result in about.results for subject in result.subjects})
    people = f"{n} subject{'s' if n != 1 else ''}"
    facts = [protocol.dataset or "", (protocol.modality or "").upper(), people]
    return " · ".join(fact for fact in facts if fact)


def _footer(about: ReportContext) -> str:
    versions = about.results[0].versions
    phosphene = versions.get("phosphene", "")
    dates = {r.protocol.date for r in about.results if r.protocol.date}
    date = max(dates) if dates else dt.datetime.now(dt.UTC).date().isoformat()
    return f"phosphene {phosphene}, {date}. This file is complete in itself."
