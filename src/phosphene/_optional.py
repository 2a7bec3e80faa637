"""Optional packages: imported when needed, with the pip command in the error when absent."""

from __future__ import annotations

import importlib
from types import ModuleType

from phosphene.errors import MissingExtraError


def require(module: str, extra: str, purpose: str | None = None) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Raises
    ------
    MissingExtraError
        If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that is there but lacks a dependency of its own is another problem.
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{purpose or 'this'} needs the package {module.partition('.')[0]!r}",
            found="it is not installed",
            fix=f'pip install "phosphene[{extra}]"',
        ) from error
