"""A report: one HTML file that needs no other file and asks no server for anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from phosphene._saving import write_text
from phosphene.reports._markup import STYLE, marks_html

# The browser itself then refuses anything that is not in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Parameters
    ----------
    title : str
        Heading; also an entry of the contents.
    html : str
        Content. Text that comes from data must have been escaped.
    anchor : str
        Name of the link to it; made from the title by default.
    """

    title: str
    html: str
    anchor: str = ""

    def __post_init__(self) -> None:
        if not self.anchor:
            words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
            object.__setattr__(self, "anchor", words or "section")


@dataclass
class Report:
    """A list of sections that becomes one file.

    Parameters
    ----------
    title, subtitle : str
        Heading.
    watermarks : sequence of str
        What a reader must know before believing the numbers; shown above everything else.
    footer : str
        Last line.

    Examples
    --------
    >>> report = Report("Retrieval", watermarks=["simulated data"])
    >>> report.add(Section("Results", "<p>None yet.</p>")).to_html().count("<h2")
    1
    """

    title: str
    subtitle: str = ""
    watermarks: Sequence[str] = ()
    footer: str = ""
    sections: list[Section] = field(default_factory=list)

    def add(self, section: Section) -> Report:
        """Append a section; its anchor is numbered if another has the same."""
        taken = {other.anchor for other in self.sections}
        anchor, number = section.anchor, 2
        while anchor in taken:
            anchor, number = f"{section.anchor}-{number}", number + 1
        self.sections.append(Section(section.title, section.html, anchor))
        return self

    def to_html(self) -> str:
        """The whole file as text."""
        links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in self.sections)
        body = "".join(
            f'<section><h2 id="{s.anchor}">{escape(s.title)}</h2>{s.html}</section>'
            for s in self.sections
        )
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        contents = f'<nav aria-label="Contents">{links}</nav>' if len(self.sections) > 1 else ""
        last = f"<footer>{escape(self.footer)}</footer>" if self.footer else ""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head><body><main>"
            f"<header><h1>{escape(self.title)}</h1>{subtitle}{marks_html(self.watermarks)}"
            f"{contents}</header>{body}{last}</main></body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the file.

        Raises
        ------
        StorageError
            If it cannot be written; an older file is then untouched.
        """
        write_text(path, self.to_html())
        return Path(path)
