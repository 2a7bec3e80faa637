"""``phosphene audit``: a table, JSON, and exit code 1 where a check fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phosphene._saving import write_manifest
from phosphene.cli import app

RUNNER = CliRunner()


def test_a_clean_run(fitted: Path) -> None:
    done = RUNNER.invoke(app, ["audit", str(fitted)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["verdict", "check", "found", "by", "evidence"]
    assert any(line.startswith("pass") and "gallery order" in line for line in lines)
    assert lines[-1].startswith("Audit(")
    assert "fail" not in lines[-1]


def test_a_run_chosen_on_the_test_exits_with_1(fitted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    path = folder / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "selection": "test"}))
    write_manifest(folder, kind="run")
    done = RUNNER.invoke(app, ["audit", str(folder), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["passed"] is False
    wrong = [check for check in found["checks"] if check["verdict"] == "fail"]
    assert [check["check"] for check in wrong] == ["selection"]
    told = RUNNER.invoke(app, ["audit", str(folder)])
    assert told.exit_code == 1
    assert "fail: selection: choose on held-out training concepts" in told.stdout


def test_what_is_neither_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = RUNNER.invoke(app, ["audit", "nowhere"])
    assert done.exit_code == 2
    assert "neither a run folder nor module:name" in done.stderr
