"""Time of fitting aligners: one, stacked and spread over threads, and a whole grid of them.

    python benchmarks/bench_alignment.py [--quick]

150 categories of 512-d vectors, full batch, 500 epochs. The grid of 7 regions, 5 alphas and 5
people is 140 autoencoders that know the brain, three shuffled controls for each, and one at
alpha = 1, which is the same for all; it is run whole, stacked as measured best. Then the same grid
of the linear default, whose penalty is chosen for every cell. ``--quick`` runs one region of the
grids, and a tenth of the epochs, and says what the whole would take.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch
from _table import Table, best_seconds, parse_arguments

from phosphene import BrainAligner
from phosphene._device import resolve_device
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods._alignment_controls import shuffled
from phosphene.methods._alignment_fits import Architecture, Job, Schedule, train
from phosphene.simulation.rsm_world import rsm_world

REGIONS, ALPHAS, DRAWS = 7, (1.0, 0.1, 0.01, 0.001, 0.0001), 3


def main() -> None:
    options = parse_arguments(__doc__, "alignment.json")
    epochs, repeats, regions = (50, 2, 1) if options.quick else (500, 3, REGIONS)
    device = resolve_device()
    world = rsm_world()
    vectors = world.vectors[world.train]
    rsms = {s: similarity_matrix(x[world.train]) for s, x in world.responses.items()}
    others = {s: np.mean([rsm for other, rsm in rsms.items() if other != s], axis=0) for s in rsms}
    network = Architecture("autoencoder", 256, "relu")
    rows = np.ones(len(vectors), dtype=bool)

    def fit(jobs: list[Job], stack: int, at_a_time: int) -> None:
        schedule = Schedule(epochs, 1e-3, None, False, "mean", device, stack=stack, jobs=at_a_time)
        train(vectors, jobs, network, schedule)

    def seconds(fits: int, stack: int, at_a_time: int = 1) -> float:
        """Seconds per fit of 500 epochs."""
        todo = [Job(others["subject1"], rows, 0.01, seed, seed) for seed in range(fits)]
        took = best_seconds(lambda: fit(todo, stack, at_a_time), repeats)
        return took / fits * 500 / epochs

    table = Table(f"aligners on {device.type}, {torch.get_num_threads()} threads of torch")
    alone = seconds(1, 1)
    table.add("one autoencoder, seconds", alone, 3.0, better="lower")
    found = {(1, 1): alone}
    for stack in (2, 4, 8) if device.type == "cpu" else (8, 32, 128):
        found[stack, 1] = each = seconds(stack, stack)
        table.add(f"stack of {stack}: times faster per fit", alone / each, s=each)
    for stack in (1, 4):
        found[stack, 2] = each = seconds(2 * stack, stack, at_a_time=2)
        table.add(f"two stacks of {stack} at a time: times faster per fit", alone / each, s=each)
    stack, at_a_time = min(found, key=lambda how: found[how])

    fits, started = 0, time.perf_counter()
    for region in range(regions):
        jobs = [
            Job(rsm, rows, alpha, 0, 0)
            for (s, mean), alpha in itertools.product(others.items(), ALPHAS[1:])
            for rsm in [mean, *(d[s] for d in shuffled({s: mean}, DRAWS, region))]
        ]
        if region == 0:
            jobs.append(Job(others["subject1"], rows, 1.0, 0, 0))
        fit(jobs, stack, at_a_time)
        fits += len(jobs)
    took = (time.perf_counter() - started) * 500 / epochs
    name = f"7 x 5 x 5 grid with controls, stacks of {stack}, {at_a_time} at a time, minutes"
    whole = took * REGIONS / regions / 60
    table.add(name, whole, 10.0, better="lower", fits=fits)
    target = 10.0 if device.type == "cuda" else None
    table.add("grid stacked: times faster than one after another", alone * fits / took, target)

    started = time.perf_counter()
    names = list(others)
    for region in range(regions):
        for alpha in ALPHAS:
            aligner = BrainAligner(alpha=alpha)
            chosen = aligner.fit_each(vectors, others)
            null = {
                (s, draw): rsm[s]
                for s in names
                for draw, rsm in enumerate(shuffled({s: others[s]}, DRAWS, region))
            }
            picked = [(chosen[s].alpha_, chosen[s].penalty_) for s, _ in null]
            aligner.fit_each(vectors, null, choices=picked)
    took = (time.perf_counter() - started) * REGIONS / regions
    table.add("the grid of the linear default, minutes", took / 60, 10.0, better="lower")
    rsm = others["subject1"]
    linear = best_seconds(lambda: BrainAligner(alpha=0.01, penalty=0.1).fit(vectors, rsm), repeats)
    table.add("one linear fit, seconds", linear, 3.0, better="lower")
    fitted = best_seconds(lambda: BrainAligner().fit(vectors, rsm), repeats)
    table.add("one linear fit, alpha and penalty chosen, seconds", fitted, better="lower")
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
