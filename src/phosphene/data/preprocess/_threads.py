"""Many small matrix products on several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Like `map`, on as many threads as torch uses; results in order, so sums are the same.

    numpy and torch let other threads run while they compute. Products of the size of an epoch gain
    nothing from two threads each, which would wait for each other longer than they compute. Items
    are taken a few ahead only, so that they need not fit into memory.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    # What a thread sets holds for itself and for threads that are started later.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            waiting: deque[Future[R]] = deque()
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            torch.set_num_threads(threads)
