"""Randomness from one seed: every use draws from its own stream, addressed by name.

A stream depends on (seed, names) only, never on what was drawn before it. So a module keeps its
initialisation when another one is switched off, and epoch 7 has the same permutation whether
training was resumed or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called ``names`` under ``seed``.

    Examples
    --------
    >>> derive(0, "epoch", 1) == derive(0, "epoch", 1)
    True
    """
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """A numpy generator for the stream called ``names``."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: object, device: str = "cpu") -> torch.Generator:
    """A torch generator for the stream called ``names``."""
    import torch

    stream = torch.Generator(device=device)
    stream.manual_seed(derive(seed, *names))
    return stream


@contextmanager
def seeded(seed: int, *names: object) -> Iterator[None]:
    """Run a block with torch's global generator set to a named stream, then restore it.

    Layers of torch initialise themselves from the global generator; this is the one place where it
    is touched.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *names))
        yield
