"""Facts about data sets."""

from __future__ import annotations

import dataclasses
import json

import pytest

from phosphene import _registry
from phosphene.data.datasets import DatasetInfo, get_dataset
from phosphene.errors import UnknownNameError

NAMES = [
    "bold5000",
    "god",
    "haxby2001",
    "miyawaki2008",
    "nsd",
    "things_eeg2",
    "things_fmri",
    "things_meg",
]


def test_all_are_registered_under_their_names() -> None:
    assert set(NAMES) <= set(_registry.names("dataset"))
    for entry in _registry.entries("dataset"):
        assert isinstance(entry.obj, DatasetInfo)
        assert entry.obj.name == entry.name
        assert entry.summary
        assert json.loads(json.dumps(entry.obj.to_dict()))["name"] == entry.name


@pytest.mark.parametrize("name", NAMES)
def test_what_a_reader_needs_is_stated(name: str) -> None:
    info = get_dataset(name)
    assert info.modality in ("eeg", "meg", "fmri")
    for field in ("title", "channels", "citation", "access"):
        assert getattr(info, field)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.name = "x"  # type: ignore[misc]


def test_gated_data_say_so() -> None:
    assert "access form" in get_dataset("nsd").access
    assert get_dataset("nsd").url_ids == {}


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'things_eeg2'"):
        get_dataset("things_eeg")
