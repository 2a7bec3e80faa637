"""Transductive steps against literal loops, closed forms and brute force; never unasked for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.linalg import inv, sqrtm
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

import phosphene as ph
from phosphene.errors import DataError, UnknownNameError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import (
    Embeddings,
    Gallery,
    Similarity,
    cosine_similarity,
)
from phosphene.evaluation.transductive import (
    Whiten,
    csls,
    get_step,
    get_steps,
    hungarian,
    sinkhorn,
    whiten_queries,
)
from phosphene.methods._transductive import scores as transductive_scores
from phosphene.testing import tiny_problem


def scores_of(matrix: npt.ArrayLike, subjects: list[str] | None = None) -> Similarity:
    """Scores whose query i shows stimulus i of its person."""
    matrix = np.asarray(matrix, dtype=float)
    ids = [f"s{j}" for j in range(matrix.shape[1])]
    table = pd.DataFrame({"subject": subjects or ["01"] * len(matrix)})
    table["stimulus"] = [ids[i % len(ids)] for i in table.groupby("subject").cumcount()]
    return Similarity(matrix, table, ids)


def random_scores(n: int, m: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, m)).astype(np.float32)


def embeddings_of(x: npt.ArrayLike, subjects: list[str] | None = None) -> Embeddings:
    x = np.asarray(x)
    return Embeddings(x, pd.DataFrame({"subject": subjects or ["01"] * len(x)}), "space")


# ------------------------------------------------------------------------------------ CSLS
@pytest.mark.parametrize(("n", "m", "k"), [(7, 7, 3), (5, 9, 2), (9, 5, 5)])
def test_csls_is_a_literal_double_loop(n: int, m: int, k: int) -> None:
    s = random_scores(n, m).astype(float)
    expected = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            near_row = sorted(s[i, :].tolist(), reverse=True)[:k]
            near_column = sorted(s[:, j].tolist(), reverse=True)[:k]
            expected[i, j] = 2 * s[i, j] - sum(near_row) / k - sum(near_column) / k
    np.testing.assert_allclose(csls(scores_of(s), k=k).matrix, expected, rtol=1e-5, atol=1e-5)


def test_csls_lowers_a_hub_and_its_copies() -> None:
    n = 10
    own = 0.1 + 0.3 * np.eye(n)  # every query is nearer to its own candidate than to the others
    hubs = np.full((n, 2), 0.5)  # but nearest to a candidate that is there twice
    plain = scores_of(np.hstack([own, hubs]))
    assert set(plain.top(1)["item"]) == {"s10"}
    changed = csls(plain, k=5)
    assert changed.top(1)["item"].tolist() == plain.queries["stimulus"].tolist()
    # The copies stay alike: 2 x .5 less the means of (.5, .5, .4, .1, .1) and of five .5.
    np.testing.assert_allclose(changed.matrix[:, 10:], 1 - 0.32 - 0.5, atol=1e-6)


def test_csls_needs_its_neighbours() -> None:
    with pytest.raises(DataError, match=r"csls\(k=4\)"):
        csls(scores_of(random_scores(4, 20)), k=10)


# -------------------------------------------------------------------------------- Sinkhorn
def test_sinkhorn_of_a_square_is_doubly_stochastic() -> None:
    plan = np.exp(sinkhorn(scores_of(random_scores(12, 12)), temperature=0.5).matrix)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), 1, atol=1e-5)


def test_sinkhorn_keeps_the_scores_up_to_a_term_per_row_and_column() -> None:
    s = random_scores(6, 6)
    log_plan = sinkhorn(scores_of(s), temperature=0.7).matrix.astype(float)
    rest = log_plan - s / 0.7
    doubly_centred = (
        rest - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True) + rest.mean()
    )  # zero for a sum of a row's and a column's term
    np.testing.assert_allclose(doubly_centred, 0, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(4, 10), (10, 4)])
def test_sinkhorn_of_a_rectangle_has_uniform_columns(n: int, m: int) -> None:
    plan = np.exp(sinkhorn(scores_of(random_scores(n, m)), temperature=0.5).matrix)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), n / m, atol=1e-4)


def test_sinkhorn_at_a_low_temperature_is_the_assignment() -> None:
    for seed in range(3):
        scores = scores_of(random_scores(8, 8, seed))
        plan = np.exp(sinkhorn(scores, temperature=0.005, iterations=2000).matrix)
        assigned = hungarian(scores).matrix.argmax(axis=1)
        assert (plan[np.arange(8), assigned] > 0.95).all()


def test_sinkhorn_stays_finite_where_exponentials_would_not() -> None:
    matrix = sinkhorn(scores_of(1e3 * random_scores(6, 6)), temperature=0.01).matrix
    assert np.isfinite(matrix).all()


# ------------------------------------------------------------------------------- Hungarian
@pytest.mark.parametrize("m", [5, 6])
def test_hungarian_is_brute_force(m: int) -> None:
    for seed in range(10):
        s = random_scores(5, m, seed)
        best = max(
            itertools.permutations(range(m), 5), key=lambda p: s[np.arange(5), list(p)].sum()
        )
        found = hungarian(scores_of(s)).matrix
        assert found.argmax(axis=1).tolist() == list(best)
        # The others keep their scores, so that lower ranks are those without the assignment.
        others = np.ones(s.shape, bool)
        others[np.arange(5), list(best)] = False
        np.testing.assert_array_equal(found[others], s[others])


def test_hungarian_of_constant_scores_still_assigns_one_to_one() -> None:
    top = hungarian(scores_of(np.zeros((4, 4)))).matrix.argmax(axis=1)
    assert sorted(top.tolist()) == [0, 1, 2, 3]


def test_hungarian_refuses_what_is_not_one_to_one() -> None:
    nobody = pd.DataFrame({"subject": ["01"] * 6})  # without labels, as new recordings are
    with pytest.raises(DataError, match="candidate for every query"):
        hungarian(Similarity(random_scores(6, 5), nobody, list("abcde")))
    scores = scores_of(random_scores(4, 4))
    repeated = scores.queries.assign(stimulus=["s0", "s1", "s1", "s2"])
    with pytest.raises(DataError, match="s1"):
        hungarian(Similarity(scores.matrix, repeated, scores.gallery_ids))
    # The same picture seen by another person is no repetition.
    two = scores_of(random_scores(4, 2), ["01", "02", "01", "02"])
    assert hungarian(two).matrix.shape == (4, 2)


# ------------------------------------------------------------------------------- whitening
def test_whitening_without_shrinkage_is_pca_whitening_turned_back() -> None:
    x = np.random.default_rng(2).normal(size=(60, 5)) @ np.diag([3, 1, 1, 0.5, 2]) + 4
    ours = whiten_queries(embeddings_of(x), shrinkage=0.0).vectors.astype(float)
    np.testing.assert_allclose(ours.T @ ours / 60, np.eye(5), atol=1e-5)
    pca = PCA(whiten=True).fit(x)
    turned = pca.transform(x) @ pca.components_ * np.sqrt(60 / 59)  # sklearn divides by n - 1
    np.testing.assert_allclose(ours, turned, atol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.3, 1.0, "auto"])
@pytest.mark.parametrize("n", [8, 40])
def test_whitening_is_its_closed_form(shrinkage: Any, n: int) -> None:
    x = np.random.default_rng(3).normal(size=(n, 12)) @ np.diag(np.linspace(0.5, 3, 12)) - 1
    centred = x - x.mean(axis=0)
    c = centred.T @ centred / n
    if shrinkage == "auto":
        s, share = ledoit_wolf(x)
        assert 0 < share < 1
    else:
        s = (1 - shrinkage) * c + shrinkage * np.trace(c) / 12 * np.eye(12)
    expected = centred @ inv(sqrtm(s)).real
    ours = Whiten(shrinkage).apply(embeddings_of(x))
    np.testing.assert_allclose(ours.vectors, expected, atol=1e-4)
    assert ours.operations == (f"whiten(shrinkage={shrinkage})",)


def test_whitening_refuses_too_few_queries() -> None:
    with pytest.raises(DataError, match="subject 02"):
        whiten_queries(embeddings_of(random_scores(5, 3), ["01", "01", "01", "01", "02"]))
    with pytest.raises(DataError, match="shrinkage=0"):
        whiten_queries(embeddings_of(random_scores(5, 6)), shrinkage=0)


# ------------------------------------------------------------------- people, words, marks
@pytest.mark.parametrize("step", ["csls(k=2)", "sinkhorn", "hungarian"])
def test_every_person_is_scored_apart(step: str) -> None:
    people = ["02", "01", "01", "02", "01", "02", "02"]
    s = random_scores(7, 8)
    scores: Any = get_step(step)
    together = scores.apply(scores_of(s, people)).matrix
    for who in ("01", "02"):
        rows = [i for i, name in enumerate(people) if name == who]
        alone = scores.apply(scores_of(s[rows], [who] * len(rows))).matrix
        np.testing.assert_array_equal(together[rows], alone)
    # One person's queries do matter to one another, or the test above could not fail.
    merged = scores.apply(scores_of(s)).matrix
    assert not np.allclose(merged, together)


def test_whitening_is_per_person() -> None:
    people = ["02", "01", "01", "02", "01", "02"]
    x = random_scores(6, 4)
    together = whiten_queries(embeddings_of(x, people)).vectors
    rows = [0, 3, 5]
    alone = whiten_queries(embeddings_of(x[rows])).vectors
    np.testing.assert_array_equal(together[rows], alone)


def test_steps_are_marked_and_named_in_their_order(tmp_path: Path) -> None:
    plain = scores_of(random_scores(6, 6))
    assert plain.operations == ()
    assert not plain.transductive
    both = hungarian(csls(plain, k=2))
    assert both.transductive
    result = Result.from_similarity(both, Protocol(), name="x")
    assert result.protocol.transductive == ("csls(k=2)", "hungarian")
    assert result.protocol.scoring == "transductive: csls(k=2) + hungarian"
    assert result.summary()["scoring"] == result.protocol.scoring
    assert "csls(k=2), hungarian" in result.protocol.watermarks()[0]
    kept = Result.load(result.save(tmp_path / "r")).scores
    assert kept is not None
    assert kept.operations == both.operations
    # Scores of another kind are no part of the same result.
    fair = Result.from_similarity(plain, Protocol(), name="x")
    with pytest.raises(DataError, match="transductive"):
        fair.merge([fair, result])


def test_scores_of_whitened_queries_are_transductive() -> None:
    x = random_scores(6, 4)
    gallery = Gallery(x, list("abcdef"), None, "space")
    assert cosine_similarity(embeddings_of(x), gallery).transductive is False
    scores = cosine_similarity(whiten_queries(embeddings_of(x)), gallery)
    assert scores.transductive is True
    assert csls(scores, k=1).operations == ("whiten(shrinkage=auto)", "csls(k=1)")


def test_steps_by_name() -> None:
    names = [step.name for step in get_steps(("whiten(shrinkage=.5)", "sinkhorn(iterations=3)"))]
    assert names == ["whiten(shrinkage=0.5)", "sinkhorn(temperature=0.05,iterations=3)"]
    assert get_steps(None) == get_steps(()) == ()
    assert [step.name for step in get_steps("hungarian")] == ["hungarian"]
    assert get_step(names[1]).name == names[1]
    with pytest.raises(UnknownNameError, match="did you mean 'csls'"):
        get_step("cls")
    with pytest.raises(UnknownNameError, match="no parameter 'q'"):
        get_step("csls(q=3)")
    for bad in ("csls(3)", "csls(k=0)", "csls(k=1.5)", "csls(k=True)", "whiten(shrinkage=2)",
                "sinkhorn(temperature=0)", "sinkhorn(iterations=0)", "csls(", "a b"):  # fmt: skip
        with pytest.raises(DataError):
            get_step(bad)
    with pytest.raises(DataError, match="first step"):
        get_steps(["csls", "whiten"])


def test_nan_is_refused_by_name() -> None:
    broken = random_scores(4, 4)
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 score values are NaN.*2 \(01 s2\)"):
        csls(scores_of(broken), k=2)
    with pytest.raises(DataError, match="1 embedding values are NaN"):
        whiten_queries(embeddings_of(broken))


# -------------------------------------------------------------------------------- decoders
def test_an_evaluation_is_inductive_unless_it_is_asked_not_to_be() -> None:
    problem = tiny_problem(subjects=2, snr=0.3)
    ridge = ph.Ridge().fit(problem.train, problem.bank)
    plain = ridge.evaluate(problem.test, problem.bank)
    assert plain.scores is not None
    assert plain.scores.transductive is False
    assert plain.protocol.transductive == ()
    assert plain.protocol.scoring == "inductive"
    words = ("whiten", "csls(k=5)", "hungarian")
    result = ridge.evaluate(problem.test, problem.bank, transductive=words)
    assert result.scores is not None
    assert result.scores.transductive
    names = ("whiten(shrinkage=auto)", "csls(k=5)", "hungarian")
    assert result.protocol.transductive == names
    # Step by step from public functions gives the same.
    by_hand = hungarian(csls(plain.scores, k=5)).matrix
    matched = ridge.evaluate(problem.test, problem.bank, transductive=words[1:])
    assert matched.scores is not None
    np.testing.assert_array_equal(matched.scores.matrix, by_hand)
    held = ph.HeldOut(problem.test)
    with pytest.raises(UnknownNameError):  # what is refused has not been looked at
        ridge.evaluate(held, problem.bank, transductive="hungary")
    assert held.opened == 0


@pytest.mark.parametrize("method", ["ridge", "nice"])
def test_whitened_queries_are_compared_as_the_method_compares(method: str) -> None:
    problem = tiny_problem(snr=0.3)
    decoder: Any = ph.Ridge()
    if method == "nice":
        small = {"width": 8}
        decoder = ph.NICE(epochs=2, device="cpu", encoder="mlp", encoder_params=small)
    decoder.fit(problem.train, problem.bank)
    plain = decoder.evaluate(problem.test, problem.bank).scores
    embeddings, gallery = decoder._cosine_parts(
        problem.test.average(by=("subject", "stimulus")), problem.bank, plain.gallery_ids
    )
    white = whiten_queries(embeddings).vectors.astype(float)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    items = gallery.vectors / np.linalg.norm(gallery.vectors, axis=1, keepdims=True)
    found = decoder.evaluate(problem.test, problem.bank, transductive="whiten").scores
    np.testing.assert_allclose(found.matrix, white @ items.T, atol=1e-5)
    assert not np.allclose(found.matrix, plain.matrix, atol=1e-2)


def test_whitened_queries_meet_the_projected_gallery() -> None:
    class Projected(ph.NICE):
        """Compares with candidates that went through an image-side map."""

        def _project(self, targets: Any) -> Any:
            return {"image": targets["image"].flip(1)}

    problem = tiny_problem()
    small = {"encoder": "mlp", "encoder_params": {"width": 8}}
    decoder = Projected(epochs=1, device="cpu", **small).fit(problem.train, problem.bank)
    result = decoder.evaluate(problem.test, problem.bank, transductive="whiten")
    assert result.protocol.transductive == ("whiten(shrinkage=auto)",)


def test_whitening_refuses_a_score_that_is_no_cosine() -> None:
    class Euclidean(ph.Ridge):
        """Scores by the negative distance."""

        def similarity(self, recording: Any, gallery: Any, *, ids: Any = None) -> Similarity:
            embeddings, items = self._cosine_parts(recording, gallery, ids)
            gap = embeddings.vectors[:, None] - items.vectors[None]
            return Similarity(
                -np.linalg.norm(gap, axis=2), embeddings.trials, items.ids, items.concepts
            )

    problem = tiny_problem()
    decoder = Euclidean().fit(problem.train, problem.bank)
    queries = problem.test.average(by=("subject", "stimulus"))
    ids = list(dict.fromkeys(queries.trials["stimulus"]))
    with pytest.raises(DataError, match="no cosine"):
        transductive_scores(decoder, queries, problem.bank, ids, get_steps("whiten"))
    changed = transductive_scores(decoder, queries, problem.bank, ids, get_steps("csls(k=3)"))
    assert changed.operations == ("csls(k=3)",)
