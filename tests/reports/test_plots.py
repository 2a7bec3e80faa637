from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.reports import plots


@pytest.fixture
def methods(results: list[Result]) -> dict[str, Result]:
    return {
        name: Result.merge([r for r in results if r.name == name]) for name in ("ridge", "nice")
    }


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [drawn for drawn in axes.get_lines() if drawn.get_label() == label]
    return np.asarray(found.get_ydata(), dtype=float)


def test_bars_show_value_interval_chance_and_ceiling(methods: dict[str, Result]) -> None:
    (axes,) = plots.accuracy_bars(methods).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [pytest.approx(r.top1) for r in methods.values()]
    for box, result in zip(axes.containers[1::2], methods.values(), strict=True):
        low, high = box.lines[2][0].get_segments()[0][:, 1]
        assert (low, high) == pytest.approx(result.interval("top1"))
    assert line(axes, "chance") == pytest.approx(1 / 12)
    assert line(axes, "noise ceiling") == pytest.approx(0.9)
    dots = [points for points in axes.collections if len(points.get_offsets()) == 3]
    assert len(dots) == 2
    assert [t.get_text() for t in axes.get_xticklabels()] == ["ridge", "nice"]


def test_n_way_curve_ends_at_top1(methods: dict[str, Result]) -> None:
    (axes,) = plots.n_way(methods).axes
    for name, result in methods.items():
        drawn = line(axes, name)
        assert drawn[-1] == pytest.approx(result.table["top1"].mean())
        assert drawn[0] == pytest.approx(result.table["two_way"].mean())
    np.testing.assert_allclose(line(axes, "chance"), 1 / np.arange(2, 13))


def test_rank_distribution_counts_queries(methods: dict[str, Result]) -> None:
    (axes,) = plots.rank_distribution(methods).axes
    table = methods["nice"].table
    drawn = next(d for d in axes.get_lines() if str(d.get_label()).startswith("nice"))
    ranks, share = np.asarray(drawn.get_xdata()), np.asarray(drawn.get_ydata())
    assert share[ranks <= 3].max() == pytest.approx((table["rank"] <= 3).mean())


def test_repetitions_are_averaged_over_subjects() -> None:
    table = pd.DataFrame(
        {"method": "ridge", "repetitions": [1, 4, 1, 4], "subject": ["01", "01", "02", "02"],
         "top1": [0.1, 0.3, 0.3, 0.5], "top1_low": 0.0, "top1_high": 0.6, "ceiling": 0.8}
    )  # fmt: skip
    (axes,) = plots.accuracy_by_repetitions(table, chance=0.01).axes
    assert line(axes, "ridge") == pytest.approx([0.2, 0.4])
    assert line(axes, "noise ceiling") == pytest.approx([0.8, 0.8])
    assert len(axes.collections) == 1
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "4"]
    with pytest.raises(DataError, match="empty"):
        plots.accuracy_by_repetitions(table.iloc[:0])


def test_learning_curves_are_means_over_runs() -> None:
    runs = [
        pd.DataFrame({"epoch": [1, 2], "loss": values, "val_top1": 0.1, "seed": seed,
                      "selected": [False, True]})
        for seed, values in enumerate(([4.0, 2.0], [2.0, 1.0]))
    ]  # fmt: skip
    history = pd.concat(runs, ignore_index=True)
    (axes,) = plots.learning_curves({"nice": history}, "loss").axes
    assert line(axes, "nice") == pytest.approx([3.0, 1.5])
    assert len(axes.get_lines()) == 3
    assert axes.collections[0].get_offsets()[:, 1].tolist() == [2.0, 1.0]
    (axes,) = plots.learning_curves({"nice": history}, ["loss", "val_top1"]).axes
    assert line(axes, "nice, val_top1") == pytest.approx([0.1, 0.1])
    with pytest.raises(DataError, match="accuracy"):
        plots.learning_curves({"nice": history}, "accuracy")


def test_figures_draw_on_given_axes_and_leave_pyplot_alone(methods: dict[str, Result]) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure, axes = plots.panels(3)
    drawn = [
        plots.accuracy_bars(methods, "two_way", ax=axes[0]),
        plots.n_way(methods, k=5, ax=axes[1]),
        plots.rank_distribution(methods, ax=axes[2]),
    ]
    assert all(found is figure for found in drawn)
    assert len(figure.axes) == 3
    assert isinstance(plots.accuracy_bars(methods), Figure)
    assert plt.get_fignums() == before


def test_figures_of_simulated_data_say_so(methods: dict[str, Result]) -> None:
    (axes,) = plots.accuracy_bars(methods).axes
    assert axes.get_title(loc="right") == "simulated data"
    real = {
        name: Result(r.table, r.protocol.replace(simulated=False), name)
        for name, r in methods.items()
    }
    (axes,) = plots.n_way(real).axes
    assert axes.get_title(loc="right") == ""


def test_nothing_to_draw_is_an_error() -> None:
    for draw in (plots.accuracy_bars, plots.n_way, plots.rank_distribution):
        with pytest.raises(DataError, match="no results"):
            draw({})
