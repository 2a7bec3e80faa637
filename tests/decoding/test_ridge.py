"""RidgeLOO against scikit-learn, against refitting without each sample, and the intercept trap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from phosphene.decoding.ridge import RidgeLOO
from phosphene.errors import DataError

ALPHAS = np.logspace(-3, 5, 9)
Array = NDArray[np.float64]


def problem(n: int, p: int, targets: int = 7, seed: int = 0) -> tuple[Array, Array]:
    """Features with offsets and unequal scales; targets from pure signal to pure noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.3, 3, p) + rng.uniform(-5, 5, p)
    signal = X @ rng.standard_normal((p, targets)) / np.sqrt(p)
    noise = rng.standard_normal((n, targets)) * np.linspace(0, 5, targets)
    return X, np.linspace(1, 0, targets) * signal + noise + 10


@pytest.mark.parametrize(
    ("n", "p"), [(30, 90), (90, 30), (40, 40), (41, 40), (40, 41), (12, 400), (400, 5), (3, 1)]
)
def test_equals_scikit_learn(n: int, p: int) -> None:
    X, Y = problem(n, p)
    ours = RidgeLOO(ALPHAS, store_cv_results=True).fit(X, Y)
    theirs = RidgeCV(ALPHAS, alpha_per_target=True, store_cv_results=True).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha_, theirs.alpha_)
    np.testing.assert_allclose(ours.cv_results_, theirs.cv_results_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-8)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-7, atol=1e-9)
    new = problem(5, p, seed=1)[0]
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=1e-7, atol=1e-9)
    assert len(np.unique(ours.alpha_)) > 1 or n == 3


@pytest.mark.parametrize(("n", "p"), [(12, 30), (30, 8)])
def test_equals_refitting_without_each_sample(n: int, p: int) -> None:
    X, Y = problem(n, p, targets=3)
    found = RidgeLOO(ALPHAS, store_cv_results=True).fit(X, Y).cv_results_
    for a, alpha in enumerate(ALPHAS):
        for i in range(n):
            others = np.arange(n) != i
            refitted = Ridge(alpha).fit(X[others], Y[others]).predict(X[i : i + 1])[0]
            np.testing.assert_allclose(found[i, :, a], (Y[i] - refitted) ** 2, rtol=1e-5)


@pytest.mark.parametrize(("n", "p"), [(40, 120), (120, 40)])
def test_single_precision_agrees(n: int, p: int) -> None:
    X, Y = problem(n, p)
    single = RidgeLOO(ALPHAS, dtype="float32").fit(X.astype(np.float32), Y)
    double = RidgeLOO(ALPHAS, dtype="float64").fit(X, Y)
    assert single.coef_.dtype == np.float32
    np.testing.assert_array_equal(single.alpha_, double.alpha_)
    np.testing.assert_allclose(single.predict(X), double.predict(X), rtol=1e-3, atol=1e-3)


def test_one_penalty_for_all_targets() -> None:
    X, Y = problem(30, 60)
    ours = RidgeLOO(ALPHAS, alpha_per_target=False).fit(X, Y)
    theirs = RidgeCV(ALPHAS).fit(X, Y)
    assert ours.alpha_ == theirs.alpha_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-7, atol=1e-9)


def test_blocks_of_targets_change_nothing() -> None:
    X, Y = problem(25, 50)
    whole = RidgeLOO(ALPHAS, store_cv_results=True).fit(X, Y)
    parts = RidgeLOO(ALPHAS, batch_targets=2, store_cv_results=True).fit(X, Y)
    np.testing.assert_array_equal(whole.alpha_, parts.alpha_)
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-10)
    np.testing.assert_allclose(whole.cv_results_, parts.cv_results_, rtol=1e-10)


def test_memory_is_bounded_by_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    import phosphene.decoding.ridge as module

    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * 20 * len(ALPHAS) * 8 * 2)
    sizes: list[int] = []
    original = module._LeaveOneOut.errors
    monkeypatch.setattr(
        module._LeaveOneOut,
        "errors",
        lambda self, Y: sizes.append(Y.shape[1]) or original(self, Y),
    )
    RidgeLOO(ALPHAS).fit(*problem(20, 30))
    assert sizes == [2, 2, 2, 1]


