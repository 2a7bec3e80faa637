"""On simulated fMRI: true features make better pictures than decoded, and those than shuffled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from phosphene.evaluation.image_metrics import pixcorr
from phosphene.methods.img2img import Img2ImgReconstructor
from phosphene.methods.linear_reconstructor import LinearReconstructor
from phosphene.methods.minddiffuser import MindDiffuser
from phosphene.reconstruction.diffusion import LatentDiffusion
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import get_world
from phosphene.stimuli.images import fit

QUIET: dict[str, Any] = {"progress": False}
ROIS = {"latent": ("V1", "V2", "V3", "V4"), "text": ("V4", "LOC", "FFA", "PPA")}


@pytest.fixture(scope="module")
def study() -> Study:
    world = get_world(
        "standard-fmri", train_concepts=80, train_exemplars=4, test_concepts=16, foveation=0.0,
        bank_views=("original",), voxels_per_roi=60,
    )  # fmt: skip
    return simulate(world, averaged=True, progress=False)


@pytest.fixture(scope="module")
def demo() -> LatentDiffusion:
    return LatentDiffusion.load("demo", device="cpu")


def scores(model: Any, study: Study) -> dict[str, float]:
    """Mean correlation of pixels with the truth, of true, decoded and shuffled features."""
    pictures = study.stimuli
    assert pictures is not None
    model.fit(study.train("01"), pictures, study.bank, **QUIET)
    test = study.test("01")
    made = model.reconstruct(test, **QUIET)
    truth = np.stack([fit(pictures.image(i), made.images.shape[2]) for i in made.ids]) / 255
    features = model.decode(test)
    found = {"decoded": made}
    true = model.encode(pictures, made.ids)
    found["true"] = model.generate(true, made.queries, **QUIET)
    turned = {group: np.roll(values, 5, axis=0) for group, values in features.items()}
    found["shuffled"] = model.generate(turned, made.queries, **QUIET)
    return {name: float(np.mean(pixcorr(one.images[:, 0], truth))) for name, one in found.items()}


@pytest.mark.slow
def test_pixels(study: Study) -> None:
    found = scores(LinearReconstructor(settings={"size": 32}), study)
    assert found["true"] > 0.95
    assert found["true"] - 0.2 > found["decoded"] > found["shuffled"] + 0.1, found


@pytest.mark.slow
def test_latent_diffusion(study: Study, demo: LatentDiffusion) -> None:
    found = scores(Img2ImgReconstructor(source=demo, steps=20, strength=0.6, rois=ROIS), study)
    assert found["true"] > found["decoded"] + 0.1, found
    assert found["decoded"] > found["shuffled"] + 0.05, found


@pytest.mark.slow
def test_stage_2_brings_the_decoded_structure(study: Study, demo: LatentDiffusion) -> None:
    pictures = study.stimuli
    assert pictures is not None
    model = MindDiffuser(
        source=demo, steps=10, start=7, iterations=40, truncate=2, lr=0.02, frames=0,
        layers=("block1", "block2", "block3", "block5"), final=None, rois={**ROIS,
        "structure": ROIS["latent"]},
    )  # fmt: skip
    model.fit(study.train("01"), pictures, **QUIET)
    made = model.reconstruct(study.test("01"), **QUIET)
    first, last = made.traces.groupby("query")["loss"].agg(["first", "min"]).to_numpy().T
    assert np.median(last / first) < 0.95
    truth = np.stack([fit(pictures.image(i), made.images.shape[2]) for i in made.ids]) / 255
    before, after = (
        float(np.mean(pixcorr(made.stages[stage][:, 0], truth))) for stage in ("stage1", "stage2")
    )
    assert after > before, (before, after)
