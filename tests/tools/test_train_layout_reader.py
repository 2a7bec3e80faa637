"""The ruler's training script, on a few pictures."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from phosphene.runs.object_layout import WEIGHTS


def test_it_writes_what_the_library_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    script = importlib.import_module("train_layout_reader")
    out = tmp_path / "reader.safetensors"
    monkeypatch.setattr(
        sys, "argv", ["train", "--out", str(out), "--exemplars", "1", "--epochs", "1"]
    )
    with caplog.at_level(logging.INFO, logger="train_layout_reader"):
        script.main()
    assert "200 concepts never seen, sharp" in caplog.text
    made, shipped = load_file(out), load_file(WEIGHTS)
    assert {n: a.shape for n, a in made.items()} == {n: a.shape for n, a in shipped.items()}
    assert all(np.isfinite(a).all() for a in made.values())
