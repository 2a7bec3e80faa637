"""TopCorrelation against a literal sort of NumPy's correlations, ties, regions, bounded blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from phosphene.decoding import ridge as ridge_module
from phosphene.decoding.select import TopCorrelation, sparse_coef
from phosphene.errors import DataError

Array = NDArray[np.float64]


def problem(n: int = 40, p: int = 60, targets: int = 9, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.1, 30, p) + rng.uniform(-50, 50, p)
    return X, X @ rng.standard_normal((p, targets)) + 3


def correlations(X: Array, Y: Array) -> Array:
    """Literally, one pair after the other: (targets, features)."""
    return np.array([[np.corrcoef(x, y)[0, 1] for x in X.T] for y in Y.T])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_equals_a_literal_sort(k: int, dtype: Any) -> None:
    X, Y = problem()
    model = TopCorrelation(k, dtype=dtype).fit(X, Y)
    r = correlations(X, Y)
    expected = np.sort(np.argsort(-np.abs(r), axis=1)[:, :k], axis=1)
    np.testing.assert_array_equal(model.indices_, expected)
    tolerance = 1e-12 if dtype == "float64" else 2e-6
    found = np.take_along_axis(r, expected, axis=1)
    np.testing.assert_allclose(model.correlations_, found, atol=tolerance)
    assert (model.correlations_ < 0).any()


@pytest.mark.parametrize("how", ["max", "mean"])
def test_one_selection_for_all_targets(how: Any) -> None:
    X, Y = problem()
    strength = getattr(np.abs(correlations(X, Y)), how)(axis=0)
    expected = np.sort(np.argsort(-strength)[:12])
    for batch in (None, 2):
        model = TopCorrelation(12, shared=how, batch_targets=batch).fit(X, Y)
        np.testing.assert_array_equal(model.indices_, expected)
        np.testing.assert_allclose(model.correlations_, strength[expected])
        np.testing.assert_array_equal(model.transform(X), X[:, expected])


def test_max_and_mean_differ() -> None:
    """A feature of one target against one that goes a little with all."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    Y = rng.standard_normal((300, 8)) + 0.7 * X[:, 1:]
    Y[:, 0] = X[:, 0]
    assert TopCorrelation(1, shared="max").fit(X, Y).indices_.tolist() == [0]
    assert TopCorrelation(1, shared="mean").fit(X, Y).indices_.tolist() == [1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_columns_are_taken_in_order(dtype: Any) -> None:
    X, Y = problem(n=51, p=5, targets=4)
    copies = np.tile(X, 40)
    for batch in (1, 3, 4):
        model = TopCorrelation(7, dtype=dtype, batch_targets=batch).fit(copies, Y)
        best = np.abs(correlations(X, Y)).argmax(axis=1)
        np.testing.assert_array_equal(model.indices_, best[:, None] + 5 * np.arange(7))


def test_blocks_of_targets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = problem()
    whole = TopCorrelation(10).fit(X, Y)
    monkeypatch.setattr(ridge_module, "BLOCK_BYTES", 2 * 60 * 26)  # two targets of 60 features
    sizes: list[int] = []
    from phosphene.decoding import select

    original = select.Selection._strongest
    monkeypatch.setattr(
        select.Selection,
        "_strongest",
        lambda self, r: sizes.append(len(r)) or original(self, r),
    )
    parts = TopCorrelation(10).fit(X, Y)
    assert sizes == [2, 2, 2, 2, 1]
    np.testing.assert_array_equal(whole.indices_, parts.indices_)


def test_regions_give_the_best_of_each() -> None:
    X, Y = problem()
    early, late = np.zeros((2, 60), dtype=bool)
    early[5:25] = late[40:] = True
    r = np.abs(correlations(X, Y))
    one = TopCorrelation(6, regions=early).fit(X, Y).indices_
    expected = np.sort(5 + np.argsort(-r[:, 5:25], axis=1)[:, :6], axis=1)
    np.testing.assert_array_equal(one, expected)
    both = TopCorrelation(6, regions={"early": early, "late": late}).fit(X, Y).indices_
    np.testing.assert_array_equal(both[:, :6], expected)
    assert both.shape == (9, 12)
    assert (both[:, 6:] >= 40).all()
    share = TopCorrelation(0.25, regions={"late": late, "early": early}).fit(X, Y).indices_
    assert (share < 25).sum() == (share >= 40).sum() == 9 * 5
    assert (np.diff(share, axis=1) > 0).all()


def test_numbers_and_shares() -> None:
    X, Y = problem()
    assert TopCorrelation(1).fit(X, Y).indices_.shape == (9, 1)
    assert TopCorrelation(1.0).fit(X, Y).indices_.shape == (9, 60)
    assert TopCorrelation(0.1).fit(X, Y).indices_.shape == (9, 6)
    assert TopCorrelation(1e-9).fit(X, Y).indices_.shape == (9, 1)
    assert TopCorrelation(np.int64(500)).fit(X, Y).indices_.shape == (9, 60)
    single = TopCorrelation(4).fit(X, Y[:, 3])
    np.testing.assert_array_equal(single.indices_, TopCorrelation(4).fit(X, Y).indices_[3])


def test_constant_features_and_targets_correlate_zero() -> None:
    X, Y = problem(p=12, targets=3)
    X[:, 4] = 0.1  # its mean is not 0.1 in binary: what rounding leaves must not be scaled up
    X[:, 7] = 1e6 / 3
    Y[:, 1] = 0.1
    model = TopCorrelation(12).fit(X, Y)
    assert (model.correlations_[:, [4, 7]] == 0).all()
    assert (model.correlations_[1] == 0).all()
    assert not np.isin(TopCorrelation(10).fit(X, Y).indices_[[0, 2]], [4, 7]).any()
    np.testing.assert_array_equal(TopCorrelation(3).fit(X, Y).indices_[1], [0, 1, 2])


def test_transform_keeps_what_any_target_selected() -> None:
    X, Y = problem()
    model = TopCorrelation(3).fit(X, Y)
    kept = np.unique(model.indices_)
    assert 3 < len(kept) < 60
    np.testing.assert_array_equal(model.get_support(indices=True), kept)
    np.testing.assert_array_equal(model.transform(X), X[:, kept])
    with pytest.raises(DataError, match="column 8"):
        model.transform(np.where(np.arange(60) == 8, np.nan, X))


def test_selection_outside_the_folds_finds_success_in_noise() -> None:
    """The leak that the fit on training rows is there for, on targets without any signal."""
    inside, outside = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((120, 2000)), rng.standard_normal(120)
        select, fit = TopCorrelation(8), LinearRegression()
        inside.append(cross_val_score(make_pipeline(select, fit), X, y, cv=4).mean())
        outside.append(cross_val_score(fit, select.fit(X, y).transform(X), y, cv=4).mean())
    assert np.mean(inside) < 0
    assert np.mean(outside) > 0.25


@pytest.mark.parametrize(
    "k", [0, -3, 0.0, 1.5, -0.1, np.nan, True, "all", None, [3], np.array([0.5])]
)
def test_bad_numbers_of_features_are_refused(k: Any) -> None:
    with pytest.raises(DataError, match="how many features"):
        TopCorrelation(k).fit(*problem())


def test_bad_regions_and_ways_are_refused() -> None:
    X, Y = problem()
    mask = np.arange(60) < 10
    with pytest.raises(DataError, match="'V1' does not mark"):
        TopCorrelation(regions={"V1": mask[:-1]}).fit(X, Y)
    with pytest.raises(DataError, match="of int64"):
        TopCorrelation(regions=np.arange(60)).fit(X, Y)
    with pytest.raises(DataError, match="'V1' holds no feature"):
        TopCorrelation(regions={"V1": mask & False}).fit(X, Y)
    with pytest.raises(DataError, match=r"overlap\n.*features 8, 9 in"):
        TopCorrelation(regions={"V1": mask, "V2": np.arange(60) >= 8}).fit(X, Y)
    with pytest.raises(DataError, match="no regions"):
        TopCorrelation(regions={}).fit(X, Y)
    with pytest.raises(DataError, match="select for all targets"):
        TopCorrelation(shared="median").fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="precision"):
        TopCorrelation(dtype="float16").fit(X, Y)  # type: ignore[arg-type]
    Y[2, 4] = np.inf
    with pytest.raises(DataError, match="target column 4"):
        TopCorrelation().fit(X, Y)


def test_sparse_weights_stand_where_the_features_are() -> None:
    indices = np.array([[1, 4], [0, 2]], dtype=np.int32)
    dense = sparse_coef(indices, np.array([[2.0, 3.0], [5.0, 7.0]]), 5).toarray()
    np.testing.assert_array_equal(dense, [[0, 2, 0, 0, 3], [5, 0, 7, 0, 0]])


def test_inputs_stay_as_they_are_and_clones_too() -> None:
    X, Y = problem()
    copies = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    model = clone(TopCorrelation(0.5, shared="mean")).fit(X, Y)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(Y, copies[1])
    assert (model.k, model.shared) == (0.5, "mean")


@parametrize_with_checks([TopCorrelation(2), TopCorrelation(2, shared="max")])  # type: ignore[untyped-decorator]
def test_scikit_learn_manners(estimator: TopCorrelation, check: Any) -> None:
    check(estimator)
