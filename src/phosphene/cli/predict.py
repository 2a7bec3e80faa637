"""``phosphene predict``: name what was seen in new, unlabelled trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, say


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder that `phosphene fit` wrote.")],
    recording: Annotated[
        Path, typer.Argument(help="Saved Recording (folder), -epo.fif file or .npz archive.")
    ],
    gallery: Annotated[
        Path, typer.Option("--gallery", help="Folder of pictures, or a saved FeatureBank.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Candidates per trial.")] = 5,
    abstain_below: Annotated[
        Optional[float],  # noqa: UP045 - older typer reads this form only
        typer.Option(
            "--abstain-below", min=0, max=1, help="Mark answers of less confidence as withheld."
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="CSV file; standard output otherwise."),
    ] = None,
    fold: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--fold", help="Which decoder, where the run has several."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Rank a gallery for every trial: trial, rank, stimulus, concept, score, confidence.

    Confidence is the probability that a candidate was seen, if what was seen is in the gallery. It
    is empty where training held no concepts out.
    """
    from phosphene.runs import predict as predict_run

    table = predict_run(run, recording, gallery, top=top, abstain_below=abstain_below, fold=fold)
    if out is None:
        say(table.to_csv(index=False).rstrip("\n"))
        return
    from phosphene._saving import atomic_path

    with atomic_path(out) as partial:
        table.to_csv(partial, index=False)
    n = table["trial"].nunique()
    said = f"{n} trials, {min(top, len(table) // max(n, 1))} candidates each"
    if abstain_below is not None:
        said += f", {int(table.loc[table['rank'] == 1, 'withheld'].sum())} answers withheld"
    say(f"{said}: {out}")
