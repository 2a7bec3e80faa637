"""``phosphene align``: vectors with the brain's similarity structure, beside every control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say
from phosphene.cli.fit import Overrides

if TYPE_CHECKING:
    from phosphene.runs.aligning import AlignmentOutcome


def align(
    vectors: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Argument(
            help="Recipe (YAML), or CSV of vectors: a category per row, its name first.",
            metavar="RECIPE|CSV",
        ),
    ] = None,
    rsm: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--rsm", metavar="CSV", help="A person's similarities; once per person."),
    ] = None,
    test: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--test", metavar="TXT", help="Test categories, one per line."),
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", help="With CSV: linear, autoencoder or residual.")
    ] = "linear",
    overrides: Overrides = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="A simulated study of fMRI, MEG and ECoG instead.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --demo: a small world, 30 seconds.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "phosphene-align"
    ),
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seed", min=0, help="Seed; 0, or the recipe's, by default."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Align vectors with brain RSMs, a person left out in turn, and compare with controls."""
    from phosphene.errors import DataError

    recipe = vectors is not None and vectors.suffix in (".yaml", ".yml")
    first = "the recipe" if recipe else "CSV"
    given = [name for name, value in ((first, vectors), ("--rsm", rsm), ("--test", test)) if value]
    given += ["--variant"] if variant != "linear" else []
    given += ["--set"] if overrides else []
    if demo and given:
        raise DataError(
            "--demo has data and settings of its own",
            found=", ".join(given),
            fix="leave these out, or --demo",
        )
    if quick and not demo:
        raise DataError("--quick belongs to --demo", fix="add --demo, or leave --quick out")
    if demo:
        _demo(out, quick, seed or 0)
        return
    if recipe:
        if others := [name for name in given if name not in (first, "--set")]:
            raise DataError(
                "a recipe says what is aligned with what",
                found=", ".join(others),
                fix="leave these out, and change values with --set KEY=VALUE",
            )
        assert vectors is not None
        _recipe(vectors, [*(overrides or ()), *([] if seed is None else [f"seed={seed}"])], out)
        return
    if overrides:
        raise DataError("--set changes a recipe, and there is none", fix="give a recipe (YAML)")
    if vectors is None or not rsm:
        raise DataError(
            "nothing to align",
            found=", ".join(given) or "neither vectors nor RSMs",
            fix="phosphene align VECTORS.csv --rsm A.csv --rsm B.csv --test TEST.txt, "
            "phosphene align RECIPE.yaml, or phosphene align --demo",
        )
    _own(vectors, rsm, test, out, variant, seed or 0)


def _recipe(path: Path, overrides: list[str], out: Path) -> None:
    from phosphene.config import load_alignment_recipe
    from phosphene.runs.aligning_recipe import align_recipe

    _show(align_recipe(load_alignment_recipe(path, overrides), out, say=say), out)


def _demo(out: Path, quick: bool, seed: int) -> None:
    from phosphene.runs.aligning import align_demo

    _show(align_demo(out, quick=quick, seed=seed, say=say), out)


def _show(outcome: AlignmentOutcome, out: Path) -> None:
    from phosphene.reports.alignment_sections import label, table_rows

    found = outcome.findings
    for modality in found.protocols:
        columns, rows = table_rows(found.summary, modality)
        say()
        print_table(columns, rows, right=columns[1:], title=f"{outcome.title}: {label(modality)}")
    say(f"\nIdentification among {found.n_candidates} wrong answers, chance .5; 95 % intervals.")
    for line in found.verdicts:
        say(line)
    say(f"\ntable:  {out}/alignment.csv\ntests:  {out}/statistics.csv\nreport: {out}/report.html")


def _own(
    vectors: Path, rsms: list[Path], test: Path | None, out: Path, variant: str, seed: int
) -> None:
    from phosphene.runs.aligning_tables import align_tables

    found = align_tables(vectors, rsms, out, test=test, variant=variant, seed=seed)
    if found.table is not None:
        columns, rows = found.rows()
        print_table(columns, rows, right=columns[1:], title="held-out people and categories")
        say()
    say(f"aligned to {len(rsms)} people: alpha {found.aligner.alpha_:g}")
    say(f"written to {out}: " + ", ".join(found.files))
