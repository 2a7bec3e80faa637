"""Extractions in processes of their own, killed or at the same time; run by test_bank_killed.py.

One process imports torch once and forks for every extraction, before it has computed anything.
Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from phosphene.data.stimuli import StimulusSet
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder

SIZE, PICTURES, BATCH = 12, 22, 3
VIEWS = ["original", "gaussian(k=5)", "mean_of(original,gaussian(k=5))"]
PASSES = PICTURES * 2


class Network(torch.nn.Module):
    """Slow enough to be killed at work; leaves a byte per picture that it saw."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 5, 3)
        self.log = log

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.004)
        with self.log.open("ab") as file:
            file.write(b"." * len(x))
        return torch.relu(self.conv(x)).mean((2, 3))


def extraction(cache: Path, name: str) -> None:
    """Extract, and leave the bank's hash in a file."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PICTURES, SIZE, SIZE, 3), dtype=np.uint8)
    stimuli = StimulusSet.from_arrays([f"c{i}/c{i}_01.png" for i in range(PICTURES)], images)
    model = CallableEncoder(Network(cache.with_suffix(f".{name}")), "slow", image_size=SIZE)
    bank = FeatureBank.extract(stimuli, model, VIEWS, cache=cache, batch_size=BATCH)
    cache.with_suffix(f".{name}-hash").write_text(bank.hash)


def forked(call: Callable[..., None], *args: Any) -> int:
    """A child that runs the call."""
    if child := os.fork():
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        call(*args)
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stored(cache: Path) -> int:
    """Vectors in the store, read without the code under test."""
    count = 0
    for path in cache.rglob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            count += sum(len(file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    return count


def killed(cache: Path, rng: random.Random) -> dict[str, Any]:
    """Kill an extraction after some chunks and a moment more; then finish it."""
    child = forked(extraction, cache, "first")
    chunks = rng.randrange(0, PICTURES // BATCH)
    while len(list(cache.rglob("*.safetensors"))) < chunks:
        time.sleep(0.0005)
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    status = wait(child)
    kept = stored(cache)
    finished = wait(forked(extraction, cache, "second")) == 0
    return {
        "status": status,
        "kept": kept,
        "finished": finished,
        "second": cache.with_suffix(".second").stat().st_size if kept < PASSES else 0,
        "hash": cache.with_suffix(".second-hash").read_text(),
    }


def together(cache: Path, delay: float) -> list[str]:
    """Two extractions into one store at the same time."""
    first = forked(extraction, cache, "one")
    time.sleep(delay)
    second = forked(extraction, cache, "two")
    codes = [wait(first), wait(second)]
    return [
        cache.with_suffix(f".{name}-hash").read_text() if code == 0 else f"failed: {code}"
        for name, code in zip(("one", "two"), codes, strict=True)
    ]


def main(folder: Path, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    wait(forked(extraction, folder / "reference", "whole"))
    found = {
        "passes": (folder / "reference.whole").stat().st_size,
        "hash": (folder / "reference.whole-hash").read_text(),
        "killed": [killed(folder / f"killed{i}", rng) for i in range(kills)],
        "together": [together(folder / f"both{i}", 0.03 * i) for i in range(3)],
    }
    print(json.dumps(found))  # noqa: T201 - this is how the test learns of it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
