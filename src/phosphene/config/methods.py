"""What a recipe may name as its method: a decoder, which retrieves, or a reconstructor."""

from __future__ import annotations

from typing import Any

from phosphene import _registry
from phosphene.errors import UnknownNameError


def reconstructs(name: str) -> bool:
    """Whether the method of a name makes pictures.

    Examples
    --------
    >>> reconstructs("minddiffuser"), reconstructs("ridge")
    (True, False)
    """
    return name in _registry.names("reconstructor")


def method_class(name: str) -> Any:
    """The class of a method that a recipe names.

    Raises
    ------
    UnknownNameError
        If there is neither a decoder nor a reconstructor of the name; the nearest are listed.
    """
    if reconstructs(name):
        return _registry.get("reconstructor", name)
    known = [*_registry.names("method"), *_registry.names("reconstructor")]
    if name not in known:
        raise UnknownNameError(
            f"there is no method named {name!r}",
            expected="one of " + ", ".join(known),
            fix=_registry.did_you_mean(name, known),
        )
    return _registry.get("method", name)
