"""Sketches: exact for few trials, a random share for many; copies of recordings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.data import sketches
from phosphene.data.recording import Recording
from phosphene.data.sketches import (
    common,
    content_digests,
    copied_recordings,
    digest,
    keys_of,
    sketch,
    sketch_trials,
)
from phosphene.errors import DataError


def digests(start: int, stop: int) -> list[str]:
    return [digest(str(i)) for i in range(start, stop)]


def test_few_digests_are_compared_exactly() -> None:
    known = sketch(digests(0, 100))
    found, looked = common(known, digests(90, 120))
    assert found.tolist() == [True] * 10 + [False] * 20
    assert looked == 30
    assert common(sketch([]), digests(0, 3))[0].tolist() == [False] * 3


def test_many_digests_are_sampled_without_false_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "KEPT", 200)
    known = sketch(digests(0, 2000))
    assert known["n"] == 2000
    assert len(known["kept"]) == 200 * sketches.WIDTH
    found, looked = common(known, digests(0, 1000))
    assert found.sum() == looked  # every one that could be looked up is there
    assert 60 < looked < 140  # a tenth of them
    found, looked = common(known, digests(5000, 6000))
    assert not found.any()
    assert 60 < looked < 140


def test_names_of_trials_by_level() -> None:
    trials = pd.DataFrame(
        {"subject": "01", "session": ["1", "2"], "run": "1", "stimulus": "a", "repetition": [0, 1]}
    )
    assert set(sketch_trials(trials)) == {"trial", "stimulus", "run"}
    assert sketch_trials(trials)["trial"]["n"] == 2
    assert sketch_trials(trials)["stimulus"]["n"] == 1
    # Averages over sessions say neither their trial nor their run.
    averaged = trials.assign(session="", n_averaged=2)
    assert keys_of(averaged, "trial") is None
    assert keys_of(averaged, "run") is None
    assert keys_of(averaged, "stimulus") is not None


def recording(x: np.ndarray, **columns: list[str]) -> Recording:
    return Recording.from_arrays(x.astype("float32"), pd.DataFrame(columns), sfreq=100)


def test_contents_agree_for_copies_only() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5, 333))
    x[4], x[5] = x[1], 0.0
    one = recording(x, stimulus=list("abcdef"))
    found = content_digests(one)
    assert found[4] == found[1]
    assert len(set(found)) == 5
    assert found[5] == ""
    assert content_digests(one.select([4, 1, 0])) == [found[4], found[1], found[0]]
    nearly = x.copy()
    nearly[0] = np.nextafter(nearly[0].astype("float32"), 1)
    assert content_digests(recording(nearly, stimulus=list("abcdef")))[0] != found[0]


def test_copied_runs_are_paired() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3, 5))
    x[4] = x[0]
    trials = recording(x, stimulus=list("aabbab"), session=["1", "1", "2", "2", "3", "3"])
    found = copied_recordings(trials.trials, content_digests(trials))
    assert found.to_numpy().tolist() == [["01/1/1", "01/3/1", 1, 0.5]]
    assert copied_recordings(trials.trials.iloc[:4], content_digests(trials)[:4]).empty


def test_a_single_shared_trial_is_no_copied_recording() -> None:
    from phosphene.evaluation.guards import remember_trials

    x = np.random.default_rng(0).normal(size=(6, 3, 5))
    x[4] = x[0]
    table = {"stimulus": list("aabbab"), "session": ["1", "1", "2", "2", "3", "3"]}
    remember_trials(recording(x, **table))
    x[5] = x[1]
    with pytest.raises(DataError, match=r"(?s)same signals.*01/3/1 = 01/1/1 \(2 trials\)"):
        remember_trials(recording(x, **table))
