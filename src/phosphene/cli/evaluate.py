"""``phosphene evaluate``: score the test data of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phosphene.cli._output import Verbose, print_table, say


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that `phosphene fit` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Score the held-out trials of a run; every opening of the test data is counted."""
    from phosphene.runs import evaluate as evaluate_run
    from phosphene.runs import summary_rows

    result = evaluate_run(run)
    if as_json:
        import json

        say(json.dumps(result.summary(), indent=2, default=float))
        return
    columns, rows = summary_rows(result)
    print_table(columns, rows, right=columns[1:], title=result.name)
    say()
    for mark in result.protocol.watermarks():
        say(f"note: {mark}")
    for line in result.protocol.lines(unknown=False):
        say(line)
    say(f"\nwritten to {run}: queries.csv, scores.npz, protocol.json, result.json")
