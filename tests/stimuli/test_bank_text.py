"""Names beside pictures: the bank's companion of text vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phosphene.errors import ArtefactError, DataError
from phosphene.stimuli.bank import FeatureBank


def pictures(ids: list[str] | None = None) -> FeatureBank:
    ids = ids or ["cat/1", "cat/2", "dog/1"]
    vectors = np.arange(2.0 * len(ids)).reshape(-1, 2)
    return FeatureBank.from_arrays(ids, {"original": vectors})


def names(concepts: tuple[str, ...] = ("dog", "cat")) -> FeatureBank:
    vectors = np.stack([np.full(3, float(len(concepts) - i)) for i in range(len(concepts))])
    return FeatureBank.from_arrays(
        concepts, {"text": vectors}, concepts=concepts, provenance={"kind": "text"}
    )


def test_a_stimulus_has_the_vector_of_its_concepts_name() -> None:
    bank = pictures().with_text(names())
    found = bank.text_vectors(["dog/1", "cat/2", "cat/1"])
    np.testing.assert_array_equal(found, [[2, 2, 2], [1, 1, 1], [1, 1, 1]])
    assert pictures().text is None


def test_an_encoder_sees_the_words_in_the_prompt() -> None:
    bank = pictures(["00001_red_cat/1", "dog/1"]).with_text("use", prompt="photo")
    assert bank.text is not None
    assert bank.text.ids == ["00001_red_cat", "dog"]
    assert bank.text.stimuli["caption"].tolist() == ["A photo of a red cat.", "A photo of a dog."]


def test_names_travel_with_the_bank(tmp_path: Path) -> None:
    bank = pictures().with_text(names())
    bank.save(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank")
    assert loaded.hash == bank.hash != pictures().hash
    chosen = loaded.select(["dog/1"])
    np.testing.assert_array_equal(chosen.text_vectors(), [[2, 2, 2]])
    more = pictures(["owl/1"]).with_text(names(("owl",)))
    joined = FeatureBank.concatenate([bank, more])
    np.testing.assert_array_equal(joined.text_vectors(["owl/1", "dog/1"]), [[1] * 3, [2] * 3])
    assert FeatureBank.concatenate([bank, pictures(["owl/1"])]).text is None


def test_a_changed_name_vector_is_noticed(tmp_path: Path) -> None:
    pictures().with_text(names()).save(tmp_path / "bank")
    (array,) = (tmp_path / "bank" / "text").glob("*.npy")
    damaged = bytearray(array.read_bytes())
    damaged[-1] ^= 1
    array.write_bytes(damaged)
    with pytest.raises(ArtefactError, match="vectors-000"):
        FeatureBank.load(tmp_path / "bank")


def test_what_lacks_is_named() -> None:
    with pytest.raises(DataError, match="with_text"):
        pictures().text_vectors()
    with pytest.raises(DataError, match="dog"):
        pictures().with_text(names(("cat",)))
    with pytest.raises(DataError, match="views original"):
        pictures().with_text(pictures())
    nameless = FeatureBank.from_arrays(["a", "b"], {"original": np.eye(2)}, concepts=["x", ""])
    with pytest.raises(DataError, match="no concept"):
        nameless.with_text("use")
