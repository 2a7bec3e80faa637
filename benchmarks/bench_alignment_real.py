"""Alignment with human inferior temporal cortex, asked about images that were held out.

    python benchmarks/bench_alignment_real.py [--data FOLDER] [--quick]

92 images of objects, RDMs of four people (Kriegeskorte et al. 2008, as the rsatoolbox demos ship
them). EfficientNet-Lite0 vectors are aligned with the mean RSM of three people on three quarters of
the images; the fourth person and the other quarter are asked. Every image and every person is held
out once, in several random partitions. All controls stand beside the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
from _table import Table
from PIL import Image

import phosphene as ph
from phosphene.evaluation.rsm import rsm_correlation
from phosphene.methods.alignment_table import AlignmentTable, alignment_table

FOLDS = 4
CONTROLS = ("original", "centred", "pca", "whitened", "alpha=1", "shuffled")
VARIANTS = {
    "linear": {},
    "autoencoder, alpha .01": {"variant": "autoencoder", "alpha": 0.01},
    "residual, alpha .01": {"variant": "residual", "alpha": 0.01},
}


def load(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vectors of the images, and the RSM of every person, both sessions averaged."""
    stimuli = scipy.io.loadmat(folder / "Kriegeskorte_Neuron2008_supplementalData.mat")
    with tempfile.TemporaryDirectory() as pictures:
        for i, entry in enumerate(stimuli["stimuli_92objs"].ravel()):
            Image.fromarray(entry["image"]).save(Path(pictures) / f"image{i:02d}.png")
        images = ph.StimulusSet.from_folder(pictures)
        bank = ph.FeatureBank.extract(images, encoder="efficientnet-lite0", progress=False)
        names = [f"image{i:02d}.png" for i in range(len(bank))]
        vectors = bank.vectors("original", ids=names)
    brain = scipy.io.loadmat(folder / "92_brainRDMs.mat")["RDMs"].reshape(-1, 4, 2)[0]
    rsms = {}
    for sessions in brain:
        subject = str(sessions[0]["name"][0]).split("|")[1].strip()
        rsms[subject] = 1 - np.mean([s["RDM"].astype(float) for s in sessions], axis=0)
    return vectors, rsms


def held_out(
    vectors: np.ndarray, rsms: dict[str, np.ndarray], settings: dict, repeats: int, draws: int
) -> AlignmentTable:
    """Scores with every image held out once per partition."""
    found = []
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(vectors))
        for test in np.array_split(order, FOLDS):
            train = np.setdiff1d(order, test)
            aligner = ph.BrainAligner(**settings, random_state=repeat)
            found.append(
                alignment_table(
                    aligner, vectors, rsms, train=train, test=np.sort(test), draws=draws
                )
            )
    return AlignmentTable(
        pd.concat([table.subjects for table in found]),
        pd.concat([table.queries for table in found]),
        {},
    )


def main() -> None:
    shared = Path(__file__).parents[2] / "shared" / "data"
    shared = Path(os.environ.get("PHOSPHENE_SHARED_DATA", shared))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared / "kriegeskorte92")
    parser.add_argument("--quick", action="store_true", help="linear only, one partition")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "alignment_real.json"
    )
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"the recordings are not at {options.data}; give --data")
        return
    vectors, rsms = load(options.data)
    ceiling = {
        s: rsm_correlation(rsm, np.mean([r for o, r in rsms.items() if o != s], axis=0))
        for s, rsm in rsms.items()
    }
    print("lower noise ceiling:", {s: round(value, 2) for s, value in ceiling.items()})
    table = Table("alignment with human IT: on held-out images, for a held-out person")
    for name, settings in VARIANTS.items():
        if options.quick and name != "linear":
            continue
        # A network takes a hundred times as long as the closed form.
        repeats, draws = (5, 3) if name == "linear" and not options.quick else (1, 1)
        scores = held_out(vectors, rsms, settings, repeats, draws)
        print(f"\n{name}\n{scores.means().round(3).to_string()}", flush=True)
        for control in CONTROLS:
            gains = scores.gains(control)
            print(f"above {control}\n{gains.round(3).to_string(index=False)}", flush=True)
            for line in gains.itertuples():
                case = f"{name}: {line.score} above {control}"
                table.add(case, line.gain, low=line.low, high=line.high)
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
