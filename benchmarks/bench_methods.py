"""Every method in every simulated world: who gains, where, and by how much.

Simulated data: a world's parameters decide what can be gained in it, so a table of one world says
how methods behave under these assumptions, not how they behave on people. All methods have the same
encoder and the same number of passes; ridge is reported beside them. Differences are paired over
queries, with intervals from a bootstrap crossed over subjects and stimuli.

Finished cells are kept in the folder of results: an interrupted run goes on where it was.

    python benchmarks/bench_methods.py --jobs 2                # 4 worlds, 3 subjects, 3 seeds
    python benchmarks/bench_methods.py --worlds standard --seeds 0 --methods ridge ubp ssr
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from phosphene import _registry
from phosphene._saving import sha256_json, write_table
from phosphene.evaluation.result import Result
from phosphene.runs.ablation_table import comparison
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import get_world
from phosphene.stimuli.bank import FeatureBank

WORLDS = ("standard", "unfoveated", "no-meaning", "little-data")
# The worlds have 2,600 training pictures where the papers have 16,540: smaller batches and larger
# steps keep the number of steps of the papers within what the pictures give.
COMMON: dict[str, Any] = {
    "encoder": "eegproject",
    "epochs": 20,
    "batch_size": 256,
    "lr": 3e-4,
    "selection": "fixed_epoch",
}
# Layers of the image encoder for the methods that take intermediate ones. The layer that moves the
# simulated object areas (block15) is left out: decoding it would undo what was just done.
LAYERS = ("block5", "block10", "pool")
# recipes/simulated/phosphene.yaml
PHOSPHENE: dict[str, Any] = {
    "layers": LAYERS,
    "views": ("fovea(k=51)", "original", "gaussian(15)"),
    "projection": 512,
    "target_dropout": 0.1,
    "mmd_weights": (0.9, 0.5),
    "stage_epochs": 7,
    "smoothing_probability": 0.3,
    "text_weight": 0.15,
    "text_modulation": "product",
}
# By label: method, and what differs from its defaults beside COMMON.
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge": ("ridge", {}),
    "plain contrast": ("ubp", {"views": ("original",), "uncertainty": False}),
    "static fovea": ("ubp", {"views": ("fovea(k=51)",), "uncertainty": False}),
    "ubp": ("ubp", {}),
    "neurobridge": ("neurobridge", {}),
    "ssr": ("ssr", {}),
    "bvsa": ("bvsa", {}),
    "bvsa, shuffled names": ("bvsa", {"shuffle_names": True}),
    "shallow_alignment": ("shallow_alignment", {}),
    "samga": ("samga", {"layers": LAYERS, "stage_epochs": 7}),  # a third of the epochs
    "phosphene": ("combine", PHOSPHENE),
}
# Parts switched off, in one world; the rows of `phosphene ablate`. "ssr: baseline" is NeuroBridge
# with a gallery of originals, and BVSA's vanilla row is "plain contrast".
_NO_MASKING = {"image_reconstruction": False, "brain_reconstruction": False}
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ssr: baseline": ("ssr", {"anchor": False, **_NO_MASKING}),
    "ssr: + anchor": ("ssr", _NO_MASKING),
    "ssr: + reconstruction": ("ssr", {"anchor": False}),
    "bvsa: + decouple": ("bvsa", {"dynamic": False, "text_modulation": "none"}),
    "bvsa: + dynamic": ("bvsa", {"text_modulation": "none"}),
    "phosphene: last layer": ("combine", {**PHOSPHENE, "layers": ("pool",)}),
    "phosphene: no blurs": ("combine", {**PHOSPHENE, "views": ("original",)}),
    "phosphene: heads": (
        "combine",
        {**PHOSPHENE, "projection": None, "target_dropout": 0.0, "mmd_weights": (0.0, 0.0)},
    ),
    "phosphene: no smoothing": ("combine", {**PHOSPHENE, "smoothing_probability": 0.0}),
    "phosphene: no names": (
        "combine",
        {**PHOSPHENE, "text_weight": 0.0, "text_modulation": "none"},
    ),
    "phosphene: shuffled": ("combine", {**PHOSPHENE, "shuffle_names": True}),
}
# In one world with the encoders of their papers.
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "nice (tsconv)": ("nice", {"encoder": "tsconv", "lr": 1e-3}),
    "atms (atms)": ("atms", {"encoder": "atms", "average_repetitions": True}),
}
FULL = "plain contrast"  # what the others are compared with


def available(cells: Mapping[str, tuple[str, Any]]) -> list[str]:
    """Labels whose method is registered."""
    known = set(_registry.names("method"))
    return [label for label, (method, _) in cells.items() if method in known]


def make_decoder(label: str, seed: int) -> Any:
    """The decoder of a cell."""
    method, params = {**CELLS, **OWN, **ABLATIONS}[label]
    constructor = _registry.get("method", method)
    known = constructor().get_params()
    chosen = {**COMMON, **params, "random_state": seed}
    return constructor(**{name: value for name, value in chosen.items() if name in known})


def full_bank(scene: Scene, encoder: str) -> FeatureBank:
    """Every view and layer that a method here asks for, and the names."""
    assert scene.stimuli is not None
    views = ("original", "fovea", "augmentations", "mean_of(augmentations)", "bvsa")
    bank = FeatureBank.extract(scene.stimuli, encoder, views, LAYERS)
    return bank.with_text("use", prompt="photo")


def run_cell(
    folder: Path, label: str, world: str, seed: int, study: Study, bank: FeatureBank
) -> Result:
    """Fit and evaluate one method on all subjects, unless that was done."""
    decoder = make_decoder(label, seed)
    digest = sha256_json({"params": repr(decoder.get_params()), "world": get_world(world).hash})
    name = re.sub(r"[^\w()]+", "-", label)
    place = folder / world / f"{name}-{seed}-{digest[:8]}"
    if (place / "manifest.json").is_file():
        known = Result.load(place)
        if set(known.table["subject"].astype(str)) == set(study.recordings):
            return known
    parts, began = [], time.perf_counter()
    for subject in study.recordings:
        decoder = make_decoder(label, seed)
        decoder.fit(study.train(subject), bank, progress=False)
        parts.append(decoder.evaluate(study.test(subject), bank, name=label))
    result = Result.merge(parts, name=label)
    print(
        f"{world:12s} seed {seed}  {label:22s} top-1 {100 * result.top1:5.1f} %  "
        f"({time.perf_counter() - began:.0f} s)",
        flush=True,
    )
    result.save(place)
    return result


@functools.lru_cache(maxsize=1)  # seeds of a world follow one another
def shown_in(world: str) -> tuple[Scene, FeatureBank]:
    """Pictures and vectors of a world."""
    scene = make_scene(get_world(world))
    return scene, full_bank(scene, get_world(world).encoder)


def measure_seed(
    folder: Path, world: str, labels: Sequence[str], seed: int, subjects: int
) -> dict[str, Result]:
    """Every method on the people of one seed."""
    scene, bank = shown_in(world)
    study = simulate(world, subjects=subjects, seed=seed, scene=scene, channels=OCCIPITO_PARIETAL)
    return {label: run_cell(folder, label, world, seed, study, bank) for label in labels}


def table_of(world: str, seeds: Sequence[Mapping[str, Result]], full: str) -> pd.DataFrame:
    """The table of one world."""
    merged = {label: Result.merge([one[label] for one in seeds], name=label) for label in seeds[0]}
    fair, marked = comparison(merged, full)
    return pd.concat([fair, marked]).assign(world=world)


def labels_of(world: str, options: argparse.Namespace) -> list[str]:
    """The rows of a world's table."""
    labels = options.methods or available(CELLS)
    if world == "standard" and not options.methods:
        labels = [*labels, *available(OWN)]
        labels = [*labels, *(available(ABLATIONS) if options.ablations else ())]
    return labels if options.full in labels else [options.full, *labels]


