"""What the demo writes: tables, protocol and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene._logging import get_logger
from phosphene._saving import write_json, write_manifest, write_table, write_text

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet
    from phosphene.evaluation.result import Result

logger = get_logger(__name__)

COLUMNS = (
    "method", "subject", "seed", "n_queries", "n_gallery", "top1", "top1_low", "top1_high",
    "top5", "top5_low", "top5_high", "chance", "ceiling",
)  # fmt: skip
LICENCES = (
    ("EfficientNet-Lite0 (image features)", "Apache-2.0"),
    ("Universal Sentence Encoder (text features)", "Apache-2.0"),
    ("Twemoji (pictures)", "CC BY 4.0, Twitter, Inc and other contributors"),
)


@dataclass(frozen=True)
class Outcome:
    """What the demo found.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    results : tuple of Result
        One per method, all subjects.
    title : str
        Says what was run, and that the data are simulated.
    notes : tuple of str
        What a reader of the table must know.
    """

    folder: Path
    results: tuple[Result, ...]
    title: str
    notes: tuple[str, ...]


def title(world: str, subjects: int, seed: int) -> str:
    """What was run, in a line that says that the data are simulated."""
    people = f"{subjects} simulated {'person' if subjects == 1 else 'people'}"
    return f"SIMULATED DATA: world {world!r}, {people}, seed {seed}"


def notes(results: Sequence[Result]) -> tuple[str, ...]:
    """What a reader of the table must know."""
    first = results[0].protocol
    return (
        "These numbers are from a simulation, not from people: they compare methods under its "
        "assumptions.",
        f"Top-1: which of {first.gallery_size} pictures of concepts never seen in training was "
        f"looked at (chance {100 / (first.gallery_size or 1):.1f} %); "
        f"{first.test_repetitions} test repetitions averaged.",
        "[low, high]: 95 % bootstrap over pictures and people. Ceiling: the ideal observer who "
        "knows every expected response and the noise.",
    )


def summary_rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read, one row per method."""
    from phosphene.evaluation.result import show

    rows = []
    for result in results:
        facts = result.summary()
        cells = [result.name]
        for metric in ("top1", "top5"):
            low, high = (show(metric, facts[f"{metric}_{end}"]) for end in ("low", "high"))
            cells += [show(metric, facts[metric]), f"[{low}, {high}]"]
        rows.append([*cells, show("top1", facts["chance"]), show("top1", facts["ceiling"])])
    return ["method", "top-1", "[low, high]", "top-5", "[low, high]", "chance", "ceiling"], rows


def write(outcome: Outcome, world: str, settings: Mapping[str, Any]) -> None:
    """Write what the whole demo found; the manifest last."""
    import pandas as pd

    from phosphene.evaluation.result import summary_table

    folder, results = outcome.folder, outcome.results
    table = summary_table(results)[list(COLUMNS)]
    write_text(folder / "results.csv", table.to_csv(index=False, float_format="%.6g"))
    write_table(folder / "queries.csv", pd.concat([r.table for r in results], ignore_index=True))
    write_json(
        folder / "protocol.json",
        {
            "title": outcome.title,
            "notes": outcome.notes,
            "simulated": True,
            "settings": settings,
            "methods": {result.name: result.protocol.to_dict() for result in results},
            "versions": results[0].versions,
            "licences": dict(LICENCES),
        },
    )
    write_report(outcome, world)
    write_manifest(folder, kind="demo")


def write_report(outcome: Outcome, world: str) -> None:
    """Write the report of the whole demo."""
    from phosphene import reports

    reports.write_report(
        outcome.results,
        outcome.folder / "report.html",
        title="phosphene demo: which picture was seen?",
        subtitle=outcome.title,
        intro=" ".join(outcome.notes),
        stimuli=_pictures(outcome.results, world),
        extras={"licences": LICENCES},
    )


def _pictures(results: Sequence[Result], name: str) -> StimulusSet | None:
    """Pictures of the gallery; the report does without where the packages are missing."""
    from phosphene.errors import PhospheneError
    from phosphene.simulation.pictures import picture_set
    from phosphene.simulation.world import get_world

    world = get_world(name)
    concepts = sorted(set(results[0].table["concept"]))
    try:
        return picture_set(concepts, 1, world.picture_seed, world.picture_size)
    except PhospheneError as error:
        logger.warning("the report has no pictures: %s", error.what)
        return None


@_registry.register("section", "licences", order=95)
def licences_section(about: Any) -> Any:
    """Licences of what a report shows or rests on, if ``extras["licences"]`` names them."""
    from html import escape

    from phosphene.reports import Section

    licences = about.extras.get("licences")
    if not licences:
        return None
    rows = "".join(f"<li>{escape(part)}: {escape(licence)}</li>" for part, licence in licences)
    return Section("Licences", f"<ul>{rows}</ul>")
