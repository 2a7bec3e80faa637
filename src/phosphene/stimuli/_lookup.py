"""Views and layers of a bank by any of their spellings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.views import View, get_view
from phosphene.stimuli.views._names import shorthand


def find_view(views: Sequence[str], view: str | View) -> str:
    """Canonical name of a view of the bank.

    Parameters
    ----------
    views : sequence of str
        Canonical names of those there are.
    view : str or View
        Any spelling.

    Raises
    ------
    UnknownNameError
        If it is not there; the nearest are listed.
    """
    name = view.name if isinstance(view, View) else view
    if name in views:
        return name
    try:
        canonical = get_view(name).name
    except (UnknownNameError, DataError):
        canonical = name
    if canonical in views:
        return canonical
    raise UnknownNameError(
        f"the bank has no view {name!r}",
        expected="one of " + ", ".join(views),
        fix=_registry.did_you_mean(canonical, views) or "extract the bank with this view",
    )


def find_views(views: Sequence[str], specs: Sequence[str | View] | str | View) -> tuple[str, ...]:
    """Canonical names of several views, from names and shorthands such as ``fovea``."""
    names: list[str] = []
    for spec in [specs] if isinstance(specs, (str, View)) else specs:
        several = None if spec in views else shorthand(spec)
        names += [find_view(views, view) for view in (several or (spec,))]
    return tuple(names)


def find_layer(layers: Sequence[str], aliases: Mapping[str, str], layer: str) -> str:
    """Canonical name of a layer of the bank.

    Parameters
    ----------
    layers : sequence of str
        Canonical names of those there are.
    aliases : mapping of str to str
        Other spellings that the bank was extracted with, e.g. ``depth=0.6``.
    layer : str
        Any spelling.

    Raises
    ------
    UnknownNameError
        If it is not there; the nearest are listed.
    """
    name = layer if layer in layers else aliases.get(layer, layer)
    if name not in layers:
        raise UnknownNameError(
            f"the bank has no layer {layer!r}",
            expected="one of " + ", ".join(layers),
            fix=_registry.did_you_mean(layer, [*layers, *aliases]),
        )
    return name
