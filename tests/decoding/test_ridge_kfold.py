"""RidgeKFold against scikit-learn's grid search and himalaya; the intercept trap in folds."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from phosphene.decoding import ridge as ridge_module
from phosphene.decoding.ridge_kfold import RidgeKFold
from phosphene.errors import DataError, MissingExtraError

ALPHAS = np.logspace(-2, 5, 8)
Array = NDArray[np.float64]


def problem(n: int = 42, p: int = 90, targets: int = 6, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.3, 3, p) + rng.uniform(-5, 5, p)
    signal = X @ rng.standard_normal((p, targets)) / np.sqrt(p)
    noise = rng.standard_normal((n, targets)) * np.linspace(0, 5, targets)
    return X, np.linspace(1, 0, targets) * signal + noise + 10


@pytest.mark.parametrize("p", [90, 35, 42, 8])
@pytest.mark.parametrize("grouped", [False, True])
def test_equals_a_grid_search(p: int, grouped: bool) -> None:
    """Also where the training rows of a fold are fewer than the features and all rows are not."""
    X, Y = problem(p=p)
    groups = np.repeat(np.arange(9), 5)[:42][::-1] if grouped else None
    splitter = GroupKFold(4) if grouped else KFold(4)
    ours = RidgeKFold(ALPHAS, cv=4).fit(X, Y, groups=groups)
    new = problem(5, p, seed=1)[0]
    for t in range(Y.shape[1]):
        theirs = GridSearchCV(
            Ridge(), {"alpha": ALPHAS}, cv=splitter, scoring="neg_mean_squared_error"
        ).fit(X, Y[:, t], groups=groups)
        assert ours.alpha_[t] == theirs.best_params_["alpha"]
        assert ours.best_score_[t] == pytest.approx(theirs.best_score_, rel=1e-8)
        np.testing.assert_allclose(ours.predict(new)[:, t], theirs.predict(new), rtol=1e-8)
    assert len(np.unique(ours.alpha_)) > 1
    if grouped:
        assert (ours.best_score_ != RidgeKFold(ALPHAS, cv=4).fit(X, Y).best_score_).all()


def test_r2_compares_with_the_mean_of_the_training_rows() -> None:
    X, Y = problem()
    found = RidgeKFold(ALPHAS).fit(X, Y)
    base = np.mean(
        [((Y[b] - Y[a].mean(axis=0)) ** 2).mean(axis=0) for a, b in KFold(5).split(X)], 0
    )
    np.testing.assert_allclose(found.cv_r2_, 1 + found.best_score_ / base)
    assert found.cv_r2_[0] > 0.1 > found.cv_r2_[-1]


@pytest.mark.parametrize("p", [90, 20])
@pytest.mark.parametrize("per_target", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_himalaya_agrees(p: int, per_target: bool, dtype: Any) -> None:
    backend = pytest.importorskip("himalaya.backend")
    before = backend.get_backend()
    X, Y = problem(p=p)
    Y[:, 4] = 2.5
    settings: Any = {"cv": 6, "alpha_per_target": per_target, "dtype": dtype}
    ours = RidgeKFold(ALPHAS, **settings).fit(X, Y)
    theirs = RidgeKFold(ALPHAS, **settings, solver="himalaya", batch_targets=4).fit(X, Y)
    rough = dtype == "float32"
    tolerance: Any = {"rtol": 1e-3, "atol": 1e-4} if rough else {"rtol": 1e-8, "atol": 1e-8}
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, **tolerance)
    np.testing.assert_allclose(ours.cv_r2_, theirs.cv_r2_, **tolerance)
    new = problem(5, p, seed=1)[0]
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), **tolerance)
    np.testing.assert_array_equal(theirs.predict(new)[:, 4], 2.5)
    assert theirs.coef_.dtype == dtype
    assert backend.get_backend() is before


def test_without_himalaya_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "himalaya"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "himalaya", None)
    with pytest.raises(MissingExtraError, match=r"phosphene\[fmri\]"):
        RidgeKFold(solver="himalaya").fit(*problem())


def test_one_penalty_for_all_targets() -> None:
    X, Y = problem()
    ours = RidgeKFold(ALPHAS, alpha_per_target=False).fit(X, Y)
    theirs = GridSearchCV(
        Ridge(), {"alpha": ALPHAS}, cv=KFold(5), scoring="neg_mean_squared_error"
    ).fit(X, Y)
    assert ours.alpha_ == theirs.best_params_["alpha"]
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    assert ours.cv_r2_.shape == (6,)


def test_groups_that_stay_together_take_back_what_copies_gave() -> None:
    """Repetitions of a stimulus on both sides of a fold are recognised, not predicted."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((20, 200)), 3, axis=0) + 0.3 * rng.standard_normal((60, 200))
    Y = np.repeat(rng.standard_normal((20, 5)), 3, axis=0)
    stimuli = np.repeat(np.arange(20), 3)
    apart = RidgeKFold(cv=KFold(5, shuffle=True, random_state=0)).fit(X, Y)
    together = RidgeKFold(cv=5).fit(X, Y, groups=stimuli)
    assert apart.cv_r2_.mean() > 0.5
    assert together.cv_r2_.mean() < 0.1


