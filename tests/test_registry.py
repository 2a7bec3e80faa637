"""The registry of everything that is found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from phosphene import _registry
from phosphene.errors import UnknownNameError


@pytest.fixture(autouse=True)
def _own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "_entries", {})
    monkeypatch.setattr(_registry, "_discovered", set())


def test_a_registered_part_is_found_with_its_summary() -> None:
    @_registry.register("gadget", "beta", tag=1)
    class Beta:
        """What beta does.

        More.
        """

    _registry.add("gadget", "alpha", ("a", "tuple"), summary="What alpha is")
    assert _registry.names("gadget") == ["alpha", "beta"]
    assert _registry.get("gadget", "beta") is Beta
    assert [e.summary for e in _registry.entries("gadget")] == ["What alpha is", "What beta does."]
    assert _registry.entries("gadget")[1].info == {"tag": 1}


def test_an_unknown_name_lists_the_nearest() -> None:
    _registry.add("gadget", "neurobridge", 1)
    with pytest.raises(UnknownNameError, match="did you mean 'neurobridge'") as caught:
        _registry.get("gadget", "neuro_bridge")
    assert "there is no gadget named 'neuro_bridge'" in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_a_name_cannot_be_taken_twice() -> None:
    _registry.add("gadget", "one", print)
    _registry.add("gadget", "one", print)  # a module that is imported twice is no conflict
    with pytest.raises(ValueError, match=r"already registered by builtins\.print"):
        _registry.add("gadget", "one", len)


def test_discovery_imports_the_public_modules_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "gadget_home"
    home.mkdir()
    line = "from phosphene._registry import add\nadd('gadget', {0!r}, {0!r})\n"
    (home / "__init__.py").write_text("")
    (home / "one.py").write_text(line.format("one"))
    (home / "two.py").write_text(line.format("two"))
    (home / "_private.py").write_text("raise RuntimeError('a private module is not imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(_registry.HOMES, "gadget", "gadget_home")
    assert _registry.names("gadget") == ["one", "two"]
    assert _registry.names("no such kind") == []


def test_did_you_mean_is_silent_when_nothing_is_near() -> None:
    assert _registry.did_you_mean("xyz", ["abcdefg"]) is None
