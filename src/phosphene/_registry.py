"""One registry for everything that is found by name: methods, encoders, views, readers and so on.

A part registers itself with a decorator in its own file. A kind belongs to one package, which is
imported (with its submodules) the first time that the kind is asked for. So a new method is one
new file, and nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from phosphene.errors import UnknownNameError

T = TypeVar("T")

HOMES: dict[str, str] = {
    "method": "phosphene.methods",
    "encoder": "phosphene.encoders",
    "objective": "phosphene.objectives",
    "view": "phosphene.stimuli.views",
    "image_encoder": "phosphene.stimuli.encoders",
    "text_encoder": "phosphene.stimuli.text",
    "dataset": "phosphene.data.datasets",
    "reader": "phosphene.data.readers",
    "preparer": "phosphene.data.prepare",
    "world": "phosphene.simulation.world",
    "generator": "phosphene.reconstruction",
    "reconstructor": "phosphene.methods",
    "section": "phosphene.reports",
    "check": "phosphene.testing",
}


@dataclass(frozen=True)
class Entry:
    """A registered object with what is known about it."""

    kind: str
    name: str
    obj: Any
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the object's docstring, or the ``summary`` given at registration."""
        text = self.info.get("summary") or getattr(self.obj, "__doc__", None) or ""
        return str(text).strip().splitlines()[0] if str(text).strip() else ""


_entries: dict[str, dict[str, Entry]] = {}
_discovered: set[str] = set()


def register(kind: str, name: str, **info: Any) -> Callable[[T], T]:
    """Return a decorator that registers an object under ``kind`` and ``name``.

    Raises
    ------
    ValueError
        If another object already has the name.
    """

    def decorate(obj: T) -> T:
        add(kind, name, obj, **info)
        return obj

    return decorate


def add(kind: str, name: str, obj: Any, **info: Any) -> None:
    """Register an object that is not a definition (a dataset description, say)."""
    known = _entries.setdefault(kind, {})
    if name in known and _origin(known[name].obj) != _origin(obj):
        raise ValueError(f"{kind} {name!r} is already registered by {_origin(known[name].obj)}")
    known[name] = Entry(kind, name, obj, dict(info))


def _origin(obj: Any) -> str:
    if hasattr(obj, "__qualname__"):
        return f"{obj.__module__}.{obj.__qualname__}"
    return repr(obj)


def discover(kind: str) -> None:
    """Import the package of ``kind`` with its public submodules, once."""
    if kind in _discovered or kind not in HOMES:
        return
    home = importlib.import_module(HOMES[kind])
    for module in pkgutil.iter_modules(getattr(home, "__path__", ())):
        if not module.name.startswith("_"):
            importlib.import_module(f"{home.__name__}.{module.name}")
    _discovered.add(kind)


def entries(kind: str) -> list[Entry]:
    """All entries of a kind, sorted by name."""
    discover(kind)
    return [entry for _, entry in sorted(_entries.get(kind, {}).items())]


def names(kind: str) -> list[str]:
    """All registered names of a kind."""
    return [entry.name for entry in entries(kind)]


def get(kind: str, name: str) -> Any:
    """The object registered under ``kind`` and ``name``.

    Raises
    ------
    UnknownNameError
        If there is none; the nearest names are listed.
    """
    discover(kind)
    known = _entries.get(kind, {})
    if name not in known:
        raise UnknownNameError(
            f"there is no {kind.replace('_', ' ')} named {name!r}",
            expected="one of " + ", ".join(sorted(known)),
            fix=did_you_mean(name, known),
        )
    return known[name].obj


def did_you_mean(name: str, known: Any) -> str | None:
    """A hint with the nearest of the known names, or None when nothing is near."""
    spelling = {str(item).lower(): str(item) for item in known}
    near = difflib.get_close_matches(name.lower(), list(spelling), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(repr(spelling[n]) for n in near)}?" if near else None
