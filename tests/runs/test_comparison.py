"""Which runs belong together, and which cannot be compared."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from phosphene.config import load_recipe
from phosphene.errors import ArtefactError, DataError, NotFittedError
from phosphene.evaluation.result import Result
from phosphene.runs import evaluate, fit
from phosphene.runs.comparison import _common, _require_same_people, collect, compare


def run(recipe: Path, out: Path, *overrides: str) -> Path:
    fitted = fit(load_recipe(recipe, overrides), out, progress=False)
    evaluate(fitted, progress=False)
    return out


@pytest.fixture(scope="module")
def other(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with one channel and a penalty that is too strong for it."""
    out = tmp_path_factory.mktemp("other") / "weak"
    change = "method.params.alphas=[100000.0]"
    return run(tiny, out, change, "data.channels=[O1]", "name=another name")


def test_runs_side_by_side(fitted: Path, other: Path) -> None:
    found = compare([fitted, other], metrics=["top1", "mrr"])
    table = found.tables["inductive"]
    assert table["result"].tolist() == ["ridge (fitted)", "ridge (weak)"] * 2
    ours, theirs = Result.load(fitted), Result.load(other)
    assert table["value"].tolist() == [ours.top1, theirs.top1, ours.mrr, theirs.mrr]
    assert theirs.top1 < ours.top1
    assert table["difference"].iloc[1] == pytest.approx(theirs.top1 - ours.top1)
    assert table["difference"].iloc[3] == pytest.approx(theirs.mrr - ours.mrr)
    assert "channels or voxels differs: ridge (fitted) 8; ridge (weak) 1" in found.notes
    assert not any(note.startswith("dataset") for note in found.notes)


def test_other_recordings_are_another_dataset(fitted: Path, own: Path, tmp_path: Path) -> None:
    elsewhere = run(own, tmp_path / "elsewhere")
    with pytest.raises(DataError) as caught:
        compare([fitted, elsewhere])
    found = str(caught.value)
    assert found.startswith("these results cannot be put side by side: dataset differs")
    assert str(fitted.parent / "eeg") in found
    assert str(own.parent / "eeg") in found


def test_subjects_and_seeds_of_one_method_are_pooled(tiny: Path, tmp_path: Path) -> None:
    parts = [
        run(tiny, tmp_path / f"{who}-{seed}", f"evaluation.subjects=['{who}']", f"seed={seed}",
            f"name=part {who} {seed}")
        for who in ("01", "02") for seed in (0, 1)
    ]  # fmt: skip
    pooled = collect(parts)
    assert list(pooled) == ["ridge"]
    result = pooled["ridge"]
    assert (result.subjects, result.seeds) == (["01", "02"], [0, 1])
    assert len(result.table) == sum(len(Result.load(part).table) for part in parts)
    tops = [Result.load(part).top1 for part in parts]
    assert result.top1 == pytest.approx(np.mean(tops))


def test_other_protocols_are_refused_and_named(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    fewer = run(tiny, tmp_path / "fewer", "evaluation.repetitions=1")
    with pytest.raises(DataError) as caught:
        compare([fitted, fewer])
    assert "repetitions averaged at test: ridge (fitted) 3; ridge (fewer) 1" in str(caught.value)


def test_transductive_runs_stand_apart(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    matched = run(tiny, tmp_path / "matched", "evaluation.transductive=[hungarian]")
    found = compare([fitted, matched], metrics=["top1"])
    assert list(found.tables) == ["inductive", "transductive: hungarian"]
    assert [len(table) for table in found.tables.values()] == [1, 1]


def test_people_of_another_seed_are_other_people(fitted: Path) -> None:
    def config(seed: int, data_seed: int | None = None) -> dict[str, object]:
        return {"seed": seed, "data": {"kind": "simulated", "world": "quick", "seed": data_seed}}

    assert _common(config(0)) != _common(config(1))
    assert _common(config(0, 5)) == _common(config(1, 5))
    drawn = {"seed": 0, "data": {"kind": "recording"}, "split": {"kind": "concept", "seed": None}}
    assert _common(drawn) != _common({**drawn, "seed": 1})
    base = Result.load(fitted)
    results = {f"seed {s}": dataclasses.replace(base, config=config(s)) for s in (0, 1)}
    with pytest.raises(DataError, match="seed of the data: seed 0 0; seed 1 1"):
        _require_same_people(results)
    same = {f"seed {s}": dataclasses.replace(base, config=config(s, 7)) for s in (0, 1)}
    _require_same_people(same)


def test_folders_that_are_no_finished_runs(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    fit(load_recipe(tiny), trained, progress=False)
    with pytest.raises(NotFittedError, match="phosphene evaluate"):
        compare([fitted, trained])
    with pytest.raises(ArtefactError, match="no such folder"):
        compare([tmp_path / "nothing"])
    with pytest.raises(DataError, match="named twice"):
        compare([fitted, fitted])
    with pytest.raises(DataError, match="no run"):
        compare([])
    damaged = tmp_path / "damaged"
    shutil.copytree(fitted, damaged)
    (damaged / "queries.csv").write_text("half a fi")
    with pytest.raises(ArtefactError, match=r"queries\.csv"):
        compare([damaged])


def test_the_same_run_under_two_names_is_no_second_seed(fitted: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(fitted, again)
    with pytest.raises(DataError, match="more than once"):
        compare([fitted, again])


def test_saved_results_are_compared_too(fitted: Path, other: Path, tmp_path: Path) -> None:
    saved = dataclasses.replace(Result.load(other), name="saved").save(tmp_path / "saved")
    found = compare([fitted, saved], metrics=["top1"], baseline="saved")
    assert found.tables["inductive"]["result"].tolist() == ["ridge", "saved"]