def test_blocks_count_the_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few samples the weights of a block are larger than its targets."""
    import phosphene.decoding.ridge as module

    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * 600 * 8 * 2)
    sizes: list[int] = []
    original = module._Decomposition.coefficients
    monkeypatch.setattr(
        module._Decomposition,
        "coefficients",
        lambda self, Y, alphas: sizes.append(Y.shape[1]) or original(self, Y, alphas),
    )
    RidgeLOO(ALPHAS).fit(*problem(20, 600))
    assert sizes == [2, 2, 2, 1]


def test_text_embeddings_of_59136_numbers_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import phosphene.decoding.ridge as module

    monkeypatch.setattr(module, "BLOCK_BYTES", 2**22)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((24, 30)).astype(np.float32)
    Y = (X @ rng.standard_normal((30, 77 * 768)) + 3).astype(np.float16)
    model = RidgeLOO(ALPHAS, dtype="float32").fit(X, Y)
    assert model.coef_.shape == (77 * 768, 30)
    some = rng.choice(77 * 768, 50, replace=False)
    theirs = RidgeCV(ALPHAS, alpha_per_target=True).fit(X, Y[:, some].astype(np.float64))
    np.testing.assert_array_equal(model.alpha_[some], theirs.alpha_)
    # Weights in single and signals in double precision: predicted in blocks as well.
    found = model.predict(X.astype(np.float64))
    np.testing.assert_allclose(found[:, some], theirs.predict(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("n", "p"), [(30, 90), (90, 30), (40, 40), (3, 1)])
def test_generalised_cross_validation_is_its_formula(n: int, p: int) -> None:
    X, Y = problem(n, p)
    model = RidgeLOO(ALPHAS, criterion="gcv", store_cv_results=True).fit(X, Y)
    for a, alpha in enumerate(ALPHAS):
        hat = Ridge(alpha).fit(X, np.eye(n)).predict(X)  # column j: predictions of the j-th unit
        left = 1 - np.trace(hat) / n
        expected = np.square(Y - hat @ Y).mean(axis=0) / left**2
        found = model.cv_results_[:, :, a].mean(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert n == 3 or (model.best_score_ != RidgeLOO(ALPHAS).fit(X, Y).best_score_).all()


@pytest.mark.parametrize("criterion", ["loo", "gcv"])
def test_r2_is_relative_to_the_variance(criterion: Any) -> None:
    X, Y = problem(30, 90)
    model = RidgeLOO(ALPHAS, criterion=criterion).fit(X, Y)
    np.testing.assert_allclose(model.loo_r2_, 1 + model.best_score_ / Y.var(axis=0))


def test_trap_holds_for_generalised_cross_validation() -> None:
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((50, 800)), rng.standard_normal((50, 40))
    model = RidgeLOO(ALPHAS, criterion="gcv").fit(X, noise)
    assert np.mean(model.alpha_ >= 1e3) > 0.5
    assert (model.loo_r2_ >= 1 - (50 / 49) ** 2 - 0.01).all()


def naive_choice(X: Array, Y: Array) -> Array:
    """The trap: centre, then leave one out as if there were no intercept."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    values, vectors = np.linalg.eigh(X @ X.T)
    errors = []
    for alpha in ALPHAS:
        inverse = (vectors / (values + alpha)) @ vectors.T
        errors.append(np.square(inverse @ Y / np.diag(inverse)[:, None]).mean(axis=0))
    return ALPHAS[np.argmin(errors, axis=0)]


def held_out_r2(model: RidgeLOO | Ridge, new: Array, target: Array) -> float:
    error = np.square(target - model.predict(new)).mean()
    return float(1 - error / target.var(axis=0).mean())


