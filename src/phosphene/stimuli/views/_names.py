"""From a text to a view, and from shorthands to lists of views."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import View

_CALL = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)

SHORTHANDS: dict[str, Callable[..., list[View]]] = {}
"""Words that stand for several views; the files of the views enter theirs."""


def get_view(spec: str | View) -> View:
    """The view that a text names, e.g. ``"fovea(k=45)"``.

    Parameters
    ----------
    spec : str or View
        Registered name with any of its parameters in brackets, named or in their order; a view is
        returned as it is.

    Raises
    ------
    UnknownNameError
        If no view or parameter has the name; the nearest are listed.
    DataError
        If the text cannot be read or a value is out of range.

    Examples
    --------
    >>> get_view("fovea(k=45)")
    Fovea(k=45, g=3.0, peak=0.5)
    >>> get_view("gaussian(15)").name
    'gaussian(k=15)'
    """
    if isinstance(spec, View):
        return spec
    match = _CALL.fullmatch(str(spec))
    if match is None:
        raise DataError(
            f"{spec!r} does not name a view", expected="a form like 'original' or 'fovea(k=45)'"
        )
    cls = _registry.get("view", match.group(1))
    view = cls.read(split_arguments(match.group(2) or "", str(spec)), str(spec))
    assert isinstance(view, View)
    return view


def expand_views(specs: Iterable[str | View] | str | View) -> list[View]:
    """Views from names and shorthands; duplicates are dropped, the first place is kept.

    Words that stand for several views: ``fovea`` for UBP's three levels of blur, ``bvsa`` for
    BVSA's nine (``bvsa(c=0.2)`` for another c), ``augmentations`` for those of NeuroBridge and SSR.

    Examples
    --------
    >>> [view.name for view in expand_views(["original", "fovea(k=45)"])]
    ['original', 'fovea(k=45,g=3,peak=0.5)']
    >>> len(expand_views(["original", "fovea"])), len(expand_views("bvsa"))
    (4, 9)
    """
    if isinstance(specs, (str, View)):
        specs = [specs]
    views: dict[str, View] = {}
    for spec in specs:
        for view in shorthand(spec) or [get_view(spec)]:
            views.setdefault(view.name, view)
    if not views:
        raise DataError("no view was asked for", fix="give at least 'original'")
    return list(views.values())


def shorthand(spec: str | View) -> list[View] | None:
    """The views that a word stands for, None if it is no shorthand."""
    _registry.discover("view")
    match = _CALL.fullmatch(spec) if isinstance(spec, str) else None
    if match is None or (made := SHORTHANDS.get(match.group(1))) is None:
        return None
    if match.group(2) is None:
        return made()
    if match.group(1) in _registry.names("view"):
        return None  # `fovea(k=45)` is one view
    return made(**_numbers(made, match.group(2), str(spec)))


def _numbers(made: Callable[..., list[View]], text: str, spec: str) -> dict[str, float]:
    """Arguments of a shorthand as written in brackets, all of them numbers with a name."""
    known = inspect.signature(made).parameters
    values: dict[str, float] = {}
    for part in split_arguments(text, spec):
        name, _, value = (word.strip() for word in part.partition("="))
        try:
            values[name] = type(known[name].default)(value)
        except (KeyError, ValueError) as error:
            raise DataError(
                f"cannot read {part!r} in {spec!r}",
                expected="parameter=number, of the parameters " + (", ".join(known) or "(none)"),
            ) from error
    return values


def split_arguments(text: str, where: str) -> list[str]:
    """Arguments of a call: split at the commas that no bracket encloses."""
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char in "([") - (char in ")]")
        if depth < 0:
            break
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    if depth != 0:
        raise DataError(f"the brackets of view {where!r} do not match")
    return [part.strip() for part in [*parts, current] if part.strip()]
