"""Resumption: to the bit, after an exception and after a SIGKILL; foreign state refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from phosphene.errors import ArtefactError, DataError
from phosphene.methods.ubp import UBP
from phosphene.testing._data import tiny_problem
from phosphene.training.checkpoint import CheckpointFolder

SETTINGS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 32,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}

KILLED = """
import os, signal, sys, torch
torch.set_num_threads(int(sys.argv[2]))
from phosphene.methods.ubp import UBP
from phosphene.testing._data import tiny_problem

plain = UBP._loss
calls = 0

def loss(self, z, targets, index):
    global calls
    calls += 1
    if calls == 15:  # in the middle of an epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, z, targets, index)

UBP._loss = loss
UBP._checkpoint_seconds = 0.0
problem = tiny_problem()
settings = dict(epochs=6, batch_size=32, lr=1e-3, device="cpu", precision="fp32")
UBP(**settings).fit(problem.train, problem.bank, checkpoint=sys.argv[1], progress=False)
"""


@pytest.fixture(autouse=True)
def _write_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UBP, "_checkpoint_seconds", 0.0)


def weights(decoder: UBP) -> dict[str, torch.Tensor]:
    return dict(decoder.modules_.state_dict()) | decoder._state


def assert_same_bits(a: UBP, b: UBP) -> None:
    theirs = weights(b)
    for name, value in weights(a).items():
        assert torch.equal(value, theirs[name]), name
    assert a.history_.drop(columns="seconds").equals(b.history_.drop(columns="seconds"))
    assert a.selected_epoch_ == b.selected_epoch_


def fit(folder: Path | None = None, **changes: Any) -> UBP:
    problem = tiny_problem()
    decoder = UBP(**(SETTINGS | changes))
    return decoder.fit(problem.train, problem.bank, checkpoint=folder, progress=False)


def test_a_killed_training_ends_in_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    index = (tmp_path / "checkpoint.json").read_text()
    assert '"epoch": 3' in index  # killed in the fourth epoch, of four batches each
    assert_same_bits(fit(tmp_path), fit())


@pytest.mark.parametrize("selection", ["held_out_concepts", "fixed_epoch"])
def test_an_exception_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    def interrupt(self: UBP, epoch: int) -> None:
        if epoch == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(UBP, "_on_epoch_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, selection=selection)
    assert_same_bits(fit(tmp_path, selection=selection), fit(selection=selection))


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(tmp_path)

    def refuse(*args: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(UBP, "_loss", refuse)
    assert_same_bits(fit(tmp_path), first)


def test_only_the_last_state_is_kept(tmp_path: Path) -> None:
    fit(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.json",
        "state-000006.safetensors",
    ]


@pytest.mark.parametrize("change", ["parameters", "data", "bank"])
def test_another_training_is_refused(tmp_path: Path, change: str) -> None:
    fit(tmp_path)
    problem = tiny_problem()
    train, bank, params = problem.train, problem.bank, dict(SETTINGS)
    if change == "parameters":
        params["lr"] = 2e-3
    elif change == "data":
        train = train.select(list(range(train.n_trials - 2)))
    else:
        bank = bank.select(bank.ids[::-1])
    with pytest.raises(ArtefactError, match="belongs to another training"):
        UBP(**params).fit(train, bank, checkpoint=tmp_path, progress=False)


def test_damage_is_noticed(tmp_path: Path) -> None:
    fit(tmp_path)
    path = tmp_path / "state-000006.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"state-000006\.safetensors is damaged"):
        fit(tmp_path)
    path.unlink()
    with pytest.raises(ArtefactError, match="no such file"):
        fit(tmp_path)


def test_a_crash_between_tensors_and_index_leaves_the_old_state(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, "abc")
    folder.save({"x": torch.ones(2)}, {"epoch": 1})
    (tmp_path / "state-000002.safetensors").write_bytes(b"half written")
    state = folder.load()
    assert state is not None
    assert state.values["epoch"] == 1
    folder.save({"x": torch.zeros(2)}, {"epoch": 2})
    state = folder.load()
    assert state is not None
    assert torch.equal(state.tensors["x"], torch.zeros(2))


def test_divergence_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = UBP._loss
    calls = {"n": 0}

    def loss(self: UBP, *args: Any) -> torch.Tensor:
        calls["n"] += 1
        value = plain(self, *args)
        return value * float("nan") if calls["n"] > 6 else value

    monkeypatch.setattr(UBP, "_loss", loss)
    with pytest.raises(DataError, match="diverged in epoch 2"):
        fit(tmp_path)
    assert (tmp_path / "state-000001.safetensors").exists()
