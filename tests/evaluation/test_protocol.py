from __future__ import annotations

import json
from dataclasses import fields

import pytest

from phosphene.errors import DataError
from phosphene.evaluation.protocol import UNKNOWN, Protocol, environment

FULL = Protocol(
    dataset="things_eeg2", simulated=False, modality="eeg", subjects=("01", "02"),
    time_window=(0.0, 1.0), sfreq=250.0, split_rule="intra-subject", gallery="exact",
    gallery_size=200, uses_names=False, transductive=(), uses_test_labels=False,
    selection="held_out_concepts", test_openings=1, zero_shot=True, seeds=(0, 1),
)  # fmt: skip


def test_what_nobody_said_is_unknown() -> None:
    values = {label: value for _, label, value in Protocol().rows()}
    assert values.pop("notes") == "none"
    assert set(values.values()) == {UNKNOWN}
    assert f"gallery size: {UNKNOWN}" in Protocol().lines()
    assert Protocol().lines(unknown=False) == ["notes: none"]


def test_lines_are_readable() -> None:
    lines = FULL.lines()
    assert "time window: 0 to 1 s" in lines
    assert "sampling rate: 250 Hz" in lines
    assert "subjects: 01, 02" in lines
    assert "uses test labels: no" in lines
    assert "transductive operations: none" in lines


def test_round_trip_through_json() -> None:
    text = json.dumps(FULL.to_dict(), allow_nan=False)
    assert Protocol.from_dict(json.loads(text)) == FULL
    assert set(FULL.to_dict()) == {item.name for item in fields(Protocol)}


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="galery"):
        Protocol.from_dict({"galery": "exact"})
    with pytest.raises(DataError, match="galery"):
        FULL.replace(galery="exact")


def test_a_single_text_is_not_taken_apart() -> None:
    assert Protocol(subjects="01").subjects == ("01",)  # type: ignore[arg-type]


def test_everything_that_decides_a_number_has_a_field() -> None:
    wanted = {
        "dataset", "dataset_version", "modality", "subjects", "channels", "n_channels", "rois",
        "time_window", "sfreq", "train_repetitions", "test_repetitions", "whitening",
        "whitening_fitted_on", "split_rule", "gallery", "gallery_size", "uses_names",
        "image_encoder", "image_encoder_hash", "text_encoder", "text_encoder_hash", "selection",
        "transductive", "uses_test_labels", "test_openings", "seeds", "library_version",
        "git_commit", "device", "wall_seconds",
    }  # fmt: skip
    assert wanted <= {item.name for item in fields(Protocol)}


def test_the_caption_says_what_decides_a_number_and_the_scoring() -> None:
    assert FULL.caption() == (
        "Protocol: dataset things_eeg2; modality eeg; time window 0 to 1 s; "
        "split rule intra-subject; zero-shot yes; gallery exact; gallery size 200; "
        "uses names of the gallery no; "
        "selection rule held_out_concepts; scoring inductive."
    )
    assert "scoring transductive: csls" in FULL.replace(transductive=("csls",)).caption()
    assert Protocol().caption() == "Protocol: scoring inductive."


def test_a_clean_protocol_has_no_watermark() -> None:
    assert FULL.watermarks() == []
    assert Protocol().watermarks() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uses_test_labels": True}, "true answers"),
        ({"selection": "test"}, "selected on test"),
        ({"transductive": ("hungarian",)}, "hungarian"),
        ({"test_openings": 3}, "opened 3 times"),
        ({"zero_shot": False}, "not zero-shot"),
        ({"gallery": "concept_centre"}, "class centres"),
        ({"gallery": "augmented"}, "augmented"),
        ({"uses_names": True}, "names"),
        ({"simulated": True}, "simulated"),
    ],
)
def test_what_misleads_is_a_watermark(change: dict[str, object], words: str) -> None:
    (mark,) = FULL.replace(**change).watermarks()
    assert words in mark
    assert mark in FULL.replace(**change)._repr_html_()


def test_differences_are_those_that_forbid_a_comparison() -> None:
    other = FULL.replace(gallery="concept_centre", subjects=("03",), device="cuda")
    assert FULL.differences(other) == {"gallery": ("exact", "concept_centre")}
    assert set(FULL.differences(other, essential=False)) == {"gallery", "subjects", "device"}
    assert FULL.differences(FULL) == {}


def test_merging_unites_subjects_and_forgets_what_varies() -> None:
    here = FULL.replace(wall_seconds=2.0, n_channels=63, test_openings=1, device="cpu")
    there = FULL.replace(
        wall_seconds=3.0, n_channels=17, test_openings=2, device="cpu", subjects=("02", "03")
    )
    both = here.merge(there)
    assert both.subjects == ("01", "02", "03")
    assert both.wall_seconds == 5.0
    assert both.n_channels is None
    assert both.test_openings == 2
    assert both.device == "cpu"


def test_recordings_named_after_their_subject_belong_to_one_dataset() -> None:
    one, two = (FULL.replace(dataset=f"study v1, subject {s}", subjects=(s,)) for s in ("01", "02"))
    assert one.differences(two) == {}
    both = one.merge(two)
    assert both.dataset == "study v1"
    assert both.merge(FULL.replace(dataset="study v1, sub-03", subjects=("03",))).dataset == (
        "study v1"
    )
    assert one.merge(one).dataset == "study v1, subject 01"
    elsewhere = FULL.replace(dataset="other v1, subject 02", subjects=("02",))
    assert "dataset" in one.differences(elsewhere)
    subset = FULL.replace(dataset="substitute01", subjects=("01",))
    assert "dataset" in subset.differences(subset.replace(dataset="substitute"))


def test_merging_different_protocols_is_refused_with_both_values() -> None:
    with pytest.raises(DataError, match="gallery_size") as caught:
        FULL.merge(FULL.replace(gallery_size=100))
    assert "100" in str(caught.value)
    assert "200" in str(caught.value)


def test_environment_names_the_software() -> None:
    found = environment()
    assert found["numpy"].count(".") >= 1
    assert {"python", "system", "phosphene", "torch", "git_commit"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
