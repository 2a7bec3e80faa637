"""Time of fitting aligners: one, stacked and spread over threads.

    python benchmarks/bench_alignment.py [--quick]

150 categories of 512-d vectors, full batch, 500 epochs. A grid of 7 regions, 5 alphas and 5 people
is 140 fits that know the brain, three shuffled controls for each, and one at alpha = 1.
"""

from __future__ import annotations

import numpy as np
import torch
from _table import Table, best_seconds, parse_arguments

from phosphene import BrainAligner
from phosphene._device import resolve_device
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods._alignment_fits import Architecture, Job, Schedule, train
from phosphene.simulation.rsm_world import rsm_world

GRID = 7 * 4 * 5 * (1 + 3) + 1


def main() -> None:
    options = parse_arguments(__doc__, "alignment.json")
    epochs, repeats = (50, 2) if options.quick else (500, 3)
    device = resolve_device()
    world = rsm_world()
    vectors = world.vectors[world.train]
    rsm = similarity_matrix(world.responses["subject1"][world.train])
    network, rows = Architecture("autoencoder", 256, "relu"), np.ones(len(rsm), dtype=bool)

    def seconds(fits: int, stack: int, jobs: int = 1) -> float:
        """Seconds per fit of 500 epochs."""
        schedule = Schedule(epochs, 1e-3, None, False, "mean", device, stack=stack, jobs=jobs)
        todo = [Job(rsm, rows, 0.01, seed, seed) for seed in range(fits)]
        took = best_seconds(lambda: train(vectors, todo, network, schedule), repeats)
        return took / fits * 500 / epochs

    table = Table(f"aligners on {device.type}, {torch.get_num_threads()} threads of torch")
    alone = seconds(1, 1)
    table.add("one autoencoder, seconds", alone, 3.0, better="lower")
    best = alone
    for stack in (2, 4, 8) if device.type == "cpu" else (8, 32, 128):
        each = seconds(stack, stack)
        best = min(best, each)
        table.add(f"stack of {stack}: times faster per fit", alone / each, s=each)
    for stack in (1, 4):
        each = seconds(2 * stack, stack, jobs=2)
        best = min(best, each)
        table.add(f"two stacks of {stack} at a time: times faster per fit", alone / each, s=each)
    table.add("7 x 5 x 5 grid with controls, minutes", GRID * best / 60, 10.0, better="lower")
    linear = best_seconds(lambda: BrainAligner(alpha=0.01, penalty=0.1).fit(vectors, rsm), repeats)
    table.add("one linear fit, seconds", linear, 3.0, better="lower")
    chosen = best_seconds(lambda: BrainAligner().fit(vectors, rsm), repeats)
    table.add("one linear fit, alpha and penalty chosen, seconds", chosen, better="lower")
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
