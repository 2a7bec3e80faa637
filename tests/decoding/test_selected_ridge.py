"""SelectedRidge against scikit-learn target by target, and the leak of selecting outside folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from phosphene.decoding import ridge as ridge_module
from phosphene.decoding.ridge import RidgeLOO
from phosphene.decoding.select import TopCorrelation
from phosphene.decoding.selected_ridge import SelectedRidge
from phosphene.errors import DataError

ALPHAS = np.logspace(-2, 5, 8)
Array = NDArray[np.float64]


def problem(n: int = 40, p: int = 90, targets: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Features with offsets and unequal scales; targets from pure signal to pure noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.3, 3, p) + rng.uniform(-5, 5, p)
    signal = X @ rng.standard_normal((p, targets)) / np.sqrt(p)
    noise = rng.standard_normal((n, targets)) * np.linspace(0, 5, targets)
    return X, np.linspace(1, 0, targets) * signal + noise + 10


@pytest.mark.parametrize(("n", "k"), [(40, 10), (40, 39), (40, 40), (40, 41), (20, 70), (40, 90)])
def test_leave_one_out_equals_scikit_learn_on_the_selected(n: int, k: int) -> None:
    X, Y = problem(n)
    ours = SelectedRidge(ALPHAS, k=k, cv="loo").fit(X, Y)
    indices = TopCorrelation(k).fit(X, Y).indices_
    np.testing.assert_array_equal(ours.indices_, indices)
    new = problem(7, seed=1)[0]
    for t, own in enumerate(indices):
        theirs = RidgeCV(ALPHAS).fit(X[:, own], Y[:, t])
        assert ours.alpha_[t] == theirs.alpha_
        assert ours.best_score_[t] == pytest.approx(theirs.best_score_, rel=1e-7)
        assert ours.cv_r2_[t] == pytest.approx(1 + theirs.best_score_ / Y[:, t].var(), abs=1e-9)
        np.testing.assert_allclose(ours.coef_[t], theirs.coef_, rtol=1e-6, atol=1e-9)
        guess = theirs.predict(new[:, own])
        np.testing.assert_allclose(ours.predict(new)[:, t], guess, rtol=1e-7)
    assert len(np.unique(ours.alpha_)) > 1


@pytest.mark.parametrize("k", [8, 60])
def test_generalised_equals_the_same_criterion_on_the_selected(k: int) -> None:
    X, Y = problem()
    ours = SelectedRidge(ALPHAS, k=k, cv="gcv").fit(X, Y)
    for t, own in enumerate(ours.indices_):
        same = RidgeLOO(ALPHAS, criterion="gcv").fit(X[:, own], Y[:, t])
        assert ours.alpha_[t] == same.alpha_
        assert ours.best_score_[t] == pytest.approx(same.best_score_)
    assert (ours.best_score_ != SelectedRidge(ALPHAS, k=k, cv="loo").fit(X, Y).best_score_).all()


@pytest.mark.parametrize("k", [8, 60])
@pytest.mark.parametrize("grouped", [False, True])
def test_folds_equal_a_pipeline_that_selects_in_each(k: int, grouped: bool) -> None:
    X, Y = problem()
    groups = np.repeat(np.arange(10), 4)[::-1] if grouped else None
    splitter = GroupKFold(4) if grouped else KFold(4)
    ours = SelectedRidge(ALPHAS, k=k, cv=4).fit(X, Y, groups=groups)
    same = SelectedRidge(ALPHAS, k=k, cv=splitter).fit(X, Y, groups=groups)
    np.testing.assert_array_equal(ours.best_score_, same.best_score_)
    for t in range(Y.shape[1]):
        theirs = GridSearchCV(
            make_pipeline(TopCorrelation(k), Ridge()),
            {"ridge__alpha": ALPHAS},
            cv=splitter,
            scoring="neg_mean_squared_error",
        ).fit(X, Y[:, t], groups=groups)
        assert ours.alpha_[t] == theirs.best_params_["ridge__alpha"]
        assert ours.best_score_[t] == pytest.approx(theirs.best_score_, rel=1e-7)
        final = theirs.best_estimator_[-1]
        np.testing.assert_allclose(ours.coef_[t], final.coef_, rtol=1e-6, atol=1e-9)
        assert ours.intercept_[t] == pytest.approx(final.intercept_, rel=1e-7)
    selected = [tuple(TopCorrelation(k).fit(X[a], Y[a]).indices_[0]) for a, _ in KFold(4).split(X)]
    assert len(set(selected)) > 1  # so that a selection outside the folds would be noticed


def test_r2_of_folds_compares_with_the_mean_of_their_training_rows() -> None:
    X, Y = problem(targets=3)
    found = SelectedRidge([100.0], k=5, cv=5).fit(X, Y)
    base = np.mean(
        [((Y[b] - Y[a].mean(axis=0)) ** 2).mean(axis=0) for a, b in KFold(5).split(X)], 0
    )
    np.testing.assert_allclose(found.cv_r2_, 1 + found.best_score_ / base)


def test_leak_permuted_targets_score_nothing_only_with_selection_inside() -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((80, 1500))
    signal = X[:, :30] @ rng.standard_normal((30, 12))
    permuted = rng.permuted(signal, axis=0)
    inside = SelectedRidge(k=30).fit(X, permuted)
    outside = SelectedRidge(k=30, cv="loo").fit(X, permuted)
    assert -0.1 < inside.cv_r2_.mean() < 0.05
    assert outside.cv_r2_.mean() > 0.4  # nothing is there to be found
    assert np.log10(inside.alpha_).mean() > np.log10(outside.alpha_).mean() + 1
    # and inside, what is there is found
    assert SelectedRidge(k=30).fit(X, signal).cv_r2_.mean() > 0.15


def test_leave_one_out_with_selection_each_time_is_honest() -> None:
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((30, 300)), rng.standard_normal((30, 5))
    asked = SelectedRidge([10.0], k=5, cv=LeaveOneOut()).fit(X, Y)
    errors = np.zeros(5)
    for i in range(30):
        others = np.arange(30) != i
        for t, own in enumerate(TopCorrelation(5).fit(X[others], Y[others]).indices_):
            model = Ridge(10.0).fit(X[others][:, own], Y[others, t])
            errors[t] += (Y[i, t] - model.predict(X[i : i + 1, own])[0]) ** 2 / 30
    np.testing.assert_allclose(-asked.best_score_, errors)
    assert asked.cv_r2_.mean() < 0.05 < SelectedRidge([10.0], k=5, cv="loo").fit(X, Y).cv_r2_.mean()


def test_trap_noise_does_not_take_the_smallest_penalty() -> None:
    """More features than samples, features chosen without a look: the intercept counts."""
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((50, 400)), rng.standard_normal((50, 20))
    model = SelectedRidge(ALPHAS, k=1.0, cv="loo").fit(X, noise)
    np.testing.assert_array_equal(
        model.alpha_, RidgeCV(ALPHAS, alpha_per_target=True).fit(X, noise).alpha_
    )
    assert np.mean(model.alpha_ >= 1e3) > 0.5


@pytest.mark.parametrize("cv", ["loo", "gcv", 3])
@pytest.mark.parametrize("k", [10, 60])
def test_blocks_change_nothing_and_single_precision_little(cv: Any, k: int) -> None:
    X, Y = problem()
    whole = SelectedRidge(ALPHAS, k=k, cv=cv).fit(X, Y)
    parts = SelectedRidge(ALPHAS, k=k, cv=cv, batch_targets=4).fit(X, Y)
    np.testing.assert_array_equal(whole.alpha_, parts.alpha_)
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(whole.best_score_, parts.best_score_)
    rough = SelectedRidge(ALPHAS, k=k, cv=cv, dtype="float32").fit(X, Y)
    assert rough.coef_.dtype == np.float32
    np.testing.assert_array_equal(whole.alpha_, rough.alpha_)
    np.testing.assert_allclose(whole.predict(X), rough.predict(X), rtol=1e-3, atol=1e-3)


def test_threads_change_nothing_and_their_number_is_left_alone() -> None:
    import torch

    X, Y = problem()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(SelectedRidge(ALPHAS, k=30).fit(X, Y))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].alpha_, found[1].alpha_)
    np.testing.assert_allclose(found[0].coef_, found[1].coef_, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("cv", ["loo", 3])
def test_memory_is_bounded_by_the_blocks(cv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from phosphene.decoding import _batched

    sizes: list[int] = []
    original = _batched.Rows._normal
    monkeypatch.setattr(
        _batched.Rows,
        "_normal",
        lambda self, indices, Y: sizes.append(indices.numel()) or original(self, indices, Y),
    )
    each = _batched.bytes_each(40, 10, len(ALPHAS), 8)
    monkeypatch.setattr(ridge_module, "BLOCK_BYTES", 2 * each)
    SelectedRidge(ALPHAS, k=10, cv=cv).fit(*problem())
    assert max(sizes) <= 40
    assert sum(sizes) == (60 if cv == "loo" else 4 * 60)
    if cv == "loo":
        assert sizes == [20, 20, 20]


def test_a_penalty_below_rounding_is_still_solved() -> None:
    X, Y = problem()
    X[:, 1::2] = X[:, ::2]
    model = SelectedRidge([1e-12], k=90, cv=4, dtype="float32").fit(X, Y)
    assert np.isfinite(model.coef_).all()
    tall = SelectedRidge([1e-12], k=30, cv=4, dtype="float32").fit(X, Y)
    assert np.isfinite(tall.coef_).all()


def test_weights_among_all_features() -> None:
    X, Y = problem()
    model = SelectedRidge(ALPHAS, k=7).fit(X, Y)
    dense = model.sparse_coef_.toarray()
    assert dense.shape == (6, 90)
    assert ((dense != 0).sum(axis=1) == 7).all()
    np.testing.assert_allclose(X @ dense.T + model.intercept_, model.predict(X))


def test_regions_limit_the_features() -> None:
    X, Y = problem()
    regions = {"a": np.arange(90) < 20, "b": np.arange(90) >= 70}
    model = SelectedRidge(ALPHAS, k=4, regions=regions).fit(X, Y)
    assert ((model.indices_ < 20).sum(axis=1) == 4).all()
    assert ((model.indices_ >= 70).sum(axis=1) == 4).all()


@pytest.mark.parametrize("cv", ["loo", "gcv", 3])
def test_constant_targets_are_predicted_as_they_are(cv: Any) -> None:
    X, Y = problem(20, targets=3)
    Y[:, 1] = 0.1
    for k in (5, 30):
        model = SelectedRidge(ALPHAS, k=k, cv=cv).fit(X, Y)
        np.testing.assert_array_equal(model.predict(X[:4])[:, 1], 0.1)
        assert model.alpha_[1] == ALPHAS[-1]
        assert model.best_score_[1] == model.cv_r2_[1] == 0


def test_one_dimensional_target_gives_scalars() -> None:
    X, Y = problem()
    model = SelectedRidge(ALPHAS, k=9).fit(X, Y[:, 2])
    assert isinstance(model.alpha_, float)
    assert isinstance(model.intercept_, float)
    assert model.coef_.shape == model.indices_.shape == (9,)
    assert model.predict(X).shape == (40,)
    assert model.cv_r2_ == pytest.approx(SelectedRidge(ALPHAS, k=9).fit(X, Y).cv_r2_[2])


def test_inputs_stay_as_they_are() -> None:
    X, Y = problem()
    copies = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    SelectedRidge(ALPHAS, k=60).fit(X, Y)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(Y, copies[1])


def test_bad_input_is_named() -> None:
    X, Y = problem(12, 20)
    with pytest.raises(DataError, match="would not heed the groups"):
        SelectedRidge(cv="loo").fit(X, Y, groups=np.arange(12))
    with pytest.raises(DataError, match="one per sample"):
        SelectedRidge(cv=3).fit(X, Y, groups=np.arange(11))
    with pytest.raises(DataError, match="unknown cross-validation"):
        SelectedRidge(cv="aic").fit(X, Y)
    with pytest.raises(DataError, match="no folds can be made"):
        SelectedRidge(cv=13).fit(X, Y)
    with pytest.raises(DataError, match="no folds can be made"):
        SelectedRidge(cv=3).fit(X, Y, groups=np.repeat([0, 1], 6))
    with pytest.raises(DataError, match="tests on 2 of its training rows"):
        SelectedRidge(cv=[(np.arange(8), np.arange(6, 12))]).fit(X, Y)
    with pytest.raises(DataError, match="fold 0 is too small"):
        SelectedRidge(cv=[(np.arange(1), np.arange(6, 12))]).fit(X, Y)
    with pytest.raises(DataError, match="how many features"):
        SelectedRidge(k=0).fit(X, Y)
    with pytest.raises(DataError, match="penalties"):
        SelectedRidge([0.0]).fit(X, Y)
    X[3, 11] = np.nan
    with pytest.raises(DataError, match="feature column 11"):
        SelectedRidge().fit(X, Y)


def test_clone_keeps_the_parameters() -> None:
    model = clone(SelectedRidge((1.0, 2.0), k=0.5, cv="gcv"))
    assert model.get_params()["k"] == 0.5
    assert model.get_params()["cv"] == "gcv"


@parametrize_with_checks([SelectedRidge(k=3, cv=2), SelectedRidge(k=1.0, cv="loo")])  # type: ignore[untyped-decorator]
def test_scikit_learn_manners(estimator: SelectedRidge, check: Any) -> None:
    check(estimator)
