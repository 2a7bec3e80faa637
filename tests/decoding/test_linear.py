"""Least squares and PLS on selected features, against scikit-learn target by target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from phosphene.decoding import ridge as ridge_module
from phosphene.decoding.linear import SelectedOLS, SelectedPLS
from phosphene.decoding.select import TopCorrelation
from phosphene.decoding.selected_ridge import SelectedRidge
from phosphene.errors import DataError

Array = NDArray[np.float64]
BOTH = [SelectedOLS(k=6), SelectedPLS(3, k=6)]


def problem(n: int = 40, p: int = 60, targets: int = 5, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.3, 3, p) + rng.uniform(-5, 5, p)
    return X, X @ rng.standard_normal((p, targets)) + rng.standard_normal((n, targets)) + 10


@pytest.mark.parametrize("k", [1, 6, 38, 39, 40, 41, 60])
def test_least_squares_equal_scikit_learn(k: int) -> None:
    """From 39 features on the fit is exact, and the solution of least norm with 40 and more."""
    X, Y = problem()
    model = SelectedOLS(k=k).fit(X, Y)
    np.testing.assert_array_equal(model.indices_, TopCorrelation(k).fit(X, Y).indices_)
    new = problem(9, seed=1)[0]
    for t, own in enumerate(model.indices_):
        theirs = LinearRegression().fit(X[:, own], Y[:, t])
        np.testing.assert_allclose(model.coef_[t], theirs.coef_, rtol=1e-6, atol=1e-8)
        guess = theirs.predict(new[:, own])
        np.testing.assert_allclose(model.predict(new)[:, t], guess, rtol=1e-6)


def test_least_squares_are_the_limit_of_a_small_penalty() -> None:
    X, Y = problem()
    ridge = SelectedRidge([1e-9], k=10, cv="gcv").fit(X, Y)
    np.testing.assert_allclose(SelectedOLS(k=10).fit(X, Y).coef_, ridge.coef_, rtol=1e-6)


@pytest.mark.parametrize("components", [1, 3, 6])
def test_partial_least_squares_equal_scikit_learn(components: int) -> None:
    X, Y = problem()
    model = SelectedPLS(components, k=6).fit(X, Y)
    new = problem(9, seed=1)[0]
    for t, own in enumerate(TopCorrelation(6).fit(X, Y).indices_):
        theirs = PLSRegression(components).fit(X[:, own], Y[:, t])
        np.testing.assert_allclose(model.coef_[t], theirs.coef_[0], rtol=1e-9)
        np.testing.assert_allclose(model.predict(new)[:, t], theirs.predict(new[:, own]))
    if components == 6:  # as many as features: least squares
        np.testing.assert_allclose(model.coef_, SelectedOLS(k=6).fit(X, Y).coef_, rtol=1e-6)


def test_partial_least_squares_stop_where_the_target_is_explained() -> None:
    """Of two equal features one component explains everything; a warning would be an error."""
    X = np.repeat(problem(p=3)[0], 2, axis=1)
    Y = np.stack([X[:, 0], X[:, 2]], axis=1)
    model = SelectedPLS(2, k=2).fit(X, Y)
    assert model.indices_.tolist() == [[0, 1], [2, 3]]
    np.testing.assert_allclose(model.predict(X), Y, rtol=1e-10)


@pytest.mark.parametrize("model", BOTH)
def test_blocks_change_nothing_and_single_precision_little(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = problem()
    whole = clone(model).fit(X, Y)
    sizes: list[int] = []
    original = type(model)._weights
    monkeypatch.setattr(
        type(model),
        "_weights",
        lambda self, chosen, y: sizes.append(len(chosen)) or original(self, chosen, y),
    )
    monkeypatch.setattr(ridge_module, "BLOCK_BYTES", 2 * 4 * 40 * 6 * 8)
    parts = clone(model).fit(X, Y)
    assert sizes == [2, 2, 1]
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-10)
    rough = clone(model).set_params(dtype="float32").fit(X, Y)
    assert rough.coef_.dtype == np.float32
    np.testing.assert_allclose(rough.predict(X), whole.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", BOTH)
def test_constant_and_duplicated_columns(model: Any) -> None:
    X, Y = problem(targets=3)
    Y[:, 1] = 0.1
    X[:, 1] = 1 / 3
    X[:, 2] = X[:, 3]
    found = clone(model).set_params(k=6, regions=np.arange(60) < 6).fit(X, Y)
    np.testing.assert_array_equal(found.predict(X[:4])[:, 1], 0.1)
    assert np.abs(found.coef_).max() < 1e3
    np.testing.assert_allclose(found.coef_[:, 2], found.coef_[:, 3], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("model", BOTH)
def test_one_dimensional_target_and_weights_among_all(model: Any) -> None:
    X, Y = problem()
    many, one = clone(model).fit(X, Y), clone(model).fit(X, Y[:, 2])
    assert isinstance(one.intercept_, float)
    np.testing.assert_allclose(one.predict(X), many.predict(X)[:, 2])
    dense = many.sparse_coef_.toarray()
    assert ((dense != 0).sum(axis=1) == 6).all()
    np.testing.assert_allclose(X @ dense.T + many.intercept_, many.predict(X))


def test_numbers_of_components_that_do_not_fit_are_refused() -> None:
    X, Y = problem()
    for components, k in ((0, 6), (7, 6), (41, 60)):
        with pytest.raises(DataError, match="number of PLS components"):
            SelectedPLS(components, k=k).fit(X, Y)


@pytest.mark.parametrize("model", BOTH)
def test_bad_input_is_named(model: Any) -> None:
    X, Y = problem()
    with pytest.raises(DataError, match="60 features"):
        clone(model).fit(X, Y).predict(X[:, :4])
    X[3, 11] = np.nan
    with pytest.raises(DataError, match="feature column 11"):
        clone(model).fit(X, Y)


@parametrize_with_checks([SelectedOLS(k=3), SelectedPLS(1, k=3)])  # type: ignore[untyped-decorator]
def test_scikit_learn_manners(estimator: Any, check: Any) -> None:
    check(estimator)
