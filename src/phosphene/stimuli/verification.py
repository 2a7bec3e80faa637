"""The report of checking a feature bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "not checkable"]


@dataclass(frozen=True)
class Check:
    """One check of a bank.

    Attributes
    ----------
    what : str
        What was checked.
    outcome : {"passed", "failed", "not checkable"}
        A check that could not be made is never a passed one.
    compared : int
        How many things were compared.
    worst : float or None
        Largest relative difference, where there is one.
    message : str
        What was found, naming what differs, or why nothing could be checked.
    """

    what: str
    outcome: Outcome
    compared: int = 0
    worst: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Verification:
    """What :meth:`FeatureBank.verify` found; ``print`` shows it.

    Attributes
    ----------
    checks : tuple of Check
        In the order they were made.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong; :attr:`complete` says whether all could be checked."""
        return all(check.outcome != "failed" for check in self.checks)

    @property
    def complete(self) -> bool:
        """Whether every check could be made."""
        return all(check.outcome != "not checkable" for check in self.checks)

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            worst = "" if check.worst is None else f", worst difference {check.worst:.2g}"
            number = f" ({check.compared} compared{worst})" if check.compared else ""
            lines.append(f"{check.what}: {check.outcome}{number}")
            lines += [f"  {line}" for line in check.message.splitlines()]
        undone = sum(check.outcome == "not checkable" for check in self.checks)
        verdict = "nothing wrong was found" if self.passed else "this bank is not what it says"
        if undone:
            verdict += f"; {undone} of {len(self.checks)} checks could not be made"
        return "\n".join([*lines, verdict])
