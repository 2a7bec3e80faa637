"""What to do when the memory does not suffice: the same work in smaller batches."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from phosphene._logging import get_logger
from phosphene.errors import PhospheneError

T = TypeVar("T")
logger = get_logger(__name__)
_SAID = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class MemoryShortError(PhospheneError, MemoryError):
    """Not even one picture at a time fits into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    True
    >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def in_batches(
    work: Callable[[Sequence[int]], T], total: int, batch: int, what: str, fix: str
) -> Iterator[tuple[Sequence[int], T]]:
    """Do work on rows in batches; a batch that does not fit into memory is halved.

    Parameters
    ----------
    work : callable
        Takes row numbers.
    total, batch : int
        Number of rows, and how many are tried at a time.
    what, fix : str
        What is done and what would need less memory, for messages.

    Yields
    ------
    rows : sequence of int
    result : object
        What ``work`` made of them.

    Raises
    ------
    MemoryShortError
        If one row alone does not fit.
    """
    done = 0
    while done < total:
        rows = range(done, min(done + batch, total))
        short: str | None = None
        try:
            result = work(rows)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, PhospheneError) or not is_out_of_memory(error):
                raise
            short = str(error).strip().partition("\n")[0] or type(error).__name__
        # Outside of the handler, where the error no longer holds the tensors of the failed try.
        if short is not None:
            if torch.cuda.is_available():
                gc.collect()
                torch.cuda.empty_cache()
            if len(rows) == 1:
                raise MemoryShortError(
                    f"there is not enough memory to {what}, even one at a time",
                    found=short,
                    fix=fix,
                )
            batch = len(rows) // 2
            logger.warning("out of memory: goes on with batches of %d instead of %d (%s)",
                           batch, len(rows), short)  # fmt: skip
            continue
        yield rows, result
        done = rows.stop
