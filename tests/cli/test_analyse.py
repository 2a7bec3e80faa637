"""``phosphene analyse`` writes tables, figures and a page, and refuses with reasons."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.config import load_recipe
from phosphene.data.recording import Recording
from phosphene.runs import fit

runner = CliRunner()


def call(*words: object) -> Any:
    return runner.invoke(app, [str(word) for word in words])


FILES = {
    "time": {"time.csv", "time.png", "time-generalisation.csv", "time-generalisation.png"},
    "space": {
        *("space-sensors.csv", "space-sensors.png", "space-bands.csv", "space-bands.png"),
        *("space-patterns.csv", "space-patterns.png"),
    },
    "curves": {
        *("curves-gallery.csv", "curves-gallery.png", "curves-repetitions.csv"),
        *("curves-repetitions.png", "curves-concepts.csv", "curves-concepts.png"),
    },
    "categories": {
        *("categories.csv", "categories.png"),
        *("categories-confusion.csv", "categories-confusion.png"),
    },
    "rsa": {
        *("rsa-brain.csv", "rsa-brain.png", "rsa-decoded.csv", "rsa-decoded.png"),
        *("rsa-rdms.csv", "rsa-rdms.png"),
    },
}


@pytest.fixture(scope="module")
def found(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All analyses of the tiny run, each into a folder of its own."""
    folder = tmp_path_factory.mktemp("analyses") / "new"
    before = {path: path.read_bytes() for path in fitted.rglob("*") if path.is_file()}
    for what in FILES:
        done = call("analyse", fitted, "--what", what, "--out", folder / what)
        assert done.exit_code == 0, done.output
        assert f"written to {folder / what / what}.html" in done.stdout
    # The run folder is as it was: an analysis is no evaluation.
    assert before == {path: path.read_bytes() for path in fitted.rglob("*") if path.is_file()}
    return folder


@pytest.mark.parametrize("what", FILES)
def test_every_analysis_writes_its_files(found: Path, what: str) -> None:
    folder = found / what
    assert {path.name for path in folder.iterdir()} == FILES[what] | {f"{what}.html"}
    page = (folder / f"{what}.html").read_text()
    assert "Protocol:" in page
    assert page.count("<img") == sum(name.endswith(".png") for name in FILES[what])
    assert all(len(pd.read_csv(folder / n)) for n in FILES[what] if n.endswith(".csv"))


def test_numbers_agree_with_the_result(fitted: Path, found: Path) -> None:
    queries = pd.read_csv(fitted / "queries.csv")
    whole = pd.read_csv(found / "space" / "space-sensors.csv").set_index("part").loc["everything"]
    assert whole["value"] == pytest.approx(queries["top1"].mean())
    gallery = pd.read_csv(found / "curves" / "curves-gallery.csv")
    assert gallery["value"].iloc[-1] == pytest.approx(queries["top1"].mean())
    assert gallery["value"].iloc[0] == pytest.approx(queries["two_way"].mean())
    repetitions = pd.read_csv(found / "curves" / "curves-repetitions.csv")
    assert repetitions["repetitions"].tolist() == [1, 2, 3]
    assert repetitions["value"].iloc[-1] == pytest.approx(queries["top1"].mean())


def test_the_trained_decoder_is_used_where_it_is_not_refitted(fitted: Path, tmp_path: Path) -> None:
    options = ("--how", "test", "--mode", "keep", "--metric", "two_way")
    assert call("analyse", fitted, "--what", "space", "--out", tmp_path, *options).exit_code == 0
    table = pd.read_csv(tmp_path / "space-sensors.csv").set_index("part")
    assert set(table["how"]) == {"test"}
    assert set(table["n"].iloc[1:]) == {1}
    assert (table["value"].iloc[1:] <= table.loc["everything", "value"] + 1e-9).all()


