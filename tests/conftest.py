"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with small real recordings; they are never part of the repository."""
    chosen = os.environ.get("PHOSPHENE_SHARED_DATA")
    folder = Path(chosen) if chosen else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not at {folder} (set PHOSPHENE_SHARED_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests share one cache of their own, so that they neither see nor fill the user's."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("PHOSPHENE_CACHE", str(base / "cache"))
