"""Detrending, standardising and block averages against slow literal forms; what fit refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import detrend
from scipy.stats import zscore

from phosphene.data.preprocess._base import Transform
from phosphene.data.preprocess.averaging import BlockAverage
from phosphene.data.preprocess.voxels import DetrendZScore
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, NotFittedError

LABELS = ["rest", "rest", "cat", "cat", "cat", "rest", "dog", "dog", "dog", "rest"]


def volumes(n_runs: int = 3, voxels: int = 6, seed: int = 0, **columns: Any) -> Recording:
    """Runs of ten volumes with offsets and drifts that differ between runs and voxels."""
    rng = np.random.default_rng(seed)
    n = len(LABELS)
    time = np.arange(n)[:, None]
    runs = [
        rng.standard_normal((n, voxels))
        + rng.uniform(100, 900, voxels)
        + time * rng.uniform(-3, 3, voxels)
        for _ in range(n_runs)
    ]
    trials = {
        "stimulus": LABELS * n_runs,
        "run": np.repeat([f"{i}" for i in range(n_runs)], n),
        "volume": np.tile(np.arange(n), n_runs),
        **columns,
    }
    return Recording.from_arrays(
        np.concatenate(runs).astype(np.float32), trials, modality="fmri", name="volumes"
    )


class Mean(Transform):
    """A step that does learn: the mean of the training trials."""

    step = "mean"

    def __init__(self, axes: tuple[int, ...] = (0,)) -> None:
        self.axes = axes

    def _fit(self, recording: Recording) -> None:
        self.mean_ = recording.signals.mean(axis=self.axes)

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        return recording.with_signals(recording.signals - self.mean_, op=op)


def test_fit_refuses_test_trials_and_remembers_what_it_saw() -> None:
    recording = volumes(split=["train"] * 20 + ["test"] * 10)
    with pytest.raises(LeakError, match=r"Mean\.fit"):
        Mean().fit(recording)
    train, test = recording.select(split="train"), recording.select(split="test")
    step = Mean().fit(train)
    assert step.fitted_on_ == train.fingerprint
    done = step.transform(test)
    entry = done.history[-1]
    assert {**entry, "fitted_trials": {}} == {
        "op": "mean", "axes": [0], "fitted_on": train.fingerprint, "fitted_trials": {}
    }  # fmt: skip
    assert entry["fitted_trials"]["trial"]["n"] == train.n_trials
    np.testing.assert_allclose(done.signals, test.signals - train.signals.mean(axis=0))
    with pytest.raises(NotFittedError, match="Mean"):
        Mean().transform(test)


@pytest.mark.parametrize("remove_trend", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_detrend_zscore_equals_scipy_per_run(remove_trend: bool, scale: bool) -> None:
    recording = volumes()
    done = DetrendZScore(detrend=remove_trend, zscore=scale).transform(recording)
    for start in (0, 10, 20):
        part = recording.signals[start : start + 10].astype(np.float64)
        expected = detrend(part, axis=0, type="linear" if remove_trend else "constant")
        if scale:
            expected = zscore(expected, axis=0)
        np.testing.assert_allclose(done.signals[start : start + 10], expected, atol=2e-5)
    assert done.signals.dtype == np.float32
    pd.testing.assert_frame_equal(done.trials, recording.trials)


def test_detrend_zscore_keeps_runs_apart() -> None:
    recording = volumes()
    changed = recording.signals.copy()
    changed[20:] *= 7
    changed[20:] += np.random.default_rng(1).standard_normal((10, 6))
    done = DetrendZScore().transform(recording).signals
    other = DetrendZScore().transform(recording.with_signals(changed)).signals
    np.testing.assert_array_equal(done[:20], other[:20])
    assert not np.allclose(done[20:], other[20:])


def test_detrend_zscore_of_runs_that_are_interleaved_in_the_table() -> None:
    recording = volumes(2)
    order = np.arange(20).reshape(2, 10).T.ravel()
    mixed = DetrendZScore().transform(recording.select(order))
    np.testing.assert_allclose(
        mixed.signals, DetrendZScore().transform(recording).signals[order], atol=1e-6
    )


def test_detrend_follows_the_volume_numbers_when_volumes_are_missing() -> None:
    recording = volumes(1)
    kept = np.array([0, 1, 2, 6, 7, 9])
    done = DetrendZScore(zscore=False).transform(recording.select(kept))
    residual = recording.signals[kept].astype(float)
    for voxel in range(6):
        residual[:, voxel] -= np.polyval(np.polyfit(kept, residual[:, voxel], 1), kept)
    np.testing.assert_allclose(done.signals, residual, atol=1e-4)


def test_a_voxel_constant_within_a_run_becomes_zero(caplog: pytest.LogCaptureFixture) -> None:
    recording = volumes()
    signals = recording.signals.copy()
    signals[10:20, 4] = 300.1
    done = DetrendZScore().transform(recording.with_signals(signals))
    assert (done.signals[10:20, 4] == 0).all()
    assert "voxel_4" in caplog.text
    assert "voxel_3" not in caplog.text


def test_within_run_steps_take_test_runs_and_say_so() -> None:
    recording = volumes(split=["train"] * 20 + ["test"] * 10)
    done = BlockAverage(1).transform(DetrendZScore().fit(recording).transform(recording))
    assert done.trials["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert [entry["op"] for entry in done.history] == ["detrend_zscore", "block_average"]
    assert "test runs included" in done.history[0]["fitted_on"]


def literal_blocks(recording: Recording, shift: int) -> list[tuple[str, str, int, Any]]:
    """One volume at a time: what was its label ``shift`` volumes ago?"""
    blocks: list[tuple[str, str, list[Any]]] = []
    table = recording.trials
    for run in table["run"].unique():
        rows = np.flatnonzero((table["run"] == run).to_numpy())
        last = "rest"
        for position, row in enumerate(rows):
            label = "rest" if position < shift else table["stimulus"][rows[position - shift]]
            if label != "rest":
                if label != last:
                    blocks.append((label, run, []))
                blocks[-1][2].append(recording.signals[row])
            last = label
    return [(label, run, len(part), np.mean(part, axis=0)) for label, run, part in blocks]


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_block_average_equals_the_literal_form(shift: int) -> None:
    recording = volumes()
    done = BlockAverage(shift).transform(recording)
    expected = literal_blocks(recording, shift)
    assert done.trials["stimulus"].tolist() == [label for label, *_ in expected]
    assert done.trials["run"].tolist() == [run for _, run, *_ in expected]
    assert done.trials["n_averaged"].tolist() == [n for *_, n, _ in expected]
    np.testing.assert_allclose(done.signals, np.stack([m for *_, m in expected]), rtol=1e-5)
    # Three volumes pushed past the end of the run shorten its last block by two.
    assert done.trials["n_averaged"].tolist()[1] == (3 if shift < 2 else 4 - shift)


def test_blocks_of_runs_that_are_interleaved_in_the_table() -> None:
    recording = volumes(2)
    order = np.arange(20).reshape(2, 10).T.ravel()
    mixed = BlockAverage(1).transform(recording.select(order))
    plain = BlockAverage(1).transform(recording)
    np.testing.assert_allclose(mixed.signals, plain.signals, rtol=1e-6)
    assert mixed.trials["run"].tolist() == plain.trials["run"].tolist()


def test_block_average_leaves_out_several_labels_and_forgets_volume_numbers() -> None:
    done = BlockAverage(0, drop=("rest", "dog")).transform(volumes())
    assert done.concepts == ["cat"]
    assert "volume" not in done.trials
    assert done.n_trials == 3


def test_block_average_refuses_what_it_cannot_do() -> None:
    recording = volumes()
    with pytest.raises(DataError, match="pause"):
        BlockAverage(drop=("pause",)).transform(recording)
    with pytest.raises(DataError, match="volumes of subject 01, session 1, run 0 are missing"):
        BlockAverage(2).transform(recording.select("volume != 4"))
    with pytest.raises(DataError, match="negative"):
        BlockAverage(-1).transform(recording)
    with pytest.raises(DataError, match="no block is left"):
        BlockAverage(10).transform(recording)
    with pytest.raises(DataError, match="'label'"):
        BlockAverage(column="label").transform(recording)


def test_volumes_out_of_order_too_few_or_with_a_time_axis_are_refused() -> None:
    recording = volumes()
    with pytest.raises(DataError, match="not in the order"):
        DetrendZScore().transform(recording.select(np.arange(29, -1, -1)))
    with pytest.raises(DataError, match="2 volumes"):
        DetrendZScore().transform(recording.select([0, 1]))
    epochs = Recording.from_arrays(
        np.random.default_rng(0).standard_normal((4, 3, 5)), {"stimulus": list("abcd")}, sfreq=10
    )
    with pytest.raises(DataError, match="volumes of voxels"):
        DetrendZScore().transform(epochs)


def test_the_input_is_not_modified() -> None:
    recording = volumes()
    before = recording.fingerprint
    DetrendZScore().transform(recording)
    BlockAverage().transform(recording)
    del recording.__dict__["fingerprint"]
    assert recording.fingerprint == before
