"""Train the ruler of the reconstruction demo: where an object is in a picture, and how large.

Pictures are of the concepts that the demonstration generator knows; those that a simulated world
tests are left out, so that the ruler has seen nothing of what it measures.

    python tools/train_layout_reader.py --out src/phosphene/runs/assets/layout_reader.safetensors
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch

from phosphene import reconstruction
from phosphene.runs.object_layout import LayoutReader, faded, layout, object_surface
from phosphene.simulation.pictures import picture_set

log = logging.getLogger("train_layout_reader")

EXEMPLARS, SEED = 6, 0
CONCEPTS = Path(reconstruction.__file__).parent / "assets" / "demo" / "concepts.json"


def main() -> None:
    """Train, save, and say how well unseen concepts are read."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file of the weights")
    parser.add_argument("--exemplars", type=int, default=EXEMPLARS, help="pictures of a concept")
    parser.add_argument("--epochs", type=int, default=16)
    options = parser.parse_args()
    concepts = json.loads(CONCEPTS.read_text())
    learned = picture_set(concepts["train"], options.exemplars, SEED, 64)
    reader = LayoutReader.fit(learned, learned.ids, epochs=options.epochs, seed=SEED, say=log.info)
    reader.save(options.out)

    other = picture_set(concepts["tested"], 1, SEED, 64, first=1 + options.exemplars)
    sharp = np.stack([other.image(id) for id in other.ids]).astype(np.float32) / 255
    truth = layout(torch.from_numpy(object_surface(other, other.ids))).numpy()
    rows = {"constant": np.repeat(truth.mean(0, keepdims=True), len(truth), 0)}
    rows |= {"sharp": reader.read(sharp), "faded": reader.read(faded(sharp, seed=1))}
    for name, found in rows.items():
        off = found - truth
        position, size = np.hypot(off[:, 0], off[:, 1]).mean(), np.abs(off[:, 2]).mean()
        log.info(
            "%d concepts never seen, %s: position %.3f, size %.3f", len(truth), name, position, size
        )


if __name__ == "__main__":
    main()
