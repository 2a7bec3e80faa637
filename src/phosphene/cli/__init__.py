"""The command line: one file per command, each a thin call into the library."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from phosphene.cli import (
    ablate,
    align,
    analyse,
    audit,
    check,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    features,
    fit,
    name,
    predict,
    reconstruct,
)
from phosphene.cli import list as list_command
from phosphene.cli._output import guarded, start_logging

app = typer.Typer(
    name="phosphene",
    help="Visual brain decoding: from EEG, MEG, fMRI or ECoG to the seen image.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from phosphene import __version__

        typer.echo(f"phosphene {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens; show tracebacks.")
    ] = False,
) -> None:
    """Visual brain decoding: from EEG, MEG, fMRI or ECoG to the seen image."""
    start_logging(verbose)


for _name, _function in (
    ("demo", demo.demo),
    ("list", list_command.list_names),
    ("fit", fit.fit),
    ("evaluate", evaluate.evaluate),
    ("predict", predict.predict),
    ("reconstruct", reconstruct.reconstruct),
    ("compare", compare.compare),
    ("ablate", ablate.ablate),
    ("align", align.align),
    ("name", name.name),
    ("analyse", analyse.analyse),
    ("audit", audit.audit),
    ("check", check.check),
    ("doctor", doctor.doctor),
):
    app.command(_name)(guarded(_function))

app.add_typer(data.app)
app.add_typer(features.app)


def main() -> None:
    """Run the command line (the entry point of the installed command ``phosphene``)."""
    # Read by OpenMP when torch is loaded. Its threads otherwise spin while they wait for one
    # another, and where other programs want the processors too, work takes several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
