"""Tests of a study of aligned vectors: those of the paper, and beside each one that holds.

The paper's: one-way ANOVA with Tukey's comparisons over alphas; t-tests of Fisher-z correlations
against those with shuffled vectors; Wilcoxon tests of the F of discriminability; gains within
clusters of categories, without a test. They count every query of every person as independent.
Beside them: differences paired by person and category, with intervals for new people and new
categories, and p-values corrected by Holm within each question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from phosphene.evaluation import pooled_tests as pooled
from phosphene.evaluation.group import holm
from phosphene.methods.alignment_table import ROWS

ALPHA, SHUFFLED, DISCRIMINED, TYPES, CONTROLS = (
    "alpha", "above shuffled vectors", "discriminability", "category types", "beyond controls",
)  # fmt: skip
COLUMNS = [
    "question", "where", "compared", "score", "paper_test", "paper_statistic", "paper_df",
    "paper_p", "n_values", "difference", "low", "high", "p_value", "p_holm", "n_subjects",
    "n_stimuli",
]  # fmt: skip


def statistics(
    queries: pd.DataFrame, grid: pd.DataFrame, clusters: Mapping[str, str], *, seed: int = 0
) -> pd.DataFrame:
    """All tests of a study.

    Parameters
    ----------
    queries : DataFrame
        ``modality``, ``row``, ``subject``, ``draw``, ``stimulus`` and the scores of
        `phosphene.methods.alignment_table`.
    grid : DataFrame
        ``region``, ``column``, ``subject``, ``stimulus``, ``identification``.
    clusters : mapping of category to str
        Types of the test categories.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        `COLUMNS`; ``where`` is a modality or region. An ANOVA has no difference, and gains within
        clusters have no test of the paper.
    """
    numbers = queries.select_dtypes("number").columns.drop("draw")
    keys = ["modality", "row", "subject", "stimulus"]
    # Draws of the shuffled RSM are one value per query.
    mean = queries.groupby(keys, sort=False)[list(numbers)].mean().reset_index()
    lines: list[dict[str, Any]] = []
    for region, part in grid.groupby("region", sort=False):
        lines += _alphas(str(region), part, seed)
    for modality, part in mean.groupby("modality", sort=False):
        rows = {str(row): one for row, one in part.groupby("row", sort=False)}
        for row, one in rows.items():
            lines.append(_above_shuffled(str(modality), row, one, seed))
        for row, one in rows.items():
            if row != "aligned":
                lines.append(_discriminability(str(modality), row, rows["aligned"], one, seed))
        gain = _gap(rows["aligned"], rows["original"], "identification")
        kinds = gain["stimulus"].map(dict(clusters))
        # By number: "2 dog" before "10 car".
        for kind, one in sorted(gain.groupby(kinds), key=lambda pair: _number(str(pair[0]))):
            facts = {"question": TYPES, "where": modality, "compared": kind,
                     "score": "identification, aligned less original"}  # fmt: skip
            lines.append(facts | _crossed(one, seed) | {"n_values": len(one)})
        for row in (row for row in ROWS[1:] if row in rows):
            gap = _gap(rows["aligned"], rows[row], "identification")
            facts = {"question": CONTROLS, "where": modality, "compared": f"aligned less {row}",
                     "score": "identification"}  # fmt: skip
            lines.append(facts | _crossed(gap, seed) | {"n_values": len(gap)})
    table = pd.DataFrame(lines, columns=COLUMNS)
    for rows_of in table.groupby("question", sort=False).indices.values():
        table.loc[rows_of, "p_holm"] = holm(table["p_value"].to_numpy(dtype=float)[rows_of])
    return table


def _alphas(region: str, grid: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    chosen = grid[grid["column"].str.startswith("alpha=")]
    parts = {str(alpha): one for alpha, one in chosen.groupby("column", sort=False)}
    if len(parts) < 2:
        return []
    values = {alpha: one["identification"].to_numpy() for alpha, one in parts.items()}
    facts = {"question": ALPHA, "where": region, "score": "identification"}
    lines = [facts | {"compared": f"{len(parts)} alphas"} | _paper(pooled.anova(values))]
    for pair in pooled.tukey(values).to_dict("records"):
        first, second = parts[str(pair["first"])], parts[str(pair["second"])]
        lines.append(
            facts
            | {"compared": f"{pair['first']} less {pair['second']}", "paper_test": "Tukey"}
            | {"paper_statistic": pair["difference"], "paper_p": pair["p_value"]}
            | {"n_values": len(first) + len(second)}
            | _crossed(_gap(first, second, "identification"), seed)
        )
    return lines


def _above_shuffled(modality: str, row: str, part: pd.DataFrame, seed: int) -> dict[str, Any]:
    found = pooled.t_test(part["z_truth"].to_numpy(), part["z_shuffled"].to_numpy())
    gap = part.assign(gap=part["z_truth"] - part["z_others"])
    facts = {"question": SHUFFLED, "where": modality, "compared": row, "score": "Fisher z"}
    return facts | _paper(found) | _crossed(gap, seed)


def _discriminability(
    modality: str, row: str, aligned: pd.DataFrame, other: pd.DataFrame, seed: int
) -> dict[str, Any]:
    pairs = aligned.merge(other, on=["subject", "stimulus"], suffixes=("", "_other"))
    F = [
        np.square(pairs[name].to_numpy()) for name in ("discriminability", "discriminability_other")
    ]
    facts = {"question": DISCRIMINED, "where": modality, "compared": f"aligned less {row}",
             "score": "F (paper), t"}  # fmt: skip
    return (
        facts
        | _paper(pooled.signed_ranks(*F))
        | _crossed(_gap(aligned, other, "discriminability"), seed)
    )


def _number(cluster: str) -> tuple[float, str]:
    head = cluster.split(" ", 1)[0]
    return (float(head) if head.isdigit() else np.inf), cluster


def _gap(first: pd.DataFrame, second: pd.DataFrame, score: str) -> pd.DataFrame:
    """Differences of the same person and category."""
    pairs = first.merge(second, on=["subject", "stimulus"], suffixes=("", "_other"))
    gap = pairs[score] - pairs[f"{score}_other"]
    return pairs[["subject", "stimulus"]].assign(gap=gap)


def _crossed(gap: pd.DataFrame, seed: int) -> dict[str, Any]:
    found = pooled.crossed_test(gap, "gap", random_state=seed)
    return {
        "difference": found.mean, "low": found.low, "high": found.high, "p_value": found.p_value,
        "n_subjects": found.subjects, "n_stimuli": found.stimuli,
    }  # fmt: skip


def _paper(found: pooled.PooledTest) -> dict[str, Any]:
    return {
        "paper_test": found.name, "paper_statistic": found.statistic,
        "paper_df": ", ".join(f"{df:g}" for df in found.df), "paper_p": found.p_value,
        "n_values": found.n,
    }  # fmt: skip
