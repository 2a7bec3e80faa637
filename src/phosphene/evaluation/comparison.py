"""Results side by side: only where their protocols allow it, and paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError, listing
from phosphene.evaluation.group import PairedTest, effect_size, holm, sign_flip_test, wilcoxon_test
from phosphene.evaluation.protocol import Protocol, readable
from phosphene.evaluation.result import METRICS, Result, show
from phosphene.evaluation.statistics import N_RESAMPLES, paired_difference

Test = Literal["sign-flip", "wilcoxon"]
INDUCTIVE = "inductive"
# How a score was made of a similarity matrix: results that differ here are shown, but apart.
_SCORING = ("transductive", "uses_test_labels")
# What a method chooses for itself: the same pictures seen through another view or layer, another
# way to stop that does not look at the test. It is noted, but does not forbid a comparison.
_CHOICES = ("gallery_view", "layer", "selection")
# Fields that name the method, or say where it ran.
_NO_NOTE = ("model", "run")
_FACTS = ["result", "scoring", "metric", "n_subjects", "n_seeds", "n_queries"]
_NUMBERS = [
    "value", "low", "high", "chance", "baseline", "difference", "difference_low",
    "difference_high", "p_value", "p_holm", "effect_size", "effect_low", "effect_high", "pairs",
    "paired_over",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results side by side.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By kind of scoring ("inductive", or what else the scores used), so that transductive and
        oracle scores never share a column with others. One row per metric and result:
        ``value`` with its 95 % interval, ``difference`` to ``baseline`` (paired) with its
        interval, ``p_value`` and, corrected for the number of results, ``p_holm``, ``effect_size``
        (Hedges' g of the paired differences) with its interval, ``pairs`` and ``paired_over``
        ("subjects"; "stimuli" where there is one subject).
    notes : list of str
        What a reader must know: watermarks, what else differs, and which p-values the number of
        pairs allows.
    test : str
        Where the p-values are from.
    """

    tables: dict[str, pd.DataFrame]
    notes: list[str]
    test: str

    def to_frame(self) -> pd.DataFrame:
        """All rows in one table; numbers that are not inductive lie in columns of their own."""
        parts = [
            table.rename(columns={} if kind == INDUCTIVE else _marked(kind))
            for kind, table in self.tables.items()
        ]
        columns = list(dict.fromkeys(column for part in parts for column in part))
        # Columns of nothing but missing values would make pandas guess types.
        rows = [row for part in parts for row in part.to_dict("records")]
        return pd.DataFrame(rows, columns=columns)


def compare(
    results: Mapping[str, Result] | Sequence[Result],
    *,
    metrics: Sequence[str] = ("top1", "top5"),
    baseline: str | None = None,
    test: Test = "sign-flip",
    n: int = N_RESAMPLES,
    random_state: int = 0,
) -> Comparison:
    """Put results side by side, with paired differences to one of them.

    Differences are taken within subjects and tested over subjects, or over stimuli where there is
    one subject; p-values are corrected (Holm) for the number of results compared, for every metric
    and kind of scoring by itself.

    Parameters
    ----------
    results : mapping of str to Result, or sequence of Result
        By label; a sequence is labelled by the results' names.
    metrics : sequence of str
        Of `result.METRICS`.
    baseline : str, optional
        Label of the result that the others are compared with, by default the first. Results of
        another kind of scoring are compared with the first of their kind.
    test : {"sign-flip", "wilcoxon"}
        Test of the differences.
    n : int
        Resamples of the intervals of the differences.
    random_state : int
        Seed of the resampling.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If the protocols differ in what decides a score, or subjects or stimuli differ; the message
        lists every field with every value. What a method chooses for itself (the view and layer in
        which it sees the gallery, when it stops) may differ and is noted; a model that was selected
        on test data is compared with its like only.

    Examples
    --------
    >>> from phosphene.evaluation.similarity import Similarity
    >>> queries = pd.DataFrame({"subject": ["01"] * 3, "stimulus": ["a", "b", "c"]})
    >>> good = Similarity(np.eye(3), queries, ["a", "b", "c"])
    >>> fair = Similarity(np.eye(3)[[0, 0, 2]], queries, ["a", "b", "c"])
    >>> made = [Result.from_similarity(s, name=n) for s, n in ((fair, "fair"), (good, "good"))]
    >>> table = compare(made, metrics=["top1"]).tables["inductive"]
    >>> table[["result", "value", "difference"]].round(3)
      result  value  difference
    0   fair  0.667         NaN
    1   good  1.000       0.333
    """
    labelled = _labelled(results)
    if baseline is not None and baseline not in labelled:
        raise UnknownNameError(
            f"there is no result called {baseline!r}",
            expected="one of " + ", ".join(labelled),
            fix=_registry.did_you_mean(baseline, labelled),
        )
    if test not in ("sign-flip", "wilcoxon"):
        raise DataError(f"there is no test {test!r}", expected="sign-flip or wilcoxon")
    for metric in metrics:
        next(iter(labelled.values())).value(metric)  # an unknown one is refused by name
    _require_comparable(labelled)
    kinds: dict[str, dict[str, Result]] = {}
    for label, result in labelled.items():
        kinds.setdefault(result.protocol.scoring, {})[label] = result
    order = sorted(kinds, key=lambda kind: kind != INDUCTIVE)
    tables = {
        kind: _table(kind, kinds[kind], metrics, baseline, test, n, random_state) for kind in order
    }
    return Comparison(tables, _notes(labelled, list(tables.values())), _TESTS[test][0])


