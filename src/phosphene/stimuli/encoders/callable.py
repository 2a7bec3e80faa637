"""Any function or module as an image encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from phosphene.errors import DataError
from phosphene.stimuli.encoders._base import Features, check_images, check_layers
from phosphene.stimuli.encoders._weights import hash_state
from phosphene.stimuli.images import preprocessing


class CallableEncoder:
    """Any function of prepared images as an image encoder.

    Parameters
    ----------
    fn : callable
        Takes float images (B, 3, size, size) in [0, 1]; returns (B, d), or a mapping from layer to
        (B, d). A ``torch.nn.Module`` should be in eval mode; it is run without gradients.
    id : str
        Name of the model and its version: features are kept under it, so another model needs
        another id.
    image_size : int
        Side of the images in pixels.
    dim : int, optional
        Expected width of the vectors; checked when given.
    layers : sequence of str
        Names of the layers that ``fn`` returns; the last one is the default.
    weights_hash : str, optional
        Digest of the weights; computed for a module, else taken from the id.
    resize : int, optional
        Length of the short side before the crop; default ``image_size``.
    precision : str
        What ``fn`` computes in; for the record.

    Examples
    --------
    >>> encoder = CallableEncoder(lambda x: x.mean((2, 3)), id="mean-colour-v1", image_size=8)
    >>> encoder.encode(torch.ones(2, 3, 8, 8))["vector"].shape
    (2, 3)
    """

    def __init__(
        self,
        fn: Callable[[Tensor], Tensor | Mapping[str, Tensor]],
        id: str,
        image_size: int = 224,
        dim: int | None = None,
        *,
        layers: Sequence[str] = ("vector",),
        weights_hash: str | None = None,
        resize: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self.fn = fn
        self.id = id
        self.image_size = image_size
        self.dim = dim
        self.layers = tuple(layers)
        self.default_layer = self.layers[-1]
        self.preprocessing = preprocessing(image_size, resize)
        self.precision = precision
        self.weights_hash = weights_hash or _weights_of(fn) or f"declared:{id}"

    def encode(self, images: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Vectors (B, d) by layer; see :class:`ImageEncoder`."""
        asked = check_layers(self, layers)
        check_images(self, images)
        with torch.inference_mode():
            raw = self.fn(images)
        made = raw if isinstance(raw, Mapping) else {self.default_layer: raw}
        features: Features = {}
        for layer in asked:
            if layer not in made:
                raise DataError(
                    f"encoder {self.id!r} did not return layer {layer!r}",
                    found=", ".join(made),
                )
            vectors = torch.as_tensor(made[layer]).detach().float().cpu().numpy()
            good = vectors.ndim == 2 and len(vectors) == len(images)
            if not good or (self.dim is not None and vectors.shape[1] != self.dim):
                raise DataError(
                    f"encoder {self.id!r} returned vectors of a wrong shape for layer {layer!r}",
                    found=vectors.shape,
                    expected=(len(images), self.dim or "any width"),
                )
            features[layer] = vectors
        return features


def _weights_of(fn: object) -> str | None:
    return hash_state(fn.state_dict()) if isinstance(fn, torch.nn.Module) else None
