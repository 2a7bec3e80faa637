"""Makes ``from fuzzing import ...`` work in this folder, which is no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for _name in ("fuzzing", "things_files"):
    if _name not in sys.modules:
        _path = Path(__file__).with_name(f"{_name}.py")
        _spec = importlib.util.spec_from_file_location(_name, _path)
        assert _spec is not None
        assert _spec.loader is not None
        _module = importlib.util.module_from_spec(_spec)
        sys.modules[_name] = _module  # dataclasses look their module up by name
        _spec.loader.exec_module(_module)
