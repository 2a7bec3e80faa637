"""Naming decoded vectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.errors import DataError, SpaceMismatchError
from phosphene.evaluation.naming import name, naming_accuracy
from phosphene.stimuli.bank import FeatureBank

WORDS = [f"word{i}" for i in range(12)]
TABLE = np.random.default_rng(0).normal(size=(12, 5))


def test_nearest_words_by_a_literal_loop_whatever_holds_the_vocabulary() -> None:
    queries = np.random.default_rng(1).normal(size=(3, 5))
    frame = pd.DataFrame(TABLE, index=WORDS)
    found = name(queries, frame, k=4)
    for i, query in enumerate(queries):
        cosines = {w: v @ query / np.linalg.norm(v) / np.linalg.norm(query)
                   for w, v in zip(WORDS, TABLE, strict=True)}  # fmt: skip
        best = sorted(cosines, key=lambda w: -cosines[w])[:4]
        own = found[found["query"] == i]
        assert own["word"].tolist() == best
        assert own["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(own["cosine"], [cosines[w] for w in best], atol=1e-9)
    bank = FeatureBank.from_arrays(WORDS, {"text": TABLE})
    assert name(queries, bank, k=4)["word"].tolist() == found["word"].tolist()
    mapping = dict(zip(WORDS, TABLE, strict=True))
    assert name(queries, mapping, k=4)["word"].tolist() == found["word"].tolist()
    assert len(name(queries[0], frame, k=99)) == 12


def test_accuracy_counts_hits_and_ties_as_expected() -> None:
    vocabulary = pd.DataFrame(TABLE, index=WORDS)
    truth = [WORDS[3], WORDS[7]]
    hits = naming_accuracy(TABLE[[3, 7]], truth, vocabulary, k=1)
    assert hits.tolist() == [1, 1]
    assert naming_accuracy(-TABLE[[3, 7]], truth, vocabulary, k=11).tolist() == [0, 0]
    same = pd.DataFrame(np.ones((4, 2)), index=list("abcd"))
    assert naming_accuracy([[1.0, 1.0]], ["d"], same, k=1) == pytest.approx(0.25)
    assert naming_accuracy([[1.0, 1.0]], ["d"], same, k=3) == pytest.approx(0.75)


def test_bad_input_is_refused() -> None:
    vocabulary = pd.DataFrame(TABLE, index=WORDS)
    with pytest.raises(SpaceMismatchError, match="width"):
        name(TABLE[:, :3], vocabulary)
    with pytest.raises(DataError, match="no direction"):
        name(np.zeros(5), vocabulary)
    with pytest.raises(DataError, match="dragon"):
        naming_accuracy(TABLE[:1], ["dragon"], vocabulary)
    with pytest.raises(DataError, match="k is"):
        name(TABLE, vocabulary, k=0)
