"""What brain encoders share: their constructor's names, input checks and the two-step forward."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from phosphene.encoders._head import ProjectionHead
from phosphene.errors import DataError


class BrainEncoder(nn.Module):
    """Base of the encoders here: ``prepare`` (no parameters), ``body``, then the head.

    Any other ``nn.Module`` from (B, C, T) to (B, D) works in its place. What this base adds is the
    split that lets a training loop apply ``prepare`` once per data set instead of once per step:
    ``encoder(x)`` equals ``encoder(encoder.prepare(x), prepared=True)``.

    Parameters
    ----------
    n_chans : int
        Channels (or voxels).
    n_times : int or None
        Samples per trial; None for inputs without a time axis.
    n_outputs : int
        Width of the target space.
    """

    head: ProjectionHead
    # Whether the first thing that happens to prepared input is a matrix product. Under autocast it
    # is rounded to bf16 for that, so that signals may be kept in bf16 without a difference.
    starts_with_product: ClassVar[bool] = False

    def __init__(self, n_chans: int, n_times: int | None, n_outputs: int) -> None:
        super().__init__()
        for name, value in (("n_chans", n_chans), ("n_times", n_times), ("n_outputs", n_outputs)):
            if value is not None and value < 1:
                raise DataError(
                    f"{type(self).__name__}: {name} must be positive", found=value, expected=">= 1"
                )
        self.n_chans = n_chans
        self.n_times = n_times
        self.n_outputs = n_outputs

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """Transform of the raw input that has no parameters; the identity by default."""
        return x

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, width) of prepared input."""
        return x.flatten(1)

    def forward(self, x: torch.Tensor, *, prepared: bool = False) -> torch.Tensor:
        """Encode brain signals.

        Parameters
        ----------
        x : torch.Tensor, shape (B, n_chans, n_times)
            Raw signals, or the output of ``prepare``.
        prepared : bool
            Whether ``prepare`` was applied already.

        Returns
        -------
        torch.Tensor, shape (B, n_outputs)

        Raises
        ------
        DataError
            If raw input has another shape than the encoder was built for.
        """
        if not prepared:
            self._check(x)
            x = self.prepare(x)
        out: torch.Tensor = self.head(self.body(x))
        return out

    def _check(self, x: torch.Tensor) -> None:
        expected = (self.n_chans, self.n_times)
        if x.ndim != 3 or tuple(x.shape[1:]) != expected:
            raise DataError(
                f"{type(self).__name__} got input of another shape than it was built for",
                found=tuple(x.shape),
                expected=f"(batch, {self.n_chans}, {self.n_times})",
                fix="voxels without a time axis need the encoder 'mlp'" if x.ndim == 2 else None,
            )

    @torch.no_grad()
    def _body_width(self) -> int:
        """Width of the flattened features, by a dry forward of one empty trial."""
        was_training = self.training
        self.eval()
        width = self.body(self.prepare(torch.zeros(1, self.n_chans, self.n_times or 1))).shape[1]
        self.train(was_training)
        return int(width)


def require_times(encoder: str, n_times: int | None) -> int:
    """The number of samples of an encoder that needs a time axis.

    Raises
    ------
    DataError
        If there is none.
    """
    if n_times is None:
        raise DataError(
            f"{encoder} needs signals with a time axis",
            found="trials x voxels",
            expected="trials x channels x times",
            fix="use encoder='mlp' for voxels",
        )
    return n_times
