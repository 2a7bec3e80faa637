"""Masked cross-modal reconstruction: hidden parts of one vector from the other modality's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene.errors import DataError
from phosphene.objectives._unit import unit

Reconstructor = Literal["attention", "mlp"]


def count_tokens(width: int, at_most: int = 16) -> int:
    """Into how many tokens of equal width a vector is cut: the largest divisor up to a number.

    Raises
    ------
    DataError
        If there is none but 1.

    Examples
    --------
    >>> count_tokens(512), count_tokens(24)
    (16, 12)
    """
    for tokens in range(min(at_most, width), 1, -1):
        if width % tokens == 0:
            return tokens
    raise DataError(
        "vectors of this width cannot be cut into tokens of equal width",
        found=f"{width} numbers",
        expected=f"a width that some number from 2 to {at_most} divides",
        fix="another width of the projection, 512 for instance",
    )


class MaskedReconstruction(nn.Module):
    """Loss of reconstructing hidden tokens of one vector from the rest of it and another vector.

    Both vectors are scaled to a mean square of 1 and cut into tokens. A fixed number of tokens of
    ``own``, drawn once per batch from torch's global generator, is hidden in all of its rows. The
    loss is the mean of 1 - cosine over hidden tokens; no gradient flows to them as targets, while
    visible tokens and the other vector are trained through.

    Parameters
    ----------
    width : int
        Numbers of a vector, D.
    mask_ratio : float
        Share of the tokens that are hidden, above 0 and at most 1; at least one is.
    reconstructor : {"attention", "mlp"}
        "attention": one block in which hidden tokens (a learned vector per position) attend to the
        other vector's tokens and to the visible ones, then a feed-forward layer and a linear
        layer back. Keys are linear in the tokens, plus a position. "mlp": one hidden layer of D
        on both vectors side by side, with learned numbers in the place of what is hidden.
    max_tokens : int
        Tokens of a vector; fewer where that does not divide its width.
    hidden : int
        Width of the attention block.
    scaled_inputs : bool
        The vectors come with a mean square of 1 and need not be scaled again.

    Examples
    --------
    >>> loss = MaskedReconstruction(24)
    >>> loss.tokens, loss.n_masked
    (12, 6)
    >>> loss(torch.ones(3, 24), torch.ones(3, 24)).shape
    torch.Size([])
    """

    def __init__(
        self,
        width: int,
        mask_ratio: float = 0.5,
        reconstructor: Reconstructor = "attention",
        *,
        max_tokens: int = 16,
        hidden: int = 32,
        scaled_inputs: bool = False,
    ) -> None:
        super().__init__()
        self.scaled_inputs = scaled_inputs
        if not 0 < mask_ratio <= 1:
            raise DataError(
                "mask_ratio is the share of tokens that are hidden",
                found=mask_ratio,
                expected="above 0, at most 1",
            )
        if reconstructor not in ("attention", "mlp"):
            raise DataError(
                "unknown reconstructor", found=repr(reconstructor), expected="attention or mlp"
            )
        self.tokens = count_tokens(width, max_tokens)
        self.n_masked = max(1, round(mask_ratio * self.tokens))
        token = width // self.tokens
        self.fill: nn.Module = (
            _CrossAttention(self.tokens, token, hidden)
            if reconstructor == "attention"
            else _Perceptron(self.tokens, token)
        )

    def forward(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        own : torch.Tensor, shape (B, D)
            Vectors of which a part is hidden and reconstructed.
        other : torch.Tensor, shape (B, D)
            Vectors of the other modality, row by row of the same stimuli.

        Returns
        -------
        torch.Tensor
            Scalar, float32.
        """
        masked, visible = self.draw(own.device)
        mine, theirs = self._tokens(own), self._tokens(other)
        # Small products between large passes over memory: in bf16 the casts cost more than they
        # save.
        with torch.autocast(own.device.type, enabled=False):
            predicted = self.fill(mine, theirs, masked, visible)
            target = mine.detach().index_select(1, masked).flatten(0, 1)
            cosines: torch.Tensor = (unit(predicted) * unit(target)).sum()
            return 1 - cosines / len(target)

    def draw(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the hidden and of the visible tokens of a batch."""
        order = torch.rand(self.tokens, device=device).argsort()
        return order[: self.n_masked], order[self.n_masked :]

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, tokens, token width) of vectors with a mean square of 1."""
        scaled = x.float() if self.scaled_inputs else mean_square_one(x.float())
        return scaled.view(len(x), self.tokens, -1)


def mean_square_one(x: torch.Tensor) -> torch.Tensor:
    """Rows (B, D) scaled to a mean square of 1, which is a length of the square root of D."""
    scaled: torch.Tensor = unit(x) * x.shape[1] ** 0.5
    return scaled


class _CrossAttention(nn.Module):
    """One block: hidden tokens ask, the other vector and the visible tokens answer.

    What a hidden token asks depends on its position alone, so that queries are learned vectors, the
    same for all rows. Queries times keys are therefore one linear map of the tokens, ``(q W_k) x``,
    and neither keys nor values are made: tokens are mixed first and mapped then, by values and
    output in one matrix.
    """

    def __init__(self, tokens: int, token: int, hidden: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.query = nn.Parameter(torch.randn(tokens, hidden) / hidden**0.5)
        self.key = Linear(token, hidden, bias=False)
        self.place = nn.Parameter(0.5 * torch.randn(2 * tokens, hidden))  # of other, then of own
        self.state = nn.Parameter(0.5 * torch.randn(tokens, hidden))
        self.out = Linear(token, hidden)
        self.feed = nn.Sequential(
            nn.LayerNorm(hidden), Linear(hidden, 2 * hidden), nn.GELU(), Linear(2 * hidden, hidden)
        )
        self.back = Linear(hidden, token)

    def forward(
        self,
        own: torch.Tensor,
        other: torch.Tensor,
        masked: torch.Tensor,
        visible: torch.Tensor,
    ) -> torch.Tensor:
        """Reconstructed tokens (B * masked, token width)."""
        n, asked = len(own), len(masked)
        context = torch.cat([other, own], dim=1)
        query = self.query.index_select(0, masked)
        by_token = query @ self.key.weight
        # Hidden tokens do not answer.
        by_place = (query @ self.place.T).index_fill(1, masked + self.tokens, -torch.inf)
        scores = torch.baddbmm(by_place.expand(n, -1, -1), by_token.expand(n, -1, -1), context.mT)
        mixed = torch.bmm(scores.softmax(2), context).flatten(0, 1)
        x = self.out(mixed).view(n, asked, -1) + self.state.index_select(0, masked)
        x = x.flatten(0, 1)
        filled: torch.Tensor = self.back(x + self.feed(x))
        return filled


class _Perceptron(nn.Module):
    """Two linear layers on both vectors side by side."""

    def __init__(self, tokens: int, token: int) -> None:
        super().__init__()
        width = tokens * token
        self.mask = nn.Parameter(0.02 * torch.randn(tokens, token))
        self.layers = nn.Sequential(Linear(2 * width, width), nn.GELU(), Linear(width, width))

    def forward(
        self,
        own: torch.Tensor,
        other: torch.Tensor,
        masked: torch.Tensor,
        visible: torch.Tensor,
    ) -> torch.Tensor:
        """Reconstructed tokens (B * masked, token width)."""
        filler = self.mask.index_select(0, masked).expand(len(own), -1, -1)
        left = own.index_copy(1, masked, filler)
        filled: torch.Tensor = self.layers(torch.cat([left.flatten(1), other.flatten(1)], dim=1))
        return filled.view_as(own).index_select(1, masked).flatten(0, 1)
