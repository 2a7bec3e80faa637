"""Measure how well a simulated world is decoded, against the profile that it is calibrated to.

For every seed a person is simulated, decoders are trained on averages of the training repetitions,
and new draws of the same person are decoded at 1, 4, 10, 20, 40 and 80 test repetitions. The first
run extracts the features (minutes), later ones find them in the cache.

    python benchmarks/calibrate_world.py standard --seeds 3
    python benchmarks/calibrate_world.py standard --set noise=8 --methods plain --seeds 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phosphene._saving import write_json
from phosphene.evaluation.noise_ceiling import noise_ceiling
from phosphene.evaluation.retrieval import score
from phosphene.methods.ridge import Ridge
from phosphene.methods.ubp import UBP
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import simulate
from phosphene.simulation.world import World, get_world

REPETITIONS = (1, 4, 10, 20, 40, 80)
SINGLE_TRIALS = 10  # per stimulus; their mean accuracy is what one trial gives
# Top-1 of 200 in percent: one published system at 10 to 80 repetitions, and the plain contrastive
# decoders of the field at 1, 4 and 80 (the range of what is reported at 80 is 36 to 43).
FIELD = {1: 4.0, 4: 14.0, 10: 20.5, 20: 27.1, 40: 32.4, 80: 42.0}
METHODS: dict[str, Callable[[int], Any]] = {
    "ridge": lambda seed: Ridge(random_state=seed),
    "plain": lambda seed: UBP(views=("original",), uncertainty=False, random_state=seed),
    "fovea": lambda seed: UBP(views=("fovea(k=51)",), uncertainty=False, random_state=seed),
    "ubp": lambda seed: UBP(random_state=seed),
}


def measure(
    world: World, scene: Scene, seed: int, methods: list[str], params: dict[str, Any]
) -> dict[str, Any]:
    """Top-1 and top-5 in percent by method and number of test repetitions, for one person."""

    def draw(**how: Any) -> Any:
        channels = OCCIPITO_PARIETAL if world.modality == "eeg" else None
        return simulate(world, scene=scene, seed=seed, channels=channels, progress=False, **how)

    began = time.perf_counter()
    study = draw(averaged=True)
    seconds = time.perf_counter() - began
    counts = [r for r in REPETITIONS if r <= world.test_repetitions]
    single = draw(averaged=False, train_repetitions=1, test_repetitions=SINGLE_TRIALS)
    tests = {1: single.test("01")}
    for count in counts[1:]:
        tests[count] = draw(averaged=True, train_repetitions=1, test_repetitions=count).test("01")
    truth = study.truth["01"]
    ceiling = {count: 100 * noise_ceiling(truth, count) for count in counts}
    found: dict[str, Any] = {"simulate_seconds": seconds, "ceiling": ceiling, "seconds": {}}
    for name in methods:
        decoder = METHODS[name](seed)
        if name != "ridge":
            decoder.set_params(**params)
        began = time.perf_counter()
        decoder.fit(study.train("01"), study.bank, progress=False)
        found["seconds"][name] = time.perf_counter() - began
        found[name] = {}
        for count in counts:
            table = score(decoder.similarity(tests[count], study.bank, ids=truth.stimuli))
            found[name][count] = [100 * float(table[k].mean()) for k in ("top1", "top5")]
        row = "  ".join(f"{count}: {found[name][count][0]:.1f}" for count in counts)
        print(f"seed {seed}  {name:6s} {row}  ({found['seconds'][name]:.0f} s)", flush=True)
    return found


def assignments(pairs: list[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs, the values as JSON where they are."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[key] = tuple(value) if isinstance(value, list) else value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", nargs="?", default="standard")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--set", nargs="*", default=[], help="parameters of the world: noise=8")
    parser.add_argument("--fit", nargs="*", default=[], help="of the decoders: epochs=30")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    world = get_world(options.world, **assignments(options.set))
    scene = make_scene(world)
    print(f"world {world.name} {world.hash[:16]}, {world.n_stimuli} pictures", flush=True)
    runs = [
        measure(world, scene, seed, options.methods, assignments(options.fit))
        for seed in range(options.seeds)
    ]
    counts = list(runs[0]["ceiling"])
    print("\nmean over seeds, top-1 %".ljust(28), *(f"{count:>6d}" for count in counts))
    if world.test_concepts == 200 and world.modality == "eeg":
        print("the field".ljust(27), *(f"{FIELD[count]:6.1f}" for count in counts))
    for name in options.methods:
        values = np.array([[run[name][count][0] for count in counts] for run in runs])
        print(name.ljust(27), *(f"{value:6.1f}" for value in values.mean(axis=0)))
    ceiling = np.mean([[run["ceiling"][count] for count in counts] for run in runs], axis=0)
    print("ceiling".ljust(27), *(f"{value:6.1f}" for value in ceiling))
    if options.out:
        write_json(options.out, {"world": world.to_dict(), "hash": world.hash, "runs": runs})


if __name__ == "__main__":
    main()
