from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.evaluation.retrieval import (
    above_and_tied,
    above_and_tied_of_all,
    average_precision,
    expected_ranks,
    n_way_curve,
    reciprocal_ranks,
    score,
    topk_probability,
)
from phosphene.evaluation.similarity import Similarity


def similarity(matrix: object, stimuli: list[str], ids: list[str], **more: object) -> Similarity:
    queries = pd.DataFrame({"stimulus": stimuli})
    for name in ("subject", "concept"):
        if name in more:
            queries[name] = more.pop(name)
    return Similarity(matrix, queries, ids, **more)  # type: ignore[arg-type]


def test_ranks_worked_by_hand() -> None:
    matrix = np.array([[5, 4, 3, 2], [1, 9, 9, 0], [2, 2, 2, 2], [0, 1, 1, 0]], dtype=float)
    true = [0, 2, 3, 0]
    assert expected_ranks(matrix, true).tolist() == [1.0, 1.5, 2.5, 3.5]
    assert topk_probability(matrix, true, 1).tolist() == [1.0, 0.5, 0.25, 0.0]
    assert topk_probability(matrix, true, 3).tolist() == [1.0, 1.0, 0.75, 0.5]
    expected = [1, (1 + 1 / 2) / 2, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, (1 / 3 + 1 / 4) / 2]
    np.testing.assert_allclose(reciprocal_ranks(matrix, true), expected, rtol=1e-12)


def test_ties_are_the_average_over_every_order() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 3, size=(6, 5)).astype(float)
    true = rng.integers(0, 5, size=6)
    relevant = rng.random((6, 5)) < 0.5
    relevant[np.arange(6), true] = True
    orders = [np.array(order) for order in permutations(range(5))]
    rank, top2, reciprocal, precision = np.zeros((4, 6))
    for tie_break in orders:  # a tiny bonus decides between equal scores
        broken = matrix + 1e-3 * tie_break
        place = 1 + (broken > broken[np.arange(6), true][:, None]).sum(axis=1)
        rank += place
        top2 += place <= 2
        reciprocal += 1 / place
        precision += [average_precision_score(r, b) for r, b in zip(relevant, broken, strict=True)]
    n = len(orders)
    np.testing.assert_allclose(expected_ranks(matrix, true), rank / n)
    np.testing.assert_allclose(topk_probability(matrix, true, 2), top2 / n)
    np.testing.assert_allclose(reciprocal_ranks(matrix, true), reciprocal / n)
    np.testing.assert_allclose(average_precision(matrix, relevant), precision / n)


@pytest.mark.parametrize("k", [1, 5])
def test_topk_against_sklearn(k: int) -> None:
    rng = np.random.default_rng(k)
    matrix, true = rng.normal(size=(60, 17)), rng.integers(0, 17, size=60)
    oracle = top_k_accuracy_score(true, matrix, k=k, labels=np.arange(17))
    assert topk_probability(matrix, true, k).mean() == pytest.approx(oracle)


def test_precision_against_sklearn_without_ties() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(40, 15))
    relevant = rng.random((40, 15)) < 0.2
    relevant[:, 0] = True
    found = average_precision(matrix, relevant)
    oracle = [average_precision_score(r, s) for r, s in zip(relevant, matrix, strict=True)]
    np.testing.assert_allclose(found, oracle)
    assert found.mean() == pytest.approx(label_ranking_average_precision_score(relevant, matrix))
    single = np.eye(15, dtype=bool)[rng.integers(0, 15, size=40)]
    np.testing.assert_allclose(
        average_precision(matrix, single), reciprocal_ranks(matrix, single.argmax(axis=1))
    )


def test_a_query_without_relevant_items_is_an_error() -> None:
    with pytest.raises(DataError, match="relevant"):
        average_precision(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))


