"""What an audit says: one verdict per check, with the numbers behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from phosphene._manifest import jsonable
from phosphene._saving import write_json
from phosphene.errors import DataError, LeakError, listing

Mark = Literal["pass", "warn", "fail", "not checkable"]
FoundBy = Literal["provenance", "behaviour"]
# From harmless to serious; of several verdicts on one check the most serious one counts.
_ORDER: tuple[Mark, ...] = ("pass", "not checkable", "warn", "fail")
_COLOURS = {"pass": "#2b7a3d", "warn": "#a15c00", "fail": "#b3261e", "not checkable": "#666666"}


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Parameters
    ----------
    check : str
        Name of the check.
    verdict : {"pass", "warn", "fail", "not checkable"}
        "fail": the score is not what it claims to be. "warn": it may be, but must be read with
        care. "not checkable": what is at hand does not say.
    evidence : str
        What it was seen by.
    found_by : {"provenance", "behaviour"}
        From records of how the score came about, or from what the decoder does.
    fix : str
        What to do about it.
    numbers : mapping of str to float
        The numbers of the evidence.
    """

    check: str
    verdict: Mark
    evidence: str
    found_by: FoundBy
    fix: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, known in ((self.verdict, Mark), (self.found_by, FoundBy)):
            if value not in get_args(known):
                raise DataError("no such verdict", found=repr(value), expected=get_args(known))


class Audit(Sequence[Verdict]):
    """Verdicts in their order; shown as a table, written as JSON.

    Parameters
    ----------
    verdicts : iterable of Verdict
        One per check.
    name : str
        What was audited.

    Examples
    --------
    >>> found = Audit([Verdict("gallery order", "pass", "largest change 0", "behaviour"),
    ...                Verdict("selection", "fail", "epoch 12 of 40", "provenance")], "mine")
    >>> found.passed, [v.check for v in found.failed]
    (False, ['selection'])
    >>> found
    Audit(mine: 1 pass, 1 fail)
    """

    def __init__(self, verdicts: Iterable[Verdict], name: str = "decoder") -> None:
        self._verdicts = list(verdicts)
        self.name = str(name)

    def __len__(self) -> int:
        return len(self._verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self._verdicts)

    def __getitem__(self, item: Any) -> Any:
        """A verdict by its position or by the name of its check."""
        if isinstance(item, str):
            for verdict in self._verdicts:
                if verdict.check == item:
                    return verdict
            names = [verdict.check for verdict in self._verdicts]
            raise KeyError(f"no check {item!r} among {listing(names, 40)}")
        return self._verdicts[item]

    def __repr__(self) -> str:
        counts = Counter(verdict.verdict for verdict in self._verdicts)
        said = [f"{counts[mark]} {mark}" for mark in get_args(Mark) if counts[mark]]
        return f"Audit({self.name}: {', '.join(said) or 'no checks'})"

    @property
    def failed(self) -> list[Verdict]:
        """Verdicts that say "fail"."""
        return [verdict for verdict in self._verdicts if verdict.verdict == "fail"]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    def require(self) -> None:
        """Raise if a check failed.

        Raises
        ------
        LeakError
            Naming the checks that failed, with their evidence.
        """
        if wrong := self.failed:
            raise LeakError(
                f"{len(wrong)} of {len(self)} checks of {self.name} failed: "
                + listing([verdict.check for verdict in wrong]),
                found=wrong[0].evidence,
                fix=wrong[0].fix or None,
            )

    def to_table(self) -> pd.DataFrame:
        """One row per check: ``check``, ``verdict``, ``evidence``, ``found_by``, ``fix``."""
        columns = ["check", "verdict", "evidence", "found_by", "fix"]
        rows = [[getattr(verdict, name) for name in columns] for verdict in self._verdicts]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """Plain values for JSON; with ``path`` they are also written there.

        Returns
        -------
        dict
            ``name``, ``passed`` and ``checks``.
        """
        plain: dict[str, Any] = jsonable(
            {
                "name": self.name,
                "passed": self.passed,
                "checks": [asdict(verdict) for verdict in self._verdicts],
            }
        )
        if path is not None:
            write_json(Path(path), plain)
        return plain

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("check", "verdict", "evidence", "found by"))
        rows = "".join(
            f"<tr><td>{escape(v.check)}</td>"
            f'<td style="color:{_COLOURS[v.verdict]}"><b>{escape(v.verdict)}</b></td>'
            f"<td>{escape(v.evidence)}{'<br>' + escape(v.fix) if v.fix else ''}</td>"
            f"<td>{escape(v.found_by)}</td></tr>"
            for v in self._verdicts
        )
        return f"<p><b>{escape(repr(self))}</b></p><table><tr>{head}</tr>{rows}</table>"


def merge(parts: Mapping[str, Iterable[Verdict]]) -> list[Verdict]:
    """One verdict per check over several folds: the most serious, which says how many have it.

    Parameters
    ----------
    parts : mapping of str to iterable of Verdict
        Name of the fold to its verdicts.
    """
    if len(parts) == 1:
        return list(next(iter(parts.values())))
    by_check: dict[str, list[tuple[str, Verdict]]] = {}
    for name, verdicts in parts.items():
        for verdict in verdicts:
            by_check.setdefault(verdict.check, []).append((name, verdict))
    out = []
    for found in by_check.values():
        name, worst = max(found, key=lambda pair: _ORDER.index(pair[1].verdict))
        alike = sum(verdict.verdict == worst.verdict for _, verdict in found)
        told = f"{worst.evidence} ({alike} of {len(found)} folds; here {name})"
        out.append(replace(worst, evidence=told))
    return out
