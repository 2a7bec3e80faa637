"""``phosphene check``: the public checks over what is registered."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, say

MARKS = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}


def check(
    name: Annotated[
        Optional[str],  # noqa: UP045 - older typer reads this form only
        typer.Argument(help="A part (ubp), a kind (encoder) or both (encoder:mlp); else all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check that encoders, objectives, views and methods keep what all of their kind promise."""
    from dataclasses import asdict

    from phosphene.testing import iter_checks

    found = []
    for outcome in iter_checks(name):
        found.append(outcome)
        if not as_json:
            say(
                f"{MARKS[outcome.status]}  {outcome.kind}:{outcome.name}  {outcome.check}"
                f"  {outcome.seconds:.1f} s"
            )
            if outcome.message:
                say("      " + outcome.message.replace("\n", "\n      "))
    failed = [outcome for outcome in found if not outcome.passed]
    if as_json:
        import json

        say(json.dumps([asdict(outcome) for outcome in found], indent=2))
    else:
        skipped = sum(outcome.skipped for outcome in found)
        say(f"{len(found) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped")
    if failed:
        raise typer.Exit(1)