def test_trap_noise_does_not_take_the_smallest_penalty() -> None:
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((50, 800)) + 4, rng.standard_normal((50, 40)) + 4
    model = RidgeKFold(ALPHAS).fit(X, noise)
    assert np.mean(model.alpha_ >= 1e3) > 0.5
    assert model.cv_r2_.mean() > -0.05


@pytest.mark.parametrize("p", [90, 20])
def test_blocks_change_nothing_and_single_precision_little(
    p: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = problem(p=p)
    whole = RidgeKFold(ALPHAS).fit(X, Y)
    monkeypatch.setattr(ridge_module, "BLOCK_BYTES", 1)
    parts = RidgeKFold(ALPHAS).fit(X, Y)
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole.cv_r2_, parts.cv_r2_)
    rough = RidgeKFold(ALPHAS, dtype="float32").fit(X.astype(np.float32), Y)
    assert rough.coef_.dtype == np.float32
    np.testing.assert_array_equal(whole.alpha_, rough.alpha_)
    np.testing.assert_allclose(whole.predict(X), rough.predict(X), rtol=1e-3)


@pytest.mark.parametrize("solver", ["torch", "himalaya"])
def test_constant_and_one_dimensional_targets(solver: Any) -> None:
    if solver == "himalaya":
        pytest.importorskip("himalaya")
    X, Y = problem(targets=3)
    Y[:, 1] = 0.1
    model = RidgeKFold(ALPHAS, solver=solver, cv=3).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X[:4])[:, 1], 0.1)
    assert model.alpha_[1] == ALPHAS[-1]
    assert model.best_score_[1] == model.cv_r2_[1] == 0
    one = RidgeKFold(ALPHAS, solver=solver, cv=3).fit(X, Y[:, 2])
    assert isinstance(one.alpha_, float)
    assert one.coef_.shape == (90,)
    assert one.cv_r2_ == pytest.approx(model.cv_r2_[2])
    np.testing.assert_allclose(one.predict(X), model.predict(X)[:, 2])


def test_bad_input_is_named() -> None:
    X, Y = problem(12, 20)
    with pytest.raises(DataError, match="criterion='loo'"):
        RidgeKFold(cv="loo").fit(X, Y)
    with pytest.raises(DataError, match="unknown solver"):
        RidgeKFold(solver="svd").fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no folds can be made"):
        RidgeKFold(cv=13).fit(X, Y)
    with pytest.raises(DataError, match="no folds can be made"):
        RidgeKFold(cv=GroupKFold(3)).fit(X, Y)
    with pytest.raises(DataError, match="no folds can be made"):
        RidgeKFold(cv=[]).fit(X, Y)
    X[3, 11] = np.nan
    with pytest.raises(DataError, match="feature column 11"):
        RidgeKFold().fit(X, Y)


def test_clone_keeps_the_parameters() -> None:
    assert clone(RidgeKFold((1.0, 2.0), solver="himalaya")).get_params()["solver"] == "himalaya"


@parametrize_with_checks([RidgeKFold(cv=2)])  # type: ignore[untyped-decorator]
def test_scikit_learn_manners(estimator: RidgeKFold, check: Any) -> None:
    check(estimator)
