"""Logging and progress: bars on a terminal, silence in CI and in pipes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; the library adds no handlers but the null one."""
    return logging.getLogger(name)


logging.getLogger("phosphene").addHandler(logging.NullHandler())


def interactive() -> bool:
    """Whether someone is watching: standard error is a terminal and this is not CI."""
    return sys.stderr.isatty() and not os.environ.get("CI")


def progress(
    items: Iterable[T],
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    enabled: bool = True,
) -> Iterator[T]:
    """Iterate with a progress bar (rate and time left) when someone is watching."""
    if not (enabled and interactive()):
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=desc, unit=unit, leave=False, dynamic_ncols=True)
