"""Where the signals of trials come from in training: a tensor in place, or their file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from phosphene.data.recording import Recording
from phosphene.training.scaling import ChannelScaler, chunks, read_rows

Prepare = Callable[[torch.Tensor], torch.Tensor]


class Source(Protocol):
    """Where the signals of trials come from."""

    streamed: bool

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Signals of some trials, on the device, standardised and prepared."""
        ...


class Resident:
    """Signals as one contiguous tensor on the device."""

    streamed = False

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Gather rows."""
        return self.tensor.index_select(0, index)


class Streamed:
    """Signals read from their array (a memory map, say) when they are needed."""

    streamed = True

    def __init__(
        self,
        signals: Recording,
        scaler: ChannelScaler,
        prepare: Prepare | None,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.signals, self.scaler, self.prepare = signals, scaler, prepare
        self.device, self.dtype = device, dtype

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Read rows in the order of the file, then put them into the order asked for."""
        rows = index.cpu().numpy()
        order = np.argsort(rows, kind="stable")
        block = np.empty((len(rows), *self.signals.shape[1:]), dtype=np.float32)
        block[order] = self.signals.take(rows[order])
        x = self.scaler.apply_(torch.from_numpy(block))
        if self.prepare is not None:
            x = self.prepare(x)
        return x.to(self.device, self.dtype)


def resident_tensor(
    signals: Recording,
    scaler: ChannelScaler,
    prepare: Prepare | None,
    device: torch.device,
    owned: bool,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """All signals standardised and prepared, in one contiguous tensor.

    Parameters
    ----------
    signals : Recording
        The trials.
    scaler : ChannelScaler
        Standardisation.
    prepare : callable, optional
        Parameter-free transform of (B, C, T).
    device : torch.device
        Where the tensor goes.
    owned : bool
        Whether the recording's own memory may be used for the result.
    dtype : torch.dtype
        Of the result.
    """
    shape = tuple(signals.shape)
    parts = chunks(shape[0], int(np.prod(shape[1:])) * 4)
    own = torch.empty(0)
    plain = device.type == "cpu" and dtype == torch.float32
    if owned and plain and signals.dtype == np.float32 and signals.in_memory:
        array = signals.signals
        if array.flags.c_contiguous and array.flags.writeable:
            own = torch.from_numpy(array)
    out = torch.empty(0)
    for part in parts:
        if len(own) and prepare is None:
            scaler.apply_(own[part])
            continue
        block = scaler.apply_(
            torch.from_numpy(np.array(read_rows(signals, part), dtype=np.float32))
        )
        if prepare is not None:
            block = prepare(block)
        if not len(out):
            size = (shape[0], *block.shape[1:])
            # What is prepared is no longer than the raw rows, so that writing from the front of
            # the same memory never overtakes reading.
            fits = len(own) and block[0].numel() <= own[0].numel()
            out = (
                own.view(-1)[: shape[0] * block[0].numel()].view(size)
                if fits
                else torch.empty(size, device=device, dtype=dtype)
            )
        out[part] = block
    return own if len(own) and prepare is None else out
