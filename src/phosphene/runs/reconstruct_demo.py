"""The whole way from simulated fMRI and EEG to pictures of what was seen, with every bound.

People look at pictures of concepts that neither the decoders nor the generator were trained on.
What they saw is reconstructed by the linear baselines and by both stages of MindDiffuser on the
small generator that comes with the library. Finished pictures of the same settings are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from phosphene._saving import jsonable
from phosphene.errors import DataError
from phosphene.runs._kept import keep_if_same
from phosphene.runs.demo_files import LICENCES
from phosphene.runs.object_layout import LayoutReader
from phosphene.runs.picture_scores import TRUE, PictureScores, score_pictures
from phosphene.runs.reconstructing import (
    PICTURES,
    PictureOutcome,
    Reconstructed,
    examine,
    stage_label,
)

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.simulation.study import Study
    from phosphene.simulation.world import World
    from phosphene.stimuli.bank import FeatureBank

MODALITIES = ("fmri", "eeg")
SUBJECTS = 1  # per modality; a second person costs three minutes more
# EEG is averaged over as many repetitions as in THINGS-EEG2; a voxel's response over the world's.
REPETITIONS = {"fmri": 20, "eeg": 80}
# Early areas know where things are, ventral ones what they are (Takagi & Nishimoto; MindDiffuser).
EARLY, VENTRAL = ("V1", "V2", "V3", "V4"), ("V4", "LOC", "FFA", "PPA")
ROIS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"fmri": {"latent": EARLY, "text": VENTRAL, "structure": (*EARLY, "LOC")}, "eeg": {}}
)
WORLDS: Mapping[bool, Mapping[str, Any]] = MappingProxyType(
    {
        True: {"train_concepts": 100, "train_exemplars": 3, "test_concepts": 10},
        False: {},
    }
)
# What differs from the paper, and why. Five denoising steps do for pictures of 64 pixels; the share
# of them after noise is about the paper's. Twenty steps of stage 2 with a rate of .15 instead of
# 300: the demo has minutes. No guidance: under it the small model draws away from the latents.
# Structure is the picture's own colours before all else, and what is decoded of two blocks of the
# network, which moves things to their places; the latent stays near the decoded one, which keeps
# textures away. These were settled on another person and 80 pictures of other concepts than the
# demo shows, also left out of the generator's training.
_BOTH: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 5,
        "start": 4,
        "guidance": 1.0,
        "lr": 0.15,
        "final": None,
        "layers": ("pixels", "block5", "block11"),
        "layer_weights": (20.0, 1.0, 1.0),
        "latent_weight": 0.3,
        "components": 100,
        "rescale": ("latent", "text", "structure"),
    }
)
DIFFUSION: Mapping[bool, Mapping[str, Any]] = MappingProxyType(
    {
        True: {**_BOTH, "iterations": 4, "frames": 1},
        False: {**_BOTH, "iterations": 20, "frames": 5},
    }
)
INTRO = (
    "Simulated people look at pictures of concepts that neither the decoders nor the generator "
    "have seen. The generator is small and was trained for this demonstration on drawings of the "
    "other concepts: what it shows of an unseen one is what it makes of the decoded features. "
    "Networks that compare are of the family that stage 2 optimises; pixels are measured without "
    "any network, position and size by one of another kind, trained on pictures of known layout."
)


def reconstruct_demo(
    out: str | Path,
    *,
    quick: bool = False,
    seed: int = 0,
    subjects: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: bool = True,
) -> PictureOutcome:
    """Simulate, decode, generate, score, and write a report.

    Writes ``metrics.csv``, ``images.csv`` (scores of every picture), ``gains.csv``,
    ``protocol.json``, ``report.html`` and ``manifest.json``, and below ``pictures/`` every picture
    as PNG; an interrupted demo goes on at the next one.

    Parameters
    ----------
    out : path
        Folder of the results.
    quick : bool
        10 pictures and one person for each modality, a short second stage.
    seed : int
        Seed of people, noise and pictures.
    subjects : int, optional
        People for each modality; one by default.
    say : callable, optional
        Gets a line of text after every step.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    PictureOutcome

    Raises
    ------
    DataError
        If the folder is a file, or nobody is asked for.
    StorageError
        If the files cannot be written.
    """
    from phosphene.runs.picture_files import write_demo
    from phosphene.simulation.study import simulate
    from phosphene.simulation.world import get_world, in_modality

    folder, said = Path(out), say or (lambda line: None)
    count = SUBJECTS if subjects is None else subjects
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", expected="a folder")
    if count < 1:
        raise DataError("the demo needs people", found=f"subjects={count}", expected="at least 1")
    world = get_world("standard-fmri", **WORLDS[quick])
    settings = jsonable(_settings(world, quick, seed, count))
    keep_if_same(folder / PICTURES, settings)

    began = time.perf_counter()
    said(
        f"pictures and features: {world.n_stimuli} pictures, "
        f"up to {world.encoder_passes} passes of {world.encoder}"
    )
    study, parts, scores, layout, true = None, [], [], None, None
    for modality in MODALITIES:
        here = in_modality(world, "eeg") if modality == "eeg" else world
        study = simulate(
            here, subjects=count, seed=seed, scene=None if study is None else study.scene,
            channels=_channels(modality), train_repetitions=4,
            test_repetitions=REPETITIONS[modality], averaged=True, progress=progress,
        )  # fmt: skip
        if layout is None:
            stimuli = study.scene.stimuli
            assert stimuli is not None
            layout = LayoutReader.shipped(), stimuli
        said(f"{modality}: {count} people simulated ({time.perf_counter() - began:.0f} s)")
        for subject in study.recordings:
            began = time.perf_counter()
            own = _person(
                study, subject, modality, quick, seed, folder / PICTURES, progress,
                bound=true is None,
            )  # fmt: skip
            true = own[-1].true if true is None else true
            rows: dict[str, Any] = {}
            for part in own:
                rows |= part.rows()
            rows[TRUE] = true  # the same for all: true features depend on no brain
            last = [name for name in rows if name != TRUE][-1]
            found = score_pictures(
                rows, own[-1].truths, own[-1].made.ids, modality=modality, subject=subject,
                layout=layout, shuffled=last,
            )  # fmt: skip
            parts += own
            scores.append(found)
            said(f"{modality}, subject {subject} ({time.perf_counter() - began:.0f} s)")
        began = time.perf_counter()
    assert study is not None
    assert layout is not None
    joined = PictureScores.join(scores)
    title = f"SIMULATED DATA: world {world.name!r}, seed {seed}"
    outcome = PictureOutcome(
        folder, title, tuple(parts), joined, layout[1], INTRO,
        verdicts=[verdict(joined, modality) for modality in MODALITIES],
        licences=(*LICENCES, ("generator of the demo", settings["licence"])),
        settings=settings,
    )  # fmt: skip
    write_demo(outcome)
    return outcome


STAGE1 = stage_label("minddiffuser", "stage1", 2)
STAGE2 = stage_label("minddiffuser", "stage2", 2)


def gains(scores: PictureScores) -> pd.DataFrame:
    """Stage 2 over stage 1, and both stages over the linear pixels, by modality and metric."""
    import pandas as pd

    pairs = ((STAGE2, STAGE1), (STAGE2, "linear pixels"))
    return pd.concat(
        [scores.gains(*pair, modality) for modality in MODALITIES for pair in pairs],
        ignore_index=True,
    )


def verdict(scores: PictureScores, modality: str) -> str:
    """What stage 2 gained and lost over stage 1, in words."""
    gains = scores.gains(STAGE2, STAGE1, modality)
    better = [line for line in gains.to_dict("records") if line["low"] > 0]
    worse = [line for line in gains.to_dict("records") if line["high"] < 0]
    level = [
        str(line["metric"]) for line in gains.to_dict("records") if line["low"] <= 0 <= line["high"]
    ]

    def words(lines: list[dict[Any, Any]]) -> str:
        return ", ".join(
            f"{line['metric']} {line['gain']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]"
            for line in lines
        )

    said = [f"{modality}: stage 2 over stage 1"]
    said += [f"better in {words(better)}"] if better else ["better in nothing"]
    if worse:
        said.append(f"worse in {words(worse)}")
    if level:
        said.append("not told apart in " + ", ".join(level))
    return "; ".join(said) + "."


def _person(
    study: Study,
    subject: str,
    modality: str,
    quick: bool,
    seed: int,
    pictures: Path,
    progress: bool,
    *,
    bound: bool,
) -> list[Reconstructed]:
    """Pictures of one person by every method; the bounds belong to the last."""
    from phosphene.data.splits import split_by_column
    from phosphene.methods.linear_reconstructor import LinearReconstructor
    from phosphene.methods.minddiffuser import MindDiffuser

    stimuli = study.scene.stimuli
    assert stimuli is not None
    bank: FeatureBank = study.scene.bank
    train, test = split_by_column(study.recordings[subject])
    models = {
        "nearest image": LinearReconstructor(using="nearest_image", random_state=seed),
        "linear pixels": LinearReconstructor(using="linear_pixel", random_state=seed),
        "minddiffuser": MindDiffuser(
            rois=dict(ROIS[modality]), random_state=seed, **DIFFUSION[quick]
        ),
    }
    found = []
    for label, model in models.items():
        below = pictures / f"{modality}-{subject}" / label.replace(" ", "-")
        model.fit(train, stimuli, bank, progress=progress)
        made = model.reconstruct(test, seed=seed, folder=below / "decoded", progress=progress)
        world = study.world
        made = replace(
            made,
            protocol=made.protocol.replace(
                dataset=f"simulated world {world.name!r}", simulated=True, world=world.name
            ),
        )
        invents = label == "minddiffuser"  # the baselines copy by design, or cannot
        kept = below if bound and invents else None
        part = examine(
            made, model, stimuli, label, n=1, seed=seed, folder=kept, copies=invents,
            progress=progress,
        )  # fmt: skip
        found.append(replace(part, modality=modality, subject=subject))
    return found


def _channels(modality: str) -> list[str] | None:
    from phosphene.simulation.sensors import OCCIPITO_PARIETAL

    return list(OCCIPITO_PARIETAL) if modality == "eeg" else None


def _settings(world: World, quick: bool, seed: int, count: int) -> dict[str, Any]:
    from phosphene import __version__
    from phosphene.reconstruction.diffusion import LatentDiffusion

    generator = LatentDiffusion.load("demo")
    return {
        "world": world.name,
        "world_hash": world.hash,
        "seed": seed,
        "subjects": count,
        "modalities": list(MODALITIES),
        "repetitions": dict(REPETITIONS),
        "diffusion": dict(DIFFUSION[quick]),
        "generator": generator.weights_hash,
        "licence": generator.licence,
        "version": __version__,
    }
