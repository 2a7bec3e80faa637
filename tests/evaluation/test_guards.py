from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.errors import DataError, LeakError
from phosphene.evaluation.guards import check_fit, check_zero_shot, nearest_training_image

TEST = pd.DataFrame(
    {"stimulus": ["cat/9.png", "dog/9.png", "dog/9.png"], "concept": ["cat", "dog", "dog"]}
)


class Bank:
    def __init__(self, ids: list[str], vectors: Any = None, space: str = "s") -> None:
        self.ids = ids
        self.values = np.asarray(vectors) if vectors is not None else np.eye(len(ids))
        self.stimuli = pd.DataFrame(
            {"concept": [i.split("/")[0] for i in ids], "sha256": [f"hash of {i}" for i in ids]},
            index=ids,
        )
        self._space = space

    def resolve(self, ids: list[str]) -> list[int]:
        if missing := [i for i in ids if i not in self.ids]:
            raise DataError(f"missing: {missing}")
        return [self.ids.index(i) for i in ids]

    def vectors(self, view: str, layer: str | None, ids: list[str]) -> Any:
        return self.values[self.resolve(ids)]

    def space(self, layer: str | None) -> str:
        return self._space


def recording(**columns: list[str]) -> Any:
    return SimpleNamespace(trials=pd.DataFrame(columns))


def test_fit_takes_training_trials_with_vectors() -> None:
    bank: Any = Bank(["a", "b"])
    check_fit(recording(stimulus=["a", "b"], split=["train", "validation"]), bank)
    check_fit(recording(stimulus=["a"]), bank)


def test_fit_refuses_test_trials_by_name() -> None:
    bank: Any = Bank(["a", "b"])
    with pytest.raises(LeakError, match="1 test trials") as caught:
        check_fit(recording(stimulus=["a", "b"], split=["train", "test"]), bank)
    assert "stimulus b" in str(caught.value)


def test_fit_refuses_stimuli_without_vectors_and_no_trials() -> None:
    bank: Any = Bank(["a"])
    with pytest.raises(DataError, match="zebra"):
        check_fit(recording(stimulus=["a", "zebra"]), bank)
    with pytest.raises(DataError, match="nothing to fit"):
        check_fit(recording(stimulus=[]), bank)


def test_new_concepts_pass() -> None:
    bank: Any = Bank(["cat/9.png", "dog/9.png"])
    check_zero_shot(["cow/1.png"], ["cow"], ["hash of cow/1.png"], TEST, bank)
    check_zero_shot(["cow/1.png"], ["cow"], [], TEST)


def test_shared_stimuli_are_named() -> None:
    with pytest.raises(LeakError, match=r"1 of 2 test stimuli.*cat/9\.png"):
        check_zero_shot(["cat/9.png", "cow/1.png"], ["cow"], [], TEST)
    with pytest.raises(LeakError, match="stimuli"):
        check_zero_shot(["cat/9.png"], [], [], TEST, zero_shot=False)


def test_shared_concepts_are_named_in_a_zero_shot_test_only() -> None:
    with pytest.raises(LeakError, match=r"1 of 2 test concepts.*dog"):
        check_zero_shot(["dog/1.png"], ["dog"], [], TEST)
    check_zero_shot(["dog/1.png"], ["dog"], [], TEST, zero_shot=False)


def test_unknown_concepts_are_not_shared() -> None:
    unnamed = TEST.assign(concept=["", None, None])
    check_zero_shot(["cow/1.png"], ["", "None", "nan"], [], unnamed)


@pytest.mark.parametrize("form", ["bank", "mapping", "series"])
@pytest.mark.parametrize("train", ["list", "mapping"])
def test_the_same_picture_under_two_names_is_found(form: str, train: str) -> None:
    bank: Any = Bank(["cat/9.png", "dog/9.png"])
    gallery = {"bank": bank, "mapping": bank.stimuli["sha256"].to_dict(),
               "series": bank.stimuli["sha256"]}[form]  # fmt: skip
    digests = ["hash of dog/9.png", ""]
    names = ["animal/7.png", "cow/1.png"]
    hashes: Any = digests if train == "list" else dict(zip(names, digests, strict=True))
    with pytest.raises(LeakError, match=r"dog/9\.png = animal/7\.png"):
        check_zero_shot(names, ["animal", "cow"], hashes, TEST, gallery)


def test_unknown_hashes_are_not_equal_hashes() -> None:
    gallery = {"cat/9.png": "", "dog/9.png": ""}
    check_zero_shot(["cow/1.png"], ["cow"], [""], TEST, gallery)


def test_nearest_training_image() -> None:
    bank: Any = Bank(
        ["cow/1", "pig/1", "cat/9", "dog/9"],
        [[1.0, 0.0], [0.0, 2.0], [0.6, 0.8], [3.0, 0.0]],
    )
    table = nearest_training_image(bank, ["cow/1", "pig/1"], ["cat/9", "dog/9"])
    assert table["stimulus"].tolist() == ["dog/9", "cat/9"]
    assert table["nearest"].tolist() == ["cow/1", "pig/1"]
    assert table["nearest_concept"].tolist() == ["cow", "pig"]
    np.testing.assert_allclose(table["cosine"], [1.0, 0.8])


def test_nearest_training_image_in_blocks_and_across_banks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    train: Any = Bank([f"t/{i}" for i in range(23)], rng.normal(size=(23, 4)))
    test: Any = Bank([f"u/{i}" for i in range(5)], rng.normal(size=(5, 4)))
    whole = nearest_training_image(test, train.ids, test.ids, train_bank=train)
    monkeypatch.setattr("phosphene.evaluation.guards._CHUNK_ROWS", 4)
    pd.testing.assert_frame_equal(
        whole, nearest_training_image(test, train.ids, test.ids, train_bank=train)
    )
    other: Any = Bank(["x"], [[1.0, 0, 0, 0]], space="other")
    with pytest.raises(DataError, match="spaces"):
        nearest_training_image(test, ["x"], test.ids, train_bank=other)
