"""Averages over chosen repetitions against a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from phosphene.data.preprocess.repetitions import AverageRepetitions
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError


def make(seed: int = 0) -> Recording:
    """Stimuli a, b, c with 6, 4 and 2 repetitions over two sessions, in random order."""
    rng = np.random.default_rng(seed)
    stimulus = np.repeat(["a", "b", "c"], [6, 4, 2])
    session = np.concatenate([np.arange(n) * 2 // n + 1 for n in (6, 4, 2)])
    order = rng.permutation(12)
    return Recording.from_arrays(
        rng.normal(size=(12, 2, 3)),
        {"stimulus": stimulus[order], "session": session[order]},
        sfreq=10,
    )


def in_order(recording: Recording, stimulus: str) -> Any:
    """Signals of the repetitions of a stimulus in order of session and repetition."""
    part = recording.select(stimulus=stimulus)
    table = part.trials.sort_values(["session", "repetition"])
    return part.signals[table.index.to_numpy()]


@pytest.mark.parametrize(
    ("repetitions", "which"),
    [(None, {"a": 6, "b": 4, "c": 2}), (3, {"a": 3, "b": 3, "c": 2}), (1, dict.fromkeys("abc", 1))],
)
def test_the_first_repetitions(repetitions: Any, which: dict[str, int]) -> None:
    recording = make()
    done = AverageRepetitions(repetitions).transform(recording)
    for stimulus, n in which.items():
        row = done.select(stimulus=stimulus)
        expected = in_order(recording, stimulus)[:n].mean(axis=0)
        np.testing.assert_allclose(row.signals[0], expected, rtol=1e-5)
        assert row.trials["n_averaged"].tolist() == [n]
    same = recording.average(max_repetitions=repetitions)
    np.testing.assert_allclose(
        done.select(stimulus="b").signals, same.select(stimulus="b").signals, rtol=1e-5
    )
    assert [entry["op"] for entry in done.history] == ["choose_repetitions", "average"]


def test_certain_repetitions(caplog: pytest.LogCaptureFixture) -> None:
    recording = make()
    done = AverageRepetitions([1, 3]).transform(recording)
    for stimulus, rows in (("a", [1, 3]), ("b", [1, 3]), ("c", [1])):
        expected = in_order(recording, stimulus)[rows].mean(axis=0)
        np.testing.assert_allclose(done.select(stimulus=stimulus).signals[0], expected, rtol=1e-5)
    assert "1 of 3 groups have fewer repetitions" in caplog.text
    with pytest.raises(DataError, match="2 stimuli have none") as error:
        AverageRepetitions([4, 5]).transform(recording)
    assert "b (4 in all)" in str(error.value)


def test_random_repetitions_depend_on_the_seed_and_on_the_group_only() -> None:
    recording = make()
    step = AverageRepetitions(2, choose="random", random_state=3)
    done = step.transform(recording).select(stimulus="a").signals
    again = step.transform(recording.select(stimulus=["a", "c"])).select(stimulus="a").signals
    np.testing.assert_array_equal(done, again)
    seen = {
        AverageRepetitions(2, choose="random", random_state=seed)
        .transform(recording)
        .select(stimulus="a")
        .signals.tobytes()
        for seed in range(12)
    }
    assert len(seen) > 4
    a = in_order(recording, "a")
    pairs = [(a[i] + a[j]) / 2 for i in range(6) for j in range(i)]
    assert min(np.abs(done[0] - pair).max() for pair in pairs) < 1e-6


def test_groups_splits_and_settings() -> None:
    recording = make()
    by_session = AverageRepetitions(1, by=["stimulus", "session"]).transform(recording)
    assert by_session.n_trials == 6
    split = recording.with_trials(recording.trials.assign(split=["train"] * 6 + ["test"] * 6))
    with pytest.raises(LeakError):
        AverageRepetitions().transform(split)
    for wrong in (0, [], [0, 0], [-1], 2.5, True, "2", ["0"], [0.5]):
        with pytest.raises(DataError, match=r"(too few|no numbers of) repetitions"):
            AverageRepetitions(wrong).transform(recording)  # type: ignore[arg-type]
    few = AverageRepetitions(np.array([0, 1])).transform(recording)  # type: ignore[arg-type]
    assert few.signals.tolist() == AverageRepetitions([0, 1]).transform(recording).signals.tolist()
    with pytest.raises(DataError, match="no trials to average"):
        AverageRepetitions().transform(recording.select(np.array([], dtype=int)))
    with pytest.raises(DataError, match="no such choice"):
        AverageRepetitions(choose="last").transform(recording)  # type: ignore[arg-type]
    step = AverageRepetitions(2, by=["stimulus"])
    assert clone(step).get_params() == step.get_params()
