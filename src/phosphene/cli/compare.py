"""``phosphene compare``: evaluated runs side by side, where their protocols allow it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say

if TYPE_CHECKING:
    from phosphene.evaluation.comparison import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, evaluated.")],
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="A,B", help="top1, top5, median_rank, mrr, ...")
    ] = "top1,top5",
    baseline: Annotated[
        Optional[str],  # noqa: UP045 - older typer reads this form only
        typer.Option("--baseline", metavar="NAME", help="Compare with this one, else the first."),
    ] = None,
    test: Annotated[
        str, typer.Option("--test", help="Of the paired differences: sign-flip or wilcoxon.")
    ] = "sign-flip",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", metavar="FILE.csv", help="Also write the table here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Put runs side by side, with paired differences; runs of one method are pooled."""
    from phosphene._saving import atomic_path, jsonable
    from phosphene.errors import DataError
    from phosphene.runs.comparison import compare as run

    if out is not None and out.suffix.lower() != ".csv":
        raise DataError(f"cannot write the table as {out.name!r}", expected="a name ending in .csv")
    wanted = [word.strip() for word in metrics.split(",") if word.strip()]
    found = run(runs, metrics=wanted, baseline=baseline, test=test)  # type: ignore[arg-type]
    if out is not None:
        with atomic_path(out) as partial:
            found.to_frame().to_csv(partial, index=False)
    if as_json:
        import json

        say(json.dumps(jsonable(_content(found)), indent=2, allow_nan=False))
        return
    _print(found)
    if out is not None:
        say(f"\nwritten to {out}")


def _content(found: Comparison) -> dict[str, Any]:
    tables = {kind: table.to_dict("records") for kind, table in found.tables.items()}
    return {"test": found.test, "tables": tables, "notes": found.notes}


def _print(found: Comparison) -> None:
    from phosphene.evaluation.comparison import INDUCTIVE, printable
    from phosphene.evaluation.result import METRICS

    for kind, table in found.tables.items():
        for metric, rows in table.groupby("metric", sort=False):
            columns, cells = printable(rows)
            title = METRICS[str(metric)].label + ("" if kind == INDUCTIVE else f", {kind}")
            print_table(columns, cells, right=columns[1:], title=title)
            say()
    say(
        f"difference: paired, to the result without one; p: {found.test}, Holm-corrected; "
        "g: Hedges' g of the paired differences. In brackets: 95 % intervals."
    )
    for note in found.notes:
        say(f"note: {note}")
