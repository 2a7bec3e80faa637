"""Is confidence right on new concepts? Expected calibration error on simulated single trials.

Ridge is calibrated on a fifth of the training concepts that it is not fitted on; NICE on the tenth
that chooses its epoch. Beside it are the error that chance leaves to confidence that is right, and
that of the same scores at a temperature that nobody fitted, 1 / 20. All are in per cent.

    python benchmarks/bench_calibration.py [--quick]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from _table import Table, parse_arguments

from phosphene.data.recording import Recording
from phosphene.data.splits import hold_out_concepts
from phosphene.evaluation.calibration import (
    area_under_risk_coverage,
    brier_score,
    calibration_error_by_chance,
    expected_calibration_error,
)
from phosphene.evaluation.temperature import softmax
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import simulate
from phosphene.stimuli.bank import FeatureBank

METHOD: dict[str, Any] = {
    "encoder": "eegproject",
    "epochs": 15,
    "lr": 1e-3,
    "batch_size": 256,
    "device": "cpu",
    "precision": "fp32",
}


def decoders(train: Recording, bank: FeatureBank, seed: int) -> dict[str, Any]:
    """Both decoders, calibrated."""
    held = hold_out_concepts(train.trials, 0.2, seed)
    ridge = Ridge().fit(train.select(~held), bank, progress=False)
    nice = NICE(**METHOD, random_state=seed).fit(train, bank, progress=False)
    return {"ridge": ridge.calibrate(train.select(held), bank), "nice": nice}


def main() -> None:
    options = parse_arguments((__doc__ or "").splitlines()[0], "calibration.json")
    torch.set_num_threads(1)
    began = time.perf_counter()
    found: dict[tuple[str, int], list[list[float]]] = {}
    for seed in (1,) if options.quick else (1, 2, 3, 4, 5, 6):
        study = simulate("quick", seed=seed, channels=OCCIPITO_PARIETAL, progress=False)
        recording, bank = next(iter(study.recordings.values())), study.scene.bank
        train, test = (recording.select(split=side) for side in ("train", "test"))
        for name, decoder in decoders(train, bank, seed).items():
            for size in (20, 100):
                ids = test.stimuli[:size]
                trials = test.select(stimulus=ids)
                ranking = decoder.rank(trials, bank, ids=ids)
                assert ranking.confidence is not None
                given = ranking.confidence[:, 0]
                right = ranking.correct(trials.trials["stimulus"].tolist())
                scores = decoder.similarity(trials, bank, ids=ids).matrix
                other = softmax(scores, 20.0).max(axis=1)
                found.setdefault((name, size), []).append(
                    [
                        expected_calibration_error(given, right),
                        calibration_error_by_chance(given, n_draws=50),
                        expected_calibration_error(other, right),
                        right.mean(),
                        given.mean(),
                        brier_score(given, right),
                        area_under_risk_coverage(given, right),
                    ]
                )
    table = Table("expected calibration error of single trials in the world 'quick', in per cent")
    names = ("by_chance", "at_T_1/20", "top1", "confidence", "brier", "aurc")
    for (name, size), rows in sorted(found.items()):
        error, *others = (100 * np.mean(rows, axis=0)).tolist()
        details = dict(zip(names, others, strict=True))
        table.add(f"{name}, {size} candidates", error, seeds=len(rows), **details)
    table.show()
    print(f"{time.perf_counter() - began:.0f} s")
    table.write(options.out)


if __name__ == "__main__":
    main()
