"""Read-in layers: one linear map of the channels per subject, in front of any encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from phosphene.errors import DataError


class SubjectReadIn(nn.Module):
    """``encoder(W[subject] @ x)``: each subject's channels are led to common ones.

    Source: the subject layers of MindEye2 (ICML 2024, arXiv:2403.11207), which lead voxels of each
    subject to a common width, and of Defossez et al., Nature Machine Intelligence 2023
    (arXiv:2208.12266). Where the width is the number of channels, the maps begin as the identity,
    so that the encoder begins as it would without them; otherwise they begin as one random
    orthonormal map that is the same for all subjects. The maps have no bias: channels come
    standardised.

    Parameters
    ----------
    encoder : nn.Module
        From (B, width, T) or (B, width) to (B, D).
    n_chans : int
        Channels or voxels, the same number for all subjects.
    n_subjects : int
    width : int, optional
        Common channels; as many as there are channels by default.

    Attributes
    ----------
    weight : torch.Tensor, shape (n_subjects, width, n_chans)
    unseen : torch.Tensor, shape (width, n_chans), or None
        Map for negative subject numbers; without one they are refused. It is not part of the
        module's state: it belongs to the adaptation to a new subject.

    Examples
    --------
    >>> read_in = SubjectReadIn(nn.Flatten(), n_chans=2, n_subjects=3)
    >>> read_in(torch.ones(2, 2, 1), subject=torch.tensor([2, 0]))
    tensor([[1., 1.],
            [1., 1.]], grad_fn=<ViewBackward0>)
    """

    takes_subject: ClassVar[bool] = True

    def __init__(
        self, encoder: nn.Module, n_chans: int, n_subjects: int, width: int | None = None
    ) -> None:
        super().__init__()
        width = n_chans if width is None else width
        if min(n_chans, n_subjects, width) < 1:
            raise DataError(
                "a read-in layer needs channels and subjects",
                found=f"{n_chans} channels, {n_subjects} subjects, width {width}",
            )
        start = torch.eye(n_chans)
        if width != n_chans:
            start = nn.init.orthogonal_(torch.empty(width, n_chans))
        self.encoder = encoder
        self.weight = nn.Parameter(start.repeat(n_subjects, 1, 1))
        self.unseen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, *, subject: torch.Tensor | None = None) -> torch.Tensor:
        """Encode signals.

        Parameters
        ----------
        x : torch.Tensor, shape (B, n_chans, T) or (B, n_chans)
            Signals.
        subject : torch.Tensor of int, shape (B,)
            Number of each trial's subject; negative for `unseen`.

        Returns
        -------
        torch.Tensor, shape (B, D)

        Raises
        ------
        DataError
            If subjects are missing, or negative where there is no map for them (the latter in eval
            mode only, as it waits for the device).
        """
        if subject is None:
            raise DataError(
                "an encoder with a layer per subject was not told the subjects",
                fix="hand them on: self._encode(brain, subject=subject) in the method's _forward",
            )
        n_chans = self.weight.shape[2]
        if x.ndim not in (2, 3) or x.shape[1] != n_chans:
            raise DataError(
                "SubjectReadIn got input of another shape than it was built for",
                found=tuple(x.shape),
                expected=f"(batch, {n_chans}) or (batch, {n_chans}, times)",
            )
        maps: torch.Tensor = self.weight
        if self.unseen is not None:
            maps = torch.cat([maps, self.unseen[None].to(maps.dtype)])
            subject = torch.where(subject < 0, len(self.weight), subject)
        elif not self.training and bool((subject < 0).any()):
            raise DataError(
                "there is no layer for a subject that was not trained on",
                fix="adapt the decoder to this subject first: decoder.adapt(recording, bank)",
            )
        mixed = _grouped if x.device.type == "cpu" else _gathered
        common = mixed(x if x.ndim == 3 else x[:, :, None], maps, subject)
        common = common if x.ndim == 3 else common.squeeze(2)
        if getattr(self.encoder, "takes_subject", False):
            out: torch.Tensor = self.encoder(common, subject=subject)
        else:
            out = self.encoder(common)
        return out


def _grouped(x: torch.Tensor, maps: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
    """Subject by subject; reads the counts, which costs nothing on a CPU."""
    order = torch.argsort(subject, stable=True)
    counts = torch.bincount(subject, minlength=len(maps)).tolist()
    parts = torch.split(x.index_select(0, order), counts)
    done = [_apply(one, part) for one, part in zip(maps, parts, strict=True) if len(part)]
    return torch.cat(done).index_select(0, torch.argsort(order))


def _gathered(x: torch.Tensor, maps: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
    """Without a wait for the device: a map per trial, or all maps where a trial is one sample."""
    if x.shape[2] > 1:
        return maps.index_select(0, subject).to(x.dtype) @ x
    pieces = ((x * (subject == i)[:, None, None], one) for i, one in enumerate(maps))
    return torch.stack([_apply(one, part) for part, one in pieces]).sum(0)


def _apply(one: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if x.shape[2] == 1:
        return nn.functional.linear(x.squeeze(2), one.to(x.dtype))[:, :, None]
    return one.to(x.dtype) @ x
