from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phosphene.errors import ArtefactError, DataError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import METRICS, Result, show, summary_table
from phosphene.evaluation.similarity import Similarity

SUMMARY = [
    "method", "subject", "seed", "n_queries", "n_gallery", "top1", "top1_low", "top1_high",
    "top5", "top5_low", "top5_high", "median_rank", "mrr", "two_way", "chance", "ceiling",
    "scoring",
]  # fmt: skip


def test_metrics_of_one_subject_are_those_of_its_table(make_result) -> None:  # type: ignore[no-untyped-def]
    result = make_result(n=30, signal=2.0)
    table = result.table
    assert result.top1 == table["top1"].mean()
    assert result.top5 == table["top5"].mean()
    assert result.median_rank == table["rank"].median()
    assert result.mrr == table["reciprocal_rank"].mean()
    assert result.two_way == table["two_way"].mean()
    assert result.value("map") == pytest.approx(result.mrr)
    assert result.chance == pytest.approx(1 / 30)
    for metric in METRICS:
        low, high = result.interval(metric)
        assert low <= result.value(metric) <= high


def test_chance_levels(make_result) -> None:  # type: ignore[no-untyped-def]
    result = make_result(n=40)
    assert result.chance_of("top5") == pytest.approx(5 / 40)
    assert result.chance_of("median_rank") == 20.5
    assert result.chance_of("two_way") == 0.5
    assert result.chance_of("mrr") == pytest.approx((1 / np.arange(1, 41)).mean())


def test_a_constant_predictor_is_at_chance_in_every_metric() -> None:
    ids = [f"s{i}" for i in range(25)]
    flat = Similarity(np.zeros((25, 25)), pd.DataFrame({"stimulus": ids}), ids)
    result = Result.from_similarity(flat, name="flat")
    for metric in METRICS:
        assert result.value(metric) == pytest.approx(result.chance_of(metric))


def test_summary_is_a_row_of_results_csv(make_result) -> None:  # type: ignore[no-untyped-def]
    row = make_result().summary()
    assert list(row) == SUMMARY
    assert (row["method"], row["subject"], row["seed"]) == ("ridge", "01", 0)
    assert (row["n_queries"], row["n_gallery"]) == (20, 20)
    assert 0 <= row["top1_low"] <= row["top1"] <= row["top1_high"] <= 1


def test_a_group_is_the_mean_over_subjects_not_over_queries(make_result) -> None:  # type: ignore[no-untyped-def]
    many = make_result(n=20, subjects=("01",), signal=9.0)
    few = make_result(n=20, subjects=("02",), signal=0.0)
    few = few.split()[0]
    few = Result(few.table.iloc[:5].reset_index(drop=True), few.protocol, few.name)
    both = Result.merge([many, few])
    assert both.top1 == pytest.approx((many.top1 + few.top1) / 2)
    assert both.subjects == ["01", "02"]


def test_merge_and_split_are_inverse(make_result) -> None:  # type: ignore[no-untyped-def]
    parts = [
        make_result(subjects=(subject,), train_seed=seed, seed=7 * seed + int(subject))
        for subject in ("01", "02")
        for seed in (0, 1)
    ]
    merged = Result.merge(parts)
    assert merged.seeds == [0, 1]
    assert merged.protocol.subjects == ("01", "02")
    assert merged.protocol.seeds == (0, 1)
    assert merged.scores is not None
    assert merged.scores.n_queries == len(merged.table) == 80
    for part, again in zip(parts, merged.split(), strict=True):
        pd.testing.assert_frame_equal(part.table, again.table)
        assert again.protocol == part.protocol
        np.testing.assert_array_equal(part.scores.matrix, again.scores.matrix)
    assert merged.summary()["seed"] == "0,1"
    assert len(summary_table([merged])) == 4
    assert len(merged.split("seed")) == 2


def test_further_tables_and_ceilings_stay_with_their_subject(make_result) -> None:  # type: ignore[no-untyped-def]
    parts = []
    for subject, ceiling in (("01", 0.8), ("02", 0.6)):
        part = make_result(subjects=(subject,))
        part.tables["history"] = pd.DataFrame({"epoch": [1, 2], "loss": [ceiling, 0.1]})
        part.ceiling["top1"] = ceiling
        parts.append(part)
    merged = Result.merge(parts)
    assert merged.ceiling == {"top1": pytest.approx(0.7)}
    assert merged.tables["history"]["subject"].tolist() == ["01", "01", "02", "02"]
    again = merged.split()
    assert [part.ceiling["top1"] for part in again] == [0.8, 0.6]
    assert [part.tables["history"]["loss"][0] for part in again] == [0.8, 0.6]
    parts[1].ceiling.clear()
    assert Result.merge(parts).ceiling == {}