def test_trap_noise_targets_do_not_all_take_the_smallest_penalty() -> None:
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((50, 800)), rng.standard_normal((50, 40))
    naive = naive_choice(X, noise)
    assert (naive == ALPHAS[0]).all()
    model = RidgeLOO(ALPHAS).fit(X, noise)
    # Below the smallest eigenvalue the error is flat, so that chance picks among those penalties;
    # but most noise is best predicted by its mean, that is by a strong shrinkage.
    assert np.mean(model.alpha_ >= 1e3) > 0.5
    # The mean of the others misses by n / (n - 1), which is the worst of honest scores.
    assert (model.loo_r2_ >= 1 - (50 / 49) ** 2 - 0.01).all()
    np.testing.assert_array_equal(
        model.alpha_, RidgeCV(ALPHAS, alpha_per_target=True).fit(X, noise).alpha_
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_trap_generalisation_is_positive_and_the_naive_choice_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, p, targets = 80, 900, 20
    scales = 1 / np.sqrt(1 + np.arange(p))
    weights = rng.standard_normal((p, targets))
    X = rng.standard_normal((n, p)) * scales + 2
    new = rng.standard_normal((1000, p)) * scales + 2
    Y = X @ weights + 4 * rng.standard_normal((n, targets))
    target = new @ weights + 4 * rng.standard_normal((len(new), targets))
    honest = held_out_r2(RidgeLOO(ALPHAS).fit(X, Y), new, target)
    naive = held_out_r2(Ridge(naive_choice(X, Y)).fit(X, Y), new, target)
    assert naive < 0 < honest
    assert honest > naive + 0.05


def test_constant_targets_are_predicted_as_they_are() -> None:
    X, Y = problem(20, 40, targets=3)
    Y[:, 1] = 0.1
    model = RidgeLOO(ALPHAS).fit(X, Y)
    assert np.isfinite(model.coef_).all()
    np.testing.assert_array_equal(model.predict(X[:4])[:, 1], 0.1)
    assert model.alpha_[1] == ALPHAS[-1]
    assert model.best_score_[1] == 0
    assert model.loo_r2_[1] == 0


def test_constant_and_duplicated_features_do_no_harm() -> None:
    X, Y = problem(20, 10, targets=2)
    X[:, 3] = 7
    X[:, 4] = X[:, 5]
    model = RidgeLOO(ALPHAS).fit(X, Y)
    assert model.coef_[0, 3] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(model.coef_[:, 4], model.coef_[:, 5])


def test_one_dimensional_target_gives_scalars() -> None:
    X, Y = problem(20, 40)
    model = RidgeLOO(ALPHAS, store_cv_results=True).fit(X, Y[:, 2])
    assert isinstance(model.alpha_, float)
    assert model.coef_.shape == (40,)
    assert model.cv_results_.shape == (20, len(ALPHAS))
    assert model.predict(X).shape == (20,)
    assert model.alpha_ == RidgeLOO(ALPHAS).fit(X, Y).alpha_[2]


def test_inputs_stay_as_they_are() -> None:
    X, Y = problem(15, 20)
    copies = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    RidgeLOO(ALPHAS).fit(X, Y)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(Y, copies[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_values_are_named(value: float) -> None:
    X, Y = problem(15, 20)
    X[3, 11] = value
    with pytest.raises(DataError, match="feature column 11"):
        RidgeLOO(ALPHAS).fit(X, Y)
    X[3, 11] = 0
    Y[1, 2] = Y[0, 4] = value
    with pytest.raises(DataError, match="target columns 2, 4"):
        RidgeLOO(ALPHAS).fit(X, Y)


@pytest.mark.parametrize("alphas", [[], [0.0, 1.0], [-1.0], [np.nan], [[1.0]]])
def test_bad_penalties_are_refused(alphas: object) -> None:
    with pytest.raises(DataError, match="penalties"):
        RidgeLOO(alphas).fit(*problem(10, 5))  # type: ignore[arg-type]


def test_unequal_lengths_unknown_precision_and_wrong_width_are_refused() -> None:
    X, Y = problem(10, 5)
    with pytest.raises(DataError, match="inconsistent numbers of samples"):
        RidgeLOO().fit(X, Y[:9])
    with pytest.raises(DataError, match="precision"):
        RidgeLOO(dtype="float16").fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="criterion"):
        RidgeLOO(criterion="aic").fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="5 features"):
        RidgeLOO().fit(X, Y).predict(X[:, :4])


def test_clone_keeps_the_parameters() -> None:
    model = clone(RidgeLOO((1.0, 2.0), dtype="float32", batch_targets=4))
    assert model.get_params()["alphas"] == (1.0, 2.0)
    assert model.get_params()["batch_targets"] == 4


@parametrize_with_checks([RidgeLOO()])  # type: ignore[untyped-decorator]
def test_scikit_learn_manners(estimator: RidgeLOO, check: object) -> None:
    check(estimator)  # type: ignore[operator]
