"""Figures of confidence show what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.errors import DataError
from phosphene.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
)
from phosphene.reports.confidence_plots import reliability, risk_against_coverage

Answers = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def answers() -> Answers:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.05, 0.95, 400)
    surer = confidence**0.5
    correct = rng.random(400) < confidence
    return {"right": (confidence, correct), "too sure": (surer, correct)}


def labels(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_reliability_shows_bins_chance_and_the_diagonal(answers: Answers) -> None:
    figure = reliability(answers, bins=8, chance=0.05, simulated=True)
    (axes,) = figure.axes
    for box, (name, pair) in zip(axes.containers, answers.items(), strict=True):
        curve = reliability_curve(*pair, bins=8)
        np.testing.assert_allclose(
            box.lines[0].get_xdata().astype(float), curve["confidence"].to_numpy()
        )
        np.testing.assert_allclose(box.lines[0].get_ydata().astype(float), curve["accuracy"])
        reach = np.array(box.lines[2][0].get_segments(), dtype=float)[:, :, 1]
        np.testing.assert_allclose(reach, curve[["low", "high"]].to_numpy())
        error = expected_calibration_error(*pair, bins=8)
        assert f"{name} (ECE {error:.3f})" in labels(axes)
    assert {"chance", "confidence is right"} <= set(labels(axes))
    (chance,) = [one for one in axes.get_lines() if one.get_label() == "chance"]
    assert chance.get_ydata()[0] == 0.05
    assert axes.get_title(loc="right") == "simulated data"


def test_risk_against_coverage_marks_the_threshold(answers: Answers) -> None:
    (axes,) = risk_against_coverage(answers, threshold=0.6, chance=0.05).axes
    lines = {str(one.get_label()): one for one in axes.get_lines()}
    marks = [one for one in axes.get_lines() if one.get_linestyle() == "None"]
    for mark, (name, (given, correct)) in zip(marks, answers.items(), strict=True):
        curve = risk_coverage(given, correct)
        area = area_under_risk_coverage(given, correct)
        drawn = lines[f"{name} (AURC {area:.3f})"]
        np.testing.assert_allclose(drawn.get_ydata()[1:], curve["risk"])
        kept = given >= 0.6
        assert mark.get_xdata()[0] == pytest.approx(kept.mean())
        assert mark.get_ydata()[0] == pytest.approx(1 - correct[kept].mean())
    assert lines["chance"].get_ydata()[0] == pytest.approx(0.95)
    assert "confidence ≥ 0.6" in lines


def test_lines_differ_without_colour_and_axes_are_taken(answers: Answers) -> None:
    for draw in (reliability, risk_against_coverage):
        figure = Figure()
        axes = figure.add_subplot()
        assert draw(answers, ax=axes) is figure
        lines = [box.lines[0] for box in axes.containers] or axes.get_lines()
        assert len({one.get_linestyle() for one in lines}) == len(answers)
        figure.draw_without_rendering()


def test_nothing_to_draw_is_said() -> None:
    for draw in (reliability, risk_against_coverage):
        with pytest.raises(DataError, match="nothing to draw"):
            draw({})
