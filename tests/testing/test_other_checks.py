"""The checks of readers, sections, data sets and worlds find what is broken on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene import _registry
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.reports.html import Section
from phosphene.simulation.world import World
from phosphene.testing import CheckFailure, check_reader
from phosphene.testing._catalogue import DATASETS, WORLDS, Described
from phosphene.testing._runner import raise_first
from phosphene.testing._sections import SUITE, SectionPart


# ------------------------------------------------------------------------------------ readers
def example(folder: Path) -> Mapping[str, Any]:
    np.save(folder / "signals.npy", np.random.default_rng(0).standard_normal((4, 3, 10)))
    return {"path": folder / "signals.npy"}


def read(path: Path) -> Recording:
    """A reader without fault."""
    try:
        signals = np.load(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", found=error) from error
    return Recording.from_arrays(signals, {"stimulus": list("abcd")}, sfreq=100.0)


def read_array(path: Path) -> Any:
    return read(path).signals


def read_with_noise(path: Path) -> Recording:
    recording = read(path)
    return recording.with_signals(recording.signals + np.random.default_rng().random((4, 3, 10)))


def read_without_care(path: Path) -> Recording:
    return Recording.from_arrays(np.load(path), {"stimulus": list("abcd")}, sfreq=100.0)


def read_anonymously(path: Path) -> Recording:
    try:
        return read_without_care(path)
    except Exception:
        raise DataError("a file cannot be read") from None


def read_whatever(path: Path) -> Recording:
    try:
        return read(path)
    except DataError:
        return Recording.from_arrays(np.eye(4)[:, None] + 1.0, {"stimulus": list("abcd")}, sfreq=1)


def test_a_plain_reader_passes() -> None:
    check_reader(read, example)


@pytest.mark.parametrize(
    ("reader", "finding"),
    [
        (read_array, "returns a Recording"),
        (read_with_noise, "differ"),
        (read_without_care, "must be a DataError"),
        (read_anonymously, "must name it"),
        (read_whatever, "was accepted"),
    ],
)
def test_broken_readers_are_caught(reader: Any, finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_reader(reader, example)


def test_a_reader_without_example_is_caught() -> None:
    with pytest.raises(CheckFailure, match="no example"):
        check_reader(read)


# ----------------------------------------------------------------------------------- sections
def plain(about: Any) -> Section:
    from html import escape

    return Section("names", f"<p>{escape(about.intro)}<br></p>")


def unescaped(about: Any) -> Section:
    return Section("names", f"<p>{about.intro}</p>")


def fetches(about: Any) -> Section:
    return Section("picture", '<img src="https://example.org/a.png">')


def runs_code(about: Any) -> Section:
    return Section("code", "<script>1</script>")


def leaves_open(about: Any) -> Section:
    return Section("open", "<div><p>text</p>")


def closes_too_much(about: Any) -> Section:
    return Section("closed", "<p>text</p></section>")


def draws(about: Any) -> Section:
    from matplotlib import pyplot as plt

    plt.figure()
    return Section("figure", "<p>text</p>")


def sorts_in_place(about: Any) -> Section:
    about.results[0].table.iloc[0, 0] = "changed"
    return Section("table", "<p>text</p>")


def empty(about: Any) -> Section:
    return Section("", "")


@pytest.mark.parametrize(
    ("build", "finding"),
    [
        (unescaped, "unescaped"),
        (fetches, "outside the file"),
        (runs_code, "script"),
        (leaves_open, "open"),
        (closes_too_much, "do not match"),
        (draws, "figures open"),
        (sorts_in_place, "changed a result"),
        (empty, "title and content"),
    ],
)
def test_broken_sections_are_caught(build: Any, finding: str) -> None:
    from matplotlib import pyplot as plt

    from phosphene.testing import _sections

    prepared = dataclasses.replace(SUITE, prepare=lambda name, obj: SectionPart(name, obj, 1))
    raise_first(prepared, plain)
    try:
        with pytest.raises(CheckFailure, match=finding):
            raise_first(prepared, build)
    finally:
        plt.close("all")
        if build is sorts_in_place:
            _sections.context.cache_clear()


# ----------------------------------------------------------------------- data sets and worlds
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"citation": " "}, "citation"),
        ({"modality": "eye"}, "modality"),
        ({"doi": "https://doi.org/10.1000/1"}, "DOI"),
        ({"subjects": 0}, "subjects"),
        ({"name": "another"}, "own name"),
    ],
)
def test_wrong_descriptions_are_caught(change: dict[str, Any], finding: str) -> None:
    info = _registry.get("dataset", "things_eeg2")
    raise_first(DATASETS, "things_eeg2")
    part = Described("things_eeg2", dataclasses.replace(info, **change))
    with pytest.raises(CheckFailure, match=finding):
        raise_first(dataclasses.replace(DATASETS, prepare=lambda name, obj: part), info)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"name": "another"}, "registered name"),
        ({"encoder": "no such network"}, "no image encoder"),
        ({"seen": ("fog", "fovea", "fovea(k=57)")}, "no view"),
    ],
)
def test_wrong_worlds_are_caught(change: dict[str, Any], finding: str) -> None:
    world = _registry.get("world", "standard")
    assert isinstance(world, World)
    part = Described("standard", dataclasses.replace(world, **change))
    with pytest.raises(CheckFailure, match=finding):
        raise_first(dataclasses.replace(WORLDS, prepare=lambda name, obj: part), world)
