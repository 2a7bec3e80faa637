"""Files of word vectors, means over words and synsets, and prompts of several templates."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.text import WordVectors, embed_texts, get_text_encoder
from phosphene.stimuli.text.prompts import PROMPTS, fill_prompt, templates

WORDS = {
    "dog": (1, 0, 0),
    "Paris": (0, 1, 0),
    "paris": (0, 2, 0),
    "ice_cream": (0, 0, 1),
    "ice": (8, 0, 0),
    "cream": (0, 8, 0),
    "car": (4, 0, 0),
    "hot": (0, 4, 0),
    "tshirt": (5, 5, 5),
    "merry": (2, 0, 0),
    "round": (0, 2, 0),
    "a": (9, 9, 9),
    "hound": (0, 0, 3),
}


def lines(words: dict[str, tuple[float, ...]] = WORDS) -> str:
    """A file's content in GloVe's format."""
    return "".join(f"{word} {' '.join(map(str, v))}\n" for word, v in words.items())


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.3d.txt"
    path.write_text(lines(), encoding="utf-8")
    return path


def encode(path: Path, *texts: str, **options: str) -> list[list[float]]:
    """Vectors as lists."""
    vectors = WordVectors(path, **options).encode(texts)  # type: ignore[arg-type]
    assert vectors.dtype == np.float32
    return [list(map(float, vector)) for vector in vectors]


def test_words_are_looked_up_as_spelled_and_then_in_lower_case(glove: Path) -> None:
    assert encode(glove, "Paris", "PARIS", "Dog", "dog", "dog") == [
        [0, 1, 0], [0, 2, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0],
    ]  # fmt: skip


def test_a_name_is_one_token_before_it_is_several(glove: Path) -> None:
    for spelling in ("ice cream", "ice_cream", "Ice Cream", "ice-cream"):
        assert encode(glove, spelling) == [[0, 0, 1]], spelling
    assert encode(glove, "t-shirt", "t shirt", "T_Shirt") == [[5, 5, 5]] * 3
    assert encode(glove, "hot car") == [[2, 2, 0]]
    assert encode(glove, "merry-round") == [[1, 1, 0]]
    assert encode(glove, "hot dog.") == [[0.5, 2, 0]]


def test_stop_words_count_if_the_file_has_them(glove: Path) -> None:
    assert encode(glove, "a dog") == [[5, 4.5, 4.5]]
    assert encode(glove, "the car of dog") == [[2.5, 0, 0]]
    with pytest.raises(DataError, match="of the"):
        encode(glove, "of the")


def test_missing_words_are_listed_or_skipped(glove: Path) -> None:
    texts = ("dog", "hot aardvark", "zebra")
    with pytest.raises(DataError, match="lacks 2 words") as error:
        encode(glove, *texts)
    assert "aardvark, zebra" in str(error.value)
    assert "'hot aardvark' (aardvark)" in str(error.value)
    assert encode(glove, *texts[:2], missing="skip-words") == [[1, 0, 0], [0, 4, 0]]
    with pytest.raises(DataError, match="all of some texts") as error:
        encode(glove, *texts, missing="skip-words")
    assert "zebra" in str(error.value)
    assert "aardvark" not in str(error.value)
    with pytest.raises(DataError, match="skip-words"):
        WordVectors(glove, missing="ignore")  # type: ignore[arg-type]


def test_a_synset_is_the_mean_of_its_lemmas(glove: Path) -> None:
    mean = [0.5, 0, 1.5]
    for text in ("dog, hound", "dog;hound", "dog|hound|dog", "dog, hound,"):
        assert encode(glove, text) == [mean], text
    encoder = WordVectors(glove)
    vectors = encoder.encode_synsets({"n1": ["dog", "hound"], "n2": ["ice_cream", "hot car"]})
    np.testing.assert_array_equal(vectors, [mean, [1, 1, 0.5]])
    assert encode(glove, "dog, unicorn", missing="skip-words") == [[1, 0, 0]]
    with pytest.raises(DataError, match="unicorn"):
        encode(glove, "dog, unicorn")
    with pytest.raises(DataError, match="n3"):
        encoder.encode_synsets({"n3": []})
    # Without separators the text is one phrase: each word counts, not each lemma.
    text = "hot car, dog"
    assert encode(glove, text) == [[1.5, 1, 0]]
    np.testing.assert_allclose(encode(glove, text, separators=""), [[5 / 3, 4 / 3, 0]], atol=1e-6)


def test_nothing_to_encode(glove: Path) -> None:
    assert WordVectors(glove).encode([]).shape == (0, 3)
    assert WordVectors(glove).encode_synsets({}).shape == (0, 3)


@pytest.mark.parametrize("form", ["glove", "word2vec", "gzip", "crlf", "tabs", "bom", "end space"])
def test_formats(tmp_path: Path, form: str) -> None:
    content = lines()
    if form in ("word2vec", "gzip"):
        content = f"{len(WORDS)} 3\n" + content
    elif form == "crlf":
        content = content.replace("\n", "\r\n")
    elif form == "tabs":
        content = content.replace(" ", "\t")
    elif form == "end space":
        content = content.replace("\n", " \n")
    raw = content.encode("utf-8-sig" if form == "bom" else "utf-8")
    path = tmp_path / "words"
    path.write_bytes(gzip.compress(raw) if form == "gzip" else raw)
    encoder = WordVectors(path)
    np.testing.assert_array_equal(
        encoder.encode(["dog", "hound", "ice cream"]), [[1, 0, 0], [0, 0, 3], [0, 0, 1]]
    )
    expected = "word2vec" if form in ("word2vec", "gzip") else "glove"
    assert encoder.details["format"] == expected
    assert encoder.details["dim"] == 3


def test_the_first_of_two_lines_counts(glove: Path) -> None:
    with glove.open("a") as file:
        file.write("dog 7 7 7\nzebra 1 1 1\n")
    assert encode(glove, "dog", "zebra") == [[1, 0, 0], [1, 1, 1]]


def test_tokens_with_spaces_are_not_their_first_word(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("car 1 2\nnew york 3 4\nnew 5 6\n")
    assert encode(path, "new", "new york", "New York") == [[5, 6], [3, 4], [3, 4]]


def test_other_alphabets(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("tür 1 2\n犬 3 4\n\u00a0 5 6\n", encoding="utf-8")
    assert encode(path, "Tür", "犬") == [[1, 2], [3, 4]]


BAD = {
    "short line": ("dog 1 2", r"line 2 \('dog'\)", "1 numbers|2 numbers"),
    "long line": ("dog 1 2 3 4", r"line 2 \('dog'\)", "4 numbers"),
    "not a number": ("dog 1 x 3", r"line 2 \('dog'\)", "'x', not a number"),
    "nan": ("dog 1 nan 3", r"line 2 \('dog'\)", "NaN"),
    "infinite": ("dog 1 1e39 3", r"line 2 \('dog'\)", "infinite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_are_named(tmp_path: Path, name: str) -> None:
    line, where, found = BAD[name]
    path = tmp_path / "w.txt"
    path.write_text(f"car 1 2 3\n{line}\nhound 4 5 6\n")
    assert encode(path, "hound") == [[4, 5, 6]]
    with pytest.raises(DataError, match=where) as error:
        encode(path, "dog")
    assert any(text in str(error.value) for text in found.split("|"))
    assert "3 finite numbers, as in line 1" in str(error.value)


def test_broken_off_files_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("car 1 2 3\ndog 1 2 3\nzebra 1 2")
    with pytest.raises(DataError, match=r"line 3 \('zebra'\)"):
        encode(path, "car")
    path.write_text("3 3\ncar 1 2 3\ndog 1 2 3\n")
    with pytest.raises(DataError, match="as many words") as error:
        encode(path, "car")
    assert "2 lines" in str(error.value)
    whole = gzip.compress(b"car 1 2 3\n" * 1000)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated gzip"):
        encode(path, "car")
    path.write_text("car 1 2 3\n\ndog 1 2 3\n")
    with pytest.raises(DataError, match="line 2: an empty line"):
        encode(path, "car")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    vectors = b"".join(
        word + b" " + struct.pack("<50f", *np.random.default_rng(i).normal(size=50)) + b"\n"
        for i, word in enumerate((b"car", b"dog"))
    )
    path.write_bytes(b"2 50\n" + vectors)
    with pytest.raises(DataError, match="binary format") as error:
        encode(path, "car")
    assert "save_word2vec_format" in str(error.value)
    for content in (b"", b"\n", b"4 4\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no word vectors"):
            encode(path, "car")
    for content in (b"a text of many words", b"\x93NUMPY" + bytes(99), b"word", b"x" * 2**21):
        path.write_bytes(content)
        with pytest.raises(DataError, match="line 1"):
            encode(path, "car")
    with pytest.raises(DataError, match=r"none\.txt"):
        WordVectors(tmp_path / "none.txt")
    with pytest.raises(DataError, match="a folder"):
        WordVectors(tmp_path)


def test_as_a_bank(glove: Path) -> None:
    encoder = get_text_encoder(f"words:{glove}")
    assert isinstance(encoder, WordVectors)
    assert encoder.id == "words:glove.3d.txt"
    bank = FeatureBank.from_text(["00001_ice_cream", "dog"], f"words:{glove}")
    np.testing.assert_array_equal(bank.vectors("text"), [[0, 0, 1], [1, 0, 0]])
    stated = bank.provenance["encoder"]
    assert stated["weights_hash"] == encoder.weights_hash
    assert {"format": "glove", "dim": 3, "missing": "error", "separators": ",;|"}.items() <= (
        stated.items()
    )
    assert str(glove.parent) not in str(bank.provenance)
    skipping = FeatureBank.from_text(["dog unicorn"], WordVectors(glove, missing="skip-words"))
    assert skipping.space() == bank.space()
    assert skipping.provenance["encoder"]["missing"] == "skip-words"


def test_another_content_is_another_space(glove: Path) -> None:
    encoder = WordVectors(glove)
    before = encoder.weights_hash
    assert WordVectors(glove).weights_hash == before
    glove.write_text(lines() + "zebra 1 1 1\n")
    assert encoder.weights_hash != before
    assert encoder.spaces["vector"] == f"words:{encoder.weights_hash}"


# -- prompts ----------------------------------------------------------------------------------


class Letters:
    """Counts letters."""

    id = "letters"
    weights_hash = "none"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(c) for c in "abc"] for text in texts], np.float32)


def test_several_templates_give_the_mean_of_unit_vectors() -> None:
    forms = ("{concept}", "bb {concept}")
    vectors, filled, _ = embed_texts(["a", "cab"], Letters(), forms)
    unit = np.array([[[1, 0, 0], [1, 1, 1]], [[1, 2, 0], [1, 3, 1]]], float)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    np.testing.assert_allclose(vectors, unit.mean(axis=0), atol=1e-6)
    assert filled == ["a", "cab"]
    alone = embed_texts(["cab"], Letters(), ["{concept}"])
    np.testing.assert_array_equal(alone[0], [[1, 1, 1]])
    assert alone[1] == ["cab"]


def test_named_prompts() -> None:
    assert templates("photo") == ("A photo of a {concept}.",)
    assert len(templates("ensemble")) > 3
    assert all(fill_prompt(form, "cat").count("cat") == 1 for p in PROMPTS.values() for form in p)
    named = embed_texts(["cab"], Letters(), "ensemble")[0]
    np.testing.assert_array_equal(named, embed_texts(["cab"], Letters(), PROMPTS["ensemble"])[0])
    with pytest.raises(DataError, match="did you mean 'photo'"):
        templates("photos")
    with pytest.raises(DataError, match="no template"):
        templates([])
    with pytest.raises(DataError, match="other"):
        templates(["{concept}", "{other}"])


def test_a_text_of_no_length_stays_finite() -> None:
    vectors = embed_texts(["xyz"], Letters(), ("{concept}", "{concept}{concept}"))[0]
    np.testing.assert_array_equal(vectors, [[0, 0, 0]])
