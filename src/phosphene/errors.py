"""Errors of phosphene: what is wrong, what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable


def listing(items: Iterable[object], limit: int = 5) -> str:
    """Join the first ``limit`` items and count the rest, so that a message stays readable.

    Examples
    --------
    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = [str(item) for item in items]
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f" and {len(names) - limit} more"


class PhospheneError(Exception):
    """Base of all errors that phosphene raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, naming file, field, channel or id.
    found, expected : object, optional
        What was there, and what should have been.
    fix : str, optional
        What the user can do about it.

    Examples
    --------
    >>> print(PhospheneError("wrong channel count", found=17, expected=63, fix="pick channels"))
    wrong channel count
      found: 17
      expected: 63
      what to do: pick channels
    """

    def __init__(
        self,
        what: str,
        *,
        found: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.found = found
        self.expected = expected
        self.fix = fix
        lines = [what]
        for label, value in (("found", found), ("expected", expected), ("what to do", fix)):
            if value is not None:
                lines.append(f"  {label}: {value}")
        self.message = "\n".join(lines)
        super().__init__(self.message)

    def __str__(self) -> str:
        # KeyError- and OSError-like parents would otherwise quote or drop parts of the message.
        return self.message


class DataError(PhospheneError, ValueError):
    """Data that cannot be what it claims: shapes, ids, missing values, unreadable files."""


class LeakError(PhospheneError, ValueError):
    """Test information would reach training or scoring."""


class ArtefactError(PhospheneError, OSError):
    """A file that phosphene wrote is missing, truncated, changed or of an unknown version."""


class StorageError(PhospheneError, OSError):
    """Writing failed: no space left, no permission, not a folder."""


class RecipeError(PhospheneError, ValueError):
    """A recipe or an override that cannot be understood."""


class UnknownNameError(PhospheneError, LookupError):
    """A name that is not registered; the message lists the nearest ones."""


class SpaceMismatchError(PhospheneError, ValueError):
    """Vectors of different target spaces were about to be compared."""


class NotFittedError(PhospheneError, ValueError, AttributeError):
    """A decoder or transform was used before ``fit``."""


class MissingExtraError(PhospheneError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class DesignWarning(UserWarning):
    """The design of a recording invites a wrong conclusion, e.g. one class per block."""
