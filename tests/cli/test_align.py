"""``phosphene align`` on files, and ``phosphene name``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods.alignment_table import ROWS, alignment_table
from phosphene.methods.brain_alignment import BrainAligner
from phosphene.simulation.rsm_world import RSMWorld, rsm_world

N_TRAIN, N_TEST = 30, 8
runner = CliRunner()


def call(*words: object) -> Any:
    return runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def world() -> RSMWorld:
    return rsm_world(n_train=N_TRAIN, n_test=N_TEST, n_candidates=5, n_subjects=3)


@pytest.fixture
def files(world: RSMWorld, tmp_path: Path) -> Path:
    """``vectors.csv``, ``subject1.csv`` and so on, ``test.txt``; one RSM is in another order."""
    names = list(world.categories)
    vectors = pd.DataFrame(world.vectors[:, :16], index=names)
    vectors.to_csv(tmp_path / "vectors.csv", index_label="category")
    for subject, x in world.responses.items():
        rsm = pd.DataFrame(similarity_matrix(x), index=names, columns=names)
        if subject == "subject2":
            rsm = rsm.loc[names[::-1], names[3:] + names[:3]]
        rsm.to_csv(tmp_path / f"{subject}.csv")
    (tmp_path / "test.txt").write_text("\n".join(names[N_TRAIN:]) + "\n")
    return tmp_path


def align(files: Path, *more: object, people: int = 3) -> Any:
    rsms = [word for k in range(people) for word in ("--rsm", files / f"subject{k + 1}.csv")]
    return call("align", files / "vectors.csv", *rsms, "--out", files / "out", *more)


def test_files_are_aligned_and_compared_as_from_python(files: Path, world: RSMWorld) -> None:
    done = align(files, "--test", files / "test.txt")
    assert done.exit_code == 0, done.output
    vectors = world.vectors[:, :16].astype(float)
    brain = {s: similarity_matrix(x) for s, x in world.responses.items()}
    names = list(world.categories)
    expected = alignment_table(
        BrainAligner(), vectors, brain, train=world.train, test=world.test, categories=names,
        draws=10,
    )  # fmt: skip
    table = pd.read_csv(files / "out" / "alignment.csv")
    assert list(dict.fromkeys(table["row"])) == list(ROWS)
    found = table.pivot_table(index="row", columns="score", values="mean").loc[list(ROWS)]
    pd.testing.assert_frame_equal(
        found[expected.scores], expected.means(), rtol=2e-3, check_names=False
    )
    assert "rsa test" in done.stdout
    assert "shuffled" in done.stdout
    # The aligner that is kept was fitted to all people, and to training categories only.
    kept = BrainAligner.from_pretrained(files / "out" / "aligner")
    assert kept.categories_ == names[:N_TRAIN]
    assert set(kept.weights_) == {"subject1", "subject2", "subject3"}
    train = np.arange(N_TRAIN)
    again = BrainAligner().fit(
        vectors[train], {s: rsm[np.ix_(train, train)] for s, rsm in brain.items()}
    )
    aligned = pd.read_csv(files / "out" / "aligned.csv", index_col="category")
    assert list(aligned.index) == names
    np.testing.assert_allclose(aligned, again.transform(vectors), rtol=1e-2, atol=1e-3)


def test_without_test_categories_all_are_used(files: Path) -> None:
    done = align(files, people=1)
    assert done.exit_code == 0, done.output
    kept = BrainAligner.from_pretrained(files / "out" / "aligner")
    assert (kept.variant, len(kept.categories_ or ())) == ("linear", N_TRAIN + N_TEST)
    assert not (files / "out" / "alignment.csv").exists()


def edit(path: Path, change: Any) -> None:
    table = pd.read_csv(path, index_col=0)
    change(table).to_csv(path)


def missing_word(table: pd.DataFrame) -> pd.DataFrame:
    table.loc["category0004"] = np.nan
    return table


def lopsided(table: pd.DataFrame) -> pd.DataFrame:
    table.iloc[2, 5] += 0.5
    return table


REFUSED = {
    "missing word": ("vectors.csv", missing_word, "category0004"),
    "missing category": ("vectors.csv", lambda t: t.drop("category0007"), "category0007"),
    "not symmetric": ("subject3.csv", lopsided, "subject3.csv is not symmetric"),
    "other size": ("subject2.csv", lambda t: t.drop("category0009"), "category0009"),
    "twice": ("vectors.csv", lambda t: pd.concat([t, t.iloc[:1]]), "category0000"),
    "distances": ("subject1.csv", lambda t: 1 - t, "distances"),
    "all alike": ("vectors.csv", lambda t: 0 * t + 1, "same for all categories"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_bad_files_are_refused_by_name(files: Path, what: str) -> None:
    name, change, words = REFUSED[what]
    edit(files / name, change)
    done = align(files, "--test", files / "test.txt")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert not (files / "out").exists()


def test_bad_requests_are_refused(files: Path) -> None:
    names = (files / "test.txt").read_text().split()
    (files / "many.txt").write_text("\n".join([*names, *(f"category{i:04d}" for i in range(12))]))
    (files / "odd.txt").write_text("\n".join([*names, "unicorn"]))
    (files / "few.txt").write_text("\n".join(names[:3]))
    for done, words in (
        (align(files, "--test", files / "many.txt"), "too few categories"),
        (align(files, "--test", files / "odd.txt"), "unicorn"),
        (align(files, "--test", files / "few.txt"), "too few test categories"),
        (align(files, "--test", files / "test.txt", people=1), "two or more"),
        (align(files, "--test", files / "nowhere.txt"), "nowhere.txt cannot be read"),
        (align(files, "--variant", "cubic"), "cubic"),
        (align(files, "--rsm", files / "subject1.csv"), "one person: 'subject1'"),
        (align(files, "--demo"), "--demo has data"),
        (align(files, "--quick"), "--quick belongs to --demo"),
        (call("align"), "nothing to align"),
        (call("align", files / "vectors.csv"), "nothing to align"),
        (call("align", "--demo", "--variant", "residual"), "--variant"),
    ):
        assert done.exit_code == 2, done.output
        assert words in done.stderr
    assert not (files / "out").exists()


WORDS = {"dog": [1.0, 0.1, 0.0], "cat": [0.9, 0.4, 0.1], "car": [-1.0, 0.5, 0.0]}


def test_vectors_are_named_in_words(tmp_path: Path) -> None:
    pd.DataFrame(WORDS).T.to_csv(tmp_path / "words.csv")
    decoded = pd.DataFrame({"dog": [1.0, 0.0, 0.0], "car": [0.8, 0.5, 0.1]}).T
    decoded.to_csv(tmp_path / "decoded.csv")
    out = tmp_path / "ranked.csv"
    done = call(
        "name", tmp_path / "decoded.csv", tmp_path / "words.csv", "-k", 2, "--truth", "--out", out
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("dog", "car"))] == [
        ["dog", "dog"], ["car", "cat"],
    ]  # fmt: skip
    # The car was decoded as an animal: one of two is right, with one word as with two.
    assert "among the first 1: 50.0 % of 2 (chance 33.3 %)" in done.stdout
    assert "among the first 2: 50.0 % of 2 (chance 66.7 %)" in done.stdout
    ranked = pd.read_csv(out)
    assert ranked["query"].tolist() == ["dog", "dog", "car", "car"]
    assert ranked["word"].tolist() == ["dog", "cat", "cat", "dog"]
    a, b = np.array([0.8, 0.5, 0.1]), np.array(WORDS["cat"])
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert ranked["cosine"][2] == pytest.approx(expected, abs=1e-6)


def test_naming_refuses_other_spaces_and_unknown_words(tmp_path: Path) -> None:
    pd.DataFrame(WORDS).T.to_csv(tmp_path / "words.csv")
    pd.DataFrame({"dog": [1.0, 0.0]}).T.to_csv(tmp_path / "narrow.csv")
    pd.DataFrame({"yeti": [1.0, 0.0, 2.0]}).T.to_csv(tmp_path / "yeti.csv")
    narrow = call("name", tmp_path / "narrow.csv", tmp_path / "words.csv")
    assert narrow.exit_code == 2
    assert "differ in width" in narrow.stderr
    yeti = call("name", tmp_path / "yeti.csv", tmp_path / "words.csv", "--truth")
    assert yeti.exit_code == 2
    assert "yeti" in yeti.stderr
