"""The section with the tests of a study of aligned vectors: published ones and those that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from phosphene.reports._markup import table_html
from phosphene.reports.html import Section

HEADS = {
    "where": "", "compared": "compared", "paper": "as published: queries independent",
    "p": "p", "difference": "difference", "ends": "[low, high]", "p_value": "p, paired",
    "p_holm": "p, Holm",
}  # fmt: skip
NUMBERS = ("p", "difference", "p_value", "p_holm")
SAID = {
    "alpha": "Does the weight of the brain matter? Identification by region and alpha; pairs with "
    "alpha 1, which knows no brain (all pairs are in statistics.csv).",
    "above shuffled vectors": "Are decoded vectors more like their truth than like others? "
    "Fisher z of the correlations; published against one shuffling, paired against all.",
    "discriminability": "Does the truth stand out more among the candidates? F of its correlation "
    "against those of the candidates as published; the signed t whose square it is, paired.",
    "category types": "Which types of categories gain? Identification of aligned less original "
    "vectors within clusters of the original space; no test is published.",
    "beyond controls": "Does alignment gain beyond what knows no brain? Identification, paired, "
    "corrected for the number of controls.",
}
SHOWN_ALPHA = 1.0


def statistics_section(statistics: pd.DataFrame, names: dict[str, str]) -> Section:
    """Tables of all questions.

    Parameters
    ----------
    statistics : DataFrame
        As `phosphene.runs` makes it: a test per row.
    names : dict of str to str
        How people write modalities.
    """
    parts = [
        "<p>The published tests count every query of every person as independent. But queries of "
        "one person share a brain, those of one category share a picture, and the same queries are "
        "compared: such tests find differences too easily where people and categories differ, and "
        "miss small ones that are the same in all. Beside them stand differences paired by person "
        "and category, with 95&nbsp;% intervals and p-values for new people and categories, and "
        "Holm's correction within each question.</p>"
    ]
    for question, table in statistics.groupby("question", sort=False):
        chosen = table[[_shown(line) for line in table.to_dict("records")]]
        rows = [_cells(line, names) for line in chosen.to_dict("records")]
        caption = SAID.get(str(question), str(question))
        heads = HEADS
        if chosen["paper_test"].isna().all():
            heads = {key: text for key, text in HEADS.items() if key not in ("paper", "p")}
        inner = table_html(rows, heads, numbers=[n for n in NUMBERS if n in heads], caption=caption)
        parts.append(
            f"<details><summary>{question}: {len(chosen)} comparisons</summary>{inner}</details>"
        )
    return Section("Tests, as published and as they hold", "".join(parts))


def _shown(line: dict[Any, Any]) -> bool:
    """All but pairs of alphas without alpha 1."""
    pair = str(line["compared"])
    if line["question"] != "alpha" or " less " not in pair:
        return True
    return any(float(side.removeprefix("alpha=")) == SHOWN_ALPHA for side in pair.split(" less "))


def _cells(line: dict[Any, Any], names: dict[str, str]) -> dict[str, str]:
    where = str(line["where"])
    return {
        "where": names.get(where, where),
        "compared": str(line["compared"]),
        "paper": _paper(line),
        "p": _p(line["paper_p"]),
        "difference": _number(line["difference"], "+.3f"),
        "ends": ""
        if not np.isfinite(_float(line["low"]))
        else f"[{line['low']:+.3f}, {line['high']:+.3f}]",
        "p_value": _p(line["p_value"]),
        "p_holm": _p(line["p_holm"]),
    }


def _paper(line: dict[Any, Any]) -> str:
    test = line["paper_test"]
    if not isinstance(test, str):
        return ""
    value = float(line["paper_statistic"])
    df = line["paper_df"]
    letter = {"one-way ANOVA": "F", "t-test": "t", "Tukey": "difference"}.get(test, "W")
    of = f"({df})" if isinstance(df, str) and df else ""
    return f"{test}, {letter}{of} = {value:.4g}, {int(line['n_values'])} values"


def _p(value: Any) -> str:
    number = _float(value)
    if not np.isfinite(number):
        return ""
    return "<.001" if number < 0.001 else f"{number:.3f}".removeprefix("0")


def _number(value: Any, form: str) -> str:
    number = _float(value)
    return format(number, form) if np.isfinite(number) else ""


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
