"""``phosphene compare`` prints, writes, and refuses with reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli import app

runner = CliRunner()


def call(*words: object) -> Any:
    return runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tiny: Path, fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A run, one with other parameters, one with other repetitions, a transductive one."""
    folder = tmp_path_factory.mktemp("runs")
    changes = {
        "weak": "data.channels=[O1]",
        "single": "evaluation.repetitions=1",
        "matched": "evaluation.transductive=[hungarian]",
    }
    for name, change in changes.items():
        assert call("fit", tiny, "--out", folder / name, "--set", change).exit_code == 0
        assert call("evaluate", folder / name).exit_code == 0
    return (fitted, *(folder / name for name in changes))


def test_tables_notes_and_file(runs: tuple[Path, ...], tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.csv"
    done = call("compare", runs[0], runs[1], runs[3], "--out", out)
    assert done.exit_code == 0, done.output
    titles = [line for line in done.stdout.splitlines() if line.startswith("top-")]
    assert titles == ["top-1", "top-5", "top-1, transductive: hungarian",
                      "top-5, transductive: hungarian"]  # fmt: skip
    first = done.stdout.split("top-5")[0]
    assert "ridge (fitted)" in first
    assert "ridge (weak)" in first
    assert "matched" not in first
    assert "note: ridge (matched): transductive: scores use the other test queries" in done.stdout
    assert "with 2 subjects no p-value can lie below 0.5" in done.stdout
    frame = pd.read_csv(out).set_index("result")
    assert frame.loc["ridge (matched)", "value"].isna().all()
    assert frame["value (transductive: hungarian)"].notna().sum() == 2
    assert f"written to {out}" in done.stdout


def test_json(runs: tuple[Path, ...]) -> None:
    done = call("compare", runs[0], runs[1], "--metrics", "mrr", "--json")
    content = json.loads(done.stdout)
    assert content["test"] == "sign-flip permutation"
    first, second = content["tables"]["inductive"]
    assert (first["metric"], first["baseline"], first["difference"]) == ("mrr", None, None)
    assert second["difference"] == pytest.approx(second["value"] - first["value"])


def test_incompatible_runs_are_refused_value_by_value(
    runs: tuple[Path, ...], tmp_path: Path
) -> None:
    out = tmp_path / "table.csv"
    done = call("compare", runs[0], runs[2], "--out", out)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: these results cannot be put side by side" in done.stderr
    assert "repetitions averaged at test: ridge (fitted) 3; ridge (single) 1" in done.stderr
    assert not out.exists()


def test_options_are_checked(runs: tuple[Path, ...], tmp_path: Path) -> None:
    for words, text in (
        (("--metrics", "top2"), "top1"),
        (("--test", "t"), "sign-flip or wilcoxon"),
        (("--baseline", "ridge (weka)"), "did you mean 'ridge (weak)'"),
        (("--out", tmp_path / "table.xlsx"), ".csv"),
    ):
        done = call("compare", runs[0], runs[1], *words)
        assert (done.exit_code, done.stdout) == (2, ""), words
        assert text in done.stderr
