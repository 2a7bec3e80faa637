"""Latency of ranking one trial: a prepared gallery against scoring from scratch, by gallery size.

Decoders are trained for one epoch, as weights do not matter here; epochs have 17 channels and 250
samples, vectors 1024 numbers. What ``fit`` spends on calibrating confidence is timed as well.

    python benchmarks/bench_rank.py [--quick]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from _table import Table, parse_arguments

from phosphene.data.recording import Recording
from phosphene.data.splits import hold_out_concepts
from phosphene.methods.atms import ATMS
from phosphene.methods.bvsa import BVSA
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import expand_views

CHANNELS, SAMPLES, WIDTH = 17, 250, 1024
QUICK: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "batch_size": 256}


def problem(concepts: int, gallery: int) -> tuple[Recording, FeatureBank, list[str]]:
    """Two pictures per training concept, in two trials each, and a gallery of new concepts."""
    rng = np.random.default_rng(0)
    train = [f"thing{c:05d}/{e}.png" for c in range(concepts) for e in range(2)]
    new = [f"new{c:05d}/0.png" for c in range(gallery)]
    vectors = rng.standard_normal((len(train) + gallery, WIDTH), dtype=np.float32)
    views = [view.name for view in expand_views(["original", "bvsa"])]
    names = sorted({name.split("/")[0] for name in [*train, *new]})
    text = FeatureBank.from_arrays(
        names,
        {"text": rng.standard_normal((len(names), WIDTH), dtype=np.float32)},
        concepts=names,
        provenance={"kind": "text", "encoder": {"id": "random"}},
    )
    bank = FeatureBank.from_arrays(
        [*train, *new],
        dict.fromkeys(views, vectors),
        provenance={"encoder": {"id": "random"}},
    ).with_text(text)
    rows = np.repeat(np.arange(len(train)), 2)
    signals = rng.standard_normal((len(rows), CHANNELS, SAMPLES), dtype=np.float32)
    recording = Recording.from_arrays(
        signals, {"stimulus": [train[row] for row in rows], "split": "train"}, sfreq=250
    )
    return recording, bank, new


def latency(call: Any, epochs: np.ndarray) -> dict[str, float]:
    """Milliseconds per trial: median and 99th percentile."""
    call(epochs[0])
    found = []
    for epoch in epochs:
        start = time.perf_counter()
        call(epoch)
        found.append(1e3 * (time.perf_counter() - start))
    return {"median": float(np.median(found)), "p99": float(np.quantile(found, 0.99))}


def main() -> None:
    options = parse_arguments((__doc__ or "").splitlines()[0], "rank.json")
    torch.set_num_threads(1)
    sizes = (200, 2000) if options.quick else (200, 2000, 16540)
    train, bank, new = problem(100 if options.quick else 400, sizes[-1])
    epochs = np.random.default_rng(1).standard_normal(
        (20 if options.quick else 100, CHANNELS, SAMPLES), dtype=np.float32
    )
    table = Table("ranking one trial, one thread: times as fast as without a prepared gallery")
    for decoder in (Ridge(), NICE(**QUICK), ATMS(**QUICK), BVSA(**QUICK)):
        name = type(decoder).__name__
        held = hold_out_concepts(train.trials, 0.2, 0)
        start = time.perf_counter()
        if isinstance(decoder, Ridge):
            decoder.fit(train.select(~held), bank, progress=False)
            start = time.perf_counter()
            decoder.calibrate(train.select(held), bank)
        else:
            decoder.fit(train, bank, progress=False)
            start += decoder.training_["seconds"]
        seconds = time.perf_counter() - start
        for size in sizes:
            ids = new[:size]
            start = time.perf_counter()
            ranker = decoder.ranker(bank, ids=ids)
            prepared = time.perf_counter() - start
            quick = latency(ranker, epochs)
            slow = latency(lambda x, d=decoder, i=ids: d.rank(x, bank, ids=i), epochs[:20])
            table.add(
                f"{name}, {size} candidates",
                slow["median"] / quick["median"],
                ms=quick["median"],
                p99_ms=quick["p99"],
                unprepared_ms=slow["median"],
                prepare_s=prepared,
                calibration_s=seconds,
            )
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
