"""Ridge regression of many targets: phosphene against scikit-learn, on the same data.

    python benchmarks/bench_ridge.py [--quick | --full]

All targets on the same features (exact leave-one-out), each target on its own most correlated
features, and as many targets as a text encoder has numbers. The table gives ratios of times and of
peak memory within one run. ``--full`` adds the sizes of published studies: ten minutes or so on two
cores, 6 GB.
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
# name, samples, features, targets, times faster, share of memory
SIZES = [
    ("wide, GOD", 1200, 4500, 1000, 3.0, None),
    ("wide, a quarter of THINGS-fMRI", 2200, 5000, 1024, None, None),
    ("tall, EEG 17 x 50", 4000, 850, 1024, None, None),
]
FULL = [
    ("wide, THINGS-fMRI", 8859, 15000, 1024, 2.0, 0.5),
    ("tall, EEG 17 x 250", 16540, 4250, 1024, None, None),
]
SELECTED = (1200, 15000, 1000)
K = 500
# scikit-learn's time per target is the same for all: a few are measured.
SOME = 20
TEXT = (300, 2000, 77 * 768)


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
    if name.startswith("selected"):
        from phosphene.decoding.selected_ridge import SelectedRidge

        return SelectedRidge(ALPHAS, k=K, cv="loo" if name == "selected-loo" else 5)
    from sklearn.linear_model import RidgeCV

    if name == "scikit-learn":
        return RidgeCV(ALPHAS, alpha_per_target=True)
    from sklearn.feature_selection import SelectKBest, r_regression
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline

    def strength(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.abs(r_regression(X, y))

    return MultiOutputRegressor(make_pipeline(SelectKBest(strength, k=K), RidgeCV(ALPHAS)))


def resident() -> float:
    """Memory held now, in kB: the peak so far would hide what making the data took in passing."""
    held = Path("/proc/self/statm")
    if held.exists():
        return int(held.read_text().split()[1]) * resource.getpagesize() / 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def one(name: str, n: int, p: int, targets: int) -> None:
    """Fit once in a process of its own: seconds, extra peak memory in MB, the chosen penalties."""
    small = problem(60, 600, 10)
    model = estimator(name).fit(*small)
    X, Y = problem(n, p, targets)
    before = resident()
    start = time.perf_counter()
    model.fit(X, Y)
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if name == "scikit-learn-selected":
        alphas = [pipeline[-1].alpha_ for pipeline in model.estimators_]
    else:
        alphas = model.alpha_
    print(seconds, peak, *np.asarray(alphas), sep="\t")


def measure(name: str, n: int, p: int, targets: int, repeats: int = 1) -> list[float]:
    """What `one` prints, of the fastest of some runs: machines are shared."""
    command = [sys.executable, __file__, "--one", name, str(n), str(p), str(targets)]
    return min(
        [float(v) for v in subprocess.check_output(command, text=True).split("\t")]
        for _ in range(repeats)
    )


def same_features(table: Table, sizes: list[Any], repeats: int) -> None:
    for label, n, p, targets, faster, memory in sizes:
        ours = measure("phosphene", n, p, targets, repeats)
        theirs = measure("scikit-learn", n, p, targets, repeats)
        case = f"{label}, {n} x {p} -> {targets}"
        table.add(
            f"{case}: times faster", theirs[0] / ours[0], faster, s=ours[0], sklearn_s=theirs[0]
        )
        table.add(
            f"{case}: extra memory",
            ours[1] / max(theirs[1], 1),
            memory,
            better="lower",
            MB=ours[1],
            sklearn_MB=theirs[1],
        )
        same = float(np.mean(np.equal(ours[2:], theirs[2:])))
        table.add(f"{case}: share of equal penalties", same, 1.0)


def own_features(table: Table) -> None:
    """Every target on its own features; selecting costs scikit-learn a pass per target."""
    n, p, targets = SELECTED
    theirs = measure("scikit-learn-selected", n, p, SOME)
    each = theirs[0] / SOME
    case = f"{K} of {p} voxels per target, {n} samples, {targets} targets"
    for name, what in (("selected-loo", "leave-one-out"), ("selected-folds", "5 honest folds")):
        ours = measure(name, n, p, targets)
        table.add(
            f"{case}, {what}: times faster than leave-one-out of scikit-learn",
            each * targets / ours[0],
            s=ours[0],
            sklearn_s=each * targets,
            extra_MB=ours[1],
        )
        if name == "selected-loo":
            # The data of the first targets differ between sizes, so they are compared on their own.
            few = measure(name, n, p, SOME)
            same = float(np.mean(np.equal(few[2:], theirs[2:])))
            table.add(f"{case}: share of equal penalties", same, 1.0)


def text_embeddings(table: Table) -> None:
    """Memory when the weights themselves are the largest thing there is."""
    n, p, targets = TEXT
    ours = measure("phosphene", n, p, targets)
    weights = p * targets * 8 / 2**20
    table.add(
        f"{n} x {p} -> 77 x 768: extra memory, in sizes of the weights",
        ours[1] / weights,
        better="lower",
        s=ours[0],
        MB=ours[1],
        weights_MB=weights,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one case, once")
    size.add_argument("--full", action="store_true", help="sizes of published studies as well")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "ridge.json"
    )
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, *size_of = options.one
        one(name, *map(int, size_of))
        return
    table = Table("ridge regression, one penalty per target: against scikit-learn")
    same_features(table, SIZES[: 1 if options.quick else None], 1 if options.quick else 2)
    if not options.quick:
        own_features(table)
        text_embeddings(table)
    if options.full:
        same_features(table, FULL, 1)
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
