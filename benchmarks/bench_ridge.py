"""Exact leave-one-out ridge of many targets: phosphene against scikit-learn, on the same data.

    python benchmarks/bench_ridge.py [--full]

The table gives ratios of times and of peak memory within one run. ``--full`` takes the sizes of
published studies (minutes to hours on two cores).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _table import Table

ALPHAS = np.logspace(-1, 6, 8)
# name, samples, features, targets
SIZES = [
    ("wide, GOD", 1200, 4500, 1000),
    ("wide, a quarter of THINGS-fMRI", 2200, 5000, 1024),
    ("tall, EEG 17 x 50", 4000, 850, 1024),
]
FULL = [("wide, THINGS-fMRI", 8859, 15000, 1024), ("tall, EEG 17 x 250", 16540, 4250, 1024)]


def problem(n: int, p: int, targets: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype=np.float32)
    X *= (1 / np.sqrt(1 + np.arange(p) / 20)).astype(np.float32)
    Y = X @ rng.standard_normal((p, targets), dtype=np.float32)
    Y += (
        Y.std()
        * rng.uniform(0.5, 4, targets).astype(np.float32)
        * rng.standard_normal((n, targets), dtype=np.float32)
    )
    return X, Y


def estimator(name: str) -> Any:
    if name == "phosphene":
        from phosphene.decoding.ridge import RidgeLOO

        return RidgeLOO(ALPHAS)
    from sklearn.linear_model import RidgeCV

    return RidgeCV(ALPHAS, alpha_per_target=True)


def one(name: str, n: int, p: int, targets: int) -> None:
    """Fit once in a process of its own: seconds, extra peak memory in MB, the chosen penalties."""
    small = problem(60, 80, 10)
    model = estimator(name).fit(*small)
    X, Y = problem(n, p, targets)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model.fit(X, Y)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(seconds, peak, *np.asarray(model.alpha_), sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="sizes of published studies")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "ridge.json"
    )
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, *size = options.one
        one(name, *map(int, size))
        return
    table = Table("exact leave-one-out ridge, one penalty per target: against scikit-learn")
    for label, n, p, targets in SIZES + (FULL if options.full else []):
        found = {}
        for name in ("phosphene", "scikit-learn"):
            command = [sys.executable, __file__, "--one", name, str(n), str(p), str(targets)]
            # The faster of two runs: machines are shared.
            runs = [
                [float(v) for v in subprocess.check_output(command, text=True).split("\t")]
                for _ in range(2)
            ]
            found[name] = min(runs)
        ours, theirs = found["phosphene"], found["scikit-learn"]
        case = f"{label}, {n} x {p} -> {targets}"
        table.add(f"{case}: times faster", theirs[0] / ours[0], s=ours[0], sklearn_s=theirs[0])
        table.add(
            f"{case}: extra memory",
            ours[1] / max(theirs[1], 1),
            better="lower",
            MB=ours[1],
            sklearn_MB=theirs[1],
        )
        same = float(np.mean(np.equal(ours[2:], theirs[2:])))
        table.add(f"{case}: share of equal penalties", same, 1.0)
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
