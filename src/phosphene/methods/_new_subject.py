"""Training what a new subject gets, while the decoder's modules stay as they are to the bit.

- the mean and deviation of each channel, from his own trials;
- one matrix. Without subject layers it leads his channels to those of the training subjects
  (C x C, from the identity), in front of everything else that the decoder does. With them it is his
  own layer, which starts as the mean of the trained ones.

With ``D`` the matrix minus its start, AdamW minimises the method's own loss over D alone. Its
weight decay pulls D to zero, so the matrix to its start: with few trials, little changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from phosphene.data.recording import Recording
from phosphene.encoders.subject import SubjectReadIn
from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.loop import Settings, Task, train
from phosphene.training.paired import Batch, PairedData
from phosphene.training.scaling import ChannelScaler

if TYPE_CHECKING:
    from phosphene.methods._contrastive import ContrastiveDecoder

# A matrix of more channels than this is refused: 4096 x 4096 are 64 MB, and four times that with
# what the optimiser keeps.
MAX_CHANS = 4096
_FRONT = "front"


@dataclass(frozen=True, eq=False)
class NewSubject:
    """What one new subject's trials go through.

    Parameters
    ----------
    scaler : ChannelScaler
        His mean and deviation per channel.
    maps : dict of str to torch.Tensor
        ``"front"``: the matrix in front of the decoder; otherwise his layer, by the name of the
        module that it belongs to.
    """

    scaler: ChannelScaler
    maps: dict[str, torch.Tensor] = field(default_factory=dict)

    def lead(self, brain: torch.Tensor) -> torch.Tensor:
        """Standardised signals (B, C, T) or (B, V) led to the channels of training."""
        return _lead(self.maps.get(_FRONT), brain)

    @contextmanager
    def installed(self, modules: nn.Module) -> Iterator[None]:
        """Make this subject's layers those that negative subject numbers mean."""
        with _installed(modules, self.maps):
            yield


def train_subject(
    decoder: ContrastiveDecoder, recording: Recording, bank: FeatureBank, settings: Settings
) -> NewSubject:
    """Fit a new subject's scaler and maps; the decoder is a copy, its modules stay as they are."""
    modules = decoder.modules_.eval()
    device = next(modules.parameters()).device
    scaler = (
        ChannelScaler.fit(recording, names=decoder.channel_names_)
        if decoder.standardise
        else ChannelScaler.identity(decoder.n_chans_)
    )
    stimuli = list(dict.fromkeys(recording.trials["stimulus"].astype(str)))
    data = PairedData.build(
        recording,
        bank,
        targets=decoder._targets(bank, stimuli),
        scaler=scaler,
        device=device,
        max_resident_bytes=decoder.max_resident_bytes,
    )
    maps = _Maps(_starts(decoder)).to(device)
    prepare = decoder._prepare()

    def forward(batch: Batch) -> Any:
        current = maps.current()
        brain = _lead(current.get(_FRONT), batch.brain)
        brain = decoder._augment(brain if prepare is None else prepare(brain))
        with _installed(modules, current):
            return decoder._forward(brain, torch.full_like(batch.subject, -1))

    # A method's schedule is over: its hooks see the last epoch of training.
    last = decoder.epochs - 1
    task = Task(
        maps,
        forward,
        decoder._loss,
        decoder._pick_views,
        start_epoch=lambda _: decoder._on_epoch_start(last),
        end_epoch=lambda _: decoder._on_epoch_end(last),
    )
    trainable = [p for p in modules.parameters() if p.requires_grad]
    decoder._state = {}
    decoder._start(data)
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        train(task, data, settings)
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        decoder._state = {}
    final = {name: value.detach().cpu().clone() for name, value in maps.current().items()}
    return NewSubject(scaler, final)


class _Maps(nn.Module):
    """Matrices as fixed starts plus trained differences."""

    def __init__(self, starts: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.names = list(starts)
        for i, start in enumerate(starts.values()):
            self.register_buffer(f"start{i}", start)
        self.differences = nn.ParameterList(torch.zeros_like(s) for s in starts.values())

    def current(self) -> dict[str, torch.Tensor]:
        """The matrices by name."""
        pairs = zip(self.names, self.differences, strict=True)
        return {name: getattr(self, f"start{i}") + d for i, (name, d) in enumerate(pairs)}


def _starts(decoder: ContrastiveDecoder) -> dict[str, torch.Tensor]:
    layers = _read_ins(decoder.modules_)
    if layers:
        return {name: one.weight.detach().mean(0) for name, one in layers.items()}
    if decoder.n_chans_ > MAX_CHANS:
        raise DataError(
            "a matrix from all channels to all channels is too large",
            found=f"{decoder.n_chans_} channels or voxels",
            expected=f"at most {MAX_CHANS}",
            fix="train with subject_layers=True and subject_width of a few hundred",
        )
    return {_FRONT: torch.eye(decoder.n_chans_)}


def _read_ins(modules: nn.Module) -> dict[str, SubjectReadIn]:
    return {name: one for name, one in modules.named_modules() if isinstance(one, SubjectReadIn)}


@contextmanager
def _installed(modules: nn.Module, maps: Mapping[str, torch.Tensor]) -> Iterator[None]:
    layers = {name: one for name, one in _read_ins(modules).items() if name in maps}
    try:
        for name, one in layers.items():
            one.unseen = maps[name].to(one.weight.device)
        yield
    finally:
        for one in layers.values():
            one.unseen = None


def _lead(matrix: torch.Tensor | None, brain: torch.Tensor) -> torch.Tensor:
    if matrix is None:
        return brain
    matrix = matrix.to(brain.device)
    return brain @ matrix.T if brain.ndim == 2 else matrix @ brain
