"""What a cross-validation score is worth when voxels were selected against the targets.

    python benchmarks/bench_selection.py [--quick]

R2 that an estimator claims, and R2 on 2,000 new samples, in simulated voxels with and without
signal: selection inside folds against selection outside, a penalty against none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _table import Table, parse_arguments

from phosphene.decoding.linear import SelectedOLS, SelectedPLS
from phosphene.decoding.ridge import RidgeLOO
from phosphene.decoding.selected_ridge import SelectedRidge

N, P, SOURCES, TARGETS, K = 300, 2000, 30, 20, 100


def world(snr: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels that mix 30 sources with noise, targets that do so with another mixture."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((N + 2000, SOURCES))
    X = 0.3 * sources @ rng.standard_normal((SOURCES, P)) + rng.standard_normal((N + 2000, P))
    Y = sources @ rng.standard_normal((SOURCES, TARGETS))
    return X, snr * Y / Y.std(axis=0) + rng.standard_normal(Y.shape)


def main() -> None:
    options = parse_arguments(__doc__ or "", "selection.json")
    seeds = range(2 if options.quick else 10)
    table = Table("R2 on new samples, and what the estimator claims")
    models: dict[str, Any] = {
        "ridge, all voxels, leave-one-out": RidgeLOO(),
        "ridge, selected, 5 folds (default)": SelectedRidge(k=K),
        "ridge, selected, leave-one-out": SelectedRidge(k=K, cv="loo"),
        "least squares, selected": SelectedOLS(k=K),
        "PLS, 5 components, selected": SelectedPLS(5, k=K),
    }
    for snr in (0.0, 0.5):
        data = [world(snr, seed) for seed in seeds]
        for name, model in models.items():
            real, claimed = [], []
            for X, Y in data:
                model.fit(X[:N], Y[:N])
                error = np.square(Y[N:] - model.predict(X[N:])).mean(axis=0)
                real.append((1 - error / Y[N:].var(axis=0)).mean())
                score = getattr(model, "cv_r2_", getattr(model, "loo_r2_", None))
                claimed += [] if score is None else [score.mean()]
            table.add(
                f"signal to noise {snr:g}, {name}",
                float(np.mean(real)),
                sd=float(np.std(real, ddof=1)),
                **({"claimed": float(np.mean(claimed))} if claimed else {}),
            )
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