def test_nan_has_no_rank() -> None:
    # Neither where it is the true candidate nor where it is another one.
    for matrix in (np.array([[np.nan, 1.0]]), np.array([[1.0, np.nan]])):
        with pytest.raises(DataError, match="1 NaN"):
            above_and_tied(matrix, [0])
        with pytest.raises(DataError, match="1 NaN"):
            above_and_tied_of_all(matrix)
        with pytest.raises(DataError, match="1 NaN"):
            average_precision(matrix, np.array([[True, False]]))
        with pytest.raises(DataError, match="NaN"):
            similarity(matrix, ["a"], ["a", "b"])


@pytest.mark.parametrize("levels", [3, 10_000])
def test_ranks_against_scipy(levels: int) -> None:
    rng = np.random.default_rng(11)
    matrix = rng.integers(0, levels, size=(50, 23)).astype(float)
    true = rng.integers(0, 23, size=50)
    oracle = rankdata(-matrix, axis=1)[np.arange(50), true]
    np.testing.assert_array_equal(expected_ranks(matrix, true), oracle)
    ids = [f"s{i:02d}" for i in range(23)]
    table = score(similarity(matrix, [ids[i] for i in true], ids))
    np.testing.assert_array_equal(table["rank"], oracle)
    # Two-way identification is the area under the curve of true against wrong, query by query.
    area = [roc_auc_score(np.arange(23) == t, row) for t, row in zip(true, matrix, strict=True)]
    np.testing.assert_allclose(table["two_way"], area)


def test_metrics_of_a_result_against_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(12)
    matrix = rng.normal(size=(30, 30)) + 1.5 * np.eye(30)
    ids = [f"s{i:02d}" for i in range(30)]
    result = Result.from_similarity(similarity(matrix, ids, ids), name="any")
    matrix = matrix.astype(np.float32)
    ranks = rankdata(-matrix, axis=1).diagonal()
    assert result.median_rank == np.median(ranks)
    assert result.mrr == pytest.approx((1 / ranks).mean())
    assert result.mrr == pytest.approx(label_ranking_average_precision_score(np.eye(30), matrix))
    for k, value in ((1, result.top1), (5, result.top5)):
        assert value == pytest.approx(top_k_accuracy_score(np.arange(30), matrix, k=k))
    assert result.value("map") == pytest.approx(result.mrr)
    concepts = [name[:2] for name in ids]  # s0, s1, s2: ten relevant items each
    grouped = Result.from_similarity(
        similarity(matrix, ids, ids, gallery_concepts=concepts), name="any"
    )
    same = np.equal.outer(concepts, concepts)
    assert grouped.value("map") == pytest.approx(
        label_ranking_average_precision_score(same, matrix)
    )


def test_a_duplicate_in_the_gallery_shares_the_place_of_the_truth() -> None:
    # b is a copy of a under another name: their scores are equal for every query.
    scores = similarity([[0.9, 0.9, 0.1], [0.2, 0.2, 0.7]], ["a", "c"], ["a", "b", "c"])
    table = score(scores)
    assert table["rank"].tolist() == [1.5, 1.0]
    assert table["top1"].tolist() == [0.5, 1.0]
    assert table["top5"].tolist() == [1.0, 1.0]
    assert table["reciprocal_rank"].tolist() == pytest.approx([0.75, 1.0])
    assert table["two_way"].tolist() == [0.75, 1.0]
    with pytest.raises(DataError, match="more than once: a"):
        similarity([[0.9, 0.9, 0.1]], ["a"], ["a", "a", "c"])


def test_a_result_of_one_query() -> None:
    result = Result.from_similarity(similarity([[0.3, 0.5, 0.1]], ["a"], ["a", "b", "c"]), name="x")
    assert (result.top1, result.top5, result.median_rank, result.mrr) == (0, 1, 2, 0.5)
    assert result.two_way == 0.5
    assert np.isnan(result.interval("top1")).all()
    assert n_way_curve(result.table)["accuracy"].tolist() == [0.5, 0.0]


