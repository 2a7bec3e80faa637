"""What stage 2 of MindDiffuser adds to stage 1, with more people and pictures than the demo has.

Simulated data: the demo's world, generator and settings, other people, and every concept that
neither the generator was trained on nor the settings were chosen on. Intervals are over people and
pictures, paired: both stages make a picture of the same brain response with the same noise.

    python benchmarks/bench_stages.py        # fMRI and EEG, 3 people, 120 pictures
    python benchmarks/bench_stages.py --modalities fmri --people 1 --pictures 20
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from _table import Table

from phosphene.data.splits import split_by_column
from phosphene.methods.minddiffuser import MindDiffuser
from phosphene.runs.object_layout import LayoutReader
from phosphene.runs.picture_scores import PictureScores, score_pictures
from phosphene.runs.reconstruct_demo import DIFFUSION, MODALITIES, REPETITIONS, ROIS
from phosphene.simulation.scene import Scene, concept_order, make_scene, shown_pictures
from phosphene.simulation.sensors import OCCIPITO_PARIETAL
from phosphene.simulation.study import simulate
from phosphene.simulation.world import World, get_world, in_modality

# Of 200 concepts that nothing was trained on the demo shows the first 50; on these its settings
# were chosen.
TESTED, CHOSEN_ON = 200, slice(50, 130)
SEED = 100
STAGES = ("stage 1", "stages 1 and 2")


def make_pictures(count: int) -> tuple[World, Scene]:
    """The demo's training pictures, and one picture of each of ``count`` other concepts."""
    world = get_world("standard-fmri")
    order = concept_order(world)
    unseen = np.delete(np.asarray(order[:TESTED], dtype=object), CHOSEN_ON)[:count].tolist()
    stimuli = shown_pictures(world, order[len(order) - world.train_concepts :], unseen)
    world = dataclasses.replace(world, test_concepts=len(unseen))
    return world, make_scene(world, stimuli=stimuli, progress=False)


def scores_of(world: World, scene: Scene, modality: str, people: int) -> PictureScores:
    """Scores of both stages for every person and picture."""
    here = in_modality(world, "eeg") if modality == "eeg" else world
    stimuli: Any = scene.stimuli
    study = simulate(
        here, subjects=people, seed=SEED, scene=scene, train_repetitions=4, averaged=True,
        channels=list(OCCIPITO_PARIETAL) if modality == "eeg" else None,
        test_repetitions=REPETITIONS[modality], progress=False,
    )  # fmt: skip
    parts = []
    for subject, recording in study.recordings.items():
        began = time.perf_counter()
        train, test = split_by_column(recording)
        settings = {**DIFFUSION[False], "frames": 0}
        model = MindDiffuser(rois=dict(ROIS[modality]), random_state=SEED, **settings)
        model.fit(train, stimuli, scene.bank, progress=False)
        made = model.reconstruct(test, seed=SEED, progress=False)
        rows = dict(zip(STAGES, made.stages.values(), strict=True))
        truths = np.stack([stimuli.image(id) for id in made.ids])
        parts.append(
            score_pictures(rows, truths, made.ids, modality=modality, subject=subject,
                           layout=(LayoutReader.shipped(), stimuli))
        )  # fmt: skip
        print(f"{modality}, {subject}: {time.perf_counter() - began:.0f} s", flush=True)
    return PictureScores.join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES))
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--quick", action="store_true", help="one person, 10 pictures, fMRI")
    parser.add_argument("--out", type=Path, default=None, help="also write the table as JSON")
    options = parser.parse_args()
    if options.quick:
        options.people, options.pictures, options.modalities = 1, 10, ["fmri"]
    world, scene = make_pictures(options.pictures)
    table = Table(
        f"SIMULATED DATA: gain of stage 2 over stage 1, {options.people} people x "
        f"{options.pictures} pictures, [low, high] of 95 %",
        digits=4,
    )
    for modality in options.modalities:
        scores = scores_of(world, scene, modality, options.people)
        means = scores.per_image.groupby(["metric", "row"])["value"].mean()
        for line in scores.gains(STAGES[1], STAGES[0], modality).to_dict("records"):
            metric = line["metric"]
            table.add(
                f"{modality}, {metric}", line["gain"], low=line["low"], high=line["high"],
                stage_1=means[metric, STAGES[0]], stages_1_and_2=means[metric, STAGES[1]],
            )  # fmt: skip
    table.show()
    if options.out is not None:
        table.write(options.out)


if __name__ == "__main__":
    main()
