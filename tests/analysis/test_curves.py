"""Curves over gallery, repetitions and concepts, and categories, against sampling and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.analysis.categories import category_accuracy, confusion_matrix
from phosphene.analysis.curves import concept_curve, gallery_curve, repetition_curve
from phosphene.errors import DataError, LeakError
from phosphene.evaluation.retrieval import n_way_curve, score
from phosphene.evaluation.similarity import Similarity
from phosphene.evaluation.statistics import bootstrap_interval, group_interval
from phosphene.methods.ridge import Ridge
from phosphene.testing import TinyProblem, tiny_problem


def ranked(n: int = 12, gallery: int = 15, seed: int = 0, subjects: int = 1) -> Similarity:
    """Scores with ties."""
    rng = np.random.default_rng(seed)
    ids = [f"c{i:02d}/a.png" for i in range(gallery)]
    matrix = rng.integers(0, 6, size=(n * subjects, gallery)).astype(float)
    rows = np.arange(n * subjects)
    matrix[rows, rows % n] += 2
    queries = pd.DataFrame(
        {
            "subject": np.repeat([f"{s:02d}" for s in range(subjects)], n),
            "stimulus": [ids[i % n] for i in rows],
            "concept": [ids[i % n].split("/")[0] for i in rows],
        }
    )
    return Similarity(matrix, queries, ids, [name.split("/")[0] for name in ids])


@pytest.mark.parametrize("k", [1, 5])
def test_gallery_curve_is_what_sampling_of_galleries_tends_to(k: int) -> None:
    scores = ranked()
    sizes = [2, 4, 9, 15]
    found = gallery_curve(score(scores), sizes, k=k)
    rng = np.random.default_rng(1)
    matrix = scores.matrix
    draws = 4000
    for size, value in zip(sizes, found["value"], strict=True):
        total = 0.0
        for row, true in enumerate(scores.true_columns):
            others = np.delete(np.arange(15), true)
            picked = rng.permuted(np.tile(others, (draws, 1)), axis=1)[:, : size - 1]
            # Ties in random order, by noise that is smaller than any difference.
            jitter = 0.1 * rng.random((draws, size))
            rivals = matrix[row, picked] + jitter[:, 1:]
            own = matrix[row, true] + jitter[:, :1]
            total += ((rivals > own).sum(axis=1) < k).mean()
        assert value == pytest.approx(total / len(matrix), abs=0.01), size
    np.testing.assert_allclose(found["chance"], np.minimum(k / np.asarray(sizes), 1))


def test_gallery_curve_agrees_with_the_n_way_curve_and_its_ends() -> None:
    table = score(ranked(subjects=3))
    found = gallery_curve(table)
    np.testing.assert_allclose(found["value"], n_way_curve(table)["accuracy"])
    assert found["value"].iloc[-1] == pytest.approx(table["top1"].mean())
    low, high = group_interval(table, "top1", bounds=(0.0, 1.0))
    assert found["low"].iloc[-1] == pytest.approx(low, abs=0.03)
    assert found["high"].iloc[-1] == pytest.approx(high, abs=0.03)
    one = score(ranked())
    ends = bootstrap_interval(one["top1"].to_numpy())
    last = gallery_curve(one).iloc[-1]
    assert (last["low"], last["high"]) == pytest.approx(ends, abs=0.04)
    for bad in ([1], [16]):
        with pytest.raises(DataError, match="between 2 and the size"):
            gallery_curve(one, bad)
    with pytest.raises(DataError, match="one gallery"):
        gallery_curve(one.assign(n_gallery=np.arange(12)))


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=0.08)


@pytest.fixture(scope="module")
def fitted(problem: TinyProblem) -> Ridge:
    return Ridge().fit(problem.train, problem.bank)


def test_repetitions_use_every_trial_once(problem: TinyProblem, fitted: Ridge) -> None:
    found = repetition_curve(fitted, problem.test, problem.bank, metric="two_way")
    assert found["repetitions"].tolist() == [1, 2, 4]
    assert found["draws"].tolist() == [4, 2, 1]
    assert found["value"].is_monotonic_increasing
    assert found["value"].iloc[-1] > found["value"].iloc[0] + 0.03
    whole = fitted.evaluate(problem.test, problem.bank).table
    assert found["value"].iloc[-1] == pytest.approx(whole["two_way"].mean())
    # Single trials: all of them count, each once.
    single = fitted.similarity(problem.test, problem.bank, ids=problem.test.stimuli)
    assert found["value"].iloc[0] == pytest.approx(score(single)["two_way"].mean())
    capped = repetition_curve(fitted, problem.test, problem.bank, [1], max_draws=2)
    assert capped["draws"].tolist() == [2]
    three = repetition_curve(fitted, problem.test, problem.bank, [3])
    assert three["draws"].tolist() == [1]


def test_repetitions_that_are_not_there_are_refused(problem: TinyProblem, fitted: Ridge) -> None:
    with pytest.raises(DataError, match="not so many repetitions"):
        repetition_curve(fitted, problem.test, problem.bank, [5])
    with pytest.raises(DataError, match="needs single trials"):
        repetition_curve(fitted, problem.test.average(), problem.bank)
    with pytest.raises(DataError, match="every fold has a decoder"):
        repetition_curve([fitted, fitted], problem.test, problem.bank)
    twice = repetition_curve([fitted, fitted], [problem.test] * 2, problem.bank)
    once = repetition_curve(fitted, problem.test, problem.bank)
    np.testing.assert_allclose(twice["value"], once["value"])


def test_more_concepts_help_and_all_of_them_give_the_decoder() -> None:
    tiny = tiny_problem(snr=0.1)
    found = concept_curve(tiny.train, tiny.test, tiny.bank, metric="two_way")
    assert found["concepts"].tolist() == [5, 10, 20, 40]
    assert found["draws"].tolist() == [3, 3, 3, 1]
    assert found["value"].iloc[-1] > found["value"].iloc[0] + 0.1
    assert np.isfinite(found["spread"].iloc[:-1]).all()
    whole = Ridge().fit(tiny.train, tiny.bank).evaluate(tiny.test, tiny.bank)
    assert found["value"].iloc[-1] == pytest.approx(whole.table["two_way"].mean())
    again = concept_curve(tiny.train, tiny.test, tiny.bank, [10], metric="two_way")
    assert again["value"].iloc[0] == found["value"].iloc[1]
    with pytest.raises(DataError, match="no such number"):
        concept_curve(tiny.train, tiny.test, tiny.bank, [41])
    with pytest.raises(LeakError):
        concept_curve(tiny.test, tiny.test, tiny.bank)


def test_category_accuracy_by_hand() -> None:
    table = pd.DataFrame(
        {
            "subject": ["01"] * 4 + ["02"] * 4,
            "stimulus": ["a", "b", "c", "d"] * 2,
            "concept": ["cat", "dog", "car", "bus"] * 2,
            "top1": [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
            "n_gallery": 4,
        }
    )
    kinds = {"cat": "animal", "dog": "animal", "car": "vehicle", "bus": "vehicle"}
    found = category_accuracy(table, kinds).set_index("category")
    assert found["value"].to_dict() == {"animal": 0.75, "vehicle": 0.75}
    assert found["stimuli"].tolist() == [2, 2]
    assert found["queries"].tolist() == [4, 4]
    assert (found["chance"] == 0.25).all()
    assert ((found["low"] <= 0.75) & (found["high"] >= 0.75)).all()
    each = category_accuracy(table)
    assert each["category"].tolist() == ["car", "cat", "bus", "dog"]
    assert each["low"].isna().all()
    with pytest.raises(DataError, match="1 concepts have no category: bus"):
        category_accuracy(table, {k: v for k, v in kinds.items() if k != "bus"})
    with pytest.raises(DataError, match="no queries"):
        category_accuracy(table.iloc[:0])


def test_confusion_agrees_with_the_best_candidates_and_shares_ties() -> None:
    scores = ranked(seed=3, subjects=2)
    kinds = {f"c{i:02d}": "xyz"[i % 3] for i in range(15)}
    found = confusion_matrix(scores, kinds)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    expected = pd.DataFrame(0.0, index=list("xyz"), columns=list("xyz"))
    for row, concept in zip(scores.matrix, scores.queries["concept"], strict=True):
        best = np.flatnonzero(row == row.max())
        for column in best:
            expected.loc[kinds[concept], "xyz"[column % 3]] += 1 / len(best)
    expected = expected.div(expected.sum(axis=1), axis=0)
    np.testing.assert_allclose(found, expected)
    assert found.attrs["chance"] == pytest.approx({"x": 1 / 3, "y": 1 / 3, "z": 1 / 3})
    # A constant decoder is at chance in every row.
    constant = Similarity(np.ones((24, 15)), scores.queries, scores.gallery_ids,
                          scores.gallery_concepts)  # fmt: skip
    np.testing.assert_allclose(confusion_matrix(constant, kinds), 1 / 3)
    # Candidates that were never seen have a column, not a row.
    assert confusion_matrix(scores).shape == (12, 15)
    with pytest.raises(DataError, match="needs the concepts"):
        confusion_matrix(Similarity(scores.matrix, scores.queries, scores.gallery_ids))