def test_counts_of_all_columns_agree_with_those_of_one() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(0, 4, size=(9, 7)).astype(float)
    above, tied = above_and_tied_of_all(matrix)
    for column in range(7):
        one = above_and_tied(matrix, np.full(9, column))
        np.testing.assert_array_equal(above[:, column], one[0])
        np.testing.assert_array_equal(tied[:, column], one[1])


@pytest.mark.parametrize("direction", ["brain_to_image", "image_to_brain"])
@pytest.mark.parametrize("constant", [0.0, -3.5])
def test_a_constant_predictor_scores_exactly_chance(direction: str, constant: float) -> None:
    ids = [f"s{i}" for i in range(40)]
    scores = similarity(np.full((40, 40), constant), ids, ids, concept=ids, subject="01")
    table = score(scores, direction=direction)  # type: ignore[arg-type]
    np.testing.assert_allclose(table["top1"], 1 / 40)
    np.testing.assert_allclose(table["top5"], 5 / 40)
    np.testing.assert_allclose(table["two_way"], 0.5)
    np.testing.assert_allclose(table["rank"], 20.5)
    np.testing.assert_allclose(n_way_curve(table)["accuracy"], 1 / np.arange(2, 41))


def test_order_of_the_gallery_plays_no_part() -> None:
    rng = np.random.default_rng(5)
    ids = [f"s{i:02d}" for i in range(12)]
    matrix = rng.integers(0, 4, size=(12, 12))  # many ties
    scores = similarity(matrix, ids, ids, gallery_concepts=[i[:2] for i in ids])
    order = rng.permutation(12)
    for direction in ("brain_to_image", "image_to_brain"):
        pd.testing.assert_frame_equal(
            score(scores, direction=direction),  # type: ignore[arg-type]
            score(scores.permuted(order), direction=direction),  # type: ignore[arg-type]
        )


def test_order_of_the_queries_only_orders_the_table() -> None:
    rng = np.random.default_rng(6)
    ids = [f"s{i:02d}" for i in range(10)]
    scores = similarity(rng.integers(0, 4, size=(10, 10)), ids, ids)
    order = rng.permutation(10)
    for direction in ("brain_to_image", "image_to_brain"):
        there = score(scores.select(order), direction=direction)  # type: ignore[arg-type]
        here = score(scores, direction=direction).iloc[order]  # type: ignore[arg-type]
        pd.testing.assert_frame_equal(
            there.drop(columns="query"), here.drop(columns="query").reset_index(drop=True)
        )


def test_monotone_changes_of_the_scores_play_no_part() -> None:
    rng = np.random.default_rng(7)
    ids = [f"s{i}" for i in range(9)]
    matrix = rng.normal(size=(9, 9))
    here = score(similarity(matrix, ids, ids))
    there = score(similarity(np.exp(matrix) * 3, ids, ids))
    columns = ["rank", "top1", "top5", "reciprocal_rank", "two_way", "best"]
    pd.testing.assert_frame_equal(here[columns], there[columns])


