"""``phosphene demo``: the whole way on a simulated experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say


def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="A small world and four methods, 90 seconds.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "phosphene-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of world and training.")] = 0,
    subjects: Annotated[
        Optional[int],  # noqa: UP045 - older typer reads this form only
        typer.Option("--subjects", min=1, help="Simulated people (3; quick: 2)."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Simulate an EEG experiment, train and compare the methods, write a report."""
    from phosphene.runs.demo import demo as run_demo
    from phosphene.runs.demo_files import summary_rows

    outcome = run_demo(out, quick=quick, seed=seed, subjects=subjects, say=say)
    columns, rows = summary_rows(outcome.results)
    print_table(columns, rows, right=columns[1:], title=outcome.title)
    say()
    for line in outcome.notes:
        say(line)
    say(f"\nresults: {out}/results.csv, queries.csv, protocol.json\nreport:  {out}/report.html")
