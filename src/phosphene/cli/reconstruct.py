"""``phosphene reconstruct``: pictures of what was seen, with scores and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say

if TYPE_CHECKING:
    from phosphene.runs.reconstructing import PictureOutcome


def reconstruct(
    run: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Argument(help="Run folder that `phosphene fit` wrote.", metavar="RUN"),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Simulated fMRI and EEG instead of a run.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --demo: 10 pictures, a minute and a half.")
    ] = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="With --demo: folder for the results.")
    ] = Path("phosphene-reconstruct"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the pictures.")] = 0,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Pictures per query of a run.")
    ] = 1,
    bound: Annotated[
        bool,
        typer.Option("--bound/--no-bound", help="Also pictures of the true features."),
    ] = True,
    verbose: Verbose = False,
) -> None:
    """Reconstruct the held-out trials of a run; run it again after an interruption to continue."""
    from phosphene.errors import DataError

    if demo and run is not None:
        raise DataError("--demo has data of its own", found=run, fix="leave out the run, or --demo")
    if quick and not demo:
        raise DataError("--quick belongs to --demo", fix="add --demo, or leave --quick out")
    if demo and (samples != 1 or not bound):
        raise DataError("--samples and --no-bound belong to a run", fix="leave them out, or --demo")
    if demo:
        from phosphene.runs.reconstruct_demo import reconstruct_demo

        _show(reconstruct_demo(out, quick=quick, seed=seed, say=say))
        return
    if run is None:
        raise DataError(
            "nothing to reconstruct",
            fix="phosphene reconstruct RUN, with a run of minddiffuser or img2img; "
            "or phosphene reconstruct --demo",
        )
    from phosphene.runs.reconstructing import reconstruct as reconstruct_run

    _show(reconstruct_run(run, n=samples, seed=seed, bound=bound))


def _show(outcome: PictureOutcome) -> None:
    from phosphene.runs.picture_files import summary_rows

    for modality in dict.fromkeys(part.modality for part in outcome.parts):
        columns, rows = summary_rows(outcome, modality)
        say()
        print_table(columns, rows, right=columns[1:], title=f"{outcome.title}: {modality}")
    say("\n[low, high]: 95 % intervals over people and pictures are in metrics.csv.")
    for line in outcome.verdicts:
        say(line)
    say(f"\ntable:    {outcome.folder}/metrics.csv\nreport:   {outcome.folder}/report.html")
    say(f"pictures: {outcome.folder}/pictures/")
