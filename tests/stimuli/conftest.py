"""A tiny image encoder that counts what it sees, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder

SIZE = 12


class Network(torch.nn.Module):
    """A small random network that counts the pictures it sees and can be killed."""

    def __init__(self, seed: int = 0, die_after: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = torch.nn.Conv2d(3, 5, 3)
        self.seen = 0
        self.die_after = die_after

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.die_after is not None and self.seen + len(x) > self.die_after:
            raise KeyboardInterrupt
        self.seen += len(x)
        y = torch.relu(self.conv(x))
        return {"early": x.mean((2, 3)), "late": y.mean((2, 3))}


def pictures(n: int = 7, seed: int = 0) -> StimulusSet:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(n)]
    ids = [f"thing{i}/thing{i}_01.png" for i in range(n)]
    return StimulusSet.from_arrays(ids, images)


def picture_files(folder: Path, n: int = 5) -> StimulusSet:
    """The same pictures as PNG files below a folder."""
    from PIL import Image

    for id in (source := pictures(n)).ids:
        path = folder / id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.image(id)).save(path)
    return StimulusSet.from_folder(folder)


def encoder(network: torch.nn.Module, id: str = "tiny", **more: Any) -> CallableEncoder:
    return CallableEncoder(network, id, image_size=SIZE, layers=("early", "late"), **more)


@pytest.fixture
def kit() -> SimpleNamespace:
    return SimpleNamespace(
        SIZE=SIZE,
        Network=Network,
        pictures=pictures,
        picture_files=picture_files,
        encoder=encoder,
    )


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., FeatureBank]:
    """``FeatureBank.extract`` with a store of the test's own and batches of two."""

    def run(stimuli: StimulusSet, model: CallableEncoder, **more: Any) -> FeatureBank:
        more = {"batch_size": 2, "cache": tmp_path / "cache", **more}
        return FeatureBank.extract(stimuli, model, **more)

    return run
