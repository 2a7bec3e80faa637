"""Published numbers: complete, marked, and where the wheel looks for them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from phosphene import _registry
from phosphene.errors import UnknownNameError
from phosphene.evaluation.published import FILE, published_results

ROOT = Path(__file__).parents[2]


def test_the_headline_numbers_are_there() -> None:
    table = published_results()
    heads = table[(table["row"] == "") & ~table["notes"].str.startswith("re-run")]
    pairs = {
        (method, dataset, setting): (top1, top5)
        for method, dataset, setting, top1, top5 in heads[
            ["method", "dataset", "setting", "top1", "top5"]
        ].itertuples(index=False)
        if (method, setting) != ("samga", "intra")
    }
    assert pairs["ubp", "things_eeg2", "intra"] == (50.9, 79.7)
    assert pairs["bvsa", "things_meg", "inter"] == (5.4, 13.6)
    assert pairs["neurobridge", "things_eeg2", "inter"] == (19.0, 45.9)
    assert pairs["ssr", "things_meg", "intra"] == (41.3, 71.1)
    assert pairs["shallow_alignment", "things_eeg2", "intra"] == (82.6, 97.7)
    assert pairs["atms", "things_eeg2", "inter"] == (11.8, 33.8)
    assert set(table["dataset"]) <= set(_registry.names("dataset"))
    assert set(table["setting"]) == {"intra", "inter"}
    assert table["top1"].between(0, 100).all()
    both = table.dropna(subset=["top5"])
    assert (both["top1"] < both["top5"]).all()
    keys = ["method", "dataset", "setting", "row", "selection", "gallery", "notes"]
    assert not table.duplicated(keys).any()


def test_protocols_are_told_apart() -> None:
    samga = published_results("samga", "things_eeg2")
    intra = samga[samga["setting"] == "intra"].set_index("selection")["top1"]
    assert intra.to_dict() == {"test": 91.3, "fixed_epoch": 89.0}
    nice = published_results("nice").set_index("gallery")
    assert nice["top1"].to_dict() == {"concept_centre": 13.8, "exact": 21.5}
    assert published_results("ubp")["channels"].tolist() == [17, 17, 271, 271, 17, 17, 17]


def test_scores_that_used_more_than_the_query_are_marked() -> None:
    sage = published_results("sage")
    assert sage["transductive"].tolist() == [False, True, True]
    assert sage["top1"].tolist() == [35.9, 68.0, 77.0]
    bvsa = published_results("bvsa")
    modulated = ~bvsa["row"].isin(["vanilla", "+ decoupling", "+ dynamic alignment"])
    assert bvsa["uses_test_labels"].tolist() == modulated.tolist()
    others = published_results()
    others = others[~others["method"].isin(["bvsa", "sattc, sage"])]
    assert not others[["transductive", "uses_test_labels"]].any(axis=None)


def test_ablations_are_rows_of_their_own() -> None:
    ubp = published_results("ubp", "things_eeg2")
    rows = ubp[ubp["row"] != ""].set_index("row")["top1"]
    assert rows.to_dict() == {
        "no blur": 42.1, "static fovea blur": 50.2, "uncertainty-aware blur": 50.9,
    }  # fmt: skip
    # Under the names that the method's own ablations have.
    assert list(rows.index) == list(_registry.get("method", "ubp").ablations)


def test_a_copy_is_given_away() -> None:
    table = published_results()
    table.loc[:, "top1"] = 0.0
    assert published_results()["top1"].min() > 0


@pytest.mark.parametrize(
    ("method", "dataset", "hint"), [("upb", None, "'ubp'"), (None, "things_eeg", "'things_eeg2'")]
)
def test_unknown_names(method: str | None, dataset: str | None, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=hint):
        published_results(method, dataset)


def test_a_method_without_numbers_on_a_data_set_has_no_rows() -> None:
    assert published_results("nice", "things_meg").empty


def test_the_wheel_takes_the_file_along() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["phosphene"]
    package = ROOT / "src" / "phosphene"
    taken = {path.name for pattern in patterns for path in package.glob(pattern)}
    assert FILE in taken
