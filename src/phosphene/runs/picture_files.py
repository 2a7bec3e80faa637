"""What a reconstruction writes: scores, protocol and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene._saving import jsonable, write_json, write_manifest, write_table, write_text
from phosphene.reports.reconstruction_sections import (
    ReconstructionFindings,
    ShownPictures,
    write_reconstruction_report,
)
from phosphene.runs.picture_scores import SHUFFLED, TRUE
from phosphene.runs.reconstructing import PictureOutcome, Reconstructed, stage_label

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Best, median and worst are told by the one metric that every run has and that has a chance level.
SORTED_BY = ("pool", "PixCorr")


def write_run(outcome: PictureOutcome) -> None:
    """Write the tables and the report into a run folder, whose manifest is the caller's."""
    _write(outcome, None)


def write_demo(outcome: PictureOutcome) -> None:
    """Write everything of a demo; the manifest last."""
    from phosphene.runs.reconstruct_demo import gains

    _write(outcome, gains(outcome.scores))
    write_manifest(outcome.folder, kind="reconstruction demo")


def summary_rows(outcome: PictureOutcome, modality: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read; arrows say which direction is better."""
    facts = outcome.scores.facts
    metrics = outcome.scores.metrics
    arrows = {name: "↓" if facts.loc[name, "better"] == "lower" else "↑" for name in metrics}
    table = outcome.scores.table(n_resamples=2)
    own = table[table["modality"] == modality]
    rows = []
    for row, part in own.groupby("row", sort=False):
        values = part.set_index("metric")["value"]
        rows.append([str(row), *(f"{values[name]:.3f}" for name in metrics)])
    return ["", *(f"{name} {arrows[name]}" for name in metrics)], rows


def findings(
    outcome: PictureOutcome, table: pd.DataFrame, gains: pd.DataFrame | None
) -> ReconstructionFindings:
    """What the report shows."""
    shown = [_shown(outcome, part) for part in outcome.parts]
    protocols = {}
    for part in outcome.parts:
        name = part.modality if len(outcome.parts) > 1 else part.label
        protocols[name] = part.made.protocol  # of the last method, which is what is about
    rows = set(outcome.scores.per_image["row"])
    return ReconstructionFindings(
        table=table,
        pictures=shown,
        protocols=protocols,
        lower=SHUFFLED if SHUFFLED in rows else None,
        upper=TRUE if TRUE in rows else None,
        gains=gains,
        intro=outcome.intro,
        verdicts=list(outcome.verdicts),
        licences=list(outcome.licences),
    )


def _write(outcome: PictureOutcome, gains: pd.DataFrame | None) -> None:
    folder = outcome.folder
    table = outcome.scores.table()
    write_text(folder / "metrics.csv", table.to_csv(index=False, float_format="%.6g"))
    write_table(folder / "images.csv", outcome.scores.per_image)
    if gains is not None:
        write_text(folder / "gains.csv", gains.to_csv(index=False, float_format="%.6g"))
    protocols = {
        f"{part.modality}, subject {part.subject}, {part.label}": part.made.protocol.to_dict()
        for part in outcome.parts
    }
    write_json(
        folder / "protocol.json",
        jsonable(
            {
                "title": outcome.title,
                "settings": dict(outcome.settings),
                "verdicts": list(outcome.verdicts),
                "parts": protocols,
                "licences": dict(outcome.licences),
            }
        ),
    )

    write_reconstruction_report(
        findings(outcome, table, gains),
        folder / "report.html",
        title="What was seen, reconstructed",
        subtitle=outcome.title,
    )


def _shown(outcome: PictureOutcome, part: Reconstructed) -> ShownPictures:
    stages = {
        stage_label(part.label, stage, len(part.made.stages)): pictures
        for stage, pictures in part.made.stages.items()
    }
    last = list(stages)[-1]
    if part.true is not None:
        stages[TRUE] = part.true
    metric = next(name for name in SORTED_BY if name in outcome.scores.metrics)
    own = outcome.scores.per_image
    own = own[
        (own["modality"] == part.modality) & (own["subject"] == part.subject)
        & (own["row"] == last) & (own["metric"] == metric)
    ]  # fmt: skip
    scores = own.set_index("stimulus")["value"].loc[part.made.ids]
    nearest = None
    if part.copies is not None:
        nearest = _pictures(outcome, list(part.copies.table["nearest"]))
    person = f"subject {part.subject}" if part.subject else "one person"
    return ShownPictures(
        title=f"{part.label}, {part.modality}, {person}",
        ids=part.made.ids,
        labels=[str(name) for name in part.made.queries["concept"]],
        truths=part.truths,
        stages=stages,
        scores=scores.to_numpy(),
        metric=metric,
        better=str(outcome.scores.facts.loc[metric, "better"]),
        copies=part.copies,
        nearest=nearest,
        frames=part.made.frames,
        traces=part.made.traces,
    )


def _pictures(outcome: PictureOutcome, ids: list[str]) -> NDArray[Any]:
    from phosphene.runs.reconstructing import true_pictures

    distinct = list(dict.fromkeys(ids))
    found = dict(zip(distinct, true_pictures(outcome.stimuli, distinct), strict=True))
    return np.stack([found[name] for name in ids])
