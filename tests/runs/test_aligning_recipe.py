"""The recipe for GOD on miniatures of its files: seen and imagined images, controls, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.config import load_alignment_recipe
from phosphene.data.readers.god import read_god, read_god_features
from phosphene.errors import DataError, LeakError, RecipeError
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods.alignment_table import ROWS
from phosphene.methods.brain_alignment import BrainAligner
from phosphene.runs.aligning_recipe import align_recipe
from phosphene.testing.layouts import write_god

RECIPE = Path(__file__).parents[2] / "recipes" / "god" / "brain_alignment.yaml"
PEOPLE, N_TRAIN, N_TEST = ("01", "02", "03"), 24, 6
QUICK = (
    "data.params.strict=false", "region=LOC", "regions=[V1, LOC]", "alphas=[1, 0.01]", "draws=2",
    "clusters=3", "decoder.voxels=12", "others.autoencoder.epochs=4", "others.residual.epochs=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("god")
    for subject in (1, 2, 3):
        write_god(folder, subject=subject, categories=(N_TRAIN, N_TEST))
    return folder


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("aligned") / "out"
    changes = [word for change in (f"data.root={root}", *QUICK) for word in ("--set", change)]
    ended = CliRunner().invoke(app, ["align", str(RECIPE), *changes, "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    return out, ended.stdout


def run(root: Path, out: Path, *more: str) -> Any:
    return align_recipe(load_alignment_recipe(RECIPE, [f"data.root={root}", *QUICK, *more]), out)


def test_seen_and_imagined_are_rows_of_their_own_with_every_control(done: Any) -> None:
    out, printed = done
    table = pd.read_csv(out / "alignment.csv")
    assert list(dict.fromkeys(table["modality"])) == ["seen", "imagined"]
    for _, part in table.groupby("modality"):
        assert list(dict.fromkeys(part["row"])) == [
            "aligned", "autoencoder", "residual", *ROWS[1:],
        ]  # fmt: skip
    means = table[table["score"] == "identification"].set_index(["modality", "row"])["mean"]
    # The miniature answers linearly to the vectors, to imagined ones at .4 of the strength.
    assert means["seen", "centred"] > 0.85
    assert 0.6 < means["imagined", "centred"] <= means["seen", "centred"]
    assert "seen images" in printed
    assert "imagined images, identification:" in printed
    assert "statistics.csv" in printed
    grid = pd.read_csv(out / "grid.csv", dtype={"subject": str})
    assert set(grid["region"]) == {"V1", "LOC"}
    assert set(grid["subject"]) == set(PEOPLE)
    tests = pd.read_csv(out / "statistics.csv")
    assert set(tests["where"]) == {"V1", "LOC", "seen", "imagined"}
    protocol = json.loads((out / "protocol.json").read_text())
    assert protocol["simulated"] is False
    seen = protocol["modalities"]["seen"]
    assert (seen["dataset"], seen["n_channels"], seen["test_repetitions"]) == ("god", 20, 6)
    assert protocol["modalities"]["imagined"]["test_repetitions"] == 2
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "imagined images" in page
    assert "simulated data" not in page.lower()


def test_scores_by_hand(done: Any, root: Path) -> None:
    """Person 02, imagined, aligned to the others at alpha .01: from the files to the score."""
    features = read_god_features(root / "ImageFeatures.h5", "cnn8", ("train", "test"))
    of = pd.DataFrame(features.vectors.astype(float)).groupby(np.array(features.concepts)).mean()
    names = sorted(n for n in of.index if n.startswith("n014")) + sorted(
        n for n in of.index if n.startswith("n024")
    )
    y = of.loc[names].to_numpy()
    wrong = read_god_features(root / "ImageFeatures.h5", "cnn8", ("candidate",))
    free = [i for i, c in enumerate(wrong.concepts) if c not in names]
    assert len(free) == 6  # of seven candidates one was shown

    def patterns(subject: str, condition: str) -> np.ndarray:
        recording = read_god(root / f"Subject{int(subject)}.h5", "all", roi="LOC", strict=False)
        trials = recording.trials
        kept = (trials["split"] == "train") | (trials["condition"] == condition)
        x = pd.DataFrame(recording.signals[kept].astype(float))
        x = x.groupby(trials.loc[kept, "concept"].to_numpy()).mean().loc[names].to_numpy()
        return (x - x[:N_TRAIN].mean(axis=0)) / x[:N_TRAIN].std(axis=0)

    brain = {s: similarity_matrix(patterns(s, "seen"))[:N_TRAIN, :N_TRAIN] for s in ("01", "03")}
    aligner = BrainAligner(alpha=[1, 0.01]).fit(y[:N_TRAIN], brain, categories=names[:N_TRAIN])
    z, w = aligner.transform(y), aligner.transform(wrong.vectors[free])
    x = patterns("02", "imagined")
    decoded = np.empty((N_TEST, z.shape[1]))
    for unit in range(z.shape[1]):
        target = z[:N_TRAIN, unit].astype(float)
        r = [abs(np.corrcoef(x[:N_TRAIN, j], target)[0, 1]) for j in range(20)]
        some = np.argsort(r)[-12:]
        inputs, centre = x[:N_TRAIN][:, some], target.mean()
        gram = inputs.T @ inputs + 100 * np.eye(12)
        decoded[:, unit] = (
            x[N_TRAIN:][:, some] @ np.linalg.solve(gram, inputs.T @ (target - centre)) + centre
        )
    queries = pd.read_csv(done[0] / "queries.csv", dtype={"subject": str})
    chosen = (queries["modality"] == "imagined") & (queries["row"] == "aligned")
    mine = queries[chosen & (queries["subject"] == "02")].set_index("stimulus").loc[names[N_TRAIN:]]
    r = [np.corrcoef(p, t)[0, 1] for p, t in zip(decoded, z[N_TRAIN:], strict=True)]
    np.testing.assert_allclose(mine["correlation"], r, atol=1e-3)
    share = [
        np.mean([np.corrcoef(p, c)[0, 1] < own for c in w])
        for p, own in zip(decoded, r, strict=True)
    ]
    np.testing.assert_allclose(mine["identification"], share, atol=1e-6)


def test_an_interrupted_run_continues(done: Any, root: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    before = (out / "alignment.csv").read_bytes()
    (out / "alignment.csv").unlink()
    recipe = load_alignment_recipe(RECIPE, [f"data.root={root}", *QUICK])
    said: list[str] = []
    align_recipe(recipe, out, say=said.append)
    assert sum("was done before" in line for line in said) == 4
    assert (out / "alignment.csv").read_bytes() == before


def test_vectors_from_tables_need_every_category(root: Path, tmp_path: Path) -> None:
    features = read_god_features(root / "ImageFeatures.h5", "cnn8", ("train", "test"))
    of = pd.DataFrame(features.vectors.astype(float)).groupby(np.array(features.concepts)).mean()
    others = pd.DataFrame(
        np.random.default_rng(0).standard_normal((9, 12)), index=list("abcdefghi")
    )
    of.iloc[:-2].to_csv(tmp_path / "y.csv", index_label="category")
    others.to_csv(tmp_path / "w.csv", index_label="category")
    given = f"vectors={{kind: csv, path: {tmp_path / 'y.csv'}, candidates: {tmp_path / 'w.csv'}}}"
    with pytest.raises(DataError, match="have no vectors") as error:
        run(root, tmp_path / "out", given)
    assert "2 missing: " + ", ".join(of.index[-2:]) in str(error.value)
    of.to_csv(tmp_path / "y.csv", index_label="category")
    others.iloc[:, :5].to_csv(tmp_path / "w.csv", index_label="category")
    with pytest.raises(DataError, match="differ in width"):
        run(root, tmp_path / "out", given)
    of.iloc[:3].to_csv(tmp_path / "w.csv", index_label="category")
    with pytest.raises(LeakError, match="candidates"):
        run(root, tmp_path / "out", given)
    assert not (tmp_path / "out").exists()


def relabel(path: Path, old: int, new: int) -> None:
    """Trials of one category of the test become those of another."""
    with h5py.File(path, "r+") as file:
        keys = [key.decode() for key in file["metadata/key"][:]]
        column = keys.index("stimulus_id")
        data = file["dataset"][:]
        rows = np.floor(data[:, column]) == old
        assert rows.any()
        data[rows, column] += new - old
        file["dataset"][...] = data


def test_test_categories_in_training_are_refused(tmp_path: Path) -> None:
    for subject in (1, 2):
        path = write_god(tmp_path / "god", subject=subject, categories=(N_TRAIN, N_TEST))
        relabel(path, 2440000, 1440000)
    with pytest.raises(LeakError, match="among those of training") as error:
        run(tmp_path / "god", tmp_path / "out")
    assert "n01440000" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_too_few_categories_or_people_and_missing_regions_are_refused(
    root: Path, tmp_path: Path
) -> None:
    for subject in (1, 2):
        write_god(tmp_path / "few", subject=subject, categories=(19, 6))
    for where, change, words in (
        (tmp_path / "few", "seed=0", "19 for training"),
        (root, "data.subject=2", "two or more"),
        (root, "regions=[V1, FFA]", "no FFA; it has V1, V2, LOC, VC"),
        (root, "vectors.layer=fc9", "fc9"),
        (root, "others.residual.alpha=5", "alpha of an aligner"),
        (root, "others.pca.alpha=1", "names of their own"),
        (root, "aligner.variant=cubic", "cubic"),
        (tmp_path / "nowhere", "seed=0", "nowhere"),
    ):
        with pytest.raises(DataError) as error:
            run(where, tmp_path / "out", change)
        assert words in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("aligner.varant=linear", "did you mean 'variant'"),
        ("others.pls.alfa=1", "others.pls.alfa"),
        ("aligner.alpha=1", "alpha is given by alphas"),
        ("alphas=[0.1, 0.1]", "alphas are different numbers"),
        ("alphas=[2]", "from 0 to 1"),
        ("decoder.name=lasso", "'ridge', 'ols' or 'pls'"),
        ("vectors.kind=word2vec", "god, csv, bank"),
        ("regins=[V1]", "did you mean 'regions'"),
        ("data.params.prt=all", "data.params.prt"),
    ],
)
def test_wrong_keys_are_named(change: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_alignment_recipe(RECIPE, [change])
    assert words in str(error.value)


def test_a_recipe_is_not_mixed_with_tables(root: Path, tmp_path: Path) -> None:
    def call(*words: str) -> str:
        ended = CliRunner().invoke(app, ["align", *words, "--out", str(tmp_path / "out")])
        assert ended.exit_code == 2, ended.output
        return ended.stderr

    assert "a recipe says" in call(str(RECIPE), "--rsm", "a.csv")
    assert "a recipe says" in call(str(RECIPE), "--variant", "residual")
    assert "--demo has data" in call("--demo", "--set", "seed=1")
    assert "--set changes a recipe" in call("vectors.csv", "--rsm", "a.csv", "--set", "seed=1")
    assert "there is no recipe" in call(str(tmp_path / "none.yaml"))
