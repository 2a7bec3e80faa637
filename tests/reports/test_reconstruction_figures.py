"""Figures of reconstructions show what they are given: good and bad, bounds, the kept picture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.evaluation.image_metrics import Network
from phosphene.evaluation.memorisation import nearest_training_pictures
from phosphene.evaluation.protocol import Protocol
from phosphene.reports import reconstruction_plots as plots
from phosphene.reports.reconstruction_sections import (
    ReconstructionFindings,
    ShownPictures,
    reconstruction_section,
    reconstruction_sections,
    write_reconstruction_report,
)

N = 9
NOTE = "simulated data"
IDS = [f"concept{i}/a.png" for i in range(N)]
SCORES = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])


def flat(shift: float = 0.0, n: int = N) -> np.ndarray:
    """Pictures of one grey level each, so that a shown one says which it is."""
    levels = (np.arange(n) / 10 + shift)[:, None, None, None]
    return np.broadcast_to(levels, (n, 4, 4, 3)).astype(np.float32)


def level(ax: object) -> float:
    return float(np.asarray(ax.images[0].get_array()).mean())  # type: ignore[attr-defined]


def metrics() -> pd.DataFrame:
    lines = []
    for metric, better, chance in (("PixCorr", "higher", np.nan), ("pool", "higher", 0.5),
                                   ("pool distance", "lower", np.nan)):  # fmt: skip
        for row, value in (("linear", 0.3), ("stage 1", 0.4), ("shuffled", 0.05), ("true", 0.8)):
            lines.append({
                "modality": "fmri", "row": row, "metric": metric, "value": value,
                "low": value - 0.02, "high": value + 0.04, "better": better, "chance": chance,
                "measure": "two_way" if metric == "pool" else "x", "version": 1,
            })  # fmt: skip
    return pd.DataFrame(lines)


def trace(query: int = 0, best: int = 7) -> pd.DataFrame:
    steps = np.arange(11)
    return pd.DataFrame({
        "query": query, "sample": 0, "iteration": steps, "loss": 1.0 + np.abs(steps - best) / 10
    })  # fmt: skip


# ----------------------------------------------------------------------------------------- rows
def test_best_median_and_worst_are_all_shown() -> None:
    rows = plots.best_median_worst(SCORES, IDS, 2)
    assert [group for group, _ in rows] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    assert [SCORES[i] for _, i in rows[:2]] == [0.9, 0.8]
    assert {SCORES[i] for _, i in rows[2:4]} <= {0.4, 0.5, 0.6}
    assert [SCORES[i] for _, i in rows[4:]] == [0.2, 0.1]
    turned = plots.best_median_worst(SCORES, IDS, 1, better="lower")
    assert [SCORES[i] for _, i in turned] == [0.1, 0.5, 0.9]
    few = plots.best_median_worst(SCORES[:4], IDS[:4], 5)
    assert [group for group, _ in few] == ["best", "median", "worst"]
    for bad in ((SCORES[:2], IDS[:2], "three"), (SCORES, IDS[:4], "three"),
                (np.where(SCORES > 0.8, np.nan, SCORES), IDS, "NaN")):  # fmt: skip
        with pytest.raises(DataError, match=bad[2]):
            plots.best_median_worst(bad[0], bad[1])
    with pytest.raises(DataError, match="direction"):
        plots.best_median_worst(SCORES, IDS, better="up")


def test_the_grid_holds_truth_stages_and_nearest_of_each_row() -> None:
    stages = {"stage 1": flat(0.01)[:, None], "stages 1 + 2": flat(0.02)}
    figure = plots.reconstruction_grid(
        flat(), stages, SCORES, IDS, metric="pool", labels=[f"thing {i}" for i in range(N)],
        nearest=flat(0.03), nearest_labels=[f"near {i}" for i in range(N)], n=1, simulated=True,
    )  # fmt: skip
    axes = np.array(figure.axes).reshape(3, 4)
    for line, row in zip(axes, (2, 0, 1), strict=True):
        np.testing.assert_allclose(
            [level(ax) for ax in line], row / 10 + np.array([0, 0.01, 0.02, 0.03]), atol=1e-6
        )
        assert line[0].get_xlabel() == f"thing {row}"
        assert line[-1].get_xlabel() == f"near {row}"
    assert [ax.get_title().replace("\n", " ") for ax in axes[0]] == [
        "seen", "stage 1", "stages 1 + 2", "nearest training picture"]  # fmt: skip
    assert axes[0, 0].get_ylabel() == "best\n0.900"
    assert axes[2, 0].get_ylabel() == "worst\n0.100"
    assert "higher is better" in figure.get_supxlabel()
    assert figure.get_suptitle() == NOTE
    with pytest.raises(DataError, match="stage 1"):
        plots.reconstruction_grid(flat(), {"stage 1": flat(n=4)}, SCORES, IDS)


def test_of_several_samples_the_first_is_shown() -> None:
    samples = np.stack([flat(0.05), flat()], axis=1)  # the second is the better one
    figure = plots.reconstruction_grid(flat(), {"made": samples}, SCORES, IDS, n=1)
    assert level(figure.axes[1]) == pytest.approx(0.25, abs=1e-6)


# ----------------------------------------------------------------------------------------- bars
def test_bars_stand_between_named_bounds() -> None:
    figure = plots.metric_bars(metrics(), lower="shuffled", upper="true", simulated=True)
    panels = [ax for ax in figure.axes if ax.patches]
    assert len(panels) == 3
    for ax in panels:
        bars = [p for p in ax.patches if p.get_height() == pytest.approx(0.62)]
        assert [bar.get_width() for bar in bars] == pytest.approx([0.3, 0.4])
        lines = {round(line.get_xdata()[0], 3) for line in ax.lines}
        assert {0.05, 0.8} <= lines
        intervals = ax.collections[0].get_segments()
        np.testing.assert_allclose([one[:, 0] for one in intervals], [[0.28, 0.34], [0.38, 0.44]])
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["linear", "stage 1"]
    assert "lower is better" in panels[2].get_title(loc="left")
    assert 0.5 in {line.get_xdata()[0] for line in panels[1].lines}
    assert 0.5 not in {line.get_xdata()[0] for line in panels[0].lines}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["shuffled", "true", "chance"]
    assert figure.get_suptitle() == NOTE


def test_bounds_and_metrics_must_be_in_the_table() -> None:
    with pytest.raises(DataError, match="noise"):
        plots.metric_bars(metrics(), lower="noise")
    with pytest.raises(DataError, match="LPIPS"):
        plots.metric_bars(metrics(), metrics=["LPIPS"])
    only = metrics()
    only = only[only["row"].isin(["shuffled", "true"])]
    with pytest.raises(DataError, match="besides the bounds"):
        plots.metric_bars(only, lower="shuffled", upper="true")
    chosen = plots.metric_bars(metrics(), metrics=["pool"])
    assert len([ax for ax in chosen.axes if ax.patches]) == 1


# -------------------------------------------------------------------------------------- stage 2
def test_the_filmstrip_marks_what_the_loss_kept() -> None:
    frames = {i: flat(i / 100)[0] for i in range(11)}
    figure = plots.filmstrip(frames, trace(), truth=flat(0.7)[0], label="a thing", n=5,
                             simulated=True)  # fmt: skip
    strip = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title() for ax in strip]
    assert titles[0] == "0"
    assert titles[-2:] == ["10", "seen"]
    assert "7 (kept)" in titles
    assert len(titles) == 6
    assert titles[:-1] == sorted(titles[:-1], key=lambda t: int(t.split()[0]))
    for ax in strip[:-1]:
        at = int(ax.get_title().split()[0])
        assert level(ax) == pytest.approx(at / 100, abs=1e-6)
        assert float(ax.get_xlabel()) == pytest.approx(1 + abs(at - 7) / 10)
    assert level(strip[-1]) == pytest.approx(0.7, abs=1e-6)
    assert strip[-1].get_xlabel() == "a thing"
    bold = [ax.get_title() for ax in strip if ax.spines["left"].get_linewidth() > 2]
    assert bold == ["7 (kept)"]
    curve = next(ax for ax in figure.axes if ax.lines)
    np.testing.assert_allclose(curve.lines[0].get_ydata(), trace()["loss"])
    with pytest.raises(DataError, match="needs pictures"):
        plots.filmstrip({}, trace())
    with pytest.raises(DataError, match="12"):
        plots.filmstrip({12: flat()[0]}, trace())


@pytest.mark.parametrize("kept", [0, 3, 10, 37, 99])
@pytest.mark.parametrize("n", [1, 4, 8])
def test_thinning_keeps_the_ends_and_the_kept_one(kept: int, n: int) -> None:
    chosen = plots._thinned(range(100), kept, n)
    assert {0, kept, 99} <= set(chosen)
    assert len(chosen) == max(n, 3)
    assert chosen == sorted(chosen)


def test_traces_are_shares_of_their_start() -> None:
    ax = Figure().add_subplot()
    traces = pd.concat([trace(0, 7).assign(loss=lambda t: 3 * t["loss"]), trace(1, 4).iloc[:6]])
    figure = plots.loss_traces(traces, simulated=True, ax=ax)
    assert figure is ax.figure
    curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
    np.testing.assert_allclose(curves[0].get_ydata(), trace(0, 7)["loss"] / 1.7)
    assert curves[1].get_ydata()[-1] == pytest.approx(1.1 / 1.4)
    mean = next(line for line in ax.lines if line.get_label() == "mean")
    assert mean.get_ydata()[10] == pytest.approx((1.3 / 1.7 + 1.1 / 1.4) / 2)  # the short is held
    assert ax.get_title(loc="right") == NOTE
    with pytest.raises(DataError, match="nothing"):
        plots.loss_traces(traces.iloc[:0])


# ------------------------------------------------------------------------------------- sections
def findings() -> ReconstructionFindings:
    training = StimulusSet.from_arrays(
        [f"t{i}" for i in range(6)],
        np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
    )
    network = Network.from_callable(lambda x: x, id="pixels of <test>", image_size=8)
    noise = np.random.default_rng(1).random((N, 8, 8, 3))
    copies = nearest_training_pictures(noise, noise[::-1], training, network)
    shown = ShownPictures(
        title="minddiffuser <b>, fMRI", ids=IDS, labels=[f"thing {i}" for i in range(N)],
        truths=flat(), stages={"stage 1": flat(0.01), "stages 1 + 2": flat(0.02)[:, None]},
        scores=SCORES, metric="pool", copies=copies, nearest=flat(0.03),
        frames={2: {0: flat()[2], 7: flat()[3]}, 0: {0: flat()[0], 10: flat()[1]},
                1: {0: flat()[4], 5: flat()[5]}},
        traces=pd.concat([trace(0), trace(1), trace(2)]),
    )  # fmt: skip
    gains = pd.DataFrame([{"modality": "fmri", "metric": "PixCorr", "row": "stage 1",
                           "over": "linear", "gain": 0.1, "low": 0.02, "high": 0.2}])  # fmt: skip
    return ReconstructionFindings(
        table=metrics(), pictures=[shown], lower="shuffled", upper="true", gains=gains,
        protocols={"fmri": Protocol(dataset="demo", simulated=True, modality="fmri")},
        intro="Intro & all.", verdicts=["Stage 2 helps <here>."], licences=[("weights", "MIT")],
    )  # fmt: skip


def test_the_report_is_one_file_with_all_sections(tmp_path: Path) -> None:
    path = write_reconstruction_report(findings(), tmp_path / "report.html", title="Pictures")
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"<h2[^>]*>([^<]*)", text)
    assert titles == ["What was found", "Metrics", "Pictures: best, median and worst", "Stage 2",
                      "Copies of training pictures", "Protocol"]  # fmt: skip
    assert "simulated data: these are not measurements of a brain" in text
    assert "[0.280, 0.340]" in text
    assert "+0.100" in text
    assert "[+0.020, +0.200]" in text
    # A line for each metric with its direction, a column for each row of the findings.
    first = text[text.index("<table>") : text.index("</table>")]
    table = findings().table
    assert re.findall(r"<th[^>]*>([^<]*)</th>", first.partition("</thead>")[0]) == [
        "", *dict.fromkeys(table["row"])
    ]  # fmt: skip
    line = next(row for row in first.split("<tr>") if "pool distance\u00a0↓" in row)
    values = table.loc[table["metric"] == "pool distance", "value"]
    assert re.findall(r'<td class="number">([^<]*)<', line) == [f"{v:.3f}" for v in values]
    assert "cannot be ranked" in text
    assert "thing 0." in text  # of three filmed queries that of median score
    assert "pixels of &lt;test&gt;" in text
    assert "<here>" not in text
    assert "<b>, fMRI" not in text
    assert "://" not in re.sub(r"data:[^\"]*", "", text)


def test_what_is_not_there_is_left_out() -> None:
    bare = ReconstructionFindings(
        table=metrics(), pictures=[], protocols={"fmri": Protocol(modality="fmri")}
    )
    assert [s.title for s in reconstruction_sections(bare)] == ["Metrics"]
    assert not bare.simulated


def test_any_report_takes_it_as_an_extra(make_result) -> None:
    from phosphene.reports.report import ReportContext

    about = ReportContext([make_result()], extras={"reconstruction": findings()})
    section = reconstruction_section(about)
    assert section is not None
    assert "<h3>Stage 2</h3>" in section.html
    assert reconstruction_section(ReportContext([make_result()])) is None
