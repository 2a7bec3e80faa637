"""How ids are joined and read."""

from __future__ import annotations

import pytest

from phosphene.data._ids import concept_of, concept_text, concepts_of, resolve_ids
from phosphene.errors import DataError

KNOWN = ["dog/dog_01.jpg", "cat/cat_01.jpg", "dog/dog_02.jpg"]


def test_exact_ids_in_any_order_and_several_times() -> None:
    assert resolve_ids(KNOWN[::-1] + KNOWN[:1], KNOWN).tolist() == [2, 1, 0, 0]
    assert resolve_ids([], KNOWN).tolist() == []


@pytest.mark.parametrize(
    "spelling",
    ["images/cat/cat_01.jpg", "/a/b/cat/cat_01.jpg", r"images\cat\cat_01.jpg", "cat_01.jpg"],
)
def test_paths_match_from_their_end(spelling: str) -> None:
    assert resolve_ids([spelling], KNOWN).tolist() == [1]


def test_a_name_inside_another_name_does_not_match() -> None:
    with pytest.raises(DataError, match=r"1 of 1 stimuli are missing: at_01\.jpg"):
        resolve_ids(["at_01.jpg"], KNOWN)


def test_two_candidates_are_ambiguous() -> None:
    known = ["a/dog_01.jpg", "b/dog_01.jpg"]
    with pytest.raises(DataError, match="1 stimulus ids are ambiguous") as caught:
        resolve_ids(["dog_01.jpg"], known)
    assert "'dog_01.jpg' fits 'a/dog_01.jpg', 'b/dog_01.jpg'" in str(caught.value)
    # ... but the longer path decides where one fits better.
    assert resolve_ids(["root/b/dog_01.jpg"], ["dog_01.jpg", "b/dog_01.jpg"]).tolist() == [1]


def test_two_pictures_are_not_taken_for_one() -> None:
    with pytest.raises(DataError, match=r"'a/x\.png', 'b/x\.png' all fit 'x\.png'"):
        resolve_ids(["a/x.png", "b/x.png"], ["x.png"])
    with pytest.raises(DataError, match="all fit"):
        resolve_ids(["x.png", "b/x.png"], ["x.png"])
    assert resolve_ids(["a/x.png", "a/x.png"], ["x.png"]).tolist() == [0, 0]


def test_missing_and_ambiguous_are_listed_together() -> None:
    wanted = [f"new_{i}.png" for i in range(8)] + ["d.jpg"]
    with pytest.raises(DataError) as caught:
        resolve_ids(wanted, ["a/d.jpg", "b/d.jpg"], what="image")
    text = str(caught.value)
    assert "8 of 9 images are missing: new_0.png" in text
    assert "and 3 more" in text
    assert "1 image ids are ambiguous" in text


def test_available_ids_must_be_unique() -> None:
    with pytest.raises(DataError, match="'a'"):
        resolve_ids(["a"], ["a", "a"])


@pytest.mark.parametrize(
    ("stimulus", "concept"),
    [
        ("training_images/00001_aardvark/aardvark_01b.jpg", "00001_aardvark"),
        ("airplane/airplane_01.png", "airplane"),
        ("aircraft_carrier_03.png", "aircraft_carrier"),
        ("bat1_07s.jpg", "bat1"),
        ("n01440764.jpg", "n01440764"),
        ("face", "face"),
        ("_01.png", "_01"),
        ("", ""),
    ],
)
def test_concepts(stimulus: str, concept: str) -> None:
    assert concept_of(stimulus) == concept


def test_a_folder_of_all_images_is_no_concept() -> None:
    assert concepts_of(["images/dog_01.jpg", "images/cat_01.jpg"]) == ["dog", "cat"]
    assert concepts_of(["faces/01.jpg", "houses/01.jpg"]) == ["faces", "houses"]
    # One concept with numbered exemplars keeps the name of its folder.
    assert concepts_of(["dog/dog_01.jpg", "dog/dog_02.jpg"]) == ["dog", "dog"]


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("00001_aardvark", "aardvark"),
        ("00002_aircraft_carrier", "aircraft carrier"),
        ("aircraft_carrier", "aircraft carrier"),
        ("00100_bat1", "bat"),
        ("mouse2", "mouse"),
        ("n01440764", "n01440764"),
        ("0001", "0001"),
    ],
)
def test_words_for_concepts(concept: str, text: str) -> None:
    assert concept_text(concept) == text
