"""What the demonstration generator shows of things it knows and of things it does not.

Pictures, their copies by the autoencoder, what is made of their true features (text embedding and
latent, noised for half of the steps), and what is made of the name alone; below test concepts the
training picture that is nearest to what was made.

    python tools/show_demo_generator.py --out docs/_static/demo_generator.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from phosphene._random import generator
from phosphene._saving import read_json
from phosphene.evaluation.image_networks import offline_networks
from phosphene.evaluation.memorisation import nearest_training_pictures
from phosphene.reconstruction._folder import ASSETS
from phosphene.reconstruction.img2img import Img2Img
from phosphene.simulation.pictures import picture_set

# An exemplar that no world shows and nothing was trained on.
EXEMPLAR, SEED = 40, 0
STEPS, STRENGTH = 10, 0.5


def rows_of(concepts: list[str], training: list[str] | None = None) -> dict[str, Any]:
    """Pictures (concepts, 64, 64, 3) in [0, 1] by what they are."""
    stimuli = picture_set(concepts, 1, SEED, 64, first=EXEMPLAR)
    seen = np.stack([stimuli.image(id) for id in stimuli.ids])
    # Without guidance: it would take pictures away from their latents.
    half = Img2Img("demo", steps=STEPS, strength=STRENGTH, guidance=1.0)
    whole = Img2Img(half.model, steps=20, guidance=3.0)
    text = half.targets("text_embeds", stimuli, stimuli.ids)
    z = half.targets("init_latents", stimuli, stimuli.ids)
    common: dict[str, Any] = {"n": 1, "seed": SEED, "ids": stimuli.ids, "progress": False}
    with torch.no_grad():
        copies = half.model.decode_latents(torch.from_numpy(z)).movedim(1, -1).numpy()
    made = half.generate(text_embeds=text, init_latents=z, **common)[:, 0]
    rows = {
        "shown": seen / 255,
        "copied": copies,
        "from true features": made,
        "from the name": whole.generate(text_embeds=text, **common)[:, 0],
    }
    if training is not None:
        known = picture_set(training, 1, SEED, 64)
        network = next(n for name, n in offline_networks().items() if name.endswith("pool"))
        found = nearest_training_pictures(made, seen, known, network, ids=stimuli.ids)
        rows["nearest in training"] = np.stack(
            [known.image(i) / 255 for i in found.table["nearest"]]
        )
    return rows


def draw(parts: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """One block of rows for each part."""
    count = sum(len(rows) for rows in parts.values())
    width = len(next(iter(next(iter(parts.values())).values())))
    figure = Figure(figsize=(1.6 + 0.62 * width, 0.62 * count + 0.6 * len(parts)))
    blocks = figure.subfigures(len(parts), 1, height_ratios=[len(rows) for rows in parts.values()])
    for block, (title, rows) in zip(np.atleast_1d(blocks), parts.items(), strict=True):
        block.suptitle("\n".join(wrap(title, 120)), x=0.01, y=0.99, ha="left", fontsize=8)
        axes = block.subplots(len(rows), 1, gridspec_kw={"hspace": 0.02})
        block.subplots_adjust(left=0.19, right=0.995, bottom=0.01, top=0.87)
        for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
            ax.imshow(np.concatenate(list(np.clip(pictures, 0, 1)), axis=1))
            ax.set_axis_off()
            ax.text(-0.01, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=8)
    figure.savefig(path, dpi=110)  # 64 pixels of a picture stay 64 or more


def main() -> None:
    """Draw concepts chosen by the seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JPEG or PNG")
    parser.add_argument("--count", type=int, default=14, help="concepts of each kind")
    options = parser.parse_args()
    concepts = read_json(ASSETS / "demo" / "concepts.json")
    rng = generator(SEED, "shown generator")
    train, tested = (
        sorted(map(str, rng.choice(concepts[kind], options.count, replace=False)))
        for kind in ("train", "tested")
    )
    parts = {
        "Concepts it was trained on: " + ", ".join(train): rows_of(train),
        "Concepts it has never seen: " + ", ".join(tested): rows_of(tested, concepts["train"]),
    }
    draw(parts, options.out)


if __name__ == "__main__":
    main()
