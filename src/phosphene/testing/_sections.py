"""Checks of report sections: functions from results to a piece of a self-contained page."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phosphene import _registry
from phosphene.data.stimuli import StimulusSet
from phosphene.evaluation.result import Result
from phosphene.reports.html import Section
from phosphene.reports.report import ReportContext
from phosphene.testing._data import tiny_problem
from phosphene.testing._decoders import MethodPart
from phosphene.testing._runner import Suite, fail, info_of

HOSTILE = '<b class="evil">a & "b"</b>'
OUTSIDE = re.compile(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']*["']|url\((?!["']?data:)""")
# Elements that HTML leaves open.
VOID = {"br", "hr", "img", "input", "link", "meta", "col", "path", "use", "source", "wbr"}


@dataclass(frozen=True)
class SectionPart:
    """A section under test; ``order`` is None for a writer of whole reports."""

    name: str
    build: Any
    order: int | None

    def html(self) -> str:
        """What it makes of two methods, one of which has a name full of markup."""
        about = context()
        if self.order is None:
            with tempfile.TemporaryDirectory() as folder:
                path = self.build(about.results[-1], Path(folder) / "report.html")
                return Path(path).read_text(encoding="utf-8")
        made = self.build(about)
        if made is None:
            return ""
        if not isinstance(made, Section) or not made.title.strip() or not made.html.strip():
            fail("a section has a title and content, or is None", found=type(made).__name__)
        return str(made.html)


def prepare(name: str, part: Any) -> SectionPart:
    """The order at registration says where a section stands."""
    return SectionPart(name, part, info_of("section", name).get("order"))


@cache
def context() -> ReportContext:
    """Results of two methods on two simulated people."""
    problem = tiny_problem(subjects=2)
    results: list[Result] = []
    for name, method in (("ridge", "ridge"), (HOSTILE, "ubp")):
        decoder = MethodPart(method, _registry.get("method", method)).make()
        decoder.fit(problem.train, problem.bank, progress=False)
        results.append(decoder.evaluate(problem.test, problem.bank, name=name))
    counts = pd.DataFrame(
        {"method": [r.name for r in results for _ in (1, 4)], "repetitions": [1, 4] * len(results)}
    )
    pictures = np.random.default_rng(0).integers(0, 256, (len(problem.bank), 8, 8, 3), np.uint8)
    return ReportContext(
        results,
        stimuli=StimulusSet.from_arrays(problem.bank.ids, list(pictures)),
        repetitions=counts.assign(top1=0.5),
        intro=HOSTILE,
    )


def text_from_data_is_escaped(part: SectionPart) -> None:
    """Names that hold markup are shown, not obeyed."""
    if HOSTILE in part.html():
        fail("a name with markup reached the page unescaped", found=HOSTILE)


def nothing_is_fetched(part: SectionPart) -> None:
    """The page asks for no file, address or script."""
    html = part.html()
    if found := OUTSIDE.search(html):
        fail("a section refers to something outside the file", found=found.group()[:80])
    if "<script" in html.lower():
        fail("a section holds a script")


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            fail("the tags of a section do not match", found=f"</{tag}>")


def tags_are_balanced(part: SectionPart) -> None:
    """Every element that is opened is closed, so that a section cannot break the next."""
    parser = _Balance()
    parser.feed(part.html())
    if parser.open:
        fail("the section leaves elements open", found=", ".join(parser.open))


def results_are_left_alone(part: SectionPart) -> None:
    """Building a section changes no table and leaves no figure open."""
    from matplotlib import pyplot as plt

    before = [result.table.copy() for result in context().results]
    figures = set(plt.get_fignums())
    part.html()
    for table, result in zip(before, context().results, strict=True):
        if not table.equals(result.table):
            fail("the section changed a result's table", found=result.name)
    if left := set(plt.get_fignums()) - figures:
        fail("the section leaves figures open", found=len(left))


SUITE: Suite[SectionPart] = Suite(
    "section",
    prepare,
    (
        # first, so that other findings are not its consequence
        results_are_left_alone,
        text_from_data_is_escaped,
        nothing_is_fetched,
        tags_are_balanced,
    ),
)
_registry.add("check", "section", SUITE)
