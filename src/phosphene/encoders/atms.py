"""ATMS: channels as tokens of a transformer layer, then TSConv."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from phosphene._matmul import Linear
from phosphene._registry import register
from phosphene.encoders._behind import BehindFront
from phosphene.encoders._dropout import Dropout
from phosphene.errors import DataError


class ChannelTransformer(nn.Module):
    """Inverted transformer: the T samples of a channel are one token; (B, C, T) to (B, C, T).

    ``tokens = Dropout([subject; W x])``, then per layer
    ``h = LayerNorm(tokens + attention(tokens)); tokens = LayerNorm(h + MLP(h))``, and a last
    LayerNorm. Without a code of position: a channel is known by its signals, as in the released
    code, which hands no time marks to its embedding.

    Parameters
    ----------
    n_times : int
        Samples, which is the width of a token.
    n_subjects : int
        Subjects with a token of their own; 0 for no subject token.
    n_layers, n_heads, width : int
        Layers, heads and width of the feed-forward part. A head is ``n_times // n_heads`` wide: the
        projections of 250 samples are 4 x 62, and lead back to 250.
    dropout : float
        Dropout of tokens, attention and feed-forward part.
    share : float
        Share of the training trials that get the shared token instead of their subject's.
    """

    def __init__(
        self,
        n_times: int,
        *,
        n_subjects: int = 0,
        n_layers: int = 1,
        n_heads: int = 4,
        width: int = 256,
        dropout: float = 0.25,
        share: float = 0.1,
    ) -> None:
        super().__init__()
        if n_times < n_heads:
            raise DataError(
                "each head of attention needs at least one sample",
                found=f"{n_times} samples, {n_heads} heads",
                fix="use longer epochs or fewer heads",
            )
        self.n_subjects = n_subjects
        self.share = share
        self.embed = Linear(n_times, n_times)
        self.dropout = Dropout(dropout)
        if n_subjects:
            self.subjects = nn.Parameter(torch.randn(n_subjects, n_times))
            self.shared = nn.Parameter(torch.randn(1, n_times))
        layers = [_Layer(n_times, n_heads, width, dropout) for _ in range(n_layers)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(n_times)

    def forward(self, x: torch.Tensor, subject: torch.Tensor | None = None) -> torch.Tensor:
        """Transform signals (B, C, T); ``subject`` (B,) numbers those with a token, from 0."""
        tokens = self.embed(x.flatten(0, 1)).view(x.shape)
        if self.n_subjects:
            first = self._subject_tokens(len(x), subject)
            tokens = torch.cat([first[:, None].to(tokens.dtype), tokens], 1)
        tokens = self.norm(self.layers(self.dropout(tokens)))
        kept: torch.Tensor = tokens[:, 1:] if self.n_subjects else tokens
        return kept

    def _subject_tokens(self, n: int, subject: torch.Tensor | None) -> torch.Tensor:
        if subject is None:
            return self.shared.expand(n, -1)
        known = (subject >= 0) & (subject < self.n_subjects)
        if self.training and self.share > 0:
            known = known & (torch.rand(n, device=subject.device) >= self.share)
        table = torch.cat([self.subjects, self.shared])
        return table.index_select(0, torch.where(known, subject, self.n_subjects))


class _Layer(nn.Module):
    """One layer with the norm after each residual."""

    def __init__(self, d_model: int, n_heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        inner = n_heads * (d_model // n_heads)
        self.query, self.key = Linear(d_model, inner), Linear(d_model, inner)
        self.value, self.out = Linear(d_model, inner), Linear(inner, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.feed = nn.Sequential(
            Linear(d_model, width), nn.GELU(), Dropout(dropout), Linear(width, d_model)
        )
        self.attention_dropout = Dropout(dropout)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        flat = tokens.flatten(0, 1)
        h = self.norm1(flat + self.dropout(self._attend(flat, len(tokens))))
        h = self.norm2(h + self.dropout(self.feed(h)))
        out: torch.Tensor = h.view(tokens.shape)
        return out

    def _attend(self, flat: torch.Tensor, n: int) -> torch.Tensor:
        q, k, v = (
            part(flat).view(n, -1, self.n_heads, part.out_features // self.n_heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, dim=3)
        mixed = self.attention_dropout(scores) @ v
        out: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
        return out


@register("encoder", "atms")
class ATMSEncoder(BehindFront):
    """Attention between channels with a subject token, then TSConv (the encoder of ATM-S).

    Source: Li et al., NeurIPS 2024 (arXiv:2403.07721). In the released code the subject's token
    comes first and the first 63 of 64 tokens are kept: the subject's token goes on in the place of
    the last channel. Here it is the subject's token that is left out afterwards. There an unseen
    subject gets a shared token which no training trial ever had; here a share of the training
    trials has it (``share``, ours), so that it is trained.

    Parameters
    ----------
    n_chans, n_times, n_outputs : int
        Channels, samples (at least 75) and width of the target space.
    n_subjects : int
        Subjects with a token of their own; 0 for no subject token. A decoder sets it to the
        subjects that it is trained on.
    n_layers, n_heads, width, dropout, share
        See `ChannelTransformer`.
    **tsconv
        See `phosphene.encoders._behind.BehindFront`.

    Examples
    --------
    >>> encoder = ATMSEncoder(4, 80, 8, n_subjects=2, n_filters=3).eval()
    >>> encoder(torch.zeros(2, 4, 80), subject=torch.tensor([1, -1])).shape
    torch.Size([2, 8])
    """

    takes_subject: ClassVar[bool] = True
    front: ChannelTransformer

    def __init__(
        self,
        n_chans: int,
        n_times: int | None,
        n_outputs: int,
        *,
        n_subjects: int = 0,
        n_layers: int = 1,
        n_heads: int = 4,
        width: int = 256,
        dropout: float = 0.25,
        share: float = 0.1,
        **tsconv: float,
    ) -> None:
        super().__init__(n_chans, n_times, n_outputs, **tsconv)  # type: ignore[arg-type]
        assert self.n_times is not None
        self.front = ChannelTransformer(
            self.n_times,
            n_subjects=n_subjects,
            n_layers=n_layers,
            n_heads=n_heads,
            width=width,
            dropout=dropout,
            share=share,
        )

    def forward(
        self,
        x: torch.Tensor,
        *,
        prepared: bool = False,
        subject: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode signals.

        Parameters
        ----------
        x : torch.Tensor, shape (B, n_chans, n_times)
            Signals.
        prepared : bool
            Whether the shape was checked already.
        subject : torch.Tensor of int, shape (B,), optional
            Number of each trial's subject, negative for one without a token of its own; None if
            none has one.

        Returns
        -------
        torch.Tensor, shape (B, n_outputs)
        """
        if not prepared:
            self._check(x)
        out: torch.Tensor = self.tsconv.head(self._convolve(self.front(x, subject).to(x.dtype)))
        return out
