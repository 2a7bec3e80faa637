"""Sections that say how the numbers came about."""

from __future__ import annotations

from html import escape

from phosphene._registry import register
from phosphene.evaluation.protocol import UNKNOWN
from phosphene.reports._markup import marks_html, table_html
from phosphene.reports.html import Section
from phosphene.reports.report import ReportContext

# Fingerprints are for machines: the first digits are enough for eyes.
_SHORT = 16


@register("section", "protocol", order=80)
def protocol_section(about: ReportContext) -> Section:
    """All fields of the protocol: once where the methods agree, by method where they differ."""
    names = list(about.methods)
    rows_of = {name: result.protocol.rows() for name, result in about.methods.items()}
    shared, differing, missing = [], [], []
    for cells in zip(*rows_of.values(), strict=True):
        group, label, value = cells[0]
        values = [cell[2] for cell in cells]
        if all(v == UNKNOWN for v in values):
            missing.append(label)
        elif len(set(values)) == 1:
            shared.append((group, label, value))
        else:
            cells_of = {n: _short(v) for n, v in zip(names, values, strict=True)}
            differing.append({"field": label, **cells_of})
    parts = [marks_html(about.watermarks())]
    tables = []
    for group in dict.fromkeys(group for group, _, _ in shared):
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td>{escape(_short(value))}</td></tr>"
            for where, label, value in shared
            if where == group
        )
        heading = f'<tr class="group"><th colspan="2">{escape(group)}</th></tr>'
        tables.append(f"<table>{heading}{rows}</table>")
    parts.append(f'<div class="columns">{"".join(tables)}</div>')
    if differing:
        parts.append("<h3>Where the methods differ</h3>")
        parts.append(table_html(differing, {"field": "field", **{name: name for name in names}}))
    if missing:
        parts.append(
            f'<p class="small soft">Unknown, because nobody said: {escape(", ".join(missing))}.</p>'
        )
    return Section("Protocol", "".join(parts))


@register("section", "software", order=90)
def software_section(about: ReportContext) -> Section | None:
    """Versions of the software, time spent, and settings of every method."""
    versions = about.results[0].versions
    parts = []
    if versions:
        rows = [{"name": name, "version": version} for name, version in sorted(versions.items())]
        table = table_html(rows, {"name": "software", "version": "version"})
        parts.append(f"<details><summary>Versions</summary>{table}</details>")
    stages = list(dict.fromkeys(s for r in about.methods.values() for s in r.timings))
    if stages:
        rows = [
            {"method": name} | {s: f"{r.timings[s]:.1f} s" for s in stages if s in r.timings}
            for name, r in about.methods.items()
        ]
        headings = {"method": "method", **{stage: stage for stage in stages}}
        parts.append("<h3>Time</h3>" + table_html(rows, headings, numbers=stages))
    for name, result in about.methods.items():
        if result.config:
            text = escape(_as_yaml(result.config))
            parts.append(
                f"<details><summary>Settings of {escape(name)}</summary>"
                f"<pre><code>{text}</code></pre></details>"
            )
    return Section("Software", "".join(parts)) if parts else None


def _short(value: str) -> str:
    digits = value.rstrip("+")
    if len(digits) >= 40 and all(c in "0123456789abcdef" for c in digits):
        return digits[:_SHORT] + "…" + value[len(digits) :]
    return value


def _as_yaml(config: object) -> str:
    import yaml

    from phosphene._saving import jsonable

    return str(yaml.safe_dump(jsonable(config), sort_keys=False, allow_unicode=True)).strip()
