"""Splits, leaks and the handle on test data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.data.recording import Recording
from phosphene.data.splits import (
    HeldOut,
    Split,
    hold_out_concepts,
    split_by_column,
    split_by_concept,
    split_concept_pairs,
    split_concepts,
    split_leave_one_out,
)
from phosphene.errors import DataError, LeakError


def make(n_concepts: int = 10, **columns: Any) -> Recording:
    """Two exemplars per concept, each shown in runs 1, 2 and 10."""
    rows = [
        {"stimulus": f"k{c}/k{c}_{e:02d}.png", "run": run}
        for run in ("1", "10", "2")
        for c in range(n_concepts)
        for e in range(2)
    ]
    table = pd.DataFrame(rows).assign(**columns)
    x = np.random.default_rng(0).normal(size=(len(table), 3))
    return Recording.from_arrays(x, table, modality="fmri")


@pytest.mark.parametrize(("test", "n"), [(3, 3), (0.2, 2), (["k1", "k7"], 2), (np.int64(4), 4)])
@pytest.mark.parametrize("validation", [0, 2, 0.25])
def test_concepts_are_never_shared(test: Any, n: int, validation: Any) -> None:
    recording = make()
    split = split_by_concept(recording, test=test, validation=validation, random_state=3)
    parts = split.apply(recording)
    concepts = [set(part.concepts) for part in parts]
    assert len(concepts[2]) == n
    assert len(concepts[1]) == (2 if validation else 0)
    assert not (concepts[0] & concepts[1] | concepts[0] & concepts[2] | concepts[1] & concepts[2])
    assert sum(part.n_trials for part in parts) == recording.n_trials
    for part, name in zip(parts, ("train", "validation", "test"), strict=True):
        assert (part.trials["split"] == name).all()
    assert (split.kind, split.seed) == ("concept", 3)
    np.testing.assert_array_equal(parts[2].signals, recording.signals[split.test])


def test_the_draw_depends_on_seed_and_names_only() -> None:
    recording = make()
    order = np.random.default_rng(1).permutation(recording.n_trials)
    drawn = {}
    for seed in range(5):
        _, test = split_concepts(recording, test=3, random_state=seed)
        _, shuffled = split_concepts(recording.select(order), test=3, random_state=seed)
        assert set(test.concepts) == set(shuffled.concepts)
        drawn[seed] = frozenset(test.concepts)
    assert len(set(drawn.values())) > 1


def test_split_concepts_hides_the_test() -> None:
    train, test = split_concepts(make(), test=["k2"])
    assert isinstance(test, HeldOut)
    assert "k2" not in train.concepts
    assert set(train.trials["split"]) == {"train"}
    assert test.stimuli == ["k2/k2_00.png", "k2/k2_01.png"]
    assert test.n_trials == 6


@pytest.mark.parametrize("test", [0, 10, 11, 1.0, -0.1, [], ["k1", "nothing"], "k1", True])
def test_impossible_amounts_are_refused(test: Any) -> None:
    with pytest.raises(DataError):
        split_concepts(make(), test=test)


def test_nothing_left_for_training() -> None:
    with pytest.raises(DataError, match=r"no concept is left|not enough concepts"):
        split_by_concept(make(3), test=1, validation=2)
    with pytest.raises(DataError, match="60 trials have no concept"):
        split_by_concept(make(concept=""), test=1)


def test_an_image_under_two_concepts_is_a_leak() -> None:
    recording = make(3)
    table = recording.trials
    table.loc[table["run"] == "2", "concept"] = "other"
    with pytest.raises(LeakError, match=r"6 x stimulus in train/test: k0/k0_00\.png"):
        split_by_concept(recording.with_trials(table), test=["other"])


def test_overlaps_say_what_is_shared() -> None:
    recording = make(3)
    split = Split([0, 1, 2], [], [6, 3], kind="stimulus")
    table = split.overlaps(recording).set_index(["parts", "what"])
    shared = table["n_shared"].to_dict()
    assert shared["train/test", "stimulus"] == 1
    assert table.loc[("train/test", "stimulus"), "examples"] == "k0/k0_00.png"
    assert shared["train/test", "concept"] == 2
    assert shared["train/test", "run"] == 1
    with pytest.raises(LeakError, match=r"1 x stimulus in train/test: k0/k0_00\.png"):
        split.check(recording)
    Split([0, 1, 2], [], [6, 3], kind="trial").check(recording)
    Split([0, 1], [], [3], kind="stimulus").check(recording)


def test_a_shared_concept_is_a_leak_for_that_kind_only() -> None:
    recording = make(3)
    Split([0], [], [1], kind="stimulus").check(recording)
    with pytest.raises(LeakError, match="1 x concept in train/test: k0"):
        Split([0], [], [1], kind="concept").check(recording)
    with pytest.raises(LeakError, match="1 x concept in validation/test: k0"):
        Split([2], [0], [1], kind="concept").check(recording)
    with pytest.raises(LeakError, match="1 x run in train/test: 01/1/1"):
        Split([0], [], [2], kind="run").check(recording)


def test_the_same_image_under_two_names_is_a_leak() -> None:
    recording = make(3)
    hashes = {name: name for name in recording.stimuli}
    split = Split([0, 1], [], [2, 3], kind="stimulus")
    split.check(recording, hashes)
    hashes["k1/k1_01.png"] = hashes["k0/k0_00.png"]
    with pytest.raises(LeakError, match=r"image content in train/test: k0/k0_00\.png = k1/k1_01"):
        split.check(recording, pd.Series(hashes))
    longer = {f"images/{name}": digest for name, digest in hashes.items()}
    with pytest.raises(LeakError, match="image content"):
        split.check(recording, longer)
    with pytest.raises(DataError, match="missing"):
        split.check(recording, {})


def test_a_trial_in_two_parts() -> None:
    with pytest.raises(LeakError, match=r"1 trials are in both train and test[\s\S]*positions 2"):
        Split([0, 2], [], [2, 3], kind="trial")
    with pytest.raises(DataError, match="no kind of split 'week'"):
        Split([0], [], [1], kind="week")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="out of range: 99"):
        Split([0], [], [99], kind="trial").apply(make(2))


def test_leaving_one_run_out() -> None:
    recording = make(2)
    splits = split_leave_one_out(recording)
    runs = [recording.trials["run"].iloc[split.test].unique().tolist() for split in splits]
    assert runs == [["1"], ["2"], ["10"]]
    for split in splits:
        split.check(recording)
        assert len(split.train) + len(split.test) == recording.n_trials
        assert split.kind == "run"
    with pytest.raises(DataError, match="leaving one subject out needs at least two"):
        split_leave_one_out(recording, "subject")
    with pytest.raises(DataError, match="'rnu'"):
        split_leave_one_out(recording, "rnu")


def test_pairs_of_concepts() -> None:
    recording = make(4)
    splits = split_concept_pairs(recording)
    assert len(splits) == 6
    tested = [tuple(recording.select(split.test).concepts) for split in splits]
    assert tested == [
        ("k0", "k1"),
        ("k0", "k2"),
        ("k0", "k3"),
        ("k1", "k2"),
        ("k1", "k3"),
        ("k2", "k3"),
    ]
    for split in splits:
        split.check(recording)
    with pytest.raises(DataError, match="at least three"):
        split_concept_pairs(make(2))


def test_held_out_concepts() -> None:
    trials = make().trials
    mask = hold_out_concepts(trials, 0.1, seed=0)
    assert len(set(trials.loc[mask, "concept"])) == 1
    assert not set(trials.loc[mask, "concept"]) & set(trials.loc[~mask, "concept"])
    assert hold_out_concepts(trials, 0.99, 0).sum() == 54  # one concept is always left
    shuffled = trials.sample(frac=1, random_state=1)
    again = hold_out_concepts(shuffled, 0.1, seed=0)
    assert set(shuffled.loc[again, "concept"]) == set(trials.loc[mask, "concept"])
    with pytest.raises(DataError, match="fraction"):
        hold_out_concepts(trials, 0.0, 0)


def test_a_split_that_comes_with_the_data() -> None:
    recording = make(3)
    marked = recording.trials.assign(split="train")
    marked.loc[marked["concept"] == "k1", "split"] = "test"
    train, test = split_by_column(recording.with_trials(marked))
    assert train.concepts == ["k0", "k2"]
    assert test.concepts == ["k1"]
    marked.loc[0, "split"] = "test"
    with pytest.raises(LeakError, match=r"k0/k0_00\.png"):
        split_by_column(recording.with_trials(marked))
    with pytest.raises(DataError, match="one side"):
        split_by_column(recording.with_trials(marked.assign(split="train")))
    with pytest.raises(DataError, match=r"18 trials[\s\S]*''"):
        split_by_column(recording)


def test_the_handle_counts_who_looked() -> None:
    held = HeldOut(make(2))
    assert (held.trials["split"] == "test").all()
    assert (held.opened, held.n_trials, len(held), held.shape) == (0, 12, 12, (12, 3))
    assert held.concepts == ["k0", "k1"]
    assert held.subjects == ["01"]
    assert held.name == "recording"
    opened = held.open("evaluate ridge")
    assert isinstance(opened, Recording)
    assert (opened.trials["split"] == "test").all()
    held.open("evaluate ubp")
    assert (held.opened, held.purposes) == (2, ["evaluate ridge", "evaluate ubp"])
    assert "opened 2 times" in repr(held)
    assert not hasattr(held, "signals")
    with pytest.raises(AttributeError):
        held.opened = 0  # type: ignore[misc]
    with pytest.raises(DataError, match="no trials"):
        HeldOut(make(2).select([]))
