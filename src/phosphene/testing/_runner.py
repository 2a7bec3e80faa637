"""What a check is: a small function over one registered part that raises when a promise is broken.

A suite holds the checks of one kind of part. Suites register themselves under the kind ``check``,
so that a completeness test can tell which kinds of part have none.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from phosphene import _registry
from phosphene.errors import MissingExtraError, PhospheneError, UnknownNameError

P = TypeVar("P")


class CheckFailure(PhospheneError, AssertionError):  # noqa: N818 - a finding about a part
    """A part does not keep a promise that all parts of its kind make."""


@dataclass(frozen=True)
class CheckOutcome:
    """What one check found about one part.

    Parameters
    ----------
    kind, name : str
        The part, e.g. ``"encoder"`` and ``"tsconv"``.
    check : str
        What was checked, e.g. ``"batch independence"``.
    status : {"passed", "failed", "skipped"}
        Skipped when an optional package is not installed.
    message : str
        Why it failed or was skipped; empty when it passed.
    seconds : float
        Wall time.
    """

    kind: str
    name: str
    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong: the check passed, or could not apply here."""
        return self.status != "failed"

    @property
    def skipped(self) -> bool:
        """Whether an optional package was missing."""
        return self.status == "skipped"


@dataclass(frozen=True)
class Suite(Generic[P]):
    """The checks of one kind of part.

    Parameters
    ----------
    kind : str
        Kind of the registry.
    prepare : callable
        Turns (registered name, object) into what the checks receive.
    checks : tuple of callable
        Each takes the prepared part and raises when it finds something.
    """

    kind: str
    prepare: Callable[[str, Any], P]
    checks: tuple[Callable[[P], None], ...]


def title(check: Callable[..., None]) -> str:
    """Readable name of a check, from its function's name."""
    return check.__name__.strip("_").replace("_", " ")


def resolve(kind: str, part: Any) -> tuple[str, Any]:
    """Name and object of a part that is given by its registered name or as itself."""
    if isinstance(part, str):
        return part, _registry.get(kind, part)
    name = getattr(part, "__name__", None) or getattr(part, "name", None) or type(part).__name__
    for entry in _registry.entries(kind):
        if entry.obj is part:
            name = entry.name
    return str(name), part


def info_of(kind: str, name: str) -> dict[str, Any]:
    """What a part said about itself when it was registered; empty when it never was."""
    return next((e.info for e in _registry.entries(kind) if e.name == name), {})


def outcomes(suite: Suite[Any], part: Any) -> Iterator[CheckOutcome]:
    """Run every check of a suite on one part; nothing is raised."""
    name, obj = resolve(suite.kind, part)
    began = time.perf_counter()
    try:
        subject = suite.prepare(name, obj)
    except MissingExtraError as error:
        yield CheckOutcome(suite.kind, name, "construction", "skipped", str(error))
        return
    except Exception as error:
        yield CheckOutcome(
            suite.kind, name, "construction", "failed", _describe(error), _since(began)
        )
        return
    for check in suite.checks:
        began = time.perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        message = ""
        try:
            check(subject)
        except MissingExtraError as error:
            status, message = "skipped", str(error)
        except Exception as error:
            status, message = "failed", _describe(error)
        yield CheckOutcome(suite.kind, name, title(check), status, message, _since(began))


def raise_first(suite: Suite[Any], part: Any) -> None:
    """Run the checks of a suite on one part and raise at the first that fails.

    Raises
    ------
    CheckFailure
        Names the part, the check and what was found.
    """
    name, obj = resolve(suite.kind, part)
    try:
        subject = suite.prepare(name, obj)
    except MissingExtraError:
        raise
    except Exception as error:
        raise _failure(suite.kind, name, "construction", error) from error
    for check in suite.checks:
        try:
            check(subject)
        except MissingExtraError:
            raise
        except Exception as error:
            raise _failure(suite.kind, name, title(check), error) from error


def suites() -> dict[str, Suite[Any]]:
    """All suites by the kind of part that they check."""
    return {entry.name: entry.obj for entry in _registry.entries("check")}


def run_checks(name: str | None = None) -> list[CheckOutcome]:
    """Run the public checks over registered parts.

    Parameters
    ----------
    name : str, optional
        A part (``"ubp"``), a kind (``"encoder"``) or both (``"encoder:mlp"``); everything when
        None.

    Returns
    -------
    list of CheckOutcome
        One per part and check; a broken part gives outcomes that failed, never an exception.

    Raises
    ------
    UnknownNameError
        If nothing that can be checked has the name.

    Examples
    --------
    >>> all(outcome.passed for outcome in run_checks("view:original"))
    True
    """
    return list(iter_checks(name))


def iter_checks(name: str | None = None) -> Iterator[CheckOutcome]:
    """Like :func:`run_checks`, one outcome at a time, for display while they run."""
    known = suites()
    kind, _, part = (name or "").partition(":")
    # Only what is asked for gets imported.
    kinds = [kind] if kind in known else list(known)
    parts = [(kind, part) for kind in kinds for part in _registry.names(kind)]
    wanted = [(kind, part) for kind, part in parts if name in (None, kind, part, f"{kind}:{part}")]
    if not wanted and name not in known:
        choices = sorted({*known, *(part for _, part in parts)})
        raise UnknownNameError(
            f"nothing that can be checked is named {name!r}",
            expected="a kind or a registered name: " + ", ".join(choices),
            fix=_registry.did_you_mean(part or str(name), choices),
        )
    for kind, part in wanted:
        yield from outcomes(known[kind], part)


def fail(what: str, **details: Any) -> None:
    """Raise :class:`CheckFailure`."""
    raise CheckFailure(what, **details)


def _failure(kind: str, name: str, check: str, error: Exception) -> CheckFailure:
    return CheckFailure(f"{kind} {name!r} fails the check {check!r}: {_describe(error)}")


def _describe(error: Exception) -> str:
    if isinstance(error, CheckFailure):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"it raised {type(error).__name__}: {error}{where}"


def _since(began: float) -> float:
    return time.perf_counter() - began