def test_table_of_one_query_worked_by_hand() -> None:
    scores = similarity(
        [[0.2, 0.9, 0.5, 0.4]], ["c"], list("abcd"), concept=["X"], subject=["02"],
        gallery_concepts=["X", "Y", "X", "Z"],
    )  # fmt: skip
    row = score(scores).iloc[0]
    assert (row["subject"], row["stimulus"], row["concept"], row["best"]) == ("02", "c", "X", "b")
    assert (row["rank"], row["n_above"], row["n_tied"], row["n_gallery"]) == (2, 1, 1, 4)
    assert (row["top1"], row["top5"], row["reciprocal_rank"]) == (0, 1, 0.5)
    assert row["two_way"] == pytest.approx(2 / 3)
    # c is second and a, of the same concept, is fourth.
    assert row["average_precision"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert row["true_score"] == pytest.approx(0.5)
    assert row["best_score"] == pytest.approx(0.9)


def test_a_gallery_of_one_has_no_two_way_score() -> None:
    row = score(similarity([[1.0]], ["a"], ["a"])).iloc[0]
    assert row["top1"] == 1
    assert np.isnan(row["two_way"])


def test_image_to_brain_ranks_within_the_subject() -> None:
    # Subject 01 answers a and b, subject 02 answers a only; 02's high scores must not matter.
    scores = similarity(
        [[0.6, 0.9], [0.7, 0.1], [0.99, 0.99]],
        ["a", "b", "a"],
        ["a", "b"],
        subject=["01", "01", "02"],
    )
    table = score(scores, direction="image_to_brain")
    # Given a: responses of 01 score .6 (to a) and .7 (to b). Given b: .1 (to b) and .9 (to a).
    assert table["rank"].tolist() == [2, 2, 1]
    assert table["n_gallery"].tolist() == [2, 2, 1]
    assert table["best"].tolist() == ["b", "a", "a"]


def test_image_to_brain_leaves_out_other_trials_of_the_same_image() -> None:
    scores = similarity(
        [[0.5, 0.0], [0.9, 0.0], [0.7, 0.3]], ["a", "a", "b"], ["a", "b"], subject="01"
    )
    table = score(scores, direction="image_to_brain")
    assert table["n_gallery"].tolist() == [2, 2, 3]
    assert table["rank"].tolist() == [2, 1, 1]


def test_image_to_brain_is_brain_to_image_of_the_transpose() -> None:
    rng = np.random.default_rng(8)
    ids = [f"s{i}" for i in range(15)]
    matrix = rng.normal(size=(15, 15))
    here = score(similarity(matrix, ids, ids), direction="image_to_brain")
    there = score(similarity(matrix.T, ids, ids))
    np.testing.assert_allclose(here["rank"], there["rank"])
    np.testing.assert_allclose(here["two_way"], there["two_way"])
    np.testing.assert_allclose(here["average_precision"], there["average_precision"])


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(DataError, match="brain_to_image"):
        score(similarity([[1.0]], ["a"], ["a"]), direction="forward")  # type: ignore[arg-type]


def test_n_way_against_enumeration_of_all_galleries() -> None:
    rng = np.random.default_rng(9)
    n = 6
    matrix = rng.integers(0, 4, size=(n, n)).astype(float)
    ids = [f"s{i}" for i in range(n)]
    table = score(similarity(matrix, ids, ids))
    for k in (1, 2):
        curve = n_way_curve(table, k=k).set_index("n")["accuracy"]
        for ways in range(2, n + 1):
            hits = []
            for query in range(n):
                others = [i for i in range(n) if i != query]
                for drawn in combinations(others, ways - 1):
                    columns = [query, *drawn]
                    hits.append(topk_probability(matrix[query][None, columns], [0], k)[0])
            assert curve[ways] == pytest.approx(np.mean(hits))


def test_n_way_ends_meet_the_other_scores() -> None:
    rng = np.random.default_rng(10)
    ids = [f"s{i}" for i in range(30)]
    table = score(similarity(rng.normal(size=(30, 30)), ids, ids))
    curve = n_way_curve(table).set_index("n")["accuracy"]
    assert curve[2] == pytest.approx(table["two_way"].mean())
    assert curve[30] == pytest.approx(table["top1"].mean())
    assert curve.is_monotonic_decreasing


def test_n_way_of_a_large_gallery_is_thinned_and_of_mixed_ones_refused() -> None:
    table = pd.DataFrame({"n_above": [0], "n_tied": [1], "n_gallery": [16540]})
    curve = n_way_curve(table)
    assert len(curve) <= 100
    assert curve["n"].iloc[-1] == 16540
    np.testing.assert_allclose(curve["accuracy"], 1.0)
    with pytest.raises(DataError, match="one gallery size"):
        n_way_curve(pd.concat([table, table.assign(n_gallery=3)]))
    with pytest.raises(DataError, match="between 2"):
        n_way_curve(table, [1])
