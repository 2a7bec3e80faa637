"""The picture of what the demonstration generator can do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")


def test_it_draws_both_kinds_of_concepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    script = importlib.import_module("show_demo_generator")
    rows = script.rows_of(["tomato", "violin"], ["baguette bread", "tumbler glass"])
    assert list(rows) == [
        "shown", "copied", "from true features", "from the name", "nearest in training",
    ]  # fmt: skip
    assert {pictures.shape for pictures in rows.values()} == {(2, 64, 64, 3)}
    for name in ("copied", "from true features"):  # nearer to what was shown than to the other
        own = np.square(rows[name] - rows["shown"]).mean()
        assert own < 0.5 * np.square(rows[name] - rows["shown"][::-1]).mean()
    known = script.picture_set(["baguette bread", "tumbler glass"], 1, script.SEED, 64)
    candidates = np.stack([known.image(id) for id in known.ids]) / 255
    for nearest in rows["nearest in training"]:  # a training picture as it is
        assert np.abs(candidates - nearest).max(axis=(1, 2, 3)).min() == 0
    out = tmp_path / "generator.png"
    monkeypatch.setattr(sys, "argv", ["show", "--out", str(out), "--count", "2"])
    monkeypatch.setattr(script, "rows_of", lambda *_: rows)
    script.main()
    with Image.open(out) as picture:
        assert picture.width > 100
