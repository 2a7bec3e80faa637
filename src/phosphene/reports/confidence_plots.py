"""Figures of confidence: is it right, and what is gained by withholding answers.

Each takes ``ax`` and returns the Figure. Colours as in `phosphene.reports.plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phosphene.errors import DataError
from phosphene.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
)
from phosphene.reports.plots import _CHANCE, _MARKERS, _axes, _chance_line, _finish, _styles

# Confidence of the answers, and whether each was correct.
Answers = tuple[npt.ArrayLike, npt.ArrayLike]


def reliability(
    answers: Mapping[str, Answers],
    *,
    bins: int = 10,
    chance: float | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Accuracy against confidence, in bins of as many answers each, with 95 % intervals.

    On the diagonal confidence is right; below it decoders are surer than they should be. The legend
    gives the expected calibration error (ECE).

    Parameters
    ----------
    answers : mapping of str to (confidence, correct)
        One line each; arrays of shape (answers,).
    bins : int
    chance : float, optional
        Accuracy of guessing, one over the number of candidates.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
    """
    _require(answers)
    figure, axes = _axes(ax, (4.4, 4.2))
    axes.plot([0, 1], [0, 1], color="#1a1d21", lw=1, zorder=2, label="confidence is right")
    for (name, (given, right)), style, marker in _lines(answers):
        curve = reliability_curve(given, right, bins=bins)
        error = expected_calibration_error(given, right, bins=bins)
        reach = np.abs(curve[["low", "high"]].to_numpy().T - curve["accuracy"].to_numpy())
        axes.errorbar(
            curve["confidence"], curve["accuracy"], yerr=reach, label=f"{name} (ECE {error:.3f})",
            marker=marker, ms=5, lw=1.8, elinewidth=1, capsize=2, zorder=4, **style,
        )  # fmt: skip
    if chance is not None:
        _chance_line(axes, [chance])
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence of the answer")
    axes.set_ylabel("answers that are correct")
    _finish(axes, simulated)
    return _shares(figure, axes)


def risk_against_coverage(
    answers: Mapping[str, Answers],
    *,
    threshold: float | None = None,
    chance: float | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Wrong answers among those given, against the share of queries that get one.

    Parameters
    ----------
    answers : mapping of str to (confidence, correct)
        One line each; the legend gives the area under it (AURC).
    threshold : float, optional
        A confidence below which answers are withheld: its place on every line is marked.
    chance : float, optional
        Accuracy of guessing, one over the number of candidates; its risk is drawn.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Figure
    """
    _require(answers)
    figure, axes = _axes(ax, (5.2, 3.8))
    marked = None if threshold is None else f"confidence ≥ {threshold:g}"
    for (name, (given, right)), style, marker in _lines(answers):
        curve = risk_coverage(given, right)
        area = area_under_risk_coverage(given, right)
        axes.step(
            np.r_[0, curve["coverage"]], np.r_[curve["risk"][0], curve["risk"]], where="pre",
            lw=2, zorder=4, label=f"{name} (AURC {area:.3f})", **style,
        )  # fmt: skip
        kept = curve[curve["threshold"] >= threshold] if threshold is not None else curve[:0]
        if len(kept):
            last = kept.iloc[-1]
            axes.plot(
                last["coverage"], last["risk"], marker=marker, ms=8, color=style["color"],
                mec="white", ls="none", zorder=6, label=marked,
            )  # fmt: skip
            marked = None  # once in the legend
    if chance is not None:
        axes.axhline(1 - chance, color=_CHANCE, ls=":", lw=1.5, zorder=3, label="chance")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("queries that get an answer (coverage)")
    axes.set_ylabel("wrong among the answers (risk)")
    _finish(axes, simulated)
    return _shares(figure, axes)


def _require(answers: Mapping[str, Answers]) -> None:
    if not answers:
        raise DataError("there is nothing to draw", found="no answers")


def _lines(answers: Mapping[str, Answers]) -> Any:
    return zip(answers.items(), _styles(), cycle(_MARKERS), strict=False)


def _shares(figure: Figure, axes: Axes) -> Figure:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    return figure
