"""What an epoch of each method costs on a subject of THINGS-EEG2's size, on the same encoder.

16,540 averaged trials (17 x 250) against vectors of 1,024, all of noise, EEGProject throughout.
Every round fits each method for some epochs, so that other work on the machine hits all alike; the
ratio to UBP is the median over rounds. The share of matrix products is of one profiled epoch, by
time in torch's operators.

    python benchmarks/bench_epoch.py                     # all methods
    python benchmarks/bench_epoch.py --methods ubp ssr --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table

from phosphene import _registry
from phosphene.data.recording import Recording
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import expand_views

CHANS, TIMES, WIDTH, TEXT = 17, 250, 1024, 512
LAYERS = ("a", "b", "c")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise",
            "aten::mkldnn_linear")  # fmt: skip
# By label: method and what differs from its defaults.
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ubp": ("ubp", {}),
    "plain contrast": ("ubp", {"views": ("original",), "uncertainty": False}),
    "nice (eegproject)": ("nice", {"encoder": "eegproject"}),
    "atms (eegproject)": ("atms", {"encoder": "eegproject"}),
    "neurobridge": ("neurobridge", {}),
    "ssr": ("ssr", {}),
    "bvsa": ("bvsa", {}),
    "bvsa, two encoders": ("bvsa", {"shared_trunk": False}),
    "shallow_alignment": ("shallow_alignment", {"layer": "b"}),
    "samga": ("samga", {"layers": LAYERS}),
    "phosphene": (
        "combine",
        {
            "layers": LAYERS,
            "views": ("fovea(k=51)", "original", "gaussian(15)"),
            "projection": 512,
            "target_dropout": 0.1,
            "mmd_weights": (0.9, 0.5),
            "stage_epochs": 7,
            "smoothing_probability": 0.3,
            "text_weight": 0.15,
            "text_modulation": "product",
        },
    ),
}

TARGETS = {"ssr": 1.3, "bvsa": 1.3, "bvsa, two encoders": 2.2}


def make_data(n: int) -> tuple[Recording, FeatureBank]:
    """A subject of noise, and a bank with every view and layer that the methods ask for."""
    rng = np.random.default_rng(0)
    ids = [f"c{i // 10:04d}/c{i // 10:04d}_{i % 10}.jpg" for i in range(n)]
    concepts = [id.partition("/")[0] for id in ids]
    vectors = rng.standard_normal((n, WIDTH), dtype=np.float32)
    words = ["original", "fovea", "mean_of", "bvsa", "gaussian(15)"]
    views = dict.fromkeys(view.name for view in expand_views(words))
    # The cost does not depend on the numbers: all views and layers share them.
    arrays = {(view, layer): vectors for view in views for layer in LAYERS}
    bank = FeatureBank.from_arrays(ids, arrays, concepts=concepts, layer="a")
    names = sorted(set(concepts))
    text = FeatureBank.from_arrays(
        names,
        {"text": rng.standard_normal((len(names), TEXT), dtype=np.float32)},
        concepts=names,
        provenance={"kind": "text", "encoder": {"id": "noise"}},
    )
    signals = rng.standard_normal((n, CHANS, TIMES), dtype=np.float32)
    trials = {"stimulus": ids, "concept": concepts}
    recording = Recording.from_arrays(signals, trials, sfreq=250.0, check=False)
    return recording, bank.with_text(text)


def make_decoder(label: str, epochs: int, precision: str) -> Any:
    """The decoder of a row; nothing is held out."""
    method, params = CELLS[label]
    constructor = _registry.get("method", method)
    common = {"epochs": epochs, "batch_size": 1024, "selection": "fixed_epoch"}
    common |= {"precision": precision, "device": "cpu"}
    if method == "atms":
        common["average_repetitions"] = True
    return constructor(**common, **params)


def seconds(label: str, recording: Recording, bank: FeatureBank, precision: str) -> float:
    """Seconds of the faster of two epochs, after one that warms up."""
    decoder = make_decoder(label, 3, precision).fit(recording, bank, progress=False)
    return float(decoder.history_["seconds"].to_numpy()[1:].min())


def share_of_products(label: str, recording: Recording, bank: FeatureBank, precision: str) -> float:
    """Share of an epoch's time that is spent in matrix products."""
    from torch.profiler import ProfilerActivity, profile

    decoder = make_decoder(label, 1, precision)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        decoder.fit(recording, bank, progress=False)
    spent = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    return sum(spent.get(name, 0.0) for name in PRODUCTS) / sum(spent.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--trials", type=int, default=16_540)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--out", type=Path, default=None, help="also write the table as JSON")
    options = parser.parse_args()
    recording, bank = make_data(options.trials)
    labels = list(dict.fromkeys(["ubp", *options.methods]))
    table = Table("seconds per epoch over UBP's, EEGProject")
    for precision in options.precision:
        found: dict[str, list[float]] = {label: [] for label in labels}
        for _ in range(options.rounds):
            for label in labels:
                found[label].append(seconds(label, recording, bank, precision))
        for label in labels:
            ratios = [one / ubp for one, ubp in zip(found[label], found["ubp"], strict=True)]
            table.add(
                f"{label}, {precision}",
                statistics.median(ratios),
                TARGETS.get(label),
                better="lower",
                seconds=min(found[label]),
                products=share_of_products(label, recording, bank, precision),
            )
    table.show()
    if options.out is not None:
        table.write(options.out)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
