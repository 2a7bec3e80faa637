"""``phosphene audit``: look for leaks in a run or in a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say


def audit(
    target: Annotated[
        str, typer.Argument(help="Run folder, or MODULE:CALLABLE.", metavar="RUN|MODULE:CALLABLE")
    ],
    data: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Option(
            "--data", help="For f(queries, gallery): .npz with queries, gallery, answers."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Look for leaks in a run's records and in what a decoder does; exit code 1 if one is found."""
    from phosphene.runs.auditing import audit_target

    found = audit_target(target, data)
    if as_json:
        import json

        say(json.dumps(found.to_json(), indent=2))
    else:
        rows = [(v.verdict, v.check, v.found_by, v.evidence) for v in found]
        print_table(("verdict", "check", "found by", "evidence"), rows, title=found.name)
        for verdict in found:
            if verdict.verdict in ("fail", "warn"):
                say(f"{verdict.verdict}: {verdict.check}: {verdict.fix or verdict.evidence}")
        say(repr(found))
    if not found.passed:
        raise typer.Exit(1)
