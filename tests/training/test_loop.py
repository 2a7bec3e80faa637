"""The loop against a plain one, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from phosphene.data.recording import Recording
from phosphene.encoders.eegproject import EEGProject
from phosphene.errors import DataError
from phosphene.objectives.infonce import InfoNCE
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.loop import Settings, Task, train
from phosphene.training.paired import PairedData

Make = Callable[..., Recording]


@pytest.fixture
def data(bank: FeatureBank, make_recording: Make) -> PairedData:
    return PairedData.build(make_recording(bank.ids, repetitions=3), bank)


def make_task(dropout: float = 0.0, **more: Any) -> Task:
    torch.manual_seed(0)
    module = nn.ModuleDict({"encoder": EEGProject(3, 8, 5, dropout=dropout), "loss": InfoNCE()})
    return Task(
        module,
        lambda batch: module["encoder"](batch.brain),
        lambda z, targets, index: module["loss"](z, targets["image"], targets.get("stimulus")),
        **more,
    )


def settings(**changes: Any) -> Settings:
    base = {"epochs": 4, "batch_size": 10, "lr": 1e-2, "selection": "fixed_epoch"}
    return Settings(**(base | changes))


@pytest.mark.parametrize("optimiser", ["adamw", "adam"])
def test_equals_a_plain_loop(data: PairedData, optimiser: str) -> None:
    task = make_task()
    plain = copy.deepcopy(task.module)
    chosen = settings(optimiser=optimiser, weight_decay=0.05, betas=(0.8, 0.99))
    history = train(task, data, chosen)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optimiser]
    adam = kind(plain.parameters(), lr=1e-2, weight_decay=0.05, betas=(0.8, 0.99), fused=False)
    for epoch in range(4):
        total = 0.0
        for batch in data.batches(10, 0, epoch):
            adam.zero_grad()
            z = plain["encoder"](batch.brain)
            loss = plain["loss"](z, batch.targets["image"], batch.stimulus)
            loss.backward()
            adam.step()
            total += float(loss.detach()) * len(z)
        assert history.epochs["loss"][epoch] == pytest.approx(total / 36, rel=1e-5)
    for (name, ours), theirs in zip(
        task.module.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4, msg=name)


def test_same_seed_same_bits_and_the_global_generator_is_left_alone(data: PairedData) -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        task = make_task(dropout=0.5)
        torch.manual_seed(123)
        train(task, data, settings(seed=7))
        assert torch.equal(torch.rand(3), expected)
        results.append(task.module.state_dict())
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_learning_rate_hooks_and_order_of_calls(data: PairedData) -> None:
    calls: list[str] = []
    task = make_task(
        start_epoch=lambda e: calls.append(f"start {e}"),
        end_epoch=lambda e: calls.append(f"end {e}"),
        learning_rate=lambda e: 0.0 if e else 1e-2,
        validate=lambda: calls.append("validate") or {"val_top1": 0.0, "val_top5": 0.0},
    )
    history = train(task, data, settings(epochs=2, selection="held_out_concepts"))
    assert calls == ["start 0", "end 0", "validate", "start 1", "end 1", "validate"]
    assert history.epochs["lr"].tolist() == [1e-2, 0.0]
    columns = ["epoch", "loss", "val_top1", "val_top5", "lr", "seconds"]
    assert history.epochs.columns.tolist() == columns
    assert history.selected_epoch == 0


def test_early_stopping_and_selected_state(data: PairedData) -> None:
    scores = iter([0.1, 0.4, 0.3, 0.2, 0.9])
    states: list[torch.Tensor] = []
    task = make_task()

    def validate() -> dict[str, float]:
        states.append(task.module["encoder"].head[0].weight.detach().clone())  # type: ignore[index,union-attr]
        return {"val_top1": next(scores), "val_top5": 0.5}

    task.validate = validate
    chosen = settings(epochs=5, selection="held_out_concepts", patience=2)
    history = train(task, data, chosen)
    assert len(history.epochs) == 4
    assert history.selected_epoch == 1
    assert torch.equal(task.module["encoder"].head[0].weight, states[1])  # type: ignore[index,union-attr]


def test_bf16_learns_with_float32_parameters(data: PairedData) -> None:
    task = make_task()
    history = train(task, data, settings(epochs=8, precision="bf16"))
    assert history.epochs["loss"].iloc[-1] < history.epochs["loss"].iloc[0]
    assert all(p.dtype == torch.float32 for p in task.module.parameters())


def test_divergence_is_an_error(data: PairedData) -> None:
    task = make_task()
    with torch.no_grad():
        task.module["encoder"].head[0].weight.fill_(float("inf"))  # type: ignore[index,union-attr]
    with pytest.raises(DataError, match="diverged in epoch 1"):
        train(task, data, settings())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"batch_size": 1}, "at least two trials"),
        ({"selection": "held_out_concepts"}, "needs validation data"),
        ({"patience": 3}, "early stopping needs a validation score"),
        ({"optimiser": "sgd"}, "unknown optimiser"),
    ],
)
def test_impossible_settings_are_refused(
    data: PairedData, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        train(make_task(), data, settings(**changes))
