from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from phosphene import _registry
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.result import Result, show
from phosphene.reports import ReportContext, Section, write_report
from phosphene.reports.report import sections


def headings(text: str) -> list[str]:
    return re.findall(r"<h2 [^>]*>([^<]*)</h2>", text)


def test_report_of_two_methods(
    results: list[Result], pictures: StimulusSet, tmp_path: Path
) -> None:
    results[0].tables["nearest_training"] = pd.DataFrame(
        {"stimulus": ["a"], "concept": ["A"], "nearest": ["b"], "nearest_concept": ["B"],
         "cosine": [0.875]}
    )  # fmt: skip
    table = pd.DataFrame({"method": "ridge", "repetitions": [1, 2], "top1": [0.1, 0.2]})
    path = write_report(
        results, tmp_path / "report.html", stimuli=pictures, repetitions=table, intro="Why & how"
    )
    text = path.read_text(encoding="utf-8")
    assert headings(text) == [
        "Results", "Accuracy", "Repetitions", "Learning curves", "Retrieved images",
        "Nearest training", "Protocol", "Software",
    ]  # fmt: skip
    assert "simulated data: these are not measurements of a brain" in text
    assert "Why &amp; how" in text
    assert "0.875" in text
    for name in ("ridge", "nice"):
        merged = Result.merge([r for r in results if r.name == name])
        low, high = merged.interval("top1")
        assert show("top1", merged.top1) in text
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'data:[^"]*', "", text).replace("http-equiv", "")


def test_the_same_results_give_the_same_file(results: list[Result], tmp_path: Path) -> None:
    first = write_report(results[0], tmp_path / "a.html").read_bytes()
    assert write_report(results[0], tmp_path / "b.html").read_bytes() == first


def test_a_result_writes_its_own_report(results: list[Result], tmp_path: Path) -> None:
    path = results[0].report(tmp_path / "one.html", title="Mine")
    text = path.read_text(encoding="utf-8")
    assert "<title>Mine</title>" in text
    assert "Retrieved images" in headings(text)
    assert "Repetitions" not in headings(text)


def test_a_minimal_result_has_a_report(results: list[Result], tmp_path: Path) -> None:
    bare = Result(results[0].table, results[0].protocol, "bare", versions={})
    text = bare.report(tmp_path / "bare.html").read_text(encoding="utf-8")
    assert headings(text) == ["Results", "Accuracy", "Protocol"]


def test_transductive_scores_have_a_table_of_their_own(
    make_result: Callable[..., Result], tmp_path: Path
) -> None:
    fair = make_result("nice")
    matched = make_result("matched", transductive=("hungarian",))
    oracle = make_result("oracle", uses_test_labels=True)
    text = write_report([fair, matched, oracle], tmp_path / "r.html").read_text(encoding="utf-8")
    captions = re.findall(r"<caption>([^<]*)</caption>", text)
    assert captions == [
        "inductive scores", "transductive scores", "oracle (test labels used) scores",
    ]  # fmt: skip
    assert "matched: transductive: scores use the other test queries (hungarian)" in text
    assert "oracle: the true answers of the test set entered the scores" in text


def test_protocol_says_where_methods_differ_and_what_is_unknown(
    make_result: Callable[..., Result], tmp_path: Path
) -> None:
    parts = [make_result("a", selection="fixed_epoch"), make_result("b", selection="test")]
    text = write_report(parts, tmp_path / "r.html").read_text(encoding="utf-8")
    differing = text[text.index("Where the methods differ") :]
    assert re.search(r"<td>selection rule</td><td>fixed_epoch</td><td>test</td>", differing)
    assert "b: the model was selected on test data" in text
    assert re.search(r"Unknown, because nobody said: [^<]*whitening", text)


def test_the_captions_of_all_score_figures_state_the_protocol(
    results: list[Result], tmp_path: Path
) -> None:
    table = pd.DataFrame({"method": "ridge", "repetitions": [1, 2], "top1": [0.1, 0.2]})
    text = write_report(results, tmp_path / "a.html", repetitions=table).read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    scored = [c for c in captions if c.startswith(("Accuracy", "Left", "Top-1"))]
    assert len(scored) == 3
    for caption in scored:
        assert results[0].protocol.caption() in caption
    other = [dataclasses.replace(r, protocol=r.protocol.replace(zero_shot=False))
             if r.name == "nice" else r for r in results]  # fmt: skip
    text = write_report(other, tmp_path / "b.html").read_text()
    assert re.search("ridge: Protocol: [^<]* nice: Protocol: [^<]*zero-shot no", text)


def test_every_field_of_the_protocol_is_in_the_report(
    results: list[Result], tmp_path: Path
) -> None:
    text = html.unescape(write_report(results, tmp_path / "a.html").read_text())
    for item in dataclasses.fields(Protocol):
        assert item.metadata["label"] in text


@pytest.fixture
def extra_section() -> Iterator[None]:
    def build(about: ReportContext) -> Section | None:
        return Section("Brain maps", f"<p>{about.extras['maps']}</p>")

    _registry.discover("section")
    _registry.add("section", "brain_maps", build, order=45)
    yield
    del _registry._entries["section"]["brain_maps"]


@pytest.mark.usefixtures("extra_section")
def test_a_new_section_needs_no_change_elsewhere(results: list[Result], tmp_path: Path) -> None:
    for result in results[:3]:
        result.tables["repetitions"] = pd.DataFrame({"repetitions": [1, 2], "top1": [0.1, 0.2]})
    path = write_report(results[:3], tmp_path / "r.html", extras={"maps": "here"})
    found = headings(path.read_text(encoding="utf-8"))
    assert (
        found.index("Learning curves") < found.index("Brain maps") < found.index("Retrieved images")
    )


def test_every_section_is_documented_and_ordered() -> None:
    assert len(sections()) >= 8
    for entry in _registry.entries("section"):
        assert entry.summary


def test_no_results_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one result"):
        write_report([], tmp_path / "r.html")