def test_categories_come_from_a_table(fitted: Path, tmp_path: Path) -> None:
    queries = pd.read_csv(fitted / "queries.csv")
    names = sorted(queries["concept"].unique())
    kinds = pd.DataFrame({"concept": names, "category": ["a", "b", "a", "b", "a"]})
    kinds.to_csv(tmp_path / "kinds.csv", index=False)
    options = ("--what", "categories", "--categories", tmp_path / "kinds.csv")
    done = call("analyse", fitted, *options, "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "found" / "categories.csv").set_index("category")
    both = queries.merge(kinds, on="concept").groupby("category")["top1"].mean()
    np.testing.assert_allclose(found["value"].sort_index(), both)
    kinds.iloc[1:].to_csv(tmp_path / "kinds.csv", index=False)
    done = call("analyse", fitted, *options, "--out", tmp_path / "found")
    assert done.exit_code == 2
    assert names[0] in done.stderr
    kinds.rename(columns={"category": "kind"}).to_csv(tmp_path / "kinds.csv", index=False)
    done = call("analyse", fitted, *options, "--out", tmp_path / "found")
    assert "lacks the column category" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--what", "mind"), "there is no analysis 'mind'"),
        (("--what", "time", "--window", "3"), "longer than the recording's epochs"),
        (("--what", "time", "--window", "0"), "longer than 0 s"),
        (("--what", "time", "--metric", "accuracy"), "'accuracy' is no score"),
        (("--what", "curves", "--metric", "accuracy"), "'accuracy' is no score"),
        (("--what", "space", "--mode", "leave"), "there is no mode 'leave'"),
        (("--what", "space", "--how", "guess"), "there is no how='guess'"),
        (("--what", "time", "--decoder", "svm"), "there is no decoder 'svm'"),
        (("--what", "rsa", "--rdm", "angle"), "unknown metric of an RDM"),
        (("--what", "rsa", "--compare", "eye"), "unknown comparison"),
    ],
)
def test_what_cannot_be_done_is_refused(
    fitted: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = call("analyse", fitted, *options, "--out", tmp_path / "found")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "found").exists()


def test_a_run_is_analysed_after_its_evaluation_only(tiny: Path, tmp_path: Path) -> None:
    fit(load_recipe(tiny), tmp_path / "run", progress=False)
    done = call("analyse", tmp_path / "run", "--what", "time", "--out", tmp_path / "found")
    assert done.exit_code == 2
    assert "not evaluated yet" in done.stderr
    assert "phosphene evaluate" in done.stderr


def test_what_a_run_cannot_give_is_said(tiny: Path, tmp_path: Path) -> None:
    """Averages of voxels without regions: no time, no space, no curve over repetitions."""
    home = tmp_path / "own"
    shutil.copytree(tiny.parent / "bank", home / "bank")
    shutil.copy(tiny, home / "recipe.yaml")
    eeg = Recording.load(tiny.parent / "eeg")
    voxels = eeg.signals.reshape(eeg.n_trials, -1)
    table = eeg.trials[["stimulus", "subject", "run", "split", "repetition"]]
    Recording.from_arrays(voxels, table, modality="fmri").average().save(home / "eeg")
    run = tmp_path / "run"
    assert call("fit", home / "recipe.yaml", "--out", run).exit_code == 0
    assert call("evaluate", run).exit_code == 0
    done = call("analyse", run, "--what", "time", "--out", tmp_path / "found")
    assert done.exit_code == 2
    assert "has no time axis" in done.stderr
    done = call("analyse", run, "--what", "space", "--out", tmp_path / "found")
    assert done.exit_code == 2
    assert "without regions" in done.stderr
    assert not (tmp_path / "found").exists()
    done = call("analyse", run, "--what", "curves", "--out", tmp_path / "found")
    assert done.exit_code == 0, done.output
    assert "note: Not for this run: a curve over repetitions needs single trials." in done.stdout
    files = {path.name for path in (tmp_path / "found").iterdir()}
    missing = {"curves-repetitions.csv", "curves-repetitions.png"}
    assert files == FILES["curves"] - missing | {"curves.html"}
    assert "needs single trials" in (tmp_path / "found" / "curves.html").read_text()
