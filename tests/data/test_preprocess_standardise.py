"""Standardisation against numpy and scikit-learn, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from phosphene.data.preprocess.standardise import Standardise
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, NotFittedError


def make(n: int = 40, offset: float = 0.0, seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3, 7)) * np.array([1.0, 5.0, 0.2])[:, None] + rng.normal(size=(3, 7))
    x += offset
    trials = {
        "stimulus": np.arange(n),
        "session": np.arange(n) % 2,
        "split": ["train"] * (n - 10) + ["test"] * 10,
    }
    return Recording.from_arrays(x, trials, sfreq=100.0)


@pytest.mark.parametrize("per", ["channel", "channel_time"])
@pytest.mark.parametrize("by", [(), ("session",), "session"])
def test_equals_scikit_learn_fitted_on_training_trials(
    per: Any, by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several pieces, so that their moments have to be put together.
    monkeypatch.setattr("phosphene.data.preprocess._trialwise.PIECE", 8 * 21 * 4)
    recording = make()
    train, test = recording.select(split="train"), recording.select(split="test")
    step = Standardise(per=per, by=by).fit(train)
    done = step.transform(test)
    for session in ("0", "1"):
        fit_on = train if not by else train.select(session=session)
        x, y = fit_on.signals, test.select(session=session).signals
        if per == "channel":
            mean, sd = x.mean(axis=(0, 2), dtype=float), x.std(axis=(0, 2), dtype=float)
            expected = (y - mean[:, None]) / sd[:, None]
        else:
            scaler = StandardScaler().fit(x.reshape(len(x), -1).astype(float))
            expected = scaler.transform(y.reshape(len(y), -1).astype(float)).reshape(y.shape)
        np.testing.assert_allclose(
            done.select(session=session).signals, expected, rtol=1e-5, atol=1e-6
        )
    assert done.signals.dtype == np.float32
    assert done.history[-1]["fitted_on"] == train.fingerprint
    assert done.history[-1]["op"] == "standardise"


def test_a_large_mean_costs_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phosphene.data.preprocess._trialwise.PIECE", 8 * 21 * 8)
    step = Standardise(by=()).fit(make(offset=3000.0).select(split="train"))
    x = make(offset=3000.0).select(split="train").signals.astype(np.float64)
    np.testing.assert_allclose(step.deviations_[()][:, 0], x.std(axis=(0, 2)), rtol=1e-9)


def test_voxels_and_recordings_in_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(20, 5))
    voxels = Recording.from_arrays(x, {"stimulus": range(20)}, modality="fmri")
    done = Standardise().fit_transform(voxels)
    np.testing.assert_allclose(done.signals, (x - x.mean(0)) / x.std(0), rtol=1e-4, atol=1e-5)
    voxels.save(tmp_path / "voxels")
    there = Recording.load(tmp_path / "voxels")
    lazy = Standardise().fit(there).transform(there)
    assert not lazy.in_memory
    np.testing.assert_array_equal(lazy.signals, done.signals)


def test_it_refuses_test_trials_unknown_groups_and_other_channels() -> None:
    recording = make()
    train = recording.select(split="train")
    with pytest.raises(LeakError, match=r"Standardise\.fit"):
        Standardise().fit(recording)
    with pytest.raises(NotFittedError):
        Standardise().transform(train)
    fitted = Standardise(by=["session"]).fit(train.select(session="0"))
    with pytest.raises(DataError, match="not fitted on session 1"):
        fitted.transform(train)
    with pytest.raises(DataError, match="other channels"):
        fitted.transform(train.select(session="0").pick([0, 1]))
    by_time = Standardise(per="channel_time").fit(train)
    with pytest.raises(DataError, match="number of samples"):
        by_time.transform(train.crop(0, 0.03))
    assert Standardise().fit(train).transform(train.crop(0, 0.03)).shape == (30, 3, 4)
    with pytest.raises(DataError, match="per 'voxel'"):
        Standardise(per="voxel").fit(train)  # type: ignore[arg-type]
    assert clone(fitted).get_params() == {"per": "channel", "by": ["session"]}


def test_a_fit_that_fails_leaves_the_last_one() -> None:
    train = make().select(split="train")
    step = Standardise().fit(train)
    expected = step.transform(train).signals
    flat = train.signals.copy()
    flat[:, 1] = 1.0
    with pytest.raises(DataError, match="constant"):
        step.fit(train.with_signals(flat, check=False))
    np.testing.assert_array_equal(step.transform(train).signals, expected)
    with pytest.raises(DataError, match=r"Standardise\.fit was given no trials"):
        step.fit(train.select(np.array([], dtype=int)))


def test_constant_channels_of_a_group_are_named() -> None:
    train = make().select(split="train")
    x = train.signals.copy()
    x[(train.trials["session"] == "1").to_numpy(), 1] = 300.1
    with pytest.raises(DataError, match="constant or not finite in subject 01, session 1: ch1"):
        Standardise().fit(train.with_signals(x))
    before = train.signals.copy()
    Standardise().fit_transform(train)
    np.testing.assert_array_equal(train.signals, before)
