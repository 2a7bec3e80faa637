"""Audits of run folders and of named callables."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene._saving import write_manifest
from phosphene.config import load_recipe
from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.runs import Run, evaluate, fit
from phosphene.runs.auditing import audit_callable, audit_run, audit_target


@pytest.fixture
def copy(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "copy"))


def failed(found: Any) -> set[str]:
    return {verdict.check for verdict in found.failed}


def test_a_clean_run_passes_and_is_left_as_it_was(copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    found = audit_run(copy, progress=False)
    assert found.passed
    unknown = {verdict.check for verdict in found if verdict.verdict == "not checkable"}
    # The tiny bank has no hashes, and its gallery too few candidates.
    assert unknown == {"test pictures in training", "shuffled responses"}
    assert not [verdict for verdict in found if verdict.verdict == "warn"]
    assert found["gallery order"].evidence.endswith("(2 of 2 folds; here subject 01)")
    assert found["test openings"].numbers["openings"] == 1
    assert found["scores on file"].verdict == "pass"
    assert (copy / "manifest.json").read_bytes() == before
    assert Run.open(copy).state["opened"] == 1


def test_before_the_evaluation_no_accuracy_is_shown(tiny: Path, tmp_path: Path) -> None:
    run = fit(load_recipe(tiny), tmp_path / "run", progress=False)
    found = audit_run(run, progress=False)
    assert found.passed
    assert found["test openings"].numbers["openings"] == 0
    for check in ("shuffled responses", "selection", "scores on file"):
        assert found[check].verdict == "not checkable"
    assert "top-1" not in json.dumps(found.to_json())


@pytest.mark.parametrize("step", ["hungarian", "csls(k=2)"])
def test_steps_on_record_are_a_warning(tiny: Path, tmp_path: Path, step: str) -> None:
    recipe = load_recipe(tiny, [f"evaluation.transductive=['{step}']"])
    evaluate(fit(recipe, tmp_path / "run", progress=False), progress=False)
    found = audit_run(tmp_path / "run", progress=False)
    assert found["transductive steps"].verdict == "warn"
    assert step.split("(")[0] in found["transductive steps"].evidence
    assert found.passed


def changed_protocol(folder: Path, **changes: Any) -> Path:
    path = folder / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(folder, kind="run")
    return folder


def test_steps_that_are_not_on_record_are_found(tiny: Path, tmp_path: Path) -> None:
    """The scores on file are not those of the decoder, and the protocol names no reason."""
    recipe = load_recipe(tiny, ["evaluation.transductive=['hungarian']"])
    evaluate(fit(recipe, tmp_path / "run", progress=False), progress=False)
    changed_protocol(tmp_path / "run", transductive=[])
    assert failed(audit_run(tmp_path / "run", progress=False)) == {"scores on file"}


def test_scores_that_were_raised_afterwards_are_found(copy: Path) -> None:
    result = Result.load(copy)
    assert result.scores is not None
    matrix = np.array(result.scores.matrix)
    matrix[np.arange(len(matrix)), result.scores.true_columns] += 0.1
    scores = replace(result.scores, matrix=matrix)
    replace(result, scores=scores).save(copy, manifest=False)
    write_manifest(copy, kind="run")
    assert failed(audit_run(copy, progress=False)) == {"scores on file"}


def test_selection_on_test_and_labels_in_the_score_are_read_from_the_protocol(copy: Path) -> None:
    changed_protocol(copy, selection="test", uses_test_labels=True)
    assert failed(audit_run(copy, progress=False)) == {"selection", "test labels in the score"}


def test_a_second_opening_is_a_warning(copy: Path) -> None:
    evaluate(copy, progress=False)
    found = audit_run(copy, progress=False)
    assert found["test openings"].verdict == "warn"
    assert found["test openings"].numbers["openings"] == 2
    assert found.passed


MODULE = """
import numpy as np

def dot(queries, gallery):
    return queries @ gallery.T

def cheat(queries, gallery):
    return queries @ gallery.T + 9 * np.eye(len(queries), len(gallery))

def made():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(12, 4))
    return {"decoder": dot, "test": gallery, "gallery": gallery, "answers": range(12)}

def analysis():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    def pipeline(x, y, train, test):
        x = x - x.mean(axis=0)
        return x[test] @ np.array([x[train][y[train] == k].mean(axis=0) for k in (0, 1)]).T
    return {"pipeline": pipeline, "signals": x, "labels": y,
            "folds": [(np.arange(30), np.arange(30, 40))]}

def nothing():
    return {"what": 1}

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(12, 4))
    queries = gallery + 0.1 * rng.normal(size=(12, 4))
    np.savez(tmp_path / "data.npz", queries=queries, gallery=gallery, answers=np.arange(12))
    np.savez(tmp_path / "half.npz", queries=queries)
    monkeypatch.chdir(tmp_path)
    return name


def test_named_callables(module: str) -> None:
    assert audit_callable(f"{module}:dot", "data.npz").passed
    assert "gallery order" in failed(audit_callable(f"{module}:cheat", "data.npz"))
    assert audit_callable(f"{module}:made").passed
    assert audit_callable(f"{module}:made").name == f"{module}:made"
    assert failed(audit_target(f"{module}:analysis")) == {"other test trials replaced"}


@pytest.mark.parametrize(
    ("target", "data", "message"),
    [
        ("{m}:dot", None, "needs data"),
        ("{m}:dot", "half.npz", "lacks gallery"),
        ("{m}:dot", "none.npz", "cannot be read"),
        ("{m}:nothing", None, "does not say what to audit"),
        ("{m}:number", None, "no callable 'number'"),
        ("no_such_module_here:f", None, "cannot import"),
        ("nowhere", None, "neither a run folder nor"),
    ],
)
def test_what_cannot_be_audited_is_named(
    module: str, target: str, data: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        audit_target(target.format(m=module), data)
