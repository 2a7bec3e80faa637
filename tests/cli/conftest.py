"""The tiny experiment of the tests of runs."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "tiny_experiment", Path(__file__).parents[1] / "runs" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
tiny, own, fitted = _module.tiny, _module.own, _module.fitted


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Take the command line's log handler away again; the library by itself has none."""
    logger = logging.getLogger("phosphene")
    level = logger.level
    yield
    # Also one that a fixture of the module brought.
    ours = [h for h in logger.handlers if not type(h).__module__.startswith("phosphene.cli")]
    logger.handlers[:] = ours
    logger.setLevel(level)
