"""``phosphene align``: vectors with the brain's similarity structure, beside every control."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say


def align(
    vectors: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Argument(help="CSV of vectors: a category per row, its name first.", metavar="CSV"),
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
        str, typer.Option("--variant", help="linear, autoencoder or residual; not with --demo.")
    ] = "linear",
    demo: Annotated[
        bool, typer.Option("--demo", help="A simulated study of fMRI, MEG and ECoG instead.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --demo: a small world, 30 seconds.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "phosphene-align"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Align vectors with brain RSMs, a person left out in turn, and compare with controls."""
    from phosphene.errors import DataError

    given = [name for name, value in (("CSV", vectors), ("--rsm", rsm), ("--test", test)) if value]
    if demo and (given or variant != "linear"):
        raise DataError(
            "--demo has data and settings of its own",
            found=", ".join([*given, *(["--variant"] if variant != "linear" else [])]),
            fix="leave these out, or --demo",
        )
    if quick and not demo:
        raise DataError("--quick belongs to --demo", fix="add --demo, or leave --quick out")
    if demo:
        _demo(out, quick, seed)
        return
    if vectors is None or not rsm:
        raise DataError(
            "nothing to align",
            found=", ".join(given) or "neither vectors nor RSMs",
            fix="phosphene align VECTORS.csv --rsm A.csv --rsm B.csv --test TEST.txt, "
            "or phosphene align --demo",
        )
    _own(vectors, rsm, test, out, variant, seed)


def _demo(out: Path, quick: bool, seed: int) -> None:
    from phosphene.reports.alignment_sections import label, table_rows
    from phosphene.runs.aligning import align_demo

    outcome = align_demo(out, quick=quick, seed=seed, say=say)
    found = outcome.findings
    for modality in found.protocols:
        columns, rows = table_rows(found.summary, modality)
        say()
        print_table(columns, rows, right=columns[1:], title=f"{outcome.title}: {label(modality)}")
    say(f"\nIdentification among {found.n_candidates} wrong answers, chance .5; 95 % intervals.")
    for line in found.verdicts:
        say(line)
    say(f"\ntable:  {out}/alignment.csv\nreport: {out}/report.html")


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
