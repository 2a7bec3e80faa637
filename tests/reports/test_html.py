from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from phosphene.errors import StorageError
from phosphene.reports._markup import figure_html, picture_uri, table_html
from phosphene.reports.html import Report, Section

VOID = {"meta", "img", "br", "hr"}


class Balance(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(text: str) -> Balance:
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_a_report_is_one_file_with_contents() -> None:
    report = Report("Title", "subtitle", ["simulated data"], footer="the end")
    report.add(Section("First part", "<p>one</p>")).add(Section("Second", "<p>two</p>"))
    text = report.to_html()
    parser = parse(text)
    assert parser.sources == ["#first-part", "#second"]
    assert text.index("simulated data") < text.index("First part") < text.index("Second")
    assert 'id="first-part"' in text
    assert "default-src 'none'" in text


def test_equal_titles_get_different_anchors() -> None:
    report = Report("Title")
    for _ in range(3):
        report.add(Section("Results", "", "results"))
    assert re.findall(r'h2 id="([^"]+)"', report.to_html()) == ["results", "results-2", "results-3"]


def test_text_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    report = Report(evil, evil, [evil], footer=evil).add(Section(evil, ""))
    assert "<script" not in report.to_html()
    cells = table_html([{"a": evil, "b": (evil, evil)}], {"a": evil, "b": "b"}, caption=evil)
    assert "<script" not in cells
    figure = Figure()
    assert "<script" not in figure_html(figure, evil)


def test_figures_and_pictures_lie_inside() -> None:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    assert parse(figure_html(figure, "caption")).sources[0].startswith("data:image/svg+xml;base64")
    assert "data:image/png;base64" in figure_html(figure, kind="png")
    uri = picture_uri(np.zeros((300, 200, 3), dtype=np.uint8), size=32)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 2000


def test_equal_figures_give_equal_bytes() -> None:
    def draw() -> str:
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([0, 1], label="line")
        return figure_html(figure)

    assert draw() == draw()


def test_saving(tmp_path: Path) -> None:
    path = Report("Title").add(Section("Käse", "")).save(tmp_path / "new" / "report.html")
    assert "Käse" in path.read_text(encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        Report("Title").save(tmp_path / "folder")
