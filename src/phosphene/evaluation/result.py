"""A result: a table of per-query scores with the protocol that says what they mean."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import digamma

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.evaluation import _merging as merging
from phosphene.evaluation import _result_files, statistics
from phosphene.evaluation.protocol import Protocol, environment
from phosphene.evaluation.retrieval import Direction, score
from phosphene.evaluation.similarity import Similarity


class Metric(NamedTuple):
    """How a metric comes from the per-query table."""

    column: str
    statistic: Literal["mean", "median"]
    bounds: tuple[float, float]
    label: str


METRICS: dict[str, Metric] = {
    "top1": Metric("top1", "mean", (0.0, 1.0), "top-1"),
    "top5": Metric("top5", "mean", (0.0, 1.0), "top-5"),
    "median_rank": Metric("rank", "median", (1.0, np.inf), "median rank"),
    "mrr": Metric("reciprocal_rank", "mean", (0.0, 1.0), "mean reciprocal rank"),
    "map": Metric("average_precision", "mean", (0.0, 1.0), "mean average precision"),
    "two_way": Metric("two_way", "mean", (0.0, 1.0), "two-way identification"),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Scores of one method, of one or several subjects and seeds.

    A metric is computed within each subject (its seeds pooled) and averaged over subjects. Its
    interval is a bootstrap over stimuli for one subject, crossed over subjects and stimuli for
    several.

    Parameters
    ----------
    table : DataFrame
        One row per query, as `retrieval.score` makes it, with ``method`` and ``seed``.
    protocol : Protocol
        How the scores came about.
    name : str
        What the method is called in tables.
    config : dict
        Resolved configuration.
    versions : dict of str to str
        Versions of the software.
    timings : dict of str to float
        Seconds of the stages.
    ceiling : dict of str to float
        Noise ceiling by metric, where one is known.
    tables : dict of str to DataFrame
        Further tables that belong to the result, such as ``history`` (learning curves) or
        ``nearest_training`` (most similar training pictures).
    scores : Similarity, optional
        The scores themselves.

    Examples
    --------
    >>> queries = pd.DataFrame({"subject": ["01", "01"], "stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.9, 0.1], [0.4, 0.2]], queries, ["a", "b"])
    >>> result = Result.from_similarity(scores, Protocol(method="demo", seeds=(0,)), name="demo")
    >>> result.top1, result.median_rank, result.chance
    (0.5, 1.5, 0.5)
    """

    table: pd.DataFrame
    protocol: Protocol
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=environment)
    timings: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    scores: Similarity | None = None

    @classmethod
    def from_similarity(
        cls,
        similarity: Similarity,
        protocol: Protocol | None = None,
        *,
        name: str,
        direction: Direction = "brain_to_image",
        **more: Any,
    ) -> Result:
        """Score a similarity; what it knows of itself goes into the protocol.

        Parameters
        ----------
        similarity : Similarity
            Scores of labelled queries.
        protocol : Protocol, optional
            What is known of how they came about.
        name : str
            What the method is called.
        direction : {"brain_to_image", "image_to_brain"}
            What is looked for.
        **more
            Other fields of the result.
        """
        protocol = protocol if protocol is not None else Protocol()
        table = score(similarity, direction=direction)
        seeds = protocol.seeds or ()
        table.insert(0, "method", name)
        seed = pd.Series([seeds[0] if len(seeds) == 1 else pd.NA] * len(table), dtype="Int64")
        table.insert(2, "seed", seed)
        operations = protocol.transductive
        if not operations:
            operations = similarity.operations or (("unnamed",) if similarity.transductive else ())
        sizes = table["n_gallery"].unique()
        known = protocol.replace(
            subjects=protocol.subjects or tuple(sorted(s for s in set(table["subject"]) if s)),
            direction=direction,
            gallery_size=int(sizes[0]) if len(sizes) == 1 else None,
            uses_names=bool(protocol.uses_names or similarity.uses_gallery_text),
            transductive=operations,
            uses_test_labels=bool(protocol.uses_test_labels or similarity.uses_test_labels),
        )
        return cls(table, known, name, scores=similarity, **more)

    @property
    def top1(self) -> float:
        """Top-1 accuracy, between 0 and 1."""
        return self.value("top1")

    @property
    def top5(self) -> float:
        """Top-5 accuracy, between 0 and 1."""
        return self.value("top5")

    @property
    def median_rank(self) -> float:
        """Median rank of the true candidate, from 1."""
        return self.value("median_rank")

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank."""
        return self.value("mrr")

    @property
    def two_way(self) -> float:
        """Two-way identification: share of wrong candidates that score below the true one."""
        return self.value("two_way")

    @property
    def chance(self) -> float:
        """Top-1 accuracy of a random order."""
        return self.chance_of("top1")

    @property
    def subjects(self) -> list[str]:
        """Subjects of the queries."""
        return sorted(set(self.table["subject"]))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trained models, as far as known."""
        return sorted({int(seed) for seed in self.table["seed"].dropna()})

    def value(self, metric: str) -> float:
        """A metric of `METRICS`: within each subject, then averaged over subjects."""
        chosen = _metric(metric)
        per_subject = self.table.groupby("subject")[chosen.column].agg(chosen.statistic)
        return float(per_subject.mean())

    @functools.cached_property
    def _intervals(self) -> dict[tuple[str, float], tuple[float, float]]:
        return {}

    def interval(self, metric: str = "top1", level: float = 0.95) -> tuple[float, float]:
        """Bootstrap interval of a metric; see `statistics.group_interval`.

        Returns
        -------
        (low, high) : tuple of float
            NaN where there are too few stimuli, or a score is undefined.
        """
        chosen = _metric(metric)
        if (metric, level) not in self._intervals:
            undefined = self.table[chosen.column].isna().any()
            self._intervals[metric, level] = (
                (np.nan, np.nan)
                if undefined
                else statistics.group_interval(
                    self.table,
                    chosen.column,
                    statistic=chosen.statistic,
                    level=level,
                    bounds=chosen.bounds,
                )
            )
        return self._intervals[metric, level]

    def chance_of(self, metric: str) -> float:
        """A metric's value for a random order, exact for one relevant item per query."""
        _metric(metric)
        size = self.table["n_gallery"].astype(float)
        by_size = {
            "top1": 1 / size,
            "top5": np.minimum(5 / size, 1.0),
            "median_rank": (size + 1) / 2,
            "two_way": pd.Series(0.5, index=size.index),
        }
        reciprocal = (digamma(size + 1) - digamma(1.0)) / size
        values = pd.Series(by_size.get(metric, reciprocal), index=size.index)
        return float(values.groupby(self.table["subject"]).mean().mean())

    def summary(self) -> dict[str, Any]:
        """One row of a table of results.

        Returns
        -------
        dict
            ``method``, ``subject`` and ``seed`` (comma-separated if several), ``n_queries``,
            ``n_gallery``, ``top1`` and ``top5`` each with ``_low`` and ``_high``,
            ``median_rank``, ``mrr``, ``two_way``, ``chance``, ``ceiling`` (of top-1; None where
            unknown) and ``scoring`` ("inductive", or what else was used: rows of different kinds
            do not belong in one table). Accuracies are fractions.
        """
        sizes = sorted(set(self.table["n_gallery"].tolist()))
        low1, high1 = self.interval("top1")
        low5, high5 = self.interval("top5")
        return {
            "method": self.name,
            "subject": ",".join(self.subjects),
            "seed": _one_or_all(self.seeds),
            "n_queries": len(self.table),
            "n_gallery": sizes[0] if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}",
            "top1": self.top1,
            "top1_low": low1,
            "top1_high": high1,
            "top5": self.top5,
            "top5_low": low5,
            "top5_high": high5,
            "median_rank": self.median_rank,
            "mrr": self.mrr,
            "two_way": self.two_way,
            "chance": self.chance,
            "ceiling": self.ceiling.get("top1"),
            "scoring": self.protocol.scoring,
        }

    def split(self, *columns: str) -> list[Result]:
        """One result per value of the columns, by default per subject and seed."""
        names = list(columns) or ["subject", "seed"]
        parts = []
        for values, rows in self.table.groupby(names, sort=True, dropna=False):
            position = self.table.index.get_indexer(rows.index)
            chosen = dict(zip(names, values, strict=True))
            protocol = self.protocol.replace(
                subjects=tuple(sorted(set(rows["subject"]))),
                seeds=tuple(sorted({int(seed) for seed in rows["seed"].dropna()})) or None,
            )
            parts.append(
                replace(
                    self,
                    table=rows.reset_index(drop=True),
                    protocol=protocol,
                    ceiling=merging.mean_ceiling(self, set(rows["subject"])),
                    tables={
                        key: merging.rows_of(more, chosen) for key, more in self.tables.items()
                    },
                    scores=None if self.scores is None else self.scores.select(position),
                )
            )
        return parts

    @staticmethod
    def merge(results: Iterable[Result], *, name: str | None = None) -> Result:
        """Several subjects or seeds of one method as one result.

        Raises
        ------
        DataError
            If there is none, methods or essential parts of the protocols differ, or the same
            query of the same subject and seed occurs twice.
        """
        parts = list(results)
        if not parts:
            raise DataError("there is no result to merge")
        if len(names := sorted({part.name for part in parts})) > 1:
            raise DataError("results of different methods are not merged", found=", ".join(names))
        protocol = functools.reduce(Protocol.merge, (part.protocol for part in parts))
        table = pd.concat([part.table for part in parts], ignore_index=True)
        keys = ["subject", "seed", "stimulus", "query"]
        if (twice := table.duplicated(keys)).any() and len(parts) > 1:
            first = table.loc[twice, keys].iloc[0]
            raise DataError(
                f"{int(twice.sum())} queries occur more than once, so results overlap",
                found=", ".join(f"{key} {first[key]}" for key in keys),
                expected="every subject and seed once",
            )
        timings: dict[str, float] = {}
        for part in parts:
            for stage, seconds in part.timings.items():
                timings[stage] = timings.get(stage, 0.0) + seconds
        labelled = [merging.labelled_tables(part) for part in parts]
        tables = {
            key: pd.concat([more[key] for more in labelled if key in more], ignore_index=True)
            for key in dict.fromkeys(key for more in labelled for key in more)
        }
        label = name or parts[0].name
        merged = replace(
            parts[0],
            table=table.assign(method=label),
            protocol=protocol,
            name=label,
            timings=timings,
            ceiling={},
            tables=tables,
            scores=merging.joined([part.scores for part in parts]),
        )
        return replace(merged, ceiling=merging.mean_ceiling(merged, set(merged.subjects)))

    def save(self, folder: str | Path, *, manifest: bool = True) -> Path:
        """Write queries.csv, protocol.json, result.json and, if kept, scores.npz and tables/.

        Parameters
        ----------
        folder : path
            Made if needed.
        manifest : bool
            Also write the sha256 of everything to manifest.json. Folders that hold more than a
            result, such as runs, write their own.
        """
        parts = {name: getattr(self, name) for name in _result_files.FACTS}
        _result_files.write(Path(folder), self.table, self.protocol, parts, self.tables,
                            self.scores, manifest=manifest)  # fmt: skip
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = True) -> Result:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ArtefactError
            If a file is missing, truncated or changed.
        """
        return cls(**_result_files.read(Path(folder), verify=verify))

    def report(self, path: str | Path, **more: Any) -> Path:
        """Write a self-contained HTML report; see `phosphene.reports` for what ``more`` may be."""
        write = _registry.get("section", "result_report")
        return Path(write(self, Path(path), **more))

    def __repr__(self) -> str:
        low, high = self.interval("top1")
        marks = "; ".join(self.protocol.watermarks())
        return (
            f"Result({self.name}: top-1 {100 * self.top1:.1f} % [{100 * low:.1f}, "
            f"{100 * high:.1f}], top-5 {100 * self.top5:.1f} %, chance {100 * self.chance:.1f} %, "
            f"{len(self.table)} queries{'; ' + marks if marks else ''})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = []
        for key, metric in METRICS.items():
            if key == "map" and self.value("map") == self.value("mrr"):
                continue
            low, high = self.interval(key)
            rows.append(
                f"<tr><td>{metric.label}</td><td>{show(key, self.value(key))}</td>"
                f"<td>{show(key, low)} to {show(key, high)}</td>"
                f"<td>{show(key, self.chance_of(key))}</td></tr>"
            )
        marks = "".join(
            f"<p><b>&#9888; {escape(mark)}</b></p>" for mark in self.protocol.watermarks()
        )
        people = "subject " + escape(", ".join(self.subjects))
        return (
            f"<p><b>{escape(self.name)}</b>, {people}, {len(self.table)} queries</p>{marks}"
            "<table><thead><tr><th>metric</th><th>value</th><th>95 % interval</th><th>chance</th>"
            f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )


def show(metric: str, value: float | None) -> str:
    """A metric's value as people read it: accuracies in percent, ranks with one decimal.

    Examples
    --------
    >>> show("top1", 0.4249), show("median_rank", 3), show("mrr", 0.51234)
    ('42.5 %', '3.0', '0.512')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if metric in ("top1", "top5", "two_way"):
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if metric == "median_rank" else f"{value:.3f}"


def summary_table(results: Sequence[Result]) -> pd.DataFrame:
    """One row per result, method, subject and seed: the rows of a results.csv."""
    return pd.DataFrame([part.summary() for result in results for part in result.split()])


def _one_or_all(seeds: list[int]) -> int | str | None:
    if len(seeds) == 1:
        return seeds[0]
    return ",".join(map(str, seeds)) or None


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise DataError(
            f"there is no metric {name!r}",
            expected="one of " + ", ".join(METRICS),
            fix=_registry.did_you_mean(name, METRICS),
        )
    return METRICS[name]
