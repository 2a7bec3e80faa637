"""Attention between channels in front of TSConv: NICE-SA and NICE-GA.

Both add to each channel a mixture of all channels of the same trial. Source: Song et al., ICLR
2024 (arXiv:2308.13234), whose released modules do not mix channels, though they are meant to:

- Self-attention there multiplies each channel by the *sum* of its own softmax weights, which is
  one: the queries and keys have no effect. Here channel i gets ``sum_j A[i, j] x[j]``.
- The graph there connects the channels of the first trial of a batch only; all others have edges
  to themselves alone. Here the graph is complete within each trial.
- Scores are divided by sqrt(samples), the length of the products; there by sqrt(8).
"""

from __future__ import annotations

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene.encoders._behind import BehindFront
from phosphene.encoders._dropout import Dropout


class ChannelAttention(nn.Module):
    r"""Self-attention between channels, as a residual: (B, C, T) to (B, C, T).

    .. math::

        u = \mathrm{LayerNorm}_T(x), \quad Q = \mathrm{LayerNorm}_C(W_q u), \quad
        K = \mathrm{LayerNorm}_C(W_k u), \quad
        A = \mathrm{softmax}(Q K^\top / \sqrt{T}), \quad
        y = x + \mathrm{LayerNorm}_C(W_p A u)

    The maps W (C x C) act across channels, sample by sample; the products run over the samples.

    Parameters
    ----------
    n_chans, n_times : int
        Channels and samples.
    dropout : float
        Dropout of queries, keys, projection and of the branch.

    Examples
    --------
    >>> ChannelAttention(4, 30)(torch.zeros(2, 4, 30)).shape
    torch.Size([2, 4, 30])
    """

    def __init__(self, n_chans: int, n_times: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_times)
        self.query = _ChannelMap(n_chans, dropout)
        self.key = _ChannelMap(n_chans, dropout)
        self.projection = _ChannelMap(n_chans, dropout)
        self.dropout = Dropout(dropout)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """Attention (B, C, C) of signals (B, C, T); each row sums to one."""
        return self._weights(self.norm(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Signals plus their mixture over channels."""
        u = self.norm(x)
        mixed = self.projection(self._weights(u) @ u)
        out: torch.Tensor = x + self.dropout(mixed)
        return out

    def _weights(self, u: torch.Tensor) -> torch.Tensor:
        scores = self.query(u) @ self.key(u).transpose(1, 2)
        return torch.softmax(scores / u.shape[2] ** 0.5, dim=2)


class _ChannelMap(nn.Module):
    """``Dropout(LayerNorm(W x + b))`` over the channels of each sample."""

    def __init__(self, n_chans: int, dropout: float) -> None:
        super().__init__()
        self.linear = Linear(n_chans, n_chans)
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.norm = nn.LayerNorm(n_chans)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        samples = x.transpose(1, 2)
        flat = self.norm(self.linear(samples.reshape(-1, x.shape[1])))
        out: torch.Tensor = self.dropout(flat).view(samples.shape).transpose(1, 2)
        return out


class GraphAttention(nn.Module):
    r"""Graph attention over the complete graph of channels, as a residual: (B, C, T) alike.

    .. math::

        h_i = W x_i, \quad
        A_{ij} = \mathrm{softmax}_j\, \mathrm{LeakyReLU}_{0.2}(a^\top h_i + b^\top h_j), \quad
        y_i = x_i + \sum_j A_{ij} h_j + c

    One head; W (T x T) acts on the samples of a channel. Source of the layer: Velickovic et al.,
    ICLR 2018 (arXiv:1710.10903).

    Parameters
    ----------
    n_times : int
        Samples; the number of channels is free.
    dropout : float
        Dropout of the branch.

    Examples
    --------
    >>> GraphAttention(30)(torch.zeros(2, 4, 30)).shape
    torch.Size([2, 4, 30])
    """

    def __init__(self, n_times: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.linear = Linear(n_times, n_times, bias=False)
        self.target = nn.Parameter(torch.empty(1, n_times))
        self.source = nn.Parameter(torch.empty(1, n_times))
        for weight in (self.linear.weight, self.target, self.source):
            nn.init.xavier_uniform_(weight)
        self.bias = nn.Parameter(torch.zeros(n_times))
        self.dropout = Dropout(dropout)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """Attention (B, C, C) of signals (B, C, T); each row sums to one."""
        return self._weights(self._nodes(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Signals plus the mixture of their images under W."""
        h = self._nodes(x)
        out: torch.Tensor = x + self.dropout(self._weights(h) @ h + self.bias)
        return out

    def _nodes(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.linear(x.flatten(0, 1))
        return h.view(x.shape)

    def _weights(self, h: torch.Tensor) -> torch.Tensor:
        scores = (h * self.target).sum(2)[:, :, None] + (h * self.source).sum(2)[:, None, :]
        return torch.softmax(nn.functional.leaky_relu(scores, 0.2), dim=2)


@register("encoder", "tsconv-sa")
class TSConvSA(BehindFront):
    """NICE-SA: self-attention between channels, then TSConv.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 75) and width of the target space.
    attention_dropout : float
        Dropout of the front end.
    **tsconv
        See `phosphene.encoders._behind.BehindFront`.

    Examples
    --------
    >>> TSConvSA(4, 80, 8, n_filters=3)(torch.zeros(2, 4, 80)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        attention_dropout: float = 0.3,
        **tsconv: float,
    ) -> None:
        super().__init__(n_chans, n_times, n_outputs, **tsconv)  # type: ignore[arg-type]
        assert self.n_times is not None
        self.front = ChannelAttention(n_chans, self.n_times, attention_dropout)


@register("encoder", "tsconv-ga")
class TSConvGA(BehindFront):
    """NICE-GA: graph attention between channels, then TSConv.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 75) and width of the target space.
    attention_dropout : float
        Dropout of the front end.
    **tsconv
        See `phosphene.encoders._behind.BehindFront`.

    Examples
    --------
    >>> TSConvGA(4, 80, 8, n_filters=3)(torch.zeros(2, 4, 80)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        attention_dropout: float = 0.3,
        **tsconv: float,
    ) -> None:
        super().__init__(n_chans, n_times, n_outputs, **tsconv)  # type: ignore[arg-type]
        assert self.n_times is not None
        self.front = GraphAttention(self.n_times, attention_dropout)
