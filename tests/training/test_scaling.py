"""Standardisation with training statistics."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.training.scaling import ChannelScaler


@pytest.mark.parametrize("shape", [(40, 3, 20), (40, 6)])
def test_statistics_equal_numpy(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phosphene.training.scaling._CHUNK_BYTES", 500)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) * 3 + 1e4).astype(np.float32)  # the offset must not eat digits
    rows = np.arange(5, 31)
    scaler = ChannelScaler.fit(x, rows)
    axes = (0, *range(2, len(shape)))
    wide = x[rows].astype(np.float64)
    np.testing.assert_allclose(scaler.mean, wide.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(scaler.scale, wide.std(axes), rtol=1e-6)
    z = scaler.apply(x)
    assert z.dtype == np.float32
    assert abs(z[rows].mean()) < 1e-2
    assert x[0, 0] is not z[0, 0]


def test_float16_is_standardised_in_float32() -> None:
    x = np.random.default_rng(0).standard_normal((9, 2, 5)).astype(np.float16)
    z = ChannelScaler.fit(x).apply(x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.std((0, 2)), 1, atol=1e-5)


def test_flat_and_nan_channels_are_named() -> None:
    x = np.random.default_rng(0).standard_normal((9, 3, 5)).astype(np.float32)
    x[:, 1] = 2.0
    with pytest.raises(DataError, match="do not vary in the training data: Oz"):
        ChannelScaler.fit(x, names=["Pz", "Oz", "O1"])
    x[3, 2, 1] = np.nan
    with pytest.raises(DataError, match="hold NaN in the training data: O1"):
        ChannelScaler.fit(x, names=["Pz", "Oz", "O1"])


def test_identity_changes_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(ChannelScaler.identity(3).apply(x), x)
