"""Figures of aligned vectors draw the numbers that they are given, with chance and interval."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from phosphene.errors import DataError
from phosphene.reports import alignment_plots as plots
from phosphene.reports.alignment_sections import category_gains

NOTE = "simulated data"


@pytest.fixture
def ax() -> object:
    return Figure().add_subplot()


def summary() -> pd.DataFrame:
    lines = [
        {"modality": m, "row": row, "score": "identification", "mean": value, "low": value - 0.1,
         "high": value + 0.2}
        for m, shift in (("fMRI", 0.0), ("MEG", -0.1))
        for row, value in (("aligned", 0.8 + shift), ("original", 0.6 + shift))
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_control_scores_stand_at_their_values_with_their_intervals(ax: plots.Axes) -> None:
    figure = plots.control_scores(summary(), simulated=True, ax=ax)
    assert figure is ax.figure
    bars = {box.get_label(): box for box in ax.containers}
    assert set(bars) == {"fMRI", "MEG"}
    line, _, (ends,) = bars["MEG"]
    np.testing.assert_allclose(line.get_xdata(), [0.7, 0.5])
    np.testing.assert_allclose([one[:, 0] for one in ends.get_segments()], [[0.6, 0.9], [0.4, 0.7]])
    # One row's markers do not hide each other.
    assert len(set(np.concatenate([b[0].get_ydata() for b in bars.values()]).round(3))) == 4
    assert ax.get_title(loc="right") == NOTE
    chance = [one for one in ax.lines if one.get_label() == "chance"]
    assert [one.get_xdata()[0] for one in chance] == [0.5]
    with pytest.raises(DataError, match="speed"):
        plots.control_scores(summary(), "speed")


def test_the_map_holds_means_over_people_and_parts_controls_off(ax: plots.Axes) -> None:
    lines = [
        {"region": region, "column": column, "subject": s, "identification": base + 0.1 * j + s}
        for region, base in (("V1", 0.2), ("LOC", 0.5))
        for j, column in enumerate(("alpha=1", "alpha=0.1", "original"))
        for s in (0.0, 0.2)
    ]
    figure = plots.region_alpha_map(pd.DataFrame(lines), simulated=True, ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["V1", "LOC"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["α 1", "α 0.1", "original"]
    assert [t.get_text() for t in ax.texts] == ["0.30", "0.40", "0.50", "0.60", "0.70", "0.80"]
    assert ax.lines[0].get_xdata()[0] == 1.5
    # Of two values .2 apart the standard error is .1.
    assert ax.get_xlabel() == "mean of 2 people; standard error 0.1 on average"
    assert "chance 0.5" in figure.axes[1].get_ylabel()


def test_the_curve_is_the_chance_of_having_none_better_among_n(ax: plots.Axes) -> None:
    # Of nine wrong answers two are better for one query, none for the other.
    queries = pd.DataFrame(
        {
            "row": "aligned", "subject": ["a", "a"], "draw": 0, "stimulus": ["x", "y"],
            "identification": [7 / 9, 1.0],
        }
    )  # fmt: skip
    plots.set_size_curve(queries, 9, ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    n = lines["aligned"].get_xdata()
    assert (n[0], n[-1]) == (2, 10)
    # None of two among n - 1 of nine: (10 - n)(9 - n) / 72.
    np.testing.assert_allclose(lines["aligned"].get_ydata(), ((10 - n) * (9 - n) / 72 + 1) / 2)
    np.testing.assert_allclose(lines["chance"].get_ydata(), 1 / n)
    assert len(ax.collections) == 1
    with pytest.raises(DataError, match="two wrong answers"):
        plots.set_size_curve(queries, 1)


def test_a_tie_counts_half_in_the_curve(ax: plots.Axes) -> None:
    queries = pd.DataFrame(
        {"row": "aligned", "subject": "a", "draw": 0, "stimulus": ["x", "y"],
         "identification": [0.75, 0.75]}
    )  # fmt: skip
    plots.set_size_curve(queries, 2, ax=ax)  # one of two wrong answers ties, the other is worse
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.75, 0.5])


def test_similarities_are_drawn_in_ranks_bright_where_alike(ax: plots.Axes) -> None:
    matrix = np.array([[1.0, 0.9, -3.0], [0.9, 1.0, 0.1], [-3.0, 0.1, 1.0]])
    plots.rsm_image(matrix, label="after", simulated=True, ax=ax)
    drawn = np.asarray(ax.images[0].get_array().filled(np.nan))
    assert (drawn[0, 1], drawn[1, 2], drawn[0, 2]) == (1.0, 0.5, 0.0)
    assert np.isnan(np.diag(drawn)).all()
    assert (ax.get_title(loc="left"), ax.get_xlabel()) == ("after", NOTE)


def test_gains_by_category_and_their_scatter(ax: plots.Axes) -> None:
    rng = np.random.default_rng(0)
    keys = itertools.product(("fmri", "meg"), ("aligned", "original"), "ab", "uvwxyz")
    queries = pd.DataFrame(keys, columns=["modality", "row", "subject", "stimulus"])
    queries["identification"] = rng.random(len(queries))
    gains = category_gains(queries)
    part = queries[(queries["modality"] == "meg") & (queries["stimulus"] == "x")]
    mean = part.groupby("row")["identification"].mean()
    assert gains.loc["x", "meg"] == pytest.approx(mean["aligned"] - mean["original"])
    plots.gain_scatter(gains, "fmri", "meg", simulated=True, ax=ax)
    drawn = ax.collections[0].get_offsets()
    np.testing.assert_allclose(drawn, gains[["fmri", "meg"]])
    r = gains["fmri"].corr(gains["meg"])
    assert ax.get_title(loc="left").startswith(f"r = {r:.2f} [")
    with pytest.raises(DataError, match="four categories"):
        plots.gain_scatter(gains.iloc[:3], "fmri", "meg")
