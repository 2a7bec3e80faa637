"""Learned tokens from a vector: how an embedding of text or of a picture steers a diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from phosphene._saving import read_json, read_tensors, write_json, write_tensors
from phosphene.errors import ArtefactError, DataError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Below this, a dimension counts as constant, and a decoded value off the mean must not explode.
SMALLEST_DEVIATION = 1e-3


class VectorConditioner(nn.Module):
    """Tokens for the cross-attention of a ``UNet2DConditionModel`` from one vector per picture.

    Every kind of vector is standardised with the means and deviations of the training vectors and
    goes through a perceptron of its own; all kinds end in the same ``tokens`` x ``dim`` space, so
    that one diffusion model takes any of them. Learned empty tokens stand for "no condition", as
    classifier-free guidance needs it.

    Parameters
    ----------
    kinds : mapping
        By kind, ``{"width": int, "encoder": str}``: width of its vectors and the name of the
        encoder that makes them, e.g. ``{"text": {"width": 512, "encoder": "use"}}``.
    tokens : int
        Tokens per vector.
    dim : int
        Width of a token, the ``cross_attention_dim`` of the UNet.
    hidden : int
        Width of the perceptron.

    Examples
    --------
    >>> model = VectorConditioner({"text": {"width": 512, "encoder": "use"}}, tokens=4, dim=64)
    >>> model(torch.zeros(3, 512), kind="text").shape, model.empty(3).shape
    (torch.Size([3, 4, 64]), torch.Size([3, 4, 64]))
    """

    def __init__(
        self,
        kinds: Mapping[str, Mapping[str, Any]],
        tokens: int = 4,
        dim: int = 256,
        hidden: int = 384,
    ) -> None:
        super().__init__()
        if not kinds or tokens < 1 or dim < 1 or hidden < 1:
            raise DataError(
                "a conditioner needs a kind of vector and positive sizes",
                found=f"kinds={list(kinds)}, tokens={tokens}, dim={dim}, hidden={hidden}",
            )
        self.kinds = {kind: dict(entry) for kind, entry in kinds.items()}
        self.tokens, self.dim, self.hidden = tokens, dim, hidden
        self.networks = nn.ModuleDict()
        for kind, entry in self.kinds.items():
            width = int(entry["width"])
            self.register_buffer(f"{kind}_mean", torch.zeros(width))
            self.register_buffer(f"{kind}_deviation", torch.ones(width))
            self.networks[kind] = nn.Sequential(
                nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, tokens * dim)
            )
        self.norm = nn.LayerNorm(dim)
        self.null = nn.Parameter(torch.randn(tokens, dim))

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this module again."""
        sizes = {"tokens": self.tokens, "dim": self.dim, "hidden": self.hidden}
        return {"kinds": self.kinds, **sizes}

    def forward(self, vectors: Tensor, kind: str = "text") -> Tensor:
        """Tokens of vectors.

        Parameters
        ----------
        vectors : torch.Tensor, shape (n, width)
            As their encoder gives them.
        kind : str
            Which kind of vector they are.

        Returns
        -------
        torch.Tensor, shape (n, tokens, dim)
        """
        self._check(vectors, kind)
        mean, deviation = self.scale(kind)
        z = (vectors - mean) / deviation
        made: Tensor = self.networks[kind](z).unflatten(1, (self.tokens, self.dim))
        return cast("Tensor", self.norm(made))

    def empty(self, n: int) -> Tensor:
        """Tokens of "no condition", shape (n, tokens, dim)."""
        return cast("Tensor", self.norm(self.null)).expand(n, -1, -1)

    def scale(self, kind: str) -> tuple[Tensor, Tensor]:
        """Means and deviations that standardise a kind of vector, each of shape (width,)."""
        return self.get_buffer(f"{kind}_mean"), self.get_buffer(f"{kind}_deviation")

    def set_scale(self, kind: str, vectors: Tensor) -> None:
        """Take means and deviations from training vectors of shape (n, width)."""
        self._check(vectors, kind)
        mean, deviation = self.scale(kind)
        mean.copy_(vectors.mean(0))
        deviation.copy_(vectors.std(0, correction=0).clamp_min(SMALLEST_DEVIATION))

    def _check(self, vectors: Tensor, kind: str) -> None:
        if kind not in self.kinds:
            raise DataError(
                "the conditioner does not know this kind of vector",
                found=kind,
                expected=", ".join(self.kinds),
            )
        entry = self.kinds[kind]
        if vectors.ndim != 2 or vectors.shape[1] != entry["width"]:
            raise DataError(
                f"these are not {kind} vectors of this conditioner",
                found=f"shape {tuple(vectors.shape)}",
                expected=f"(n, {entry['width']}), made by the encoder {entry['encoder']!r}",
            )

    def save_folder(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write ``config.json`` and ``model.safetensors``.

        Parameters
        ----------
        folder : path
            Made when it is missing.
        dtype : torch.dtype
            Number format of the weights in the file.
        """
        folder = Path(folder)
        state = {name: value.to(dtype) for name, value in self.state_dict().items()}
        write_tensors(folder / WEIGHTS, state)
        write_json(folder / CONFIG, self.config)

    @classmethod
    def from_folder(cls, folder: str | Path) -> VectorConditioner:
        """Read a folder that :meth:`save_folder` wrote; weights become float32.

        Raises
        ------
        ArtefactError
            If a file is missing, or the weights do not belong to the configuration.
        """
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        if not isinstance(config, dict) or "kinds" not in config:
            raise ArtefactError(f"{folder / CONFIG} does not describe a conditioner")
        state, _ = read_tensors(folder / WEIGHTS)
        with torch.random.fork_rng(devices=[]):
            model = cls(**config)
        try:
            model.load_state_dict({name: value.float() for name, value in state.items()})
        except RuntimeError as error:
            raise ArtefactError(
                f"{folder / WEIGHTS} does not fit its {CONFIG}", found=error
            ) from error
        return model.eval()
