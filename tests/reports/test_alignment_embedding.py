"""Maps of aligned vectors draw the places that they are given; tests stand in a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from phosphene.errors import DataError
from phosphene.reports.alignment_embedding import cluster_styles, embedding_map, embedding_maps
from phosphene.reports.alignment_statistics import statistics_section


def places(n: int = 24, clusters: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "stage": "before",
            "category": [f"c{i}" for i in range(n)],
            "split": ["train", "test"] * (n // 2),
            "cluster": [f"{1 + (i // 2) % clusters} name" for i in range(n)],
            "x": rng.standard_normal(n),
            "y": rng.standard_normal(n),
            "share": 0.25,
        }
    )


def test_the_map_draws_every_category_once_and_tells_clusters_and_splits() -> None:
    ax = Figure().add_subplot()
    table = places()
    embedding_map(table, simulated=True, ax=ax)
    drawn = {one.get_label(): one for one in ax.collections}
    assert sum(len(one.get_offsets()) for one in drawn.values()) == 24
    for (cluster, split), part in table.groupby(["cluster", "split"]):
        one = drawn[f"{cluster}, {split}"]
        np.testing.assert_allclose(one.get_offsets(), part[["x", "y"]])
        style = cluster_styles(table)[cluster]
        assert to_hex(one.get_edgecolor()[0]).upper() == style["color"].upper()
        assert (len(one.get_facecolor()) > 0) == (split == "test")
    assert ax.get_xlabel() == "25 % of the variance"
    assert ax.get_title(loc="right") == "simulated data"


def test_clusters_keep_their_order_and_none_share_colour_and_marker() -> None:
    styles = cluster_styles(places())
    assert list(styles) == [f"{i} name" for i in range(1, 13)]
    looks = {(style["color"], style["marker"]) for style in styles.values()}
    assert len(looks) == 12


def test_both_stages_stand_side_by_side_with_one_legend() -> None:
    both = pd.concat([places(), places().assign(stage="after")])
    figure = embedding_maps(both)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["before", "after"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(cluster_styles(both))
    with pytest.raises(DataError, match="nothing to draw"):
        embedding_map(places().iloc[:0])


def line(**facts: object) -> dict[str, object]:
    empty = dict.fromkeys(("paper_test", "paper_statistic", "paper_df", "paper_p"), None)
    numbers = {"difference": 0.25, "low": 0.1, "high": 0.4, "p_value": 0.02, "p_holm": 0.04}
    return {"where": "fmri", "score": "x", "n_values": 30, **empty, **numbers, **facts}


def test_the_section_shows_published_and_paired_tests() -> None:
    nothing = dict.fromkeys(("difference", "low", "high", "p_value", "p_holm"), float("nan"))
    anova = {"paper_test": "one-way ANOVA", "paper_statistic": 3.5, "paper_df": "4, 25"}
    tukey = {"paper_test": "Tukey", "paper_statistic": 0.25, "paper_p": 0.3}
    table = pd.DataFrame(
        [
            line(
                question="alpha", where="V4", compared="5 alphas", paper_p=0.02, **anova, **nothing
            ),
            line(question="alpha", where="V4", compared="alpha=1 less alpha=0.1", **tukey),
            line(question="alpha", where="V4", compared="alpha=0.1 less alpha=0.01", **tukey),
            line(question="category types", compared="1 cat", p_value=1e-5),
        ]
    )
    section = statistics_section(table, {"fmri": "fMRI"})
    page = section.html
    assert "one-way ANOVA, F(4, 25) = 3.5, 30 values" in page
    assert "alpha=1 less alpha=0.1" in page
    assert "alpha=0.1 less alpha=0.01" not in page  # in the file only
    assert "[+0.100, +0.400]" in page
    assert "fMRI" in page
    assert "&lt;.001" in page
    alpha, types = page.split("<details>")[1:]
    assert "as published" in alpha
    assert "as published" not in types
    assert "nan" not in page
