"""Figures of analyses show values, intervals, chance and ceiling, and name simulated data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from phosphene.analysis.clusters import ClusterTest
from phosphene.analysis.time import TemporalGeneralisation, TimeCurve
from phosphene.data.sensors import OCCIPITO_PARIETAL, Sensors
from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.reports import analysis_maps, analysis_plots, plots
from phosphene.reports.analysis_sections import AnalysisPart, part_section
from phosphene.reports.report import write_report

TIMES = np.arange(-0.1, 0.4, 0.05)


@pytest.fixture
def curve() -> TimeCurve:
    rng = np.random.default_rng(0)
    scores = rng.random((len(TIMES), 40)) * (1 + (TIMES > 0.1)[:, None])
    queries = pd.DataFrame(
        {
            "subject": np.repeat(["01", "02"], 20),
            "stimulus": np.tile(np.arange(20), 2),
            "answer": "",
        }
    )
    return TimeCurve(TIMES, 0.05, scores / 2, queries, "top1", 0.05, simulated=True)


def significant(shape: tuple[int, ...], where: object) -> ClusterTest:
    mask = np.zeros(shape, dtype=bool)
    mask[where] = True  # type: ignore[call-overload]
    return ClusterTest(np.zeros(shape), (mask,), np.array([0.01]), 0.05, 8, 100)


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [drawn for drawn in axes.get_lines() if drawn.get_label() == label]
    return np.asarray(found.get_ydata(), dtype=float)


def test_time_curve_marks_clusters_and_chance(curve: TimeCurve) -> None:
    test = significant((len(TIMES),), slice(5, 8))
    (axes,) = analysis_plots.time_curve(curve, test, ceiling=0.9).axes
    np.testing.assert_allclose(line(axes, "mean of 2 people"), curve.by_subject.mean(axis=0))
    assert line(axes, "chance") == pytest.approx(0.05)
    assert line(axes, "noise ceiling") == pytest.approx(0.9)
    (mark,) = [d for d in axes.get_lines() if str(d.get_label()).startswith("cluster")]
    assert np.asarray(mark.get_xdata()) == pytest.approx([TIMES[5] - 0.025, TIMES[7] + 0.025])
    assert mark.get_ydata()[0] < curve.by_subject.min()
    assert len(axes.collections) == 1
    assert axes.get_title(loc="right") == "simulated data"
    none = significant((len(TIMES),), slice(0, 0))
    (axes,) = analysis_plots.time_curve({"a": curve, "b": curve}, {"a": none}).axes
    assert not [d for d in axes.get_lines() if str(d.get_label()).startswith("cluster")]


def test_generalisation_is_centred_on_chance() -> None:
    values = np.random.default_rng(0).random((2, 10, 10))
    found = TemporalGeneralisation(TIMES, 0.05, values, ["01", "02"], (9, 9), "top1", 0.2)
    figure = analysis_plots.generalisation(found, significant((10, 10), (slice(3, 6), 4)))
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), values.mean(axis=0))
    assert sum(image.get_clim()) / 2 == pytest.approx(0.2)
    assert figure.axes[1].get_ylim()[0] == 0.0  # no score is negative


@pytest.mark.parametrize("axis", ["gallery", "repetitions", "concepts"])
def test_accuracy_curves(axis: str) -> None:
    table = pd.DataFrame(
        {axis: [2, 4, 8], "value": [0.5, 0.4, 0.3], "low": 0.1, "high": 0.6,
         "chance": [0.5, 0.25, 0.125]}
    )  # fmt: skip
    (axes,) = analysis_plots.accuracy_curve({"ridge": table}, ceiling=0.8, simulated=True).axes
    assert line(axes, "ridge") == pytest.approx([0.5, 0.4, 0.3])
    assert line(axes, "chance") == pytest.approx([0.5, 0.25, 0.125])
    assert line(axes, "noise ceiling") == pytest.approx(0.8)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2", "4", "8"]
    with pytest.raises(DataError, match="no curve"):
        analysis_plots.accuracy_curve(table.rename(columns={axis: "x"}))
    with pytest.raises(DataError, match="empty"):
        analysis_plots.accuracy_curve(table.iloc[:0])


def test_ablation_shows_what_matters_most() -> None:
    n = 30
    table = pd.DataFrame(
        {"part": ["everything", *(f"c{i}" for i in range(n))], "mode": "drop", "how": "refit",
         "metric": "top1", "value": np.linspace(0.9, 0.3, n + 1), "low": 0.2, "high": 0.95,
         "chance": 0.05}
    )  # fmt: skip
    (axes,) = analysis_plots.ablation(table, most=5).axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == ["c29", "c28", "c27", "c26", "c25"]
    assert "5 of 30 parts" in axes.get_xlabel()
    (axes,) = analysis_plots.ablation(table.assign(mode="keep"), most=5).axes
    assert axes.get_yticklabels()[0].get_text() == "c0"
    with pytest.raises(DataError, match="nothing to draw"):
        analysis_plots.ablation(table.iloc[:1])


def test_maps_need_channels_with_places() -> None:
    sensors = Sensors.eeg(OCCIPITO_PARIETAL, 100)
    rng = np.random.default_rng(0)
    figure = analysis_maps.topomaps(rng.random((17, 20)), sensors, np.arange(20) / 100, n=4)
    assert len(figure.axes) == 5  # four heads and one scale
    limits = {ax.images[0].get_clim() for ax in figure.axes[:4]}
    assert len(limits) == 1
    _, (ax,) = plots.panels(1)
    assert analysis_maps.topomap(rng.random(17), sensors, simulated=True, ax=ax) is ax.figure
    assert ax.get_xlabel() == "simulated data"
    with pytest.raises(DataError, match="0 of 5 channels"):
        analysis_maps.topomap(np.zeros(5), Sensors.channels([f"x{i}" for i in range(5)], 100.0))
    with pytest.raises(DataError, match="one value per channel"):
        analysis_maps.topomap(np.zeros(5), sensors)
    with pytest.raises(DataError, match="do not fit"):
        analysis_maps.topomaps(np.zeros((17, 3)), sensors, np.arange(4))


def test_categories_confusion_and_dissimilarities() -> None:
    table = pd.DataFrame(
        {"category": [f"k{i}" for i in range(30)], "queries": 4, "value": np.linspace(1, 0, 30),
         "low": np.nan, "high": np.nan, "chance": 0.05}
    )  # fmt: skip
    (axes,) = analysis_plots.categories(table, most=10).axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == [f"k{i} (4)" for i in (*range(5), *range(25, 30))]
    assert "best and worst 5 of 30" in axes.get_xlabel()
    matrix = pd.DataFrame([[0.8, 0.2], [0.4, 0.6]], index=["a", "b"], columns=["a", "b"])
    matrix.attrs["chance"] = {"a": 0.5, "b": 0.5}
    axes = analysis_maps.confusion(matrix, simulated=True).axes[0]
    assert sorted(t.get_text() for t in axes.texts) == ["20", "40", "60", "80"]
    assert axes.get_xticklabels()[0].get_text() == "a\n(50 %)"
    rdm = np.array([[0, 1.0, 5.0], [1.0, 0, 3.0], [5.0, 3.0, 0]])
    shown = np.asarray(analysis_maps.rdm_image(rdm).axes[0].images[0].get_array())
    assert np.ma.masked_invalid(shown)[0].compressed().tolist() == [0.0, 1.0]


def test_rsa_bars_show_interval_ceiling_and_stars() -> None:
    table = pd.DataFrame(
        {"model": ["a", "b"], "value": [0.5, 0.1], "low": [0.4, -0.1], "high": [0.6, 0.3],
         "p_value": [0.001, 0.4], "ceiling_low": 0.6, "ceiling_high": 0.7}
    )  # fmt: skip
    (axes,) = analysis_plots.rsa_bars(table).axes
    assert [bar.get_height() for bar in axes.patches[:2]] == [0.5, 0.1]
    assert [t.get_text() for t in axes.texts] == ["*", ""]
    assert "noise ceiling" in axes.get_legend_handles_labels()[1]
    (axes,) = analysis_plots.rsa_bars(table.assign(ceiling_low=np.nan), space="decoded").axes
    assert axes.get_ylabel() == "Spearman's rho with decoded RDM"
    assert "noise ceiling" not in axes.get_legend_handles_labels()[1]


def test_sections_escape_and_appear_in_reports(results: list[Result], tmp_path: Path) -> None:
    figure, (ax,) = plots.panels(1)
    ax.plot([0, 1])
    table = pd.DataFrame({"part": ["<b>"], "value": [0.5], "low": [np.nan]})
    part = AnalysisPart("x", "Where <it> is", table, figure, "Caption.", ("A <note>.",))
    section = part_section(part, "Protocol: demo.")
    assert "&lt;b&gt;" in section.html
    assert "<b>" not in section.html
    assert "&lt;note&gt;" in section.html
    assert "Caption. Protocol: demo." in section.html
    page = write_report(results, tmp_path / "r.html", extras={"analyses": [part]}).read_text()
    assert "Where &lt;it&gt; is" in page
    assert ">Analyses</h2>" in page
    assert ">Analyses</h2>" not in write_report(results, tmp_path / "s.html").read_text()
