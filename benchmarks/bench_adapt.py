"""Adaptation to a new subject: accuracy against minutes of data, on simulated subjects.

A decoder is trained on three simulated subjects and adapted to a fourth from 1 to 20 minutes of
single trials of 2 s (30 a minute, drawn at random). Compared with no adaptation, and with the same
method and ridge trained from scratch on the same trials. Subjects of a world share half of their
sources ("similarity" .5). Every number is a mean over seeds, with its standard deviation.

    python benchmarks/bench_adapt.py [--quick]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _table import Table, parse_arguments

from phosphene.data.recording import Recording
from phosphene.methods.ridge import Ridge
from phosphene.methods.ubp import UBP
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import simulate
from phosphene.stimuli.bank import FeatureBank

TRIALS_PER_MINUTE = 30
MINUTES = (0, 1, 2, 5, 10, 20)
# Plain contrast; few epochs, as more of them learn the training stimuli by heart.
METHOD: dict[str, Any] = {
    "views": ("original",),
    "uncertainty": False,
    "lr": 1e-3,
    "batch_size": 256,
    "epochs": 10,
    "device": "cpu",
    "precision": "fp32",
}
Scores = dict[tuple[str, int], list[tuple[float, float]]]


def people(world: str, seed: int) -> tuple[list[Recording], FeatureBank]:
    """Four subjects with single training trials, and the bank."""
    study = simulate(
        world,
        subjects=4,
        seed=seed,
        channels=OCCIPITO_PARIETAL,
        train_repetitions=4 if world == "quick" else 1,
        test_repetitions=40,
        progress=False,
    )
    return list(study.recordings.values()), study.scene.bank


def curve(world: str, seed: int, scores: Scores) -> None:
    """Add the accuracies of one world's people to the collection."""
    recordings, bank = people(world, seed)
    train = Recording.concat([one.select(split="train") for one in recordings[:3]])
    new, test = (recordings[3].select(split=side) for side in ("train", "test"))

    def add(name: str, minutes: int, decoder: Any) -> None:
        result = decoder.evaluate(test, bank)
        scores.setdefault((name, minutes), []).append((result.top1, result.two_way))

    bases = {
        "adapted": UBP(**METHOD).fit(train, bank, progress=False),
        "adapted, subject layers": UBP(**METHOD, subject_layers=True).fit(
            train, bank, progress=False
        ),
    }
    order = np.random.default_rng(seed).permutation(new.n_trials)
    for minutes in MINUTES:
        if minutes == 0:
            add("adapted", 0, bases["adapted"])
            continue
        few = new.select(np.sort(order[: minutes * TRIALS_PER_MINUTE]))
        for name, base in bases.items():
            add(name, minutes, base.adapt(few, bank, progress=False))
        scratch = UBP(**{**METHOD, "epochs": 40}, selection="fixed_epoch")
        add("from scratch", minutes, scratch.fit(few, bank, progress=False))
        add("ridge from scratch", minutes, Ridge().fit(few, bank, progress=False))


def main() -> None:
    options = parse_arguments((__doc__ or "").splitlines()[0], "adapt.json")
    world, seeds = ("quick", (1, 2)) if options.quick else ("standard", (1, 2, 3))
    scores: Scores = {}
    began = time.perf_counter()
    for seed in seeds:
        curve(world, seed, scores)
    table = Table(f"adaptation: two-way identification in the world {world!r} (chance .5)")
    for (name, minutes), found in sorted(scores.items(), key=lambda item: item[0][1]):
        top1, two_way = np.mean(found, axis=0)
        spread = np.std(found, axis=0, ddof=1)
        table.add(
            f"{minutes:2d} min, {name if minutes else 'not adapted'}",
            float(two_way),
            sd=float(spread[1]),
            top1=float(top1),
            top1_sd=float(spread[0]),
            seeds=len(found),
        )
    table.show()
    print(f"{time.perf_counter() - began:.0f} s")
    table.write(options.out)


if __name__ == "__main__":
    main()
