"""Pictures that the demonstration generator is trained on, of concepts that no world tests."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from phosphene import _registry
from phosphene._saving import write_array, write_json
from phosphene.simulation._backgrounds import background
from phosphene.simulation.pictures import Recipe, compose, demo_pictures, make_recipe
from phosphene.simulation.scene import concept_order
from phosphene.simulation.world import get_world

SIDE, FULL = 64, 224
# Seed of the pictures' recipes: no world uses it.
PICTURE_SEED = 64_064
# What the diffusion learns to draw stands upright, nearly, and its background is blurred (standard
# deviation in pixels of 64): of what a name does not tell, less has to be learned.
UPRIGHT, BLUR = 0.4, 5.0


def concepts() -> tuple[list[str], list[str]]:
    """Training concepts, and those that some registered world tests, both sorted."""
    tested: set[str] = set()
    for entry in _registry.names("world"):
        world = get_world(entry)
        tested.update(concept_order(world)[: world.test_concepts])
    standard = get_world("standard")
    order = concept_order(standard)
    train = order[len(order) - standard.train_concepts :]
    if overlap := tested & set(train):
        raise SystemExit(f"concepts are both tested and trained on: {sorted(overlap)}")
    return sorted(train), sorted(tested)


def _exemplars(job: tuple[str, str, int, int]) -> tuple[np.ndarray, ...]:
    """Pictures of one concept at 64 pixels, calm ones, boxes, and image vectors of the first.

    Vectors are of the pictures as they are shown: what is decoded from brains is never calm.
    """
    from phosphene.stimuli.encoders.efficientnet import EfficientNetLite0

    torch.set_num_threads(1)
    concept, svg, count, with_vectors = job
    recipes = [make_recipe(concept, svg, n, PICTURE_SEED, FULL) for n in range(1, count + 1)]
    behind = [background(r.background, r.background_seed, FULL) for r in recipes]
    full = [compose(r, b) for r, b in zip(recipes, behind, strict=True)]
    small = np.stack([shrink(picture) for picture in full])
    calm_ones = np.stack([calm(r, b) for r, b in zip(recipes, behind, strict=True)])
    boxes = np.array([(r.x, r.y, r.extent) for r in recipes], dtype=np.float32)
    pixels = torch.from_numpy(np.stack(full[:with_vectors])).permute(0, 3, 1, 2).float() / 255
    return small, calm_ones, boxes, EfficientNetLite0(device="cpu").encode(pixels)["pool"]


def calm(recipe: Recipe, behind: np.ndarray) -> np.ndarray:
    """The same object in the same place, hardly turned, before a blurred background."""
    from scipy.ndimage import gaussian_filter

    blurred = shrink(np.asarray(np.rint(behind), np.uint8)).astype(np.float32)
    blurred = gaussian_filter(blurred, (BLUR, BLUR, 0), mode="nearest")
    drawn = replace(recipe, rotation=UPRIGHT * recipe.rotation, size=2 * SIDE)
    large = blurred.repeat(2, axis=0).repeat(2, axis=1)
    return shrink(compose(drawn, large))


def shrink(picture: np.ndarray) -> np.ndarray:
    """A picture at the size of the model, uint8."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def make_pictures(work: Path, exemplars: int, with_vectors: int, processes: int) -> None:
    """Render pictures of all training concepts, once, with image and text vectors."""
    if (work / "text.npy").exists():
        return
    from phosphene.stimuli.bank import FeatureBank

    train, tested = concepts()
    svg = dict(demo_pictures())
    jobs = [(name, svg[name], exemplars, with_vectors) for name in train]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = list(pool.imap(_exemplars, jobs, chunksize=8))
    names = ("pictures", "calm", "boxes", "image")
    for name, arrays in zip(names, zip(*parts, strict=True), strict=True):
        write_array(work / f"{name}.npy", np.stack(arrays))
    write_json(work / "concepts.json", {"train": train, "tested": tested})
    bank = FeatureBank.from_text(train, "use")
    write_array(work / "text.npy", np.asarray(bank.vectors("text", ids=train), dtype=np.float32))
