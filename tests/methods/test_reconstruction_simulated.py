"""On simulated fMRI: true features make better pictures than decoded, and those than shuffled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phosphene import reconstruction
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
def test_latent_diffusion(study: Study) -> None:
    if not (
        Path(reconstruction.__file__).parent / "assets" / "demo" / "model_index.json"
    ).is_file():
        pytest.skip("the weights of the demo's model are not here")
    found = scores(Img2ImgReconstructor(source="demo", steps=20, strength=0.6, rois=ROIS), study)
    assert found["true"] > found["decoded"] + 0.1, found
    assert found["decoded"] > found["shuffled"] + 0.05, found


class Pixels(LatentDiffusion):
    """A model that shows any latent as it is: nothing but the decoded structure helps stage 2."""

    conditioner = None
    weights_hash = "pixels"

    def __init__(self, size: int = 32) -> None:
        self.device, self.id, self.licence, self.source = torch.device("cpu"), "p", "none", "p"
        self.image_size, self.latent_shape, self.text_shape = size, (3, size, size), (2,)
        self.unet: Any = SimpleNamespace(config={})
        self.schedule: Any = SimpleNamespace(times=lambda steps: list(range(steps)))
        weights = dict.fromkeys(("unet", "vae", "scheduler"), "none")
        self.folder: Any = SimpleNamespace(digest="pixels", weights=weights)

    def encode_images(self, pictures: Any) -> Any:
        fitted = np.stack([fit(picture, self.image_size) for picture in pictures])
        return fitted.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1

    def encode_text(self, names: Any) -> Any:
        return np.array([[len(name), ord(name[0]) / 100] for name in names], np.float32)

    def tokens(self, embeds: torch.Tensor, kind: str = "text") -> torch.Tensor:
        return embeds

    def add_noise(self, z: torch.Tensor, noise: torch.Tensor, **_: Any) -> torch.Tensor:
        return 0.98 * z + 0.1 * noise

    def denoise(self, z: torch.Tensor, tokens: torch.Tensor, **_: Any) -> torch.Tensor:
        return z / 0.98

    def decode_latents(self, z: torch.Tensor) -> torch.Tensor:
        return z / 2 + 0.5


@pytest.mark.slow
def test_stage_2_brings_structure_where_its_spread_is_restored(study: Study) -> None:
    early = {"latent": ROIS["latent"], "structure": ROIS["latent"], "text": ("LOC",)}
    gains = {}
    for name, rescale in (("both", ("latent", "structure")), ("latent", ("latent",))):
        model = MindDiffuser(
            source=Pixels(), steps=2, start=1, guidance=1.0, iterations=8, lr=0.02, frames=0,
            layers=("block1", "block2", "block3", "block5"), final=None, rois=early, batch=16,
            rescale=rescale,
        )  # fmt: skip
        model.fit(study.train("01"), study.stimuli, **QUIET)
        made = model.reconstruct(study.test("01"), **QUIET)
        assert study.stimuli is not None
        truth = np.stack([fit(study.stimuli.image(i), 32) for i in made.ids]) / 255
        first, last = (np.mean(pixcorr(made.stages[s][:, 0], truth)) for s in made.stages)
        gains[name] = float(last - first)
        trace = made.traces.groupby("query")["loss"]
        assert (trace.min() < 0.5 * trace.first()).all()
    assert gains["both"] > 0, gains
    assert gains["latent"] < 0, gains
