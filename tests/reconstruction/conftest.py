"""Tiny diffusion models of the real classes, written once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from phosphene.testing import _tiny_diffusion


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny model by the name of what writes it; tests must not change it."""
    known: dict[str, Path] = {}

    def folder(name: str = "tiny_diffusion") -> Path:
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name)
            made: Mapping[str, Any] = getattr(_tiny_diffusion, name)(known[name])
            assert made["source"] == str(known[name])
        return known[name]

    return folder
