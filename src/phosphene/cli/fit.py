"""``phosphene fit``: train what a recipe describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, say

Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - older typer reads this form only
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. method.params.epochs=3."),
]


def fit(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    overrides: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Train the method of a recipe; run it again after an interruption to continue."""
    from phosphene.config import load_recipe, reconstructs
    from phosphene.runs import fit as fit_run

    run = fit_run(load_recipe(recipe, overrides or ()), out)
    n = len(run.folds)
    say(f"fitted {run.recipe.method.name} ({n} fold{'s' * (n != 1)}) in {run.folder}")
    command = "reconstruct" if reconstructs(run.recipe.method.name) else "evaluate"
    say(f"next: phosphene {command} {run.folder}")