def protocol_differences(
    results: Mapping[str, Result] | Sequence[Result], *, essential: bool = True
) -> pd.DataFrame:
    """Fields of the protocols that differ: one row per field, one column per result.

    Parameters
    ----------
    results : mapping of str to Result, or sequence of Result
        By label.
    essential : bool
        Only what must agree before scores may be compared; otherwise everything.

    Returns
    -------
    DataFrame
        Indexed by the fields' names, with ``field`` (in words) and a column of readable values per
        result.
    """
    labelled = _labelled(results)
    protocols = [result.protocol.without_subject() for result in labelled.values()]
    rows, names = [], []
    for item in fields(Protocol):
        values = [getattr(protocol, item.name) for protocol in protocols]
        if (item.metadata["essential"] or not essential) and any(v != values[0] for v in values):
            names.append(item.name)
            shown = (readable(value, item.metadata["unit"]) for value in values)
            rows.append(
                {"field": item.metadata["label"], **dict(zip(labelled, shown, strict=True))}
            )
    return pd.DataFrame(rows, index=names, columns=["field", *labelled])


def printable(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells that people read, for the rows of one metric."""
    columns = ["method", "value", "95 % interval", "difference", "95 % interval ", "p (Holm)", "g"]
    columns += ["95 % interval  ", "paired over", "seeds", "chance"]
    rows = []
    for facts in table.to_dict("records"):
        metric = facts["metric"]
        compared = isinstance(facts["paired_over"], str)
        gain = [_signed(metric, facts[f"difference{end}"]) for end in ("", "_low", "_high")]
        effect = [facts[f"effect_{end}"] for end in ("size", "low", "high")]
        known = compared and np.isfinite(effect).all()
        rows.append(
            [
                facts["result"],
                show(metric, facts["value"]),
                f"{show(metric, facts['low'])} to {show(metric, facts['high'])}",
                gain[0] if compared else "",
                f"{gain[1]} to {gain[2]}" if compared else "",
                f"{facts['p_holm']:.3g}" if compared else "",
                f"{effect[0]:+.2f}" if known else "–" * compared,
                f"{effect[1]:+.2f} to {effect[2]:+.2f}" if known else "–" * compared,
                f"{int(facts['pairs'])} {facts['paired_over']}" if compared else "",
                str(facts["n_seeds"]),
                show(metric, facts["chance"]),
            ]
        )
    return columns, rows


def _signed(metric: str, value: float) -> str:
    text = show(metric, value)
    return f"+{text}" if np.isfinite(value) and value >= 0 else text


_TESTS: dict[str, tuple[str, Any]] = {
    "sign-flip": ("sign-flip permutation", sign_flip_test),
    "wilcoxon": ("Wilcoxon signed-rank", wilcoxon_test),
}


def _labelled(results: Mapping[str, Result] | Sequence[Result]) -> dict[str, Result]:
    if isinstance(results, Mapping):
        found = dict(results)
    else:
        found = {result.name: result for result in results}
        if len(found) < len(results):
            raise DataError(
                "several results have the same name",
                found=listing(sorted(result.name for result in results), limit=20),
                fix="pass a mapping from labels to results",
            )
    if not found:
        raise DataError("there is no result to compare")
    return found


def _require_comparable(labelled: Mapping[str, Result]) -> None:
    """Raise with every field and value that stands against a comparison."""
    free = {*_SCORING, *_CHOICES}
    if any(result.protocol.selection == "test" for result in labelled.values()):
        free.remove("selection")
    whitened = [p for p in (r.protocol for r in labelled.values()) if p.whitening != "none"]
    if len({p.whitening_fitted_on for p in whitened}) < 2:
        free.add("whitening_fitted_on")  # without whitening there is nothing that was fitted
    differing = protocol_differences(labelled).drop(index=list(free), errors="ignore")
    lines = [
        f"{row['field']}: " + "; ".join(f"{label} {row[label]}" for label in labelled)
        for row in differing.to_dict("records")
    ]
    lines += _unpaired(labelled)
    if lines:
        names = [line.partition(":")[0] for line in lines]
        raise DataError(
            f"these results cannot be put side by side: {', '.join(names)} "
            f"{'differs' if len(names) == 1 else 'differ'}",
            found="".join(f"\n    {line}" for line in lines),
            expected="the same in all of them",
            fix="compare results that differ in what you study only",
        )


def _unpaired(labelled: Mapping[str, Result]) -> list[str]:
    """Subjects and stimuli that not all results have, as lines of text."""
    people = {label: set(result.subjects) for label, result in labelled.items()}
    if any(own != next(iter(people.values())) for own in people.values()):
        return ["subjects: " + "; ".join(f"{name} {', '.join(sorted(own))}"
                                         for name, own in people.items())]  # fmt: skip
    keys = ["subject", "stimulus"]
    pairs = {
        label: set(result.table[keys].itertuples(index=False, name=None))
        for label, result in labelled.items()
    }
    everywhere = set.intersection(*pairs.values())
    if all(len(own) == len(everywhere) for own in pairs.values()):
        return []
    extra = {label: sorted({what for _, what in own - everywhere}) for label, own in pairs.items()}
    shown = (f"{label} has {listing(names)} beside" for label, names in extra.items() if names)
    return [f"test stimuli: {len(everywhere)} queries in common; " + "; ".join(shown)]


def _table(
    kind: str,
    own: Mapping[str, Result],
    metrics: Sequence[str],
    baseline: str | None,
    test: Test,
    n: int,
    random_state: int,
) -> pd.DataFrame:
    against = baseline if baseline is not None and baseline in own else next(iter(own))
    rows = []
    for metric in metrics:
        found = [
            _row(label, result, metric, kind)
            | ({} if label == against else {"baseline": against}
               | _difference(result, own[against], metric, test, n, random_state))
            for label, result in own.items()
        ]  # fmt: skip
        corrected = holm([row.get("p_value", np.nan) for row in found])
        rows += [row | {"p_holm": p} for row, p in zip(found, corrected, strict=True)]
    return pd.DataFrame(rows, columns=[*_FACTS, *_NUMBERS])


def _row(label: str, result: Result, metric: str, kind: str) -> dict[str, Any]:
    low, high = result.interval(metric)
    return {
        "result": label, "scoring": kind, "metric": metric, "value": result.value(metric),
        "low": low, "high": high, "chance": result.chance_of(metric),
        "n_subjects": len(result.subjects), "n_seeds": len(result.seeds),
        "n_queries": len(result.table),
    }  # fmt: skip


def _difference(
    result: Result, other: Result, metric: str, test: Test, n: int, random_state: int
) -> dict[str, Any]:
    column, statistic, bounds, _ = METRICS[metric]
    if result.table[column].isna().any() or other.table[column].isna().any():
        return {}  # undefined, as the two-way score of a gallery of one
    found = paired_difference(
        result.table, other.table, column, statistic=statistic, n=n, random_state=random_state,
        bounds=bounds if np.isfinite(bounds).all() else None,
    )  # fmt: skip
    several = len(found.by_subject) > 1
    pairs = (found.by_subject if several else found.by_stimulus).to_numpy()
    tested: PairedTest = _TESTS[test][1](pairs, random_state=random_state)
    size = effect_size(pairs)
    return {
        "difference": found.value, "difference_low": found.low, "difference_high": found.high,
        "p_value": tested.p_value, "effect_size": size.g, "effect_low": size.low,
        "effect_high": size.high, "pairs": len(pairs),
        "paired_over": "subjects" if several else "stimuli",
    }  # fmt: skip


def _notes(labelled: Mapping[str, Result], tables: Sequence[pd.DataFrame]) -> list[str]:
    """Watermarks, what else differs, and what so few pairs can show."""
    marks: dict[str, list[str]] = {}
    for label, result in labelled.items():
        for mark in result.protocol.watermarks():
            marks.setdefault(mark, []).append(label)
    notes = [
        mark if len(who) == len(labelled) else f"{', '.join(who)}: {mark}"
        for mark, who in marks.items()
    ]
    groups = {item.name: item.metadata["group"] for item in fields(Protocol)}
    differing = protocol_differences(labelled, essential=False)
    notes += [
        f"{row['field']} differs: " + "; ".join(f"{label} {row[label]}" for label in labelled)
        for name, row in differing.iterrows()
        if name in _CHOICES or (groups[str(name)] not in _NO_NOTE and name not in _SCORING)
    ]
    few = {int(row["pairs"]) for table in tables for row in table.to_dict("records")
           if row["paired_over"] == "subjects"}  # fmt: skip
    if few and (least := min(few)) < 6:
        notes.append(
            f"with {least} subjects no p-value can lie below {2 / 2**least:.3g}; "
            "look at the intervals"
        )
    return notes


def _marked(kind: str) -> dict[str, str]:
    return {name: f"{name} ({kind})" for name in _NUMBERS}
