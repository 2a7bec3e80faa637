"""Extractions that are killed by the system, and two at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("extraction_processes.py")
KILLS = 6

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(SCRIPT), str(folder), "3", str(KILLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_killed_extraction_does_only_the_missing_work(found: dict[str, Any]) -> None:
    assert found["passes"] == 44  # 22 pictures, two views; the mean of both costs nothing
    assert len(found["killed"]) == KILLS
    for trial in found["killed"]:
        assert trial["finished"]
        assert trial["second"] == 44 - trial["kept"], trial
    # The kills came while it worked, at different moments; a loaded machine may spoil some.
    assert sum(trial["status"] == -9 for trial in found["killed"]) >= KILLS // 2
    assert len({trial["kept"] for trial in found["killed"] if 0 < trial["kept"] < 44}) >= 2


def test_a_killed_extraction_ends_in_the_same_bits(found: dict[str, Any]) -> None:
    assert {trial["hash"] for trial in found["killed"]} == {found["hash"]}


def test_two_processes_at_once_end_in_the_same_bank(found: dict[str, Any]) -> None:
    assert {digest for pair in found["together"] for digest in pair} == {found["hash"]}
