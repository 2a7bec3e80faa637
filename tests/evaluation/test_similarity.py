from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.errors import DataError, SpaceMismatchError
from phosphene.evaluation.similarity import (
    Embeddings,
    Gallery,
    Similarity,
    cosine_similarity,
    gallery_embeddings,
)


def embeddings(vectors: np.ndarray, space: str = "space") -> Embeddings:
    stimuli = [f"s{i}" for i in range(len(vectors))]
    return Embeddings(vectors, pd.DataFrame({"subject": "01", "stimulus": stimuli}), space)


def test_cosine_against_sklearn() -> None:
    from sklearn.metrics.pairwise import cosine_similarity as oracle

    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    found = cosine_similarity(
        embeddings(queries), Gallery(items, list("abcd"), None, "space")
    ).matrix
    np.testing.assert_allclose(found, oracle(queries, items), atol=1e-6)


def test_one_query_alone_equals_its_row_of_the_batch_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    queries, items = rng.normal(size=(33, 50)), rng.normal(size=(21, 50))
    gallery = Gallery(items, [str(i) for i in range(21)], None, "space")
    batch = embeddings(queries)
    whole = cosine_similarity(batch, gallery).matrix
    for i in (0, 13, 32):
        alone = cosine_similarity(batch.select([i]), gallery).matrix
        np.testing.assert_array_equal(alone[0], whole[i])


def test_equal_gallery_vectors_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(2)
    items = rng.normal(size=(40, 97))
    items[33] = items[2]
    gallery = Gallery(items, [str(i) for i in range(40)], None, "space")
    scores = cosine_similarity(embeddings(rng.normal(size=(50, 97))), gallery).matrix
    np.testing.assert_array_equal(scores[:, 2], scores[:, 33])


def test_gallery_of_another_space_is_refused() -> None:
    gallery = Gallery(np.eye(2), ["a", "b"], None, "other")
    with pytest.raises(SpaceMismatchError, match="other") as caught:
        cosine_similarity(embeddings(np.eye(2)), gallery)
    assert "space" in str(caught.value)


def test_gallery_of_another_dimension_is_refused() -> None:
    with pytest.raises(DataError, match="dimension"):
        cosine_similarity(embeddings(np.eye(2)), Gallery(np.eye(3), list("abc"), None, "space"))


