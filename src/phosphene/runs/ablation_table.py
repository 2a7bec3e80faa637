"""The table of an ablation: accuracy of every row, and its difference to the full method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene.errors import DataError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.statistics import group_interval

if TYPE_CHECKING:
    from phosphene.evaluation.result import Result

_QUERY = ["subject", "stimulus", "query"]
_SCORING = ("transductive", "uses_test_labels")
COLUMNS = [
    "row", "scoring", "top1", "top1_low", "top1_high", "top1_sd_subjects", "top1_sd_seeds",
    "top5", "top5_low", "top5_high", "difference", "difference_low", "difference_high",
    "difference_sd_subjects", "difference_sd_seeds", "n_queries", "n_subjects", "n_seeds",
    "differs_in",
]  # fmt: skip


def comparison(results: Mapping[str, Result], full: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that may be compared, and those that may not.

    Parameters
    ----------
    results : mapping of str to Result
        By label; the seeds of a row merged.
    full : str
        Label of the row that the others are compared with.

    Returns
    -------
    table, marked : DataFrame
        Inductive rows, and rows whose scores used test labels or other test queries. Accuracies
        are fractions with 95 % intervals. ``difference`` is top-1 less that of the full method,
        query by query, seeds averaged; its interval is a bootstrap over stimuli, crossed with
        subjects where there are several. Seeds and subjects are separate sources of spread:
        ``_sd_seeds`` is the standard deviation over seeds (of the mean over subjects),
        ``_sd_subjects`` that over subjects (of the mean over seeds); missing where there is one.
        Rows of another kind of scoring than the full method have no difference. ``differs_in``
        names what else of the protocol that decides a score is not as in the full method.
    """
    rows = [_row(label, result, results[full]) for label, result in results.items()]
    whole = pd.DataFrame(rows, columns=COLUMNS)
    fair = whole["scoring"] == "inductive"
    return whole[fair].reset_index(drop=True), whole[~fair].reset_index(drop=True)


def _row(label: str, result: Result, full: Result) -> dict[str, Any]:
    facts = result.summary()
    own = result.table.assign(value=result.table["top1"])
    row: dict[str, Any] = {
        "row": label,
        "scoring": result.protocol.scoring,
        **{name: facts[name] for name in COLUMNS if name in facts and name != "scoring"},
        **_spread(own, "top1"),
        "n_subjects": len(result.subjects),
        "n_seeds": len(result.seeds),
        "differs_in": ", ".join(_differing(result.protocol, full.protocol)),
    }
    if result.protocol.scoring == full.protocol.scoring and result is not full:
        row |= _difference(result, full)
    return row


def _difference(result: Result, full: Result) -> dict[str, float]:
    keys = [*_QUERY, "seed"]
    both = result.table.merge(full.table, on=keys, suffixes=("", "_full"), validate="1:1")
    if not len(both) == len(result.table) == len(full.table):
        raise DataError(
            f"{result.name!r} and {full.name!r} were not scored on the same queries",
            found=f"{len(result.table)} and {len(full.table)} queries, {len(both)} in common",
        )
    both["value"] = both["top1"] - both["top1_full"]
    means = both.groupby(_QUERY)[["value"]].mean().reset_index()
    low, high = group_interval(means, "value", bounds=(-1.0, 1.0))
    return {
        "difference": float(means.groupby("subject")["value"].mean().mean()),
        "difference_low": low,
        "difference_high": high,
        **_spread(both, "difference"),
    }


def _spread(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Standard deviations of ``value`` over seeds and over subjects."""
    cells = table.pivot_table(values="value", index="subject", columns="seed")
    over = {"subjects": cells.mean(axis=1), "seeds": cells.mean(axis=0)}
    return {
        f"{name}_sd_{source}": float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        for source, values in over.items()
    }


def _differing(protocol: Protocol, full: Protocol) -> list[str]:
    """Labels of the essential fields that differ, except the kind of scoring."""
    labels = {item.name: item.metadata["label"] for item in fields(Protocol)}
    return [labels[name] for name in protocol.differences(full) if name not in _SCORING]


def printable(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read; accuracies in per cent."""
    columns = ["row", "top-1", "95 % interval", "top-5", "95 % interval ", "difference"]
    columns += ["95 % interval  ", "SD subjects", "SD seeds", "subjects", "seeds"]
    rows = [
        [
            str(facts["row"]),
            _percent(facts["top1"]),
            _between(facts["top1_low"], facts["top1_high"]),
            _percent(facts["top5"]),
            _between(facts["top5_low"], facts["top5_high"]),
            _percent(facts["difference"], sign=True),
            _between(facts["difference_low"], facts["difference_high"], sign=True),
            _percent(facts["top1_sd_subjects"]),
            _percent(facts["top1_sd_seeds"]),
            str(facts["n_subjects"]),
            str(facts["n_seeds"]),
        ]
        for facts in table.to_dict("records")
    ]
    return columns, rows


def _percent(value: float, *, sign: bool = False) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def _between(low: float, high: float, *, sign: bool = False) -> str:
    if not np.isfinite([low, high]).all():
        return "–"
    return f"{_percent(low, sign=sign)} to {_percent(high, sign=sign)}"