def test_merge_joins_scores_by_gallery_id(make_result) -> None:  # type: ignore[no-untyped-def]
    here, there = make_result(subjects=("01",)), make_result(subjects=("02",), seed=3)
    turned = Result.from_similarity(
        there.scores.permuted(np.arange(20)[::-1]), there.protocol, name="ridge"
    )
    joined = Result.merge([here, turned]).scores
    np.testing.assert_array_equal(joined.matrix[20:], there.scores.matrix)


def test_merge_refuses_what_does_not_belong_together(make_result) -> None:  # type: ignore[no-untyped-def]
    here = make_result()
    with pytest.raises(DataError, match="occur more than once"):
        Result.merge([here, here])
    with pytest.raises(DataError, match="nice, ridge"):
        Result.merge([here, make_result("nice", subjects=("02",))])
    with pytest.raises(DataError, match="selection"):
        Result.merge([here, make_result(subjects=("02",), protocol=Protocol(selection="test"))])
    with pytest.raises(DataError, match="no result"):
        Result.merge([])


def test_flags_of_the_scores_reach_the_protocol(make_similarity) -> None:  # type: ignore[no-untyped-def]
    scores = make_similarity()
    marked = Similarity(
        scores.matrix, scores.queries, scores.gallery_ids,
        uses_gallery_text=True, transductive=True, uses_test_labels=True,
    )  # fmt: skip
    result = Result.from_similarity(marked, Protocol(transductive=("csls",)), name="x")
    assert len(result.protocol.watermarks()) == 3
    assert result.protocol.transductive == ("csls",)
    assert Result.from_similarity(marked, name="x").protocol.transductive == ("unnamed",)
    clean = Result.from_similarity(scores, name="x").protocol
    assert clean.transductive == ()
    assert clean.uses_test_labels is False
    assert (clean.gallery_size, clean.direction, clean.subjects) == (20, "brain_to_image", ("01",))


def test_save_and_load(make_result, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = Result.merge([make_result(), make_result(subjects=("02",), seed=1)])
    history = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25], "subject": ["01", "01"]})
    result.tables["history"] = history
    result.ceiling["top1"] = 0.9
    result.timings["fit"] = 1.5
    result.config["method"] = {"name": "ridge", "alphas": [1, 10]}
    result.save(tmp_path / "out")
    again = Result.load(tmp_path / "out")
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_frame_equal(again.tables["history"], history)
    assert again.protocol == result.protocol
    assert again.summary() == result.summary()
    for name in ("name", "config", "versions", "timings", "ceiling"):
        assert getattr(again, name) == getattr(result, name)
    np.testing.assert_array_equal(again.scores.matrix, result.scores.matrix)
    pd.testing.assert_frame_equal(again.scores.queries, result.scores.queries)
    assert list(again.scores.gallery_ids) == list(result.scores.gallery_ids)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"queries.csv", "protocol.json", "result.json", "scores.npz", "manifest.json"} <= names


def test_saving_twice_gives_the_same_bytes(make_result, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("a", "b"):
        make_result().save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["queries.csv", "protocol.json", "result.json", "scores.npz"])
def test_damage_is_found(make_result, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    make_result().save(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match=name.replace(".", r"\.")):
        Result.load(tmp_path)


def test_a_result_without_scores_is_saved_too(make_result, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = make_result()
    bare = Result(result.table, result.protocol, result.name)
    assert Result.load(bare.save(tmp_path)).scores is None


def test_html_shows_interval_chance_and_watermark(make_result) -> None:  # type: ignore[no-untyped-def]
    result = make_result(name="<b>ridge</b>")
    html = result._repr_html_()
    assert show("top1", result.top1) in html
    assert show("top1", result.interval("top1")[0]) in html
    assert "5.0 %" in html
    assert "simulated data" in html
    assert "<b>ridge</b>, " not in html
    assert "simulated data" in repr(result)


def test_unknown_metrics_are_refused_with_a_hint(make_result) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="two_way"):
        make_result().interval("two-way")


def test_undefined_scores_have_no_interval() -> None:
    scores = Similarity([[1.0], [0.5]], pd.DataFrame({"stimulus": ["a", "a"]}), ["a"])
    result = Result.from_similarity(scores, name="one candidate")
    assert np.isnan(result.two_way)
    assert np.isnan(result.interval("two_way")).all()
    assert "–" in result._repr_html_()
