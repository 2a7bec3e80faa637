"""``phosphene doctor`` names what is wrong and what to do."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phosphene.cli import app, doctor

runner = CliRunner()


def test_the_report_is_json_with_versions_device_and_disk(tmp_path: Path) -> None:
    result = runner.invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["packages"]["torch"]
    assert report["device"].startswith(("cpu", "cuda"))
    assert report["cache_free_gb"] > 0
    assert set(report["extras"]) >= {"demo", "fmri"}
    assert "torchvision" in report


def test_the_table_ends_in_a_verdict() -> None:
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "cache" in result.stdout
    assert "no problems found" in result.stdout or "what to do" in result.stdout


def test_a_broken_torchvision_is_found_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    known = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: "0.99" if name == "torchvision" else known(name)
    )
    report = doctor.examine()
    assert report["torchvision"] == "0.99, broken"
    (problem,) = [p for p in report["problems"] if "torchvision" in p["what"]]
    assert "operator nms does not exist" in problem["what"]
    assert "pip uninstall torchvision" in problem["fix"]


def test_missing_extras_and_a_full_disk_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: None if name == "resvg-py" else known(name)
    )
    usage = types.SimpleNamespace(free=5e8)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    report = doctor.examine()
    assert report["extras"]["demo"] == ["resvg-py"]
    text = json.dumps(report["problems"])
    assert "phosphene[demo]" in text
    assert "only 0.5 GB are free" in text
    assert "PHOSPHENE_CACHE" in text
