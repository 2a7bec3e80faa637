"""What all encoders that are made from a network share: standardising, batches, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from phosphene._device import resolve_device, resolve_precision
from phosphene.errors import DataError
from phosphene.stimuli.encoders._base import Features, check_images
from phosphene.stimuli.encoders._network import Network

# Activations of a few pictures stay in a CPU's cache; larger batches are slower there.
CPU_BATCH = 8


class Tower:
    """An image encoder over a :class:`Network`; see :class:`ImageEncoder` for its members.

    Vectors are what the network gives: they are not scaled to unit length.
    """

    id: str
    weights_hash: str
    # Nothing changes in encode but what a thread keeps for itself.
    concurrent: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    spaces: Mapping[str, str]

    def _set_up(
        self,
        network: Network,
        *,
        id: str,
        weights_hash: str,
        preprocessing: dict[str, Any],
        default_layer: str,
        precision: str,
        device: str,
        spaces: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id
        self.weights_hash = weights_hash
        self.preprocessing = preprocessing
        self.image_size = int(preprocessing["size"])
        self.spaces = dict(spaces or {})
        self.device = resolve_device(device)
        self.precision: str = resolve_precision(precision, self.device)
        self._network = network
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        network.module.to(device=self.device, dtype=self._dtype)
        blank = self._standardised(torch.zeros(1, 3, self.image_size, self.image_size))
        try:
            network.open(blank)
        except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{id} does not take pictures as its preprocessing makes them",
                found=f"{type(error).__name__}: {error}",
                expected=f"a network for pictures of {self.image_size} x {self.image_size} pixels",
            ) from error
        self.layers = network.layers
        self.default_layer = network.canonical(default_layer, id)

    def canonical_layer(self, name: str) -> str:
        """The one spelling of a layer's name, e.g. ``layer7:cls`` for ``depth=0.6``.

        Raises
        ------
        UnknownNameError
            If there is no such layer; the nearest names are listed.
        """
        return self._network.canonical(name, self.id)

    def encode(self, images: Tensor, layers: Sequence[str] | None = None) -> Features:
        """Vectors (B, d), float32, by layer as it was asked for; see :class:`ImageEncoder`.

        All layers come from one pass, which ends at the deepest.
        """
        asked = [self.default_layer] if layers is None else list(dict.fromkeys(layers))
        if not asked:
            raise DataError("no layer was asked for", expected="one of " + ", ".join(self.layers))
        names = {layer: self.canonical_layer(layer) for layer in asked}
        check_images(self, images)
        if not len(images):  # networks cannot tell the shapes of nothing
            one = self.encode(images.new_zeros(1, *images.shape[1:]), asked)
            return {layer: vectors[:0] for layer, vectors in one.items()}
        step = CPU_BATCH if self.device.type == "cpu" else len(images)
        parts = [
            self._network.run(
                self._standardised(images[start : start + step]), list(names.values()), self.id
            )
            for start in range(0, len(images), step)
        ]
        return {
            layer: torch.cat([part[name] for part in parts]).cpu().numpy()
            for layer, name in names.items()
        }

    def maps(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """What layers put out before any pooling, float32; differentiable in the pictures.

        Parameters
        ----------
        images : torch.Tensor, shape (B, 3, size, size)
            In [0, 1].
        layers : sequence of str
            As for :meth:`encode`; their poolings have no meaning.

        Returns
        -------
        dict of str to torch.Tensor
            (B, tokens, d), (B, C, h, w) or (B, d), as the network makes them.
        """
        names = {layer: self.canonical_layer(layer) for layer in layers}
        check_images(self, images)
        made = self._network.maps(self._standardised(images), list(names.values()), self.id)
        return {layer: made[name] for layer, name in names.items()}

    def _standardised(self, images: Tensor) -> Tensor:
        images = images.to(self.device, torch.float32)
        mean = images.new_tensor(self.preprocessing["mean"]).view(3, 1, 1)
        std = images.new_tensor(self.preprocessing["std"]).view(3, 1, 1)
        return ((images - mean) / std).to(self._dtype)
