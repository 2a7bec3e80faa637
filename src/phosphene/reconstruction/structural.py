"""What a picture looks like to a vision network, differentiable down to the pixels.

Shallow layers know where edges, colours and shapes are. Their activations can be decoded from a
brain recording, and a generated picture can be moved towards them, because the way from its pixels
through the resizing into the network has gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction.components import Components
from phosphene.stimuli.encoders import get_encoder
from phosphene.stimuli.images import fit

# A spread of the blocks whose maps still know places: 112, 56, 28 and 14 pixels wide.
EFFICIENTNET_LAYERS = ("block1", "block2", "block3", "block5", "block8", "block11")
# The picture itself as the shallowest layer, averaged over a grid of its own.
PIXELS, _PIXEL_GRID = "pixels", 32
_CHUNK = 16


class StructuralNetwork:
    """Layers of a vision network as structural features of pictures.

    Parameters
    ----------
    encoder : str or ImageEncoder
        A registered name, ``kind:SOURCE``, or an encoder with a method ``maps``, which gives
        tensors of layers with gradients.
    layers : sequence of str
        Shallow layers; for CLIP ViT-B/32 the paper takes ``encoder.layers.N.mlp``, N = 0 to 5.
        ``pixels`` is the picture itself, not cropped, its colours averaged over 32 x 32 cells: no
        network's layer, and what a recording of early visual areas tells most of.
    final : str or None
        Layer whose direction stands for the meaning of the whole, e.g. ``pool`` or ``embedding``;
        averaged over the picture where it is a map.
    grid : int or None
        Maps are averaged over a grid of so many cells a side; None keeps every place.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...

    Attributes
    ----------
    id, weights_hash : str
        Of the encoder.
    components : dict of str to Components
        Layers that are given as principal components; empty until some are put there.

    Notes
    -----
    Pictures are resized with antialiased bicubic interpolation and cropped as the encoder's own
    preprocessing says. Pillow does the same on 8-bit values, so that the two agree within rounding.

    Examples
    --------
    >>> network = StructuralNetwork(layers=("block1", "block5"))
    >>> features = network.features(torch.rand(2, 3, 64, 64))
    >>> {name: tuple(values.shape) for name, values in features.items()}
    {'block1': (2, 784), 'block5': (2, 1960), 'pool': (2, 1280)}
    """

    def __init__(
        self,
        encoder: Any = "efficientnet-lite0",
        layers: Sequence[str] = EFFICIENTNET_LAYERS,
        final: str | None = "pool",
        *,
        grid: int | None = 7,
        device: str = "auto",
    ) -> None:
        # float32: the gradient of a mean over thousands of places is lost in bf16.
        self.encoder: Any = get_encoder(encoder, precision="fp32", device=device)
        if not callable(getattr(self.encoder, "maps", None)):
            raise DataError(
                f"the encoder {self.encoder.id!r} has no gradients to the picture",
                expected="an encoder with a method maps(images, layers)",
                fix="take efficientnet-lite0, or an adapter of transformers such as clip:FOLDER",
            )
        self.layers, self.final, self.grid = tuple(layers), final, grid
        if not self.layers or len(set(self.layers)) < len(self.layers) or final in self.layers:
            raise DataError(
                "structural layers are named, each once, and the final one is not among them",
                found=", ".join((*self.layers, str(final))),
            )
        if grid is not None and grid < 1:
            raise DataError("cells a side of the grid", found=grid, expected="1 or more")
        self.components: dict[str, Components] = {}
        self.id = str(self.encoder.id)
        self.weights_hash = str(self.encoder.weights_hash)

    @property
    def names(self) -> tuple[str, ...]:
        """The layers with the final one, if any, as the last."""
        return self.layers if self.final is None else (*self.layers, self.final)

    def prepare(self, pictures: Tensor) -> Tensor:
        """Resize and crop (n, 3, H, W) in [0, 1] to what the encoder takes, with gradients."""
        rule: Mapping[str, Any] = self.encoder.preprocessing
        size = int(self.encoder.image_size)
        kind = str(rule.get("interpolation", "pillow-bicubic")).removeprefix("pillow-")
        if kind not in ("bicubic", "bilinear"):
            raise DataError("this interpolation has no gradients here", found=kind,
                            expected="bicubic or bilinear")  # fmt: skip
        # What is shown has no values outside, and what is resized is what is shown.
        pictures = pictures.clamp(0, 1)
        height, width = pictures.shape[2:]
        if rule.get("mode", "crop") == "squash":
            target = (size, size)
        else:
            short = int(rule.get("resize") or size)
            ratio = short / min(height, width)
            target = (max(int(height * ratio), short), max(int(width * ratio), short))
        if target != (height, width):
            pictures = functional.interpolate(
                pictures, target, mode=kind, antialias=True, align_corners=False
            )
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        # Bicubic interpolation overshoots; 8-bit pixels would not.
        return pictures[:, :, top : top + size, left : left + size].clamp(0, 1)

    def features(self, pictures: Tensor) -> dict[str, Tensor]:
        """Structural features of pictures, differentiable.

        Parameters
        ----------
        pictures : torch.Tensor, shape (n, 3, H, W)
            About in [0, 1].

        Returns
        -------
        dict of str to torch.Tensor, shape (n, units)
            By layer, with the final one as the last.
        """
        made: dict[str, Tensor] = {PIXELS: pictures.clamp(0, 1)}
        if inner := [name for name in self.names if name != PIXELS]:
            made.update(self.encoder.maps(self.prepare(pictures), inner))
        flat = {name: self._flat(name, made[name]) for name in self.names}
        return flat | {name: parts.project(flat[name]) for name, parts in self.components.items()}

    def encode(
        self, stimuli: StimulusSet, ids: Sequence[str], image_size: int
    ) -> dict[str, NDArray[np.float32]]:
        """Structural features of pictures that were shown.

        They go through the size of the generated pictures first: what those cannot show is no
        target for them.

        Parameters
        ----------
        stimuli : StimulusSet
            Pictures of any size.
        ids : sequence of str
            Which.
        image_size : int
            Side of the generated pictures.

        Returns
        -------
        dict of str to ndarray, shape (ids, units)
        """
        parts: list[dict[str, Tensor]] = []
        with torch.no_grad():
            for start in range(0, len(ids), _CHUNK):
                chosen = stimuli.load_images(list(ids)[start : start + _CHUNK])
                pixels = np.stack([fit(picture, image_size) for picture in chosen])
                x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
                parts.append(self.features(x.to(self.encoder.device)))
        return {
            name: np.concatenate([part[name].cpu().numpy() for part in parts])
            for name in self.names
        }

    def learn_components(
        self, features: Mapping[str, NDArray[np.float32]], count: int
    ) -> dict[str, NDArray[np.float32]]:
        """From now on give the network's shallow layers as their principal components.

        Parameters
        ----------
        features : mapping of str to ndarray, shape (pictures, units)
            Of training pictures, by layer; ``pixels`` and the final layer stay as they are.
        count : int
            Components of a layer.

        Returns
        -------
        dict of str to ndarray, shape (pictures, components)
            The same pictures in their components.
        """
        mapped = [name for name in self.layers if name != PIXELS]
        self.components = {name: Components.fit(features[name], count) for name in mapped}
        return {
            name: parts.project(torch.from_numpy(features[name])).numpy()
            for name, parts in self.components.items()
        }

    def component_arrays(self) -> dict[str, NDArray[Any]]:
        """What :meth:`restore_components` takes, by name."""
        return {
            f"{name}.{layer}": array
            for layer, parts in self.components.items()
            for name, array in parts.arrays().items()
        }

    def restore_components(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take components that were learned earlier; other arrays are left alone."""
        self.components = {
            layer: Components(arrays[f"mean.{layer}"], arrays[f"axes.{layer}"])
            for layer in self.layers
            if f"axes.{layer}" in arrays
        }

    def _flat(self, name: str, values: Tensor) -> Tensor:
        if name == self.final:
            values = values.mean((2, 3)) if values.ndim == 4 else values
            values = values.mean(1) if values.ndim == 3 else values
        elif values.ndim == 4:
            grid = _PIXEL_GRID if name == PIXELS else self.grid
            if grid is not None and grid < values.shape[2]:
                values = functional.adaptive_avg_pool2d(values, grid)
        return values.flatten(1)
