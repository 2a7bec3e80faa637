"""The table of tests: which numbers go into which, with Holm's correction within a question."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from phosphene.evaluation.group import holm
from phosphene.evaluation.pooled_tests import crossed_test
from phosphene.runs._alignment_statistics import COLUMNS, statistics

PEOPLE, STIMULI = ["a", "b", "c"], [f"s{i}" for i in range(6)]
CLUSTERS = {s: ("10 x", "2 y")[i % 2] for i, s in enumerate(STIMULI)}


def made() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    rows = [("aligned", 0), ("autoencoder", 0), ("original", 0), ("shuffled", 0), ("shuffled", 1)]
    for modality, (row, draw), subject, stimulus in itertools.product(
        ("fmri", "meg"), rows, PEOPLE, STIMULI
    ):
        names = ("identification", "z_truth", "z_shuffled", "z_others", "discriminability")
        facts = {"modality": modality, "row": row, "draw": draw, "subject": subject}
        lines.append(
            facts | {"stimulus": stimulus} | dict(zip(names, rng.random(5).tolist(), strict=True))
        )
    cells = [
        {"region": region, "column": column, "subject": subject, "stimulus": stimulus,
         "identification": rng.random()}
        for region in ("V1", "V4")
        for column in ("alpha=1", "alpha=0.1", "alpha=0.01", "original")
        for subject in PEOPLE for stimulus in STIMULI
    ]  # fmt: skip
    return pd.DataFrame(lines), pd.DataFrame(cells)


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.DataFrame]:
    return made()


@pytest.fixture(scope="module")
def table(data: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return statistics(*data, CLUSTERS)


def values(queries: pd.DataFrame, modality: str, row: str, score: str) -> np.ndarray:
    part = queries[(queries["modality"] == modality) & (queries["row"] == row)]
    wide = part.pivot_table(index="subject", columns="stimulus", values=score)  # mean of draws
    return wide.to_numpy()


def crossed(gap: np.ndarray) -> Any:
    who, what = np.indices(gap.shape)
    table = pd.DataFrame({"subject": who.ravel().astype(str), "stimulus": what.ravel().astype(str)})
    return crossed_test(table.assign(gap=gap.ravel()), "gap")


def test_alphas(table: pd.DataFrame, data: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    part = table[(table["question"] == "alpha") & (table["where"] == "V4")].set_index("compared")
    assert len(part) == 1 + 3
    grid = data[1][data[1]["region"] == "V4"]
    of = {c: one["identification"].to_numpy() for c, one in grid.groupby("column")}
    groups = [of["alpha=1"], of["alpha=0.1"], of["alpha=0.01"]]
    whole = part.loc["3 alphas"]
    assert whole["paper_statistic"] == pytest.approx(stats.f_oneway(*groups).statistic)
    assert (whole["paper_df"], whole["n_values"]) == ("2, 51", 54)
    assert np.isnan(whole["p_value"])
    pair = part.loc["alpha=1 less alpha=0.01"]
    assert pair["paper_p"] == pytest.approx(stats.tukey_hsd(*groups).pvalue[0, 2])
    expected = crossed((groups[0] - groups[2]).reshape(3, 6))
    assert pair["difference"] == pytest.approx(expected.mean)
    assert pair["p_value"] == pytest.approx(expected.p_value, rel=1e-6)


def test_above_shuffled(table: pd.DataFrame, data: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    part = table[table["question"] == "above shuffled vectors"].set_index(["where", "compared"])
    assert len(part) == 2 * 4
    line = part.loc[("meg", "shuffled")]
    truth, null, others = (
        values(data[0], "meg", "shuffled", name) for name in ("z_truth", "z_shuffled", "z_others")
    )
    found = stats.ttest_ind(truth.ravel(), null.ravel())
    assert line["paper_statistic"] == pytest.approx(found.statistic)
    assert line["n_values"] == 36
    assert line["low"] == pytest.approx(crossed(truth - others).low)


def test_discriminability(table: pd.DataFrame, data: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    part = table[table["question"] == "discriminability"].set_index(["where", "compared"])
    assert len(part) == 2 * 3
    line = part.loc[("fmri", "aligned less original")]
    a, b = (values(data[0], "fmri", row, "discriminability") for row in ("aligned", "original"))
    found = stats.wilcoxon((a**2 - b**2).ravel())
    assert line["paper_statistic"] == pytest.approx(found.statistic)
    assert line["paper_p"] == pytest.approx(found.pvalue)
    assert line["high"] == pytest.approx(crossed(a - b).high)


def test_types_and_controls(table: pd.DataFrame, data: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    gap = values(data[0], "fmri", "aligned", "identification") - values(
        data[0], "fmri", "original", "identification"
    )
    part = table[(table["question"] == "category types") & (table["where"] == "fmri")]
    assert part["compared"].tolist() == ["2 y", "10 x"]
    assert part["difference"].tolist() == pytest.approx([gap[:, 1::2].mean(), gap[:, ::2].mean()])
    assert part["n_stimuli"].tolist() == [3, 3]
    assert part["paper_test"].isna().all()
    part = table[(table["question"] == "beyond controls") & (table["where"] == "fmri")]
    # What is no control is not corrected for.
    assert part["compared"].tolist() == ["aligned less original", "aligned less shuffled"]
    assert part["p_value"].iloc[0] == pytest.approx(crossed(gap).p_value, rel=1e-6)


def test_holm_is_within_a_question(table: pd.DataFrame) -> None:
    assert list(table.columns) == COLUMNS
    for _, part in table.groupby("question"):
        np.testing.assert_allclose(part["p_holm"], holm(part["p_value"].to_numpy(dtype=float)))
    assert table["question"].nunique() == 5
