"""``phosphene ablate``: a method with parts switched off, or a parameter swept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say
from phosphene.cli.fit import Overrides

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.runs.ablation import Ablation


def ablate(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML) of the full method.")],
    switches: Annotated[
        Optional[str],  # noqa: UP045 - older typer reads this form only
        typer.Option("--switches", metavar="A,B", help="Rows of the table; all by default."),
    ] = None,
    sweep: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--sweep", metavar="NAME=V,V", help="A row per value of a parameter."),
    ] = None,
    seeds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--seeds", metavar="0,1,2", help="Seeds of training; else the recipe's."),
    ] = None,
    subjects: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--subjects", metavar="01,02", help="Only the folds that test these."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder to write; else ablation-RECIPE."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Print the switches of the recipe's method and stop.")
    ] = False,
    overrides: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Fit and score a method with its parts switched off; run it again to continue."""
    from phosphene.config import load_recipe
    from phosphene.runs import ablate as run
    from phosphene.runs.ablation import switches as known

    chosen = load_recipe(recipe, overrides or ())
    if show:
        rows = known(chosen.method.name, chosen.method.ablations)
        if not rows:
            say(f"{chosen.method.name} names no switches; --sweep varies any parameter")
            return
        print_table(
            ["switch", "parameters"], [[row.label, _params(row.params) or "-"] for row in rows]
        )
        return
    found = run(
        chosen,
        out or Path(f"ablation-{recipe.stem}"),
        wanted=_words(switches),
        sweeps=sweep or (),
        seeds=_numbers(seeds),
        subjects=_words(subjects),
        say=lambda line: typer.echo(line, err=True),
    )
    _print(found, chosen.method.name)


def _print(found: Ablation, method: str) -> None:
    from phosphene.runs.ablation_table import printable

    def show(table: pd.DataFrame, title: str) -> None:
        columns, rows = printable(table)
        print_table(columns, rows, right=columns[1:], title=title)
        say()

    if len(found.table):
        show(found.table, f"{method}: ablation (per cent)")
    for scoring, table in found.marked.groupby("scoring", sort=False):
        show(table, f"{method}: not to be compared with the others, {scoring}")
    differing = {
        facts["row"]: facts["differs_in"]
        for part in (found.table, found.marked)
        for facts in part.to_dict("records")
        if facts["differs_in"]
    }
    for row, names in differing.items():
        say(f"note: {row}: differs from {found.full!r} in {names} as well")
    say(
        f"difference: top-1 less that of {found.full!r}, query by query; 95 % intervals over test "
        "stimuli, and over subjects where there are several.\n"
        "SD subjects, SD seeds: spread of top-1, each averaged over the other."
    )
    for mark in next(iter(found.results.values())).protocol.watermarks():
        say(f"note: {mark}")
    say(f"\nwritten to {found.folder}: table.csv, table_marked.csv, runs/")


def _params(params: object) -> str:
    from collections.abc import Mapping

    assert isinstance(params, Mapping)
    return ", ".join(f"{name}={value!r}" for name, value in params.items())


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None) -> list[int] | None:
    from phosphene.errors import DataError

    words = _words(text)
    if words is None:
        return None
    if not words or not all(word.isdecimal() for word in words):
        raise DataError("these are no seeds", found=repr(text), expected="numbers such as 0,1,2")
    return [int(word) for word in words]
