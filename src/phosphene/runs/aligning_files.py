"""What a study of aligned vectors says and writes: table, verdicts, protocol and report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._saving import write_json, write_manifest, write_table, write_text
from phosphene.evaluation.protocol import environment
from phosphene.evaluation.rsm import rsm_correlation
from phosphene.evaluation.statistics import group_interval
from phosphene.methods.alignment_table import (
    PER_SUBJECT,
    ROWS,
    AlignmentTable,
    _t_interval,
)
from phosphene.reports.alignment_sections import AlignmentFindings, label, write_alignment_report
from phosphene.runs._alignment_statistics import statistics

if TYPE_CHECKING:
    from phosphene.runs._alignment_study import AlignmentStudy
    from phosphene.runs.aligning import AlignmentOutcome

Tables = Mapping[str, Mapping[str, pd.DataFrame]]
_BOUNDS = {"profile": (0.0, 1.0), "identification": (0.0, 1.0), "correlation": None}


def findings(about: AlignmentStudy, tables: Tables) -> AlignmentFindings:
    """Everything that the report shows, from the tables of all parts."""
    modalities = about.modalities
    summary = pd.concat(
        [summarise(tables[m]["queries"], tables[m]["subjects"], m) for m in modalities],
        ignore_index=True,
    )
    rsms = about.structure()
    # Categories in the order of a tree over the person's own similarities.
    order = _tree_order(rsms["brain"])
    labels = {"brain": "brain of the left-out person"}
    for name in ("before", "after"):
        agreement = rsm_correlation(rsms[name], rsms["brain"])
        labels[name] = f"vectors {name}: RSA {agreement:.2f}"
    queries = _joined(tables, modalities, "queries")
    cells = pd.concat([t["grid"] for t in tables.values() if "grid" in t], ignore_index=True)
    keys = ["region", "column", "subject"]
    grid = cells.groupby(keys, sort=False)[["identification", "correlation"]].mean().reset_index()
    return AlignmentFindings(
        summary=summary,
        queries=queries,
        grid=grid,
        words=_joined(tables, modalities, "words"),
        statistics=statistics(queries, cells, about.clusters, seed=about.choices.seed),
        embedding=about.embedding(),
        rsms={labels[name]: matrix[np.ix_(order, order)] for name, matrix in rsms.items()},
        region=about.choices.region,
        n_candidates=len(about.wrong),
        n_words=len(about.words),
        verdicts=[line for m in modalities for line in verdicts(summary, m)],
        protocols={m: about.protocol(m) for m in modalities},
        licences=about.licences,
    )


def summarise(queries: pd.DataFrame, subjects: pd.DataFrame, modality: str) -> pd.DataFrame:
    """Mean of every row and score with its 95 % interval, and the gain of the aligned over it.

    Draws of the shuffled RSM are averaged before. Scores of queries: bootstrap over people and
    categories; RSA: Student's t over people, as pairs share categories.
    """
    table = AlignmentTable(subjects, queries, {})
    lines = []
    for row in table.rows:
        gains = None if row == "aligned" else table.gains(row).set_index("score")
        for score in table.scores:
            if score in PER_SUBJECT:
                own = subjects[subjects["row"] == row].groupby("subject")[score]
                values = own.mean().to_numpy()
                mean, (low, high) = values.mean(), _t_interval(values, 0.95)
            else:
                asked = queries[queries["row"] == row].groupby(["subject", "stimulus"])[score]
                part = asked.mean().reset_index()
                mean = part[score].mean()
                low, high = group_interval(part, score, bounds=_BOUNDS[score])
            line = {"modality": modality, "row": row, "score": score, "mean": mean}
            line |= {"low": low, "high": high}
            for to, name in (("gain", "gain"), ("gain_low", "low"), ("gain_high", "high")):
                line[to] = np.nan if gains is None else gains.loc[score, name]
            lines.append(line)
    return pd.DataFrame(lines)


def verdicts(summary: pd.DataFrame, modality: str) -> list[str]:
    """Which controls the aligned vectors beat, in identification and in correlation."""
    lines = []
    for score in ("identification", "correlation"):
        part = summary[(summary["modality"] == modality) & (summary["score"] == score)]
        of: dict[Any, dict[Any, Any]] = {line["row"]: line for line in part.to_dict("records")}
        controls = [row for row in of if row in ROWS[1:]]
        beaten = [row for row in controls if of[row]["gain_low"] > 0]
        worse = [row for row in controls if of[row]["gain_high"] < 0]
        open_ = [row for row in controls if row not in beaten and row not in worse]
        against = of["original"]
        said = [
            f"{label(modality)}, {score}: {of['aligned']['mean']:.3f} aligned, "
            f"{against['mean']:.3f} original (gain {against['gain']:+.3f}, "
            f"{against['gain_low']:+.3f} to {against['gain_high']:+.3f})"
        ]
        for what, rows in (("above", beaten), ("below", worse), ("not told apart from", open_)):
            if rows:
                said.append(f"{what} {', '.join(rows)}")
        end = "." if len(beaten) == len(controls) else ": not beyond every control."
        lines.append("; ".join(said) + end)
    return lines


def write(outcome: AlignmentOutcome, tables: Tables, settings: Mapping[str, Any]) -> None:
    """Write the tables and the report; the manifest last."""
    folder, found = outcome.folder, outcome.findings
    modalities = list(found.protocols)
    write_text(folder / "alignment.csv", found.summary.to_csv(index=False, float_format="%.6g"))
    write_table(folder / "queries.csv", found.queries)
    write_table(folder / "subjects.csv", _joined(tables, modalities, "subjects"))
    write_table(folder / "grid.csv", found.grid)
    write_table(folder / "words.csv", found.words)
    write_table(folder / "embedding.csv", found.embedding)
    write_text(folder / "statistics.csv", found.statistics.to_csv(index=False, float_format="%.6g"))
    write_json(
        folder / "protocol.json",
        {
            "title": outcome.title,
            "simulated": found.simulated,
            "settings": dict(settings),
            "verdicts": list(found.verdicts),
            "modalities": {m: one.to_dict() for m, one in found.protocols.items()},
            "versions": environment(),
            "licences": dict(found.licences),
        },
    )
    write_alignment_report(
        found,
        folder / "report.html",
        title=f"Brain-aligned vectors: fitted to {label(modalities[0])}, decoded from "
        + ", ".join(map(label, modalities)),
        subtitle=outcome.title,
    )
    write_manifest(folder, kind="alignment")


def _joined(tables: Tables, modalities: Any, name: str) -> pd.DataFrame:
    parts = [tables[m][name].assign(modality=m) for m in modalities]
    whole = pd.concat(parts, ignore_index=True)
    return whole[["modality", *(c for c in whole.columns if c != "modality")]]


def _tree_order(rsm: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = rsm.max() - rsm
    np.fill_diagonal(distance, 0.0)
    return np.asarray(leaves_list(linkage(squareform(distance, checks=False), "average")))
