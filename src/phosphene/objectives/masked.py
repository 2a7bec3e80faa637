"""Masked cross-modal reconstruction: hidden parts of one vector from the other modality's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene.errors import DataError

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
    ``own``, drawn per row from torch's global generator, is hidden. The loss is the mean of
    1 - cosine over hidden tokens; no gradient flows to them as targets, while visible tokens and
    the other vector are trained through.

    Parameters
    ----------
    width : int
        Numbers of a vector, D.
    mask_ratio : float
        Share of the tokens that are hidden, above 0 and at most 1; at least one is.
    reconstructor : {"attention", "mlp"}
        "attention": one block in which hidden tokens (a learned token plus position) attend to the
        other vector's tokens and to the visible ones, then a feed-forward layer and a linear
        layer back. "mlp": one hidden layer of D on both vectors side by side, with learned
        numbers in the place of what is hidden.
    max_tokens : int
        Tokens of a vector; fewer where that does not divide its width.
    hidden : int
        Width of the attention block.
    heads : int
        Attention heads, a divisor of ``hidden``.

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
        hidden: int = 64,
        heads: int = 4,
    ) -> None:
        super().__init__()
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
            _CrossAttention(self.tokens, token, hidden, heads)
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
        masked, visible = self.draw(len(own), own.device)
        mine, theirs = self._tokens(own), self._tokens(other)
        predicted = self.fill(mine, theirs, masked, visible).float()
        target = mine.detach().flatten(0, 1).index_select(0, masked.flatten())
        cosine = nn.functional.cosine_similarity(predicted, target.float(), dim=1)
        return 1 - cosine.mean()

    def draw(self, n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden and visible tokens of n rows, as row numbers of all tokens (n * tokens)."""
        order = torch.rand(n, self.tokens, device=device).argsort(1)
        order += torch.arange(n, device=device)[:, None] * self.tokens
        return order[:, : self.n_masked], order[:, self.n_masked :]

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, tokens, token width) of vectors with a mean square of 1."""
        scaled: torch.Tensor = nn.functional.normalize(x.float(), dim=1) * x.shape[1] ** 0.5
        return scaled.view(len(x), self.tokens, -1)


class _CrossAttention(nn.Module):
    """One block: hidden tokens ask, the other vector and the visible tokens answer."""

    def __init__(self, tokens: int, token: int, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise DataError("heads share the hidden width", found=f"{hidden} in {heads} heads")
        self.tokens, self.hidden, self.heads = tokens, hidden, heads
        self.own, self.other = Linear(token, hidden), Linear(token, hidden)
        self.own_position = nn.Parameter(0.5 * torch.randn(tokens, hidden))
        self.other_position = nn.Parameter(0.5 * torch.randn(tokens, hidden))
        self.mask = nn.Parameter(0.02 * torch.randn(hidden))
        self.asks, self.answers = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.key_value = Linear(hidden, hidden), Linear(hidden, 2 * hidden)
        self.out = Linear(hidden, hidden)
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
        n, shown = len(own), visible.flatten()
        # All asked per position first: there are few of them, and rows only pick among them.
        states = self.mask + self.own_position
        place = masked.flatten() % self.tokens
        asking = states.index_select(0, place)
        queries = self.query(self.asks(states)).index_select(0, place)
        rest = self.own(own.flatten(0, 1).index_select(0, shown))
        rest = rest + self.own_position.index_select(0, shown % self.tokens)
        whole = self.other(other.flatten(0, 1)).unflatten(0, (n, -1)) + self.other_position
        context = torch.cat([whole, rest.view(n, -1, self.hidden)], dim=1)
        both = self.key_value(self.answers(context).flatten(0, 1))
        keys, values = both.view(n, -1, 2, self.heads, self.hidden // self.heads).permute(
            2, 0, 3, 1, 4
        )
        asked = queries.view(n, -1, self.heads, self.hidden // self.heads).transpose(1, 2)
        answer = nn.functional.scaled_dot_product_attention(asked, keys, values)
        x = asking + self.out(answer.transpose(1, 2).reshape(-1, self.hidden))
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
        hidden = torch.zeros(own.shape[:2], dtype=torch.bool, device=own.device)
        hidden.view(-1).index_fill_(0, masked.flatten(), True)
        left = torch.where(hidden[..., None], self.mask, own)
        filled: torch.Tensor = self.layers(torch.cat([left.flatten(1), other.flatten(1)], dim=1))
        return filled.view(-1, own.shape[2]).index_select(0, masked.flatten())
