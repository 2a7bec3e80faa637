"""Decoders of aligned vectors against literal loops; the selection sees training rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression

from phosphene.errors import DataError
from phosphene.methods.alignment_decoders import linear_decoder
from phosphene.methods.alignment_table import ridge_decoder

N_TRAIN, N = 24, 30
TRAIN, TEST = slice(0, N_TRAIN), slice(N_TRAIN, N)


def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    s = rng.standard_normal((N, 3))
    x = s @ rng.standard_normal((3, 12)) + rng.standard_normal((N, 12))
    return 5 + 3 * x, s @ rng.standard_normal((3, 4)) + 7


def chosen(z: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
    r = [abs(np.corrcoef(z[:N_TRAIN, j], target)[0, 1]) for j in range(z.shape[1])]
    return np.sort(np.argsort(r)[-k:])


@pytest.mark.parametrize("name", ["ridge", "ols", "pls"])
def test_every_unit_has_its_own_voxels_and_weights(name: str) -> None:
    x, y = problem()
    z = (x - x[TRAIN].mean(axis=0)) / x[TRAIN].std(axis=0)
    options = {"penalty": 3.0, "components": 2}
    decode = linear_decoder({"a": x}, TRAIN, TEST, name, voxels=5, **options)  # type: ignore[arg-type]
    found = decode("a", y[TRAIN])
    for unit in range(y.shape[1]):
        target = y[TRAIN, unit]
        some = chosen(z, target, 5)
        inputs, mean = z[TRAIN][:, some], target.mean()
        if name == "pls":
            model = PLSRegression(2).fit(inputs, target)
            expected = model.predict(z[TEST][:, some]).ravel()
        else:
            added = (3.0 if name == "ridge" else 0.0) * np.eye(5)
            weights = np.linalg.solve(inputs.T @ inputs + added, inputs.T @ (target - mean))
            expected = z[TEST][:, some] @ weights + mean
        np.testing.assert_allclose(found[:, unit], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["ridge", "ols", "pls"])
def test_test_rows_decide_neither_selection_nor_weights(name: str) -> None:
    x, y = problem()
    other = x.copy()
    other[N_TRAIN + 1 :] = 40.0
    first, second = (
        linear_decoder({"a": rows}, TRAIN, TEST, name, voxels=4)("a", y[TRAIN])  # type: ignore[arg-type]
        for rows in (x, other)
    )
    # Sums over all test rows at once may round apart.
    np.testing.assert_allclose(first[0], second[0], rtol=1e-9)
    assert not np.allclose(first[1], second[1])


def test_all_voxels_are_ridge_as_before_and_more_than_there_are_is_all() -> None:
    x, y = problem()
    plain = ridge_decoder({"a": x}, TRAIN, TEST, penalty=9.0)("a", y[TRAIN])
    for voxels in (None, 500):
        found = linear_decoder({"a": x}, TRAIN, TEST, voxels=voxels, penalty=9.0)("a", y[TRAIN])
        np.testing.assert_allclose(found, plain, rtol=1e-6)


def test_bad_choices_are_refused() -> None:
    x, _ = problem()
    for words, options in (
        ("unknown decoder", {"decoder": "lasso"}),
        ("voxels", {"voxels": 0}),
        ("components", {"decoder": "pls", "components": 0}),
        ("penalty", {"penalty": 0.0}),
    ):
        with pytest.raises(DataError, match=words):
            linear_decoder({"a": x}, TRAIN, TEST, **options)  # type: ignore[arg-type]
