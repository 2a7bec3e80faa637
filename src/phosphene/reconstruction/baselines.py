"""Reconstruction without diffusion: what any generator should be better than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from phosphene._registry import register
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.reconstruction._base import Array, Generator
from phosphene.reconstruction._noise import Noise
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.images import fit, prepare

_BLOCK = 1024


@register("generator", "nearest_image", needs_bank=True)
class NearestImage(Generator):
    """The training picture whose features are most like the decoded ones.

    It answers with a sharp natural picture whatever the brain says, so that its scores by deep
    networks show what the look of natural pictures alone is worth; all it can be right about is the
    kind of thing that was seen.

    Parameters
    ----------
    bank : FeatureBank
        Vectors of the training pictures.
    stimuli : StimulusSet
        The training pictures.
    view, layer : str, optional
        Which vectors of the bank.
    ids : sequence of str, optional
        What may be answered; by default all that both the bank and the pictures have. Leave test
        pictures out.
    size : int
        Side of the answers in pixels; a picture's centre is cropped to a square.

    Raises
    ------
    DataError
        If bank and pictures have no stimulus in common, or a vector is zero.

    Examples
    --------
    >>> pictures = StimulusSet.from_arrays(["a", "b"], np.zeros((2, 8, 8, 3), np.uint8))
    >>> bank = FeatureBank.from_arrays(["a", "b"], {"original": np.eye(2)})
    >>> generator = NearestImage(bank, pictures, size=8)
    >>> generator.nearest([[0.2, 0.9]])
    ['b']
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        bank: FeatureBank,
        stimuli: StimulusSet,
        view: str = "original",
        layer: str | None = None,
        *,
        ids: Sequence[str] | None = None,
        size: int = 224,
    ) -> None:
        known = set(stimuli.ids)
        asked = [name for name in bank.ids if name in known] if ids is None else list(ids)
        if not asked:
            raise DataError(
                "there is no picture to answer with",
                found=f"{len(bank)} vectors, {len(stimuli)} pictures, none of one id",
            )
        self.stimuli = stimuli.select(asked)
        self.bank, self.view, self.layer = bank, view, layer
        vectors = np.asarray(bank.vectors(view, layer, ids=asked), dtype=np.float32)
        self._unit = _directions(vectors, asked, "the features of pictures")
        self.id, self.image_size = "nearest-image", int(size)
        self.licence = "that of the training pictures"
        self.takes = self.needs = frozenset({"image_embeds"})
        self.shapes = {"image_embeds": (vectors.shape[1],)}
        self.source = f"the bank's {view} vectors"
        self.weights_hash = bank.space(layer)  # decoders of another space do not fit

    def nearest(self, image_embeds: Any) -> list[str]:
        """Id of the training picture of largest cosine for every row."""
        inputs, names = self._checked(image_embeds, None, None, None)
        return self._nearest(inputs["image_embeds"], names)

    def _nearest(self, vectors: Array, names: Sequence[str]) -> list[str]:
        asked = _directions(vectors, names, "decoded features of queries")
        best = [
            (asked[start : start + _BLOCK] @ self._unit.T).argmax(axis=1)
            for start in range(0, len(asked), _BLOCK)
        ]
        ids = self.stimuli.ids
        return [ids[i] for i in np.concatenate(best)]

    def _pictures(self, inputs: Mapping[str, Array], noise: Noise) -> NDArray[Any]:
        found = self._nearest(inputs["image_embeds"], noise.queries)
        pictures = [fit(x, self.image_size) for x in self.stimuli.load_images(found)]
        return np.stack(pictures).astype(np.float32) / np.float32(255)

    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        return np.asarray(self.bank.vectors(self.view, self.layer, ids=ids))


@register("generator", "linear_pixel")
class LinearPixel(Generator):
    """Pixels as a linear decoder gives them, cut to [0, 1]: a blurred picture with its structure.

    Its ``init_latents`` are colours: channels first, from 0 to 1.

    Parameters
    ----------
    size : int
        Side of the pictures in pixels; a picture's centre is cropped to a square.

    Examples
    --------
    >>> generator = LinearPixel(size=4)
    >>> made = generator.generate(init_latents=np.full((2, 3, 4, 4), 1.5), progress=False)
    >>> made.shape, float(made.max())
    ((2, 1, 4, 4, 3), 1.0)
    """

    stochastic: ClassVar[bool] = False
    batch = 256

    def __init__(self, size: int = 32) -> None:
        if int(size) < 1:
            raise DataError("a picture has one pixel or more", found=size)
        self.id, self.image_size = "linear-pixel", int(size)
        self.licence = "no weights"
        self.takes = self.needs = frozenset({"init_latents"})
        self.shapes = {"init_latents": (3, self.image_size, self.image_size)}

    def _pictures(self, inputs: Mapping[str, Array], noise: Noise) -> NDArray[Any]:
        return inputs["init_latents"].transpose(0, 2, 3, 1)

    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        size = self.image_size
        return np.stack([prepare(x, size, resize=None) for x in stimuli.load_images(ids)])


def _directions(vectors: Array, names: Sequence[str], what: str) -> Array:
    """Rows scaled to length one."""
    length = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if bad := np.flatnonzero(length == 0).tolist():
        raise DataError(
            f"{what} are zero and have no direction: {listing(names[i] for i in bad)}",
            fix="see what the decoder was given",
        )
    return np.asarray(vectors / length[:, None], dtype=np.float32)
