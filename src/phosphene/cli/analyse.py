"""``phosphene analyse``: when, where, how much data, which categories, which geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, say


def analyse(
    run: Annotated[Path, typer.Argument(help="Run folder, evaluated.")],
    what: Annotated[str, typer.Option("--what", help="time, space, curves, categories or rsa.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for CSV, PNG and HTML.")],
    decoder: Annotated[
        str, typer.Option("--decoder", help="Fitted anew where needed: ridge, or the run's method.")
    ] = "ridge",
    metric: Annotated[str, typer.Option("--metric", help="top1, top5, mrr or two_way.")] = "top1",
    window: Annotated[
        float, typer.Option("--window", metavar="SECONDS", help="time: length of a window.")
    ] = 0.05,
    step: Annotated[
        Optional[float],  # noqa: UP045 - older typer reads this form only
        typer.Option(
            "--step", metavar="SECONDS", help="time: between windows; they touch if left out."
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="space: drop a part, or keep it alone.")
    ] = "drop",
    how: Annotated[
        str, typer.Option("--how", help="space: refit, or miss the part at test.")
    ] = "refit",
    categories: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--categories", metavar="FILE.csv", help="Columns concept and category."),
    ] = None,
    rdm: Annotated[
        str, typer.Option("--rdm", help="rsa: correlation, cosine, euclidean or crossnobis.")
    ] = "correlation",
    compare: Annotated[
        str, typer.Option("--compare", help="rsa: spearman, kendall or pearson.")
    ] = "spearman",
    verbose: Verbose = False,
) -> None:
    """Analyse an evaluated run: tables, figures and one HTML file per analysis."""
    from phosphene.runs.analysing import analyse as run_analysis

    found = run_analysis(
        run,
        what,
        out,
        decoder=decoder,
        metric=metric,
        window=window,
        step=step,
        mode=mode,
        how=how,
        categories=categories,
        rdm=rdm,
        compare=compare,
    )
    for part in found.parts:
        say(f"{part.title}: {len(part.table)} rows in {part.name}.csv")
        for note in part.notes:
            say(f"  note: {note}")
    say(f"\nwritten to {found.files[-1]}")
