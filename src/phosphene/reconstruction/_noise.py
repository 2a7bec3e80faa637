"""Random numbers of pictures that are generated: each picture has its own stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phosphene import _random


@dataclass(frozen=True)
class Noise:
    """Where the random numbers of some pictures come from.

    A picture's numbers depend on the seed, its query and its number among the samples of the query,
    never on the batch that it is computed in. So batches of another size, another order of queries
    and a call that goes on where an earlier one was interrupted give the same pictures.

    Parameters
    ----------
    seed : int
        Seed of the call.
    queries : sequence of str
        Query of each picture: its id, or its row as text where there are no ids.
    samples : sequence of int
        Which of its query's samples each picture is, from 0.

    Examples
    --------
    >>> both = Noise(0, ["a", "b"], [0, 0]).normal((3,), "start")
    >>> bool((both[1] == Noise(0, ["b"], [0]).normal((3,), "start")[0]).all())
    True
    """

    seed: int
    queries: Sequence[str]
    samples: Sequence[int]

    def __len__(self) -> int:
        return len(self.queries)

    def normal(self, shape: Sequence[int], name: str) -> Tensor:
        """Standard normal numbers, float32 on the CPU, shape (pictures, ...).

        Parameters
        ----------
        shape : sequence of int
            Shape of one picture's numbers.
        name : str
            What they are for; numbers for different things are independent.
        """
        drawn = [
            torch.randn(tuple(shape), generator=_random.torch_generator(self.seed, name, *row))
            for row in zip(self.queries, self.samples, strict=True)
        ]
        return torch.stack(drawn) if drawn else torch.zeros(0, *shape)
