"""Where the training of the demonstration generator takes the object to be."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("train_demo_generator")


def test_the_object_is_found_in_latents_and_in_mirror_images(script: ModuleType) -> None:
    # Centre x, y and size in shares of the frame: columns 2 to 5 and rows 8 to 11 of 16 by half
    # sizes of two places, and half a place more on every side.
    boxes = np.array([[0.25, 0.625, 0.25]] * 2, dtype=np.float32)
    found = script.inside(boxes, np.array([False, True]))
    assert found.shape == (2, 1, 16, 16)
    expected = np.zeros((16, 16))
    expected[8:12, 2:6] = 1
    np.testing.assert_array_equal(found[0, 0], expected)
    np.testing.assert_array_equal(found[1, 0], expected[:, ::-1])
