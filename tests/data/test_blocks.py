"""Designs in which time tells the class."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

from phosphene.data.blocks import confounded_blocks, warn_if_confounded
from phosphene.errors import DataError, DesignWarning


def table(rows: list[tuple[str, str, str]], subject: str = "01") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["session", "run", "concept"]).assign(subject=subject)


def test_one_class_per_run() -> None:
    trials = table([("1", r, c) for r, c in [("1", "dog"), ("2", "cat"), ("3", "dog")]] * 2)
    found = confounded_blocks(trials)
    assert found[["level", "block", "value", "n_trials"]].to_numpy().tolist() == [
        ["run", "1/1", "dog", 2],
        ["run", "1/2", "cat", 2],
        ["run", "1/3", "dog", 2],
    ]
    assert set(found["problem"]) == {"one class in the block"}
    with pytest.warns(DesignWarning, match=r"3 cases \(01:1/1 dog, 01:1/2 cat"):
        warn_if_confounded(trials)


def test_a_class_of_one_session() -> None:
    rows = [("1", "1", "dog"), ("1", "1", "dog"), ("1", "1", "cat"), ("2", "1", "cat")]
    found = confounded_blocks(table([*rows, ("2", "1", "cup")]))
    # One trial of "cup" cannot be in two sessions.
    assert found[["level", "block", "problem", "value"]].to_numpy().tolist() == [
        ["session", "1", "class in a single session", "dog"]
    ]


def test_one_class_per_session() -> None:
    rows = [("1", "1", "dog"), ("1", "2", "dog"), ("2", "1", "cat"), ("2", "2", "cat")]
    found = confounded_blocks(table(rows))
    assert found["problem"].value_counts().to_dict() == {
        "one class in the block": 2,
        "class in a single session": 2,
    }
    assert set(found["level"]) == {"session"}


def test_mixed_designs_are_silent() -> None:
    rows = [(s, r, c) for s in "12" for r in "12" for c in ("dog", "cat") for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(warn_if_confounded(table(rows))) == 0
    # One block says nothing about blocks.
    assert len(confounded_blocks(table([("1", "1", "dog")] * 4))) == 0


def test_people_are_judged_one_by_one() -> None:
    mixed = table([("1", r, c) for r in "12" for c in ("dog", "cat")] * 2)
    blocked = table([("1", "1", "dog"), ("1", "2", "cat")] * 2, subject="02")
    found = confounded_blocks(pd.concat([mixed, blocked]))
    assert set(found["subject"]) == {"02"}


def test_other_columns() -> None:
    trials = table([("1", "1", "dog"), ("1", "2", "cat")] * 2).assign(category="animal")
    trials.loc[:, "category"] = ["a", "b", "b", "a"]
    assert len(confounded_blocks(trials, "category")) == 0
    with pytest.raises(DataError, match="'kind'"):
        confounded_blocks(trials, "kind")