def in_processes(
    work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Any]:
    """Results in the order of the tasks.

    Batches of 256 do not fill two cores: two processes with a thread each do a quarter more.
    """
    if jobs == 1:
        yield from (work(*task) for task in tasks)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        yield from pool.map(work, *zip(*tasks, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--methods", nargs="+", default=None, help="labels; all by default")
    parser.add_argument("--ablations", action="store_true", help="the rows of parts, in one world")
    parser.add_argument("--full", default=FULL, help="what the others are compared with")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes, which share the cores")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "methods")
    options = parser.parse_args()
    began = time.perf_counter()
    tasks = [
        (options.out, world, labels_of(world, options), seed, options.subjects)
        for world in options.worlds
        for seed in options.seeds
    ]
    measured = in_processes(measure_seed, tasks, options.jobs)
    tables = []
    for world in options.worlds:
        table = table_of(world, [next(measured) for _ in options.seeds], options.full)
        tables.append(table)
        columns = ["row", "top1", "top1_low", "top1_high", "top5"]
        columns += ["difference", "difference_low", "difference_high"]
        print(f"\n{world} (simulated), top-1 and its difference to {options.full!r}, per cent")
        print((100 * table.set_index("row")[columns[1:]]).round(1).to_string(), "\n", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "worlds.csv", pd.concat(tables, ignore_index=True))
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
