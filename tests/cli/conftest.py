"""The tiny experiment of the tests of runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "tiny_experiment", Path(__file__).parents[1] / "runs" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
tiny, own, fitted = _module.tiny, _module.own, _module.fitted
