"""``phosphene ablate``, ``phosphene list results`` and transductive scoring from a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.evaluation.published import published_results

runner = CliRunner()
RECIPES = Path(__file__).parents[2] / "recipes"


def invoke(*words: object) -> Any:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object) -> str:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return str(result.stderr)


def test_ablate_prints_the_table_and_continues(tiny: Path, tmp_path: Path) -> None:
    words = ("ablate", tiny, "--sweep", "centre=false", "--sweep", "alphas=[1.0],[100.0]")
    words += ("--seeds", "0,1", "--out", tmp_path / "out")  # type: ignore[assignment]
    done = invoke(*words)
    assert done.stdout.startswith("ridge: ablation (per cent)\nrow ")
    for row in ("centre=False", "alphas=[1.0]", "alphas=[100.0]", "full method"):
        assert f"\n{row} " in done.stdout
    assert "[8/8] full method, seed 1: top-1 " in done.stderr
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("row")
    assert f" {100 * table.loc['centre=False', 'top1']:.1f} " in done.stdout
    again = invoke(*words)
    assert again.stdout == done.stdout
    assert again.stderr.count("was done before") == 8


def test_ablate_lists_switches() -> None:
    listed = invoke("ablate", RECIPES / "simulated" / "ubp.yaml", "--list").stdout
    assert "no blur                 views=('original',), uncertainty=False" in listed
    ridge = invoke("ablate", RECIPES / "simulated" / "ridge.yaml", "--list").stdout
    assert "names no switches" in ridge


def test_ablate_refuses_what_it_does_not_know(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = refused("ablate", RECIPES / "simulated" / "ubp.yaml", "--switches", "no blr", "-o", out)
    assert "did you mean 'no blur'" in text
    text = refused("ablate", tiny, "--sweep", "center=true", "-o", out)
    assert "did you mean 'centre'" in text
    text = refused("ablate", tiny, "--sweep", "centre=true", "--seeds", "0;1", "-o", out)
    assert "numbers such as 0,1,2" in text
    assert not out.exists()


def test_transductive_rows_are_printed_apart(tiny: Path, tmp_path: Path) -> None:
    words = ("--sweep", "centre=false", "--out", tmp_path / "out")
    done = invoke("ablate", tiny, *words, "--set", "evaluation.transductive=[csls(k=3)]")
    assert done.stdout.startswith(
        "ridge: not to be compared with the others, transductive: csls(k=3)\n"
    )
    assert "ablation (per cent)" not in done.stdout


def test_a_recipe_may_ask_for_transductive_scoring(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = "evaluation.transductive=[whiten, csls(k=3), hungarian]"
    invoke("fit", tiny, "--out", run, "--set", steps)
    shown = invoke("evaluate", run).stdout
    names = "whiten(shrinkage=auto) + csls(k=3) + hungarian"
    assert f"transductive: {names}" in shown.splitlines()[2]
    assert "note: transductive: scores use the other test queries" in shown
    protocol = json.loads((run / "protocol.json").read_text())
    assert " + ".join(protocol["transductive"]) == names
    plain = tmp_path / "plain"
    invoke("fit", tiny, "--out", plain)
    assert "scoring" not in invoke("evaluate", plain).stdout.splitlines()[1]
    text = refused("fit", tiny, "--out", run, "--set", "evaluation.transductive=[hungary]")
    assert "evaluation.transductive" in text
    assert "hungarian" in text


def test_list_results() -> None:
    shown = invoke("list", "results").stdout
    tables = [line for line in shown.splitlines() if line.startswith("published accuracies")]
    assert tables == [
        "published accuracies",
        "published accuracies, transductive scoring",
        "published accuracies, scores that use the true answers of the test",
    ]
    fair = shown[: shown.index(tables[1])]
    assert "58.2" not in fair
    assert "68.0" not in fair
    assert "different protocols" in shown.splitlines()[-1]
    meg = invoke("list", "results", "--method", "ubp", "--dataset", "things_meg").stdout
    assert meg.count("ubp ") == 2
    assert "26.7" in meg
    rows = json.loads(invoke("list", "results", "--json").stdout)
    assert len(rows) == len(published_results())
    assert rows[0] == {
        "method": "nice", "venue": "ICLR 2024", "dataset": "things_eeg2", "setting": "intra",
        "row": "", "top1": 13.8, "top5": 39.5, "selection": "", "gallery": "concept_centre",
        "channels": 63, "train_repetitions": 4, "test_repetitions": 80, "transductive": False,
        "uses_test_labels": False, "notes": "as published",
    }  # fmt: skip
    assert "did you mean 'ubp'" in refused("list", "results", "--method", "ubq")
    assert "published results" in refused("list", "methods", "--method", "ubp")
