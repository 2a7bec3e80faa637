"""The training loop: steps on data in place, selection, checkpoints.

A step gathers its batch, runs the encoder (in bf16 where that pays), takes the loss in float32 and
updates. Nothing in it waits for the host: losses are summed on the device and read once per epoch.
All randomness of epoch e depends on (seed, e) only, so that a training resumed at an epoch's end
goes on bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

from phosphene import _random
from phosphene._device import Precision
from phosphene._logging import get_logger, progress
from phosphene.errors import DataError
from phosphene.training._memory import freed_memory_kept
from phosphene.training.checkpoint import CheckpointFolder, State
from phosphene.training.paired import Batch, PairedData, Picks
from phosphene.training.selection import Selection, Selector

logger = get_logger(__name__)

Optimiser = Literal["adamw", "adam"]


@dataclass
class Task:
    """What is trained: a module and how a method uses it.

    Parameters
    ----------
    module : nn.Module
        Everything that has parameters, on the device.
    forward : callable
        From a batch to whatever ``loss`` takes as its first argument; runs under autocast.
    loss : callable
        ``loss(z, targets, index)``: a scalar in float32.
    pick : callable, optional
        From trial indices to target levels (`PairedData.select_targets`).
    start_epoch, end_epoch : callable, optional
        Called with the epoch's number.
    learning_rate : callable, optional
        From the epoch's number to its rate; constant by default.
    validate : callable, optional
        Metrics on held-out concepts: ``val_top1`` and ``val_top5``.
    state : dict of str to torch.Tensor
        What the method keeps beside parameters; saved and restored in place.
    """

    module: nn.Module
    forward: Callable[[Batch], Any]
    loss: Callable[[Any, dict[str, torch.Tensor], torch.Tensor], torch.Tensor]
    pick: Callable[[torch.Tensor], Picks] | None = None
    start_epoch: Callable[[int], None] | None = None
    end_epoch: Callable[[int], None] | None = None
    learning_rate: Callable[[int], float] | None = None
    validate: Callable[[], Mapping[str, float]] | None = None
    state: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How it is trained.

    Parameters
    ----------
    epochs, batch_size : int
    lr, weight_decay : float
    betas : tuple of float
        Of Adam and AdamW.
    optimiser : {"adamw", "adam"}
    seed : int
        Of permutations and dropout.
    selection : {"held_out_concepts", "fixed_epoch"}
    patience : int, optional
        Stop after this many epochs without a better one.
    precision : {"fp32", "bf16"}
    progress : bool
    description : str
        Label of the progress bar.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    optimiser: Optimiser = "adamw"
    seed: int = 0
    selection: Selection = "held_out_concepts"
    patience: int | None = None
    precision: Precision = "fp32"
    progress: bool = True
    description: str = "training"


@dataclass(frozen=True)
class History:
    """What happened.

    Parameters
    ----------
    epochs : DataFrame
        Per epoch: ``epoch``, ``loss``, ``val_top1``, ``val_top5`` (if validated), ``lr``,
        ``seconds``.
    selected_epoch : int
        The one whose state was kept.
    """

    epochs: pd.DataFrame
    selected_epoch: int


def make_optimiser(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Fused Adam or AdamW over all trainable parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    device = parameters[0].device.type
    kinds: dict[str, type[torch.optim.Adam]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    if settings.optimiser not in kinds:
        raise DataError("unknown optimiser", found=settings.optimiser, expected="adamw or adam")
    return kinds[settings.optimiser](
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=device in ("cpu", "cuda"),
    )


def train(
    task: Task,
    data: PairedData,
    settings: Settings,
    *,
    rows: torch.Tensor | None = None,
    checkpoint: CheckpointFolder | None = None,
) -> History:
    """Train a task on paired data; afterwards the module holds the selected state.

    Parameters
    ----------
    task : Task
        What to train.
    data : PairedData
        Signals and targets.
    settings : Settings
        How.
    rows : torch.Tensor of int, optional
        Trials to train on; all by default.
    checkpoint : CheckpointFolder, optional
        Where the state is kept, and from where an interrupted training goes on.

    Raises
    ------
    DataError
        If the loss is not finite.
    """
    _check(task, settings)
    optimiser = make_optimiser(task.module, settings)
    selector = Selector(settings.selection)
    rows_done: list[dict[str, float]] = []
    start, finished = 0, False
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        rows_done, finished = _restore(state, task, optimiser, selector)
        start = len(rows_done)
        logger.info("%s goes on after epoch %d", settings.description, start)
    remaining = range(start, start if finished else settings.epochs)
    bar = progress(
        remaining,
        total=len(remaining),
        desc=settings.description,
        unit="epoch",
        enabled=settings.progress,
    )
    with freed_memory_kept(data.device):
        for epoch in bar:
            began = time.perf_counter()
            lr = settings.lr if task.learning_rate is None else task.learning_rate(epoch)
            for group in optimiser.param_groups:
                group["lr"] = lr
            loss = _epoch(task, data, settings, optimiser, epoch, rows)
            metrics: dict[str, float] = {"epoch": epoch, "loss": loss}
            if not math.isfinite(loss):
                raise DataError(
                    f"training diverged in epoch {epoch + 1}",
                    found=f"loss {loss}",
                    expected="a finite loss",
                    fix="lower the learning rate, or standardise the signals",
                )
            if task.validate is not None:
                with torch.no_grad():
                    metrics.update(task.validate())
            metrics.update(lr=lr, seconds=time.perf_counter() - began)
            selector.offer(task.module, epoch, metrics)
            rows_done.append(metrics)
            stalled = settings.patience is not None and epoch - selector.epoch >= settings.patience
            finished = stalled or epoch + 1 == settings.epochs
            if checkpoint is not None and (finished or checkpoint.due()):
                checkpoint.save(*_state(task, optimiser, selector, rows_done, finished))
            if stalled:
                logger.info("stopped: no better epoch since %d", selector.epoch + 1)
                break
    selector.finish(task.module)
    task.module.eval()
    return History(pd.DataFrame(rows_done), selector.epoch)


def _check(task: Task, settings: Settings) -> None:
    for name in ("epochs", "batch_size"):
        if getattr(settings, name) < 1:
            raise DataError(f"{name} must be positive", found=getattr(settings, name))
    if settings.batch_size < 2:
        raise DataError("a contrastive batch needs at least two trials", found=settings.batch_size)
    if task.validate is None and settings.selection == "held_out_concepts":
        raise DataError(
            "selection on held-out concepts needs validation data", fix='selection="fixed_epoch"'
        )
    if settings.patience is not None and settings.selection == "fixed_epoch":
        raise DataError(
            "early stopping needs a validation score",
            found="patience with selection='fixed_epoch'",
            fix='selection="held_out_concepts", or patience=None',
        )


def _epoch(
    task: Task,
    data: PairedData,
    settings: Settings,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    rows: torch.Tensor | None,
) -> float:
    module, device = task.module, data.device
    total = torch.zeros((), device=device, dtype=torch.float32)
    n = 0
    module.train()
    with epoch_randomness(settings.seed, epoch, device):
        if task.start_epoch is not None:
            task.start_epoch(epoch)
        for batch in data.batches(
            settings.batch_size, settings.seed, epoch, rows=rows, pick=task.pick
        ):
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                z = task.forward(batch)
                loss = task.loss(z, batch.targets, batch.index)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.detach() * len(batch.index)
            n += len(batch.index)
        if task.end_epoch is not None:
            task.end_epoch(epoch)
    return float(total) / max(n, 1)


@contextmanager
def epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed dropout by (seed, epoch) and leave the global generators as they were."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), _random.seeded(seed, "dropout", epoch):
        yield


def _state(
    task: Task,
    optimiser: torch.optim.Optimizer,
    selector: Selector,
    history: list[dict[str, float]],
    finished: bool,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors = {f"module/{name}": value for name, value in task.module.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in selector.state.items()}
    tensors |= {f"method/{name}": value for name, value in task.state.items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{key}": value for key, value in values.items()}
    values = {
        "epoch": len(history),
        "history": history,
        "finished": finished,
        **selector.values(),
    }
    return tensors, values


def _restore(
    state: State,
    task: Task,
    optimiser: torch.optim.Optimizer,
    selector: Selector,
) -> tuple[list[dict[str, float]], bool]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.tensors.items():
        kind, _, rest = name.partition("/")
        parts.setdefault(kind, {})[rest] = tensor
    task.module.load_state_dict(parts.get("module", {}))
    device = next(task.module.parameters()).device
    selector.restore(
        state.values, {name: value.to(device) for name, value in parts.get("best", {}).items()}
    )
    for name, tensor in parts.get("method", {}).items():
        task.state[name].copy_(tensor)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in parts.get("optimiser", {}).items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return list(state.values["history"]), bool(state.values["finished"])
