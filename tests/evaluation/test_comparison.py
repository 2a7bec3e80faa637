"""Results side by side: what may be compared, what is refused, and what is kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from phosphene.errors import DataError, UnknownNameError
from phosphene.evaluation.comparison import compare, printable, protocol_differences
from phosphene.evaluation.group import effect_size, sign_flip_test, wilcoxon_test
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result
from phosphene.evaluation.statistics import paired_difference

MakeResult = Callable[..., Result]
PEOPLE = tuple(f"{i:02d}" for i in range(1, 8))
SHARED = Protocol(
    dataset="study", simulated=False, modality="eeg", gallery="exact", selection="fixed_epoch",
    test_repetitions=80, time_window=(0.0, 1.0), zero_shot=True,
)  # fmt: skip


@pytest.fixture
def make(make_result: MakeResult) -> MakeResult:
    def result(name: str, signal: float, subjects: tuple[str, ...] = PEOPLE, **changes: Any) -> Any:
        draw = changes.pop("draw", len(name))
        return make_result(
            name, protocol=SHARED.replace(method=name, **changes), subjects=subjects, n=30,
            signal=signal, seed=draw,
        )  # fmt: skip

    return result


def test_rows_are_what_the_parts_say(make: MakeResult) -> None:
    low, high, mid = make("low", 0.5), make("high", 2.0), make("mid", 1.2)
    found = compare([low, high, mid], metrics=["top1", "median_rank"])
    assert list(found.tables) == ["inductive"]
    table = found.tables["inductive"]
    assert table["result"].tolist() == ["low", "high", "mid"] * 2
    row = table.iloc[1]
    assert (row["value"], row["low"], row["high"]) == (high.top1, *high.interval("top1"))
    assert (row["baseline"], row["paired_over"], row["pairs"]) == ("low", "subjects", 7)
    oracle = paired_difference(high.table, low.table, "top1", bounds=(0, 1))
    assert row["difference"] == pytest.approx(high.top1 - low.top1)
    assert (row["difference_low"], row["difference_high"]) == (oracle.low, oracle.high)
    gains = [
        high.table[high.table["subject"] == who]["top1"].mean()
        - low.table[low.table["subject"] == who]["top1"].mean()
        for who in PEOPLE
    ]
    assert row["p_value"] == pytest.approx(sign_flip_test(gains).p_value) == pytest.approx(2 / 2**7)
    assert row["effect_size"] == pytest.approx(effect_size(gains).g)
    assert (row["effect_low"], row["effect_high"]) == pytest.approx(
        (effect_size(gains).low, effect_size(gains).high)
    )
    other = table.iloc[2]
    # Two p-values per metric: the smaller is doubled, the larger may not fall below it.
    small, large = sorted([row["p_value"], other["p_value"]])
    assert sorted([row["p_holm"], other["p_holm"]]) == pytest.approx(
        [2 * small, max(2 * small, large)]
    )
    first = table.iloc[0]
    assert np.isnan(first["difference"])
    assert np.isnan(first["p_holm"])
    ranks = table[table["metric"] == "median_rank"].set_index("result")
    assert ranks.loc["high", "difference"] == pytest.approx(high.median_rank - low.median_rank)
    assert ranks.loc["high", "difference"] < 0


def test_baseline_and_test_may_be_chosen(make: MakeResult) -> None:
    results = {"one": make("low", 0.5), "two": make("high", 2.0)}
    found = compare(results, metrics=["top1"], baseline="two", test="wilcoxon")
    table = found.tables["inductive"].set_index("result")
    assert table.loc["one", "baseline"] == "two"
    assert table.loc["one", "difference"] < 0
    gains = [
        (one["top1"].mean() - two["top1"].mean())
        for (_, one), (_, two) in zip(
            results["one"].table.groupby("subject"), results["two"].table.groupby("subject"),
            strict=True,
        )
    ]  # fmt: skip
    assert table.loc["one", "p_value"] == pytest.approx(wilcoxon_test(gains).p_value)
    assert found.test == "Wilcoxon signed-rank"
    with pytest.raises(UnknownNameError, match="did you mean 'one'"):
        compare(results, baseline="oen")
    with pytest.raises(DataError, match="sign-flip or wilcoxon"):
        compare(results, test="t")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="top1"):
        compare(results, metrics=["top_1"])


def test_different_protocols_are_refused_with_every_value(make: MakeResult) -> None:
    here = make("here", 1.0)
    there = make("there", 1.0, test_repetitions=20, gallery="concept_centre", device="cuda")
    with pytest.raises(DataError) as caught:
        compare([here, there])
    text = str(caught.value)
    assert "repetitions averaged at test, gallery differ" in text
    assert "\n    repetitions averaged at test: here 80; there 20" in text
    assert "\n    gallery: here exact; there concept_centre" in text
    assert "device" not in text
    table = protocol_differences([here, there])
    assert table.loc["gallery"].tolist() == ["gallery", "exact", "concept_centre"]
    assert set(table.index) == {"test_repetitions", "gallery"}
    everything = protocol_differences([here, there], essential=False)
    assert set(everything.index) == {"test_repetitions", "gallery", "device", "method"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "another"}, "dataset: here study; there another"),
        ({"time_window": (0.0, 0.5)}, "time window: here 0 to 1 s; there 0 to 0.5 s"),
        ({"zero_shot": False}, "zero-shot: here yes; there no"),
        (
            {"split_rule": "leave-one-subject-out"},
            "split rule: here unknown; there leave-one-subject",
        ),
        ({"uses_names": True}, "uses names of the gallery: here no; there yes"),
        ({"image_encoder": "clip"}, "image encoder: here unknown; there clip"),
        ({"selection": "test"}, "selection rule: here fixed_epoch; there test"),
    ],
)
def test_each_field_that_decides_a_score_is_named(
    make: MakeResult, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        compare([make("here", 1.0), make("there", 1.0, **change)])
    assert words in str(caught.value)


def test_what_a_method_chooses_for_itself_is_noted_only(make: MakeResult) -> None:
    here = make("here", 1.0, gallery_view="original", selection="closed form", whitening="none")
    there = make(
        "there", 1.0, gallery_view="fovea", whitening="mvnn", whitening_fitted_on="training data"
    )
    notes = compare([here, there]).notes
    assert "gallery view differs: here original; there fovea" in notes
    assert "selection rule differs: here closed form; there fixed_epoch" in notes
    assert "whitening differs: here none; there mvnn" in notes
    everything = there.protocol.replace(whitening_fitted_on="all data")
    leaky = make("leaky", 1.0, **{k: getattr(everything, k) for k in
                                  ("whitening", "whitening_fitted_on")})  # fmt: skip
    with pytest.raises(DataError, match="whitening fitted on"):
        compare([there, leaky])


def test_both_selected_on_test_stand_side_by_side_with_the_mark(make: MakeResult) -> None:
    found = compare([make("here", 1.0, selection="test"), make("there", 1.0, selection="test")])
    assert "the model was selected on test data" in found.notes


def test_other_subjects_and_stimuli_are_refused(make: MakeResult) -> None:
    here = make("here", 1.0)
    with pytest.raises(DataError, match=r"subjects: here 01, .*; there 01, 02"):
        compare([here, make("there", 1.0, subjects=("01", "02"))])
    rows = np.flatnonzero(here.table["stimulus"] != "concept003/image_003.png")
    assert here.scores is not None
    fewer = Result.from_similarity(here.scores.select(rows), here.protocol, name="fewer")
    with pytest.raises(DataError, match=r"203 queries in common; here has concept003"):
        compare([here, fewer])


def test_transductive_and_oracle_scores_share_no_column(make: MakeResult) -> None:
    plain, other = make("plain", 1.0), make("other", 1.5)
    matched = make("matched", 2.0, transductive=("hungarian",))
    csls = make("csls", 2.0, transductive=("csls(k=10)",))
    oracle = make("oracle", 3.0, uses_test_labels=True)
    found = compare([matched, plain, oracle, csls, other], metrics=["top1"], baseline="plain")
    kinds = {kind: table["result"].tolist() for kind, table in found.tables.items()}
    assert kinds == {
        "inductive": ["plain", "other"],
        "transductive: hungarian": ["matched"],
        "oracle: uses test labels": ["oracle"],
        "transductive: csls(k=10)": ["csls"],
    }
    assert next(iter(found.tables)) == "inductive"
    # Nothing is subtracted across kinds.
    assert found.tables["transductive: hungarian"]["difference"].isna().all()
    frame = found.to_frame().set_index("result")
    assert frame.loc[["plain", "other"], "value"].tolist() == [plain.top1, other.top1]
    assert frame.loc[["matched", "oracle", "csls"], "value"].isna().all()
    assert frame.loc["matched", "value (transductive: hungarian)"] == matched.top1
    assert frame["value (oracle: uses test labels)"].notna().sum() == 1
    assert any(note.startswith("oracle: the true answers") for note in found.notes)


def test_few_subjects_are_told_what_they_can_show(make: MakeResult) -> None:
    few = [make(name, 1.0, subjects=PEOPLE[:4]) for name in ("here", "there")]
    assert any("no p-value can lie below 0.125" in note for note in compare(few).notes)
    many = [make(name, 1.0) for name in ("here", "there")]
    assert not any("p-value" in note for note in compare(many).notes)


def test_one_subject_is_paired_over_stimuli(make: MakeResult) -> None:
    here, there = (make(n, s, subjects=("01",)) for n, s in (("here", 0.5), ("there", 2.5)))
    row = compare([here, there], metrics=["top1"]).tables["inductive"].iloc[1]
    assert (row["paired_over"], row["pairs"]) == ("stimuli", 30)
    gains = there.table["top1"].to_numpy() - here.table["top1"].to_numpy()
    assert row["p_value"] == pytest.approx(sign_flip_test(gains).p_value)
    assert row["p_value"] < 0.01


def test_seeds_are_pooled_within_subjects(make_result: MakeResult) -> None:
    def seeds(name: str, signal: float) -> Result:
        parts = [
            make_result(name, train_seed=seed, subjects=PEOPLE, n=20, signal=signal, seed=seed)
            for seed in (0, 1)
        ]
        return Result.merge(parts)

    weak, strong = seeds("weak", 0.5), seeds("strong", 2.0)
    row = compare([weak, strong], metrics=["top1"]).tables["inductive"].iloc[1]
    assert (row["n_seeds"], row["pairs"]) == (2, 7)
    assert row["difference"] == pytest.approx(strong.top1 - weak.top1)
    assert row["difference_low"] < row["difference"] < row["difference_high"]


def test_names_must_tell_results_apart(make: MakeResult) -> None:
    with pytest.raises(DataError, match="same name"):
        compare([make("one", 1.0), make("one", 2.0)])
    with pytest.raises(DataError, match="no result"):
        compare([])
    twins = compare({"a": make("one", 1.0), "b": make("one", 1.0)}, metrics=["top1"])
    row = twins.tables["inductive"].iloc[1]
    assert (row["difference"], row["difference_low"], row["p_value"]) == (0, 0, 1)
    assert np.isnan(row["effect_size"])


def test_cells_for_people(make: MakeResult) -> None:
    found = compare([make("low", 0.5), make("high", 2.0)], metrics=["top1"])
    columns, (first, second) = printable(found.tables["inductive"])
    assert len(columns) == len(first) == len(second)
    cells = dict(zip(columns, second, strict=True))
    row = found.tables["inductive"].iloc[1]
    assert cells["difference"] == f"+{100 * row['difference']:.1f} %"
    assert cells["paired over"] == "7 subjects"
    assert cells["p (Holm)"] == f"{row['p_holm']:.3g}"
    assert cells["g"] == f"{row['effect_size']:+.2f}"
    assert dict(zip(columns, first, strict=True))["difference"] == ""
