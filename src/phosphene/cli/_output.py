"""What commands share: tables, errors without tracebacks, logging to standard error."""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar

import typer

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what happens; show tracebacks.")
]


class _Handler(logging.StreamHandler[TextIO]):
    """The command line's own handler, told apart from those of a program around it."""


def start_logging(verbose: bool) -> None:
    """Send the library's log to standard error: warnings, or everything with ``--verbose``."""
    logger = logging.getLogger("phosphene")
    for known in _handlers():
        logger.removeHandler(known)
    handler = _Handler(sys.stderr)
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _handlers() -> list[_Handler]:
    return [h for h in logging.getLogger("phosphene").handlers if isinstance(h, _Handler)]


def _verbose() -> bool:
    return any(handler.level <= logging.INFO for handler in _handlers())


def guarded(function: F) -> F:
    """Turn errors into messages and exit codes: 2 for ours, 130 for an interruption, 1 else."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        if kwargs.get("verbose"):
            start_logging(True)
        try:
            function(*args, **kwargs)
        except PhospheneError as error:
            if _verbose():
                logging.getLogger("phosphene").info("traceback", exc_info=True)
            fail(str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            fail("interrupted; run the same command again to continue")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader of a pipe (head, less) has what it wanted; nothing is left to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except typer.Exit:
            raise
        except Exception as error:
            if _verbose():
                raise
            fail(
                f"unexpected {type(error).__name__}: {error}\n"
                "  what to do: run it again as `phosphene --verbose ...` and report the traceback"
            )
            raise typer.Exit(1) from None

    return run  # type: ignore[return-value]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name of the file says.

    Raises
    ------
    DataError
        If there is no such format.
    """
    from phosphene._saving import atomic_path
    from phosphene.errors import DataError

    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise DataError(
            f"cannot write a figure as {path.name!r}",
            expected="a name ending in .png, .pdf or .svg",
        )
    with atomic_path(path) as partial:
        figure.savefig(partial, format=kind, dpi=150)


def fail(message: str) -> None:
    """Print an error to standard error."""
    start = "\033[1;31merror\033[0m" if sys.stderr.isatty() else "error"
    typer.echo(f"{start}: {message}", err=True)


def say(text: str = "") -> None:
    """Print a line for people to standard output."""
    typer.echo(text)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
) -> None:
    """Print a table: with lines on a terminal, plain and never cut elsewhere.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequences
        Cells; None is an empty cell.
    title : str, optional
        A line above.
    right : iterable of str
        Headings of the columns that are aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    to_right = set(right)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    watched = console.is_terminal
    if not watched:
        # Without a terminal rich would cut at 80 columns; programs read these tables.
        console = Console(
            file=io.StringIO(), highlight=False, markup=False, width=4000, no_color=True
        )
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if watched else None,
        pad_edge=False,
    )
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in to_right else "left",
            overflow="fold",
            no_wrap=not watched,
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)
    if isinstance(console.file, io.StringIO):
        typer.echo("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))
