"""Where the object is in a picture and how large, read by a small network."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from phosphene import _random
from phosphene.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from phosphene.data.stimuli import StimulusSet

NEEDED = ("svg", "extent", "x", "y", "rotation")
SIZE, GRID = 64, 16
# Strongest blur (pixels of 64) and least contrast of the copies that the reader learns from too.
BLUR, PALEST = 4.0, 0.4
WEIGHTS = Path(__file__).parent / "assets" / "layout_reader.safetensors"
LAYOUT: Mapping[str, Any] = MappingProxyType(
    {
        "better": "lower", "chance": np.nan, "measure": "layout", "network": "layout reader",
        "layer": "", "version": 3,
    }
)  # fmt: skip
_BATCH = 64


@dataclass(frozen=True, eq=False)
class LayoutReader:
    """Reads position and size of the object off a picture.

    A small convolutional network says of every cell of a picture how much of it the object covers.
    The position is the centre of that surface, the size the root of its share of the frame. It has
    nothing in common with the networks whose features a reconstruction is optimised for. It learns
    from real pictures of known layout, never from generated ones, and is a ruler: the same for
    every row of a table. Half of what it learns from is blurred and paler, because decoded pictures
    are: a reader that knows sharp edges only takes a blurred object for a small one.

    Examples
    --------
    >>> reader = LayoutReader.shipped()
    >>> reader.read(np.zeros((2, 64, 64, 3))).shape
    (2, 3)
    """

    network: ObjectMap

    @classmethod
    @functools.cache
    def shipped(cls) -> Self:
        """The reader that comes with the library, made by ``tools/train_layout_reader.py``.

        It was trained on the concepts that the demonstration generator knows, and on none that a
        simulated world tests.
        """
        from phosphene._saving import read_tensors

        network = ObjectMap()
        tensors, _ = read_tensors(WEIGHTS)
        network.load_state_dict({name: values.float() for name, values in tensors.items()})
        return cls(network.eval())

    @classmethod
    def fit(
        cls,
        stimuli: StimulusSet,
        ids: Sequence[str],
        *,
        epochs: int = 16,
        lr: float = 3e-3,
        seed: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> Self:
        """Learn from pictures whose layout is known.

        Parameters
        ----------
        stimuli : StimulusSet
            Simulated pictures.
        ids : sequence of str
            Which of them; at least 64.
        epochs, lr
            Passes over the pictures, and the highest rate of AdamW.
        seed : int
            Of weights, order and copies.
        say : callable, optional
            Gets a line after every epoch.

        Raises
        ------
        DataError
            If the layout of these pictures is not known, or there are too few.
        """
        from phosphene.evaluation._pictures import resized, shown

        surface = object_surface(stimuli, ids)
        if len(ids) < _BATCH:
            raise DataError("too few pictures to learn from", found=len(ids), expected=_BATCH)
        sharp = np.concatenate([resized(shown(stimuli.image(id)[None]), SIZE) for id in ids])
        pictures = torch.from_numpy(np.stack([sharp, faded(sharp, seed)])).movedim(-1, 2)
        wanted = functional.avg_pool2d(torch.from_numpy(surface)[:, None], SIZE // GRID)[:, 0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_random.derive(seed, "layout", "network"))
            network = ObjectMap()
            whole = len(ids) // _BATCH  # batches; a different rest is left out in every epoch
            adam = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-3)
            rate = torch.optim.lr_scheduler.OneCycleLR(adam, lr, epochs * whole)
            for epoch in range(epochs):
                total = 0.0
                for rows in torch.randperm(len(ids))[: whole * _BATCH].view(whole, _BATCH):
                    x = pictures[torch.randint(2, rows.shape), rows]
                    mirrored = [d for d in (1, 2) if torch.rand(()) < 0.5]
                    x, cover = x.flip([d + 1 for d in mirrored]), wanted[rows].flip(mirrored)
                    logits = network(x)
                    off = (layout(logits.sigmoid()) - layout(cover)).abs().mean()
                    loss = functional.binary_cross_entropy_with_logits(logits, cover) + 3 * off
                    adam.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    adam.step()
                    rate.step()
                    total += float(loss.detach())
                if say is not None:
                    say(f"epoch {epoch + 1} of {epochs}: {total / whole:.3f}")
        return cls(network.eval())

    def save(self, path: str | Path) -> None:
        """Write the weights in half precision."""
        from phosphene._saving import write_tensors

        write_tensors(path, {name: w.half() for name, w in self.network.state_dict().items()})

    @property
    def facts(self) -> dict[str, Any]:
        """What a table says of the two measures, with a hash of the weights."""
        digest = hashlib.sha256()
        for name, values in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + values.half().numpy().tobytes())
        return {**LAYOUT, "weights": digest.hexdigest()}

    def read(self, pictures: NDArray[Any]) -> NDArray[np.float64]:
        """x, y and size (n, 3), in shares of the frame, of pictures (n, H, W, 3) in [0, 1]."""
        from phosphene.evaluation._pictures import resized

        small = torch.from_numpy(resized(np.asarray(pictures, np.float32), SIZE)).movedim(-1, 1)
        with torch.no_grad():
            maps = [self.network(part).sigmoid() for part in torch.split(small, 256)]
        return layout(torch.cat(maps)).double().numpy()

    def errors(
        self, pictures: NDArray[Any], stimuli: StimulusSet, ids: Sequence[str]
    ) -> dict[str, NDArray[np.float64]]:
        """How far position and size are off, in shares of the frame, mean over samples.

        Parameters
        ----------
        pictures : ndarray, shape (queries, samples, H, W, 3)
            In [0, 1].
        stimuli : StimulusSet
            With the truth.
        ids : sequence of str
            What was seen.
        """
        truth = layout(torch.from_numpy(object_surface(stimuli, ids))).double().numpy()
        n, samples = pictures.shape[:2]
        read = self.read(pictures.reshape(n * samples, *pictures.shape[2:])).reshape(n, samples, 3)
        off = read - truth[:, None]
        return {
            "position error": np.hypot(off[..., 0], off[..., 1]).mean(axis=1),
            "size error": np.abs(off[..., 2]).mean(axis=1),
        }


class ObjectMap(nn.Module):
    """Logits (n, 16, 16) of how much of each cell the object covers, of (n, 3, 64, 64)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        wide = 2 * width
        self.edges = nn.Conv2d(4, width, 5, stride=2, padding=2)
        self.cells = nn.Conv2d(width, wide, 3, stride=2, padding=1)
        # The last ones see the whole picture: what is object is told by what is around it.
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(wide, wide, 3, padding=d, dilation=d), nn.GroupNorm(4, wide), nn.GELU()
            )
            for d in (1, 2, 4, 1)
        )
        self.out = nn.Conv2d(wide, 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map the object."""
        sides = [pictures[:, :, 0], pictures[:, :, -1], pictures[..., 0], pictures[..., -1]]
        border = torch.cat(sides, dim=2).mean(2)[..., None, None]
        contrast = (pictures - border).abs().sum(1, keepdim=True)
        x = functional.gelu(self.edges(torch.cat([pictures - 0.5, contrast], dim=1)))
        x = functional.gelu(self.cells(x))
        for block in self.blocks:
            x = x + block(x)
        logits: torch.Tensor = self.out(x)[:, 0]
        return logits


def layout(cover: torch.Tensor) -> torch.Tensor:
    """Centre (x, y) and root of the area (n, 3), in shares of the frame, of surfaces (n, s, s)."""
    side = cover.shape[1]
    at = (torch.arange(side, device=cover.device) + 0.5) / side
    area = cover.mean((1, 2)).clamp_min(1e-6)
    x, y = (cover.mean(1) * at).mean(1) / area, (cover.mean(2) * at).mean(1) / area
    return torch.stack([x, y, area.sqrt()], dim=1)


def object_surface(stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[np.float32]:
    """How much of every pixel (n, 64, 64) the object of a simulated picture covers.

    Raises
    ------
    DataError
        If the layout of these pictures is not known.
    """
    from phosphene.simulation.pictures import drawn_surface

    if missing := [name for name in NEEDED if name not in stimuli.table]:
        raise DataError(
            "the layout of these pictures is not known",
            found=f"no column {', '.join(missing)}",
            expected="pictures of phosphene.simulation",
        )
    rows: pd.DataFrame = stimuli.table.loc[list(ids)]
    return drawn_surface(rows, SIZE)


def faded(pictures: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Blurred copies of less contrast, each by its own amounts."""
    from scipy.ndimage import gaussian_filter

    rng = _random.generator(seed, "layout", "faded")
    copies = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        sigma, contrast = rng.uniform(0, BLUR), rng.uniform(PALEST, 1)
        blurred = gaussian_filter(picture, (sigma, sigma, 0))
        mean = blurred.mean(axis=(0, 1))
        copies[row] = mean + contrast * (blurred - mean)
    return copies
