"""Brain signals and target vectors as tensors in place, joined by stimulus id once.

A step of training gathers rows with ``index_select``; there is no per-trial Python, and a trial
that moves to another view of its stimulus only changes the row that is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch

from phosphene import _random
from phosphene._logging import get_logger
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing
from phosphene.stimuli.bank import FeatureBank
from phosphene.training._memory import default_limit
from phosphene.training.scaling import ChannelScaler
from phosphene.training.sources import Prepare, Resident, Source, Streamed, resident_tensor

logger = get_logger(__name__)

# For each target by name: the level of every trial (B,), or of the first trials, which alone get a
# vector then; one level for all; or None for all levels.
Picks = Mapping[str, torch.Tensor | int | None]


@dataclass(frozen=True)
class Batch:
    """One step's data on the device.

    Parameters
    ----------
    brain : torch.Tensor, shape (B, C, T) or (B, V)
        Signals.
    index : torch.Tensor of int, shape (B,)
        Trials, as row numbers of the paired data.
    subject : torch.Tensor of int, shape (B,)
        Row numbers of ``PairedData.subjects``.
    stimulus : torch.Tensor of int, shape (B,)
        Row numbers of ``PairedData.stimuli``.
    targets : dict of str to torch.Tensor
        By name: (B, d) at the level picked, or (levels, B, d); fewer rows where levels of the first
        trials alone were picked. ``"stimulus"`` repeats the stimulus index where a stimulus occurs
        in several trials, for the multi-positive mask.
    """

    brain: torch.Tensor
    index: torch.Tensor
    subject: torch.Tensor
    stimulus: torch.Tensor
    targets: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class PairedData:
    """Trials with the vectors of what was seen.

    Parameters
    ----------
    source : Source
        Signals by trial.
    targets : dict of str to torch.Tensor, shape (levels, m, d)
        Vectors of the m distinct stimuli, by name.
    stimulus, subject : torch.Tensor of int, shape (n,)
        Row of each trial in ``stimuli`` and ``subjects``.
    stimuli, subjects : list of str
        Distinct ids in order of first appearance.
    device : torch.device
        Where the tensors are.
    prepared : bool
        Whether the encoder's parameter-free transform was applied.

    Examples
    --------
    >>> import numpy as np
    >>> bank = FeatureBank.from_arrays(["a_1", "b_1"], {"original": np.eye(2)})
    >>> signals = np.random.default_rng(0).standard_normal((4, 3, 5)).astype("float32")
    >>> recording = Recording.from_arrays(
    ...     signals, {"stimulus": ["a_1", "b_1"] * 2, "repetition": [0, 0, 1, 1]}, sfreq=100
    ... )
    >>> data = PairedData.build(recording, bank)
    >>> [tuple(batch.targets["image"].shape) for batch in data.batches(3, seed=0, epoch=0)]
    [(3, 2)]
    """

    source: Source
    targets: dict[str, torch.Tensor]
    stimulus: torch.Tensor
    subject: torch.Tensor
    stimuli: list[str]
    subjects: list[str]
    device: torch.device
    prepared: bool = False

    @classmethod
    def build(
        cls,
        recording: Recording,
        bank: FeatureBank,
        *,
        views: Sequence[str] | str = ("original",),
        layer: str | None = None,
        targets: Mapping[str, Any] | None = None,
        scaler: ChannelScaler | None = None,
        prepare: Prepare | None = None,
        device: torch.device | str = "cpu",
        max_resident_bytes: int | None = None,
        owned: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Join a recording with a bank.

        Parameters
        ----------
        recording : Recording
            Trials with stimulus ids.
        bank : FeatureBank
            Vectors of at least those stimuli.
        views : str or sequence of str
            Views that become the levels of the target ``"image"``, in order.
        layer : str, optional
            Layer of the bank.
        targets : mapping of str to array (levels, m, d), optional
            Other targets than those, for the distinct stimuli in order of first appearance.
        scaler : ChannelScaler, optional
            Standardisation to apply.
        prepare : callable, optional
            Parameter-free transform of (B, C, T), applied once.
        device : torch.device or str
            Where the tensors go.
        max_resident_bytes : int, optional
            Signals larger than this are streamed; by default half of the free memory.
        owned : bool
            Whether the recording's array may be overwritten, which saves a copy.
        dtype : torch.dtype
            Of the signals; bfloat16 for encoders that round them anyway.

        Raises
        ------
        DataError
            If a stimulus is not in the bank, or targets and stimuli disagree in number.
        """
        device = torch.device(device)
        stimulus, stimuli = _codes(recording, "stimulus")
        subject, subjects = _codes(recording, "subject")
        if targets is None:
            targets = {"image": bank.stack([views] if isinstance(views, str) else list(views),
                                           layer, stimuli)}  # fmt: skip
        placed = {
            name: _place(name, value, len(stimuli), device) for name, value in targets.items()
        }
        if scaler is None:
            scaler = ChannelScaler.identity(int(recording.shape[1]))
        limit = default_limit(device) if max_resident_bytes is None else max_resident_bytes
        size = int(np.prod(recording.shape)) * dtype.itemsize
        source: Source
        if size > limit:
            logger.info("signals of %d MB are streamed (limit %d MB)", size >> 20, limit >> 20)
            source = Streamed(recording, scaler, prepare, device, dtype)
        else:
            source = Resident(resident_tensor(recording, scaler, prepare, device, owned, dtype))
        return cls(
            source,
            placed,
            stimulus.to(device),
            subject.to(device),
            stimuli,
            subjects,
            device,
            prepare is not None,
        )

    def __len__(self) -> int:
        return len(self.stimulus)

    @property
    def brain(self) -> torch.Tensor:
        """All signals at once, shape (n, C, T) or (n, V).

        Raises
        ------
        DataError
            If they are streamed.
        """
        if not isinstance(self.source, Resident):
            raise DataError(
                "the signals are streamed, not in memory", fix="raise max_resident_bytes"
            )
        return self.source.tensor

    def repeated(self, rows: torch.Tensor) -> bool:
        """Whether some stimulus occurs in more than one of these trials."""
        return len(torch.unique(self.stimulus[rows])) < len(rows)

    def select_targets(self, stimulus: torch.Tensor, picks: Picks) -> dict[str, torch.Tensor]:
        """Target vectors of some stimuli at the levels picked (level 0 where none is named)."""
        chosen: dict[str, torch.Tensor] = {}
        for name, table in self.targets.items():
            level = picks.get(name, 0)
            if level is None:
                chosen[name] = table.index_select(1, stimulus)
            elif isinstance(level, int):
                chosen[name] = table[level].index_select(0, stimulus)
            else:
                shown = stimulus[: len(level)]
                chosen[name] = table.flatten(0, 1).index_select(
                    0, level.to(stimulus.dtype) * table.shape[1] + shown
                )
        return chosen

    def batches(
        self,
        size: int,
        seed: int,
        epoch: int,
        *,
        rows: torch.Tensor | None = None,
        pick: Callable[[torch.Tensor], Picks] | None = None,
    ) -> Iterator[Batch]:
        """The batches of one epoch, in an order that depends on (seed, epoch) only.

        A last batch of a single trial is left out: it has nothing to be contrasted with.

        Parameters
        ----------
        size : int
            Trials per batch.
        seed, epoch : int
            Address of the permutation.
        rows : torch.Tensor of int, optional
            Trials to draw from; all by default.
        pick : callable, optional
            From trial indices (B,) to the target levels, see `select_targets`.
        """
        rows = torch.arange(len(self), device=self.device) if rows is None else rows
        stream = _random.torch_generator(seed, "epoch", epoch)
        order = rows[torch.randperm(len(rows), generator=stream).to(self.device)]
        repeated = self.repeated(rows)
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts.pop()
        for index, brain in self._read(parts):
            stimulus = self.stimulus.index_select(0, index)
            targets = self.select_targets(stimulus, pick(index) if pick else {})
            if repeated:
                targets["stimulus"] = stimulus
            yield Batch(brain, index, self.subject.index_select(0, index), stimulus, targets)

    def _read(self, parts: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if not self.source.streamed or len(parts) < 2:
            for index in parts:
                yield index, self.source.take(index)
            return
        # One thread reads the next batch from the disk while the current one is trained on.
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self.source.take, parts[0])
            for index, following in zip(parts, [*parts[1:], None], strict=True):
                brain = coming.result()
                if following is not None:
                    coming = reader.submit(self.source.take, following)
                yield index, brain


def _codes(recording: Recording, column: str) -> tuple[torch.Tensor, list[str]]:
    if column not in recording.trials:
        return torch.zeros(recording.n_trials, dtype=torch.long), [""]
    names = recording.trials[column].astype(str).tolist()
    order = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([order[name] for name in names], dtype=torch.long), list(order)


def _place(name: str, value: Any, n: int, device: torch.device) -> torch.Tensor:
    tensor = torch.as_tensor(value, dtype=torch.float32)
    if tensor.ndim != 3 or tensor.shape[1] != n:
        raise DataError(
            f"the target {name!r} has another shape than the stimuli ask for",
            found=tuple(tensor.shape),
            expected=f"(levels, {n}, dimensions)",
        )
    if not bool(torch.isfinite(tensor).all()):
        bad = torch.nonzero(~torch.isfinite(tensor).all(-1).all(0)).flatten().tolist()
        raise DataError(f"the target {name!r} is not finite for stimuli {listing(bad)}")
    return tensor.to(device)