def test_duplicate_gallery_ids_are_named() -> None:
    with pytest.raises(DataError, match="more than once: b"):
        Gallery(np.ones((3, 2)), ["a", "b", "b"], None, "space")
    with pytest.raises(DataError, match="more than once: b"):
        Similarity(np.zeros((1, 3)), pd.DataFrame({"stimulus": ["a"]}), ["a", "b", "b"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_counted_and_named(bad: float) -> None:
    matrix = np.zeros((3, 2))
    matrix[1, 0] = matrix[2] = bad
    queries = pd.DataFrame({"subject": "07", "stimulus": ["a", "b", "a"]})
    with pytest.raises(DataError, match=r"3 score values .* in 2 of 3 rows") as caught:
        Similarity(matrix, queries, ["a", "b"])
    assert "1 (07 b)" in str(caught.value)
    assert "2 (07 a)" in str(caught.value)
    assert "0 (07 a)" not in str(caught.value)


def test_nan_embeddings_and_zero_vectors_are_errors() -> None:
    with pytest.raises(DataError, match=r"query 1 \(01 s1\)"):
        embeddings(np.array([[1.0, 0.0], [np.nan, 0.0]]))
    gallery = Gallery(np.eye(2), ["a", "b"], None, "space")
    with pytest.raises(DataError, match="length zero"):
        cosine_similarity(embeddings(np.zeros((1, 2))), gallery)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (2,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="shape"):
        Similarity(np.zeros(shape), pd.DataFrame({"stimulus": ["a", "b"]}), ["a", "b"])


def test_rows_and_queries_must_agree() -> None:
    with pytest.raises(DataError, match="3 queries"):
        Similarity(np.zeros((2, 2)), pd.DataFrame({"stimulus": list("aba")}), ["a", "b"])


def test_true_columns_are_found_by_id_not_by_order() -> None:
    queries = pd.DataFrame({"stimulus": ["c", "a"]})
    scores = Similarity(np.zeros((2, 3)), queries, ["b", "a", "c"])
    assert scores.true_columns.tolist() == [2, 1]
    assert scores.permuted([2, 1, 0]).true_columns.tolist() == [0, 1]


def test_a_query_whose_stimulus_is_not_in_the_gallery_is_named() -> None:
    scores = Similarity(np.zeros((1, 2)), pd.DataFrame({"stimulus": ["zebra"]}), ["a", "b"])
    with pytest.raises(DataError, match="zebra"):
        _ = scores.true_columns


def test_unlabelled_queries_can_be_ranked_but_not_scored() -> None:
    scores = Similarity([[0.1, 0.7, 0.3]], pd.DataFrame({"trial": [0]}), ["a", "b", "c"])
    assert scores.top(2)["item"].tolist() == ["b", "c"]
    assert scores.top(9)["place"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"Similarity\.top"):
        _ = scores.true_columns


def test_top_breaks_ties_by_id_whatever_the_order() -> None:
    queries = pd.DataFrame({"stimulus": ["a"]})
    scores = Similarity([[1.0, 1.0, 1.0]], queries, ["c", "a", "b"], ["C", "A", "B"])
    assert scores.top(2)["item"].tolist() == ["a", "b"]
    assert scores.top(2)["concept"].tolist() == ["A", "B"]
    assert scores.permuted([1, 2, 0]).top(2).equals(scores.top(2))


class Bank:
    """The few things that a gallery asks of a bank."""

    ids = ("a1", "a2", "b1")
    views = ("original", "blur")
    stimuli = pd.DataFrame({"concept": ["A", "A", "B"]}, index=["a1", "a2", "b1"])
    provenance: dict[str, str] = {}  # noqa: RUF012
    values = {  # noqa: RUF012
        "original": np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]),
        "blur": np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
    }

    def resolve(self, ids: list[str]) -> list[int]:
        return [self.ids.index(i) for i in ids]

    def vectors(self, view: str, layer: str | None, ids: list[str]) -> np.ndarray:
        return self.values[view][self.resolve(ids)]

    def space(self, layer: str | None) -> str:
        return f"space/{layer}"


def test_gallery_follows_the_order_of_the_ids() -> None:
    gallery = gallery_embeddings(Bank(), ["b1", "a1"], layer="pool")  # type: ignore[arg-type]
    assert gallery.ids == ["b1", "a1"]
    assert gallery.concepts == ["B", "A"]
    assert gallery.space == "space/pool"
    np.testing.assert_array_equal(gallery.vectors, [[1, 1], [2, 0]])


def test_gallery_of_several_views_is_the_mean_of_unit_vectors() -> None:
    gallery = gallery_embeddings(Bank(), ["a1", "a2"], ["original", "blur"])  # type: ignore[arg-type]
    np.testing.assert_allclose(gallery.vectors, [[0.5, 0.5], [0.0, 1.0]])
    assert gallery.view == "original+blur"


def test_class_centres_are_matched_by_concept() -> None:
    gallery = gallery_embeddings(Bank(), centres=True)  # type: ignore[arg-type]
    assert gallery.ids == ["A", "B"]
    assert gallery.match == "concept"
    np.testing.assert_allclose(gallery.vectors, [[0.5, 0.5], [0.5**0.5, 0.5**0.5]], rtol=1e-6)
    trials = pd.DataFrame({"stimulus": ["b7"], "concept": ["B"]})
    scores = cosine_similarity(Embeddings([[1.0, 0.9]], trials, "space/None"), gallery)
    assert scores.true_columns.tolist() == [1]
