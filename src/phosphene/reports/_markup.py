"""Pieces of HTML: tables, figures and pictures as data URIs, so that a file needs no other."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --paper:#fff; --ink:#1a1d21; --soft:#5c6470; --line:#dde1e6;
  --tint:#f4f6f8; --accent:#0072b2; --warn-ink:#7a3e00; --warn-paper:#fff4e5; --warn-line:#e69f00;
  --true:#009e73; }
@media (prefers-color-scheme: dark) { :root { --paper:#15181c; --ink:#e7eaee; --soft:#9aa4b1;
  --line:#30363d; --tint:#1e2329; --accent:#56b4e9; --warn-ink:#ffd699; --warn-paper:#33260f;
  --warn-line:#e69f00; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1020px; margin:0 auto; padding:2.4rem 1.5rem 4rem; }
header h1 { font-size:2rem; line-height:1.2; margin:0 0 .3rem; letter-spacing:-.01em; }
header .subtitle { color:var(--soft); font-size:1.05rem; margin:0 0 1.1rem; }
h2 { font-size:1.35rem; margin:2.6rem 0 .7rem; padding-top:1.1rem;
  border-top:1px solid var(--line); scroll-margin-top:.5rem; }
h3 { font-size:1.05rem; margin:1.5rem 0 .5rem; }
p { margin:.6rem 0; max-width:76ch; } .soft { color:var(--soft); }
small,.small { font-size:.86rem; }
a { color:var(--accent); text-decoration:none; } a:hover { text-decoration:underline; }
nav { display:flex; flex-wrap:wrap; gap:.4rem .45rem; margin:1rem 0 0; }
nav a { border:1px solid var(--line); border-radius:999px; padding:.14rem .8rem; font-size:.9rem; }
.marks { background:var(--warn-paper); color:var(--warn-ink); border-left:5px solid
  var(--warn-line); border-radius:4px; padding:.6rem 1rem; margin:1rem 0; }
.marks ul { margin:.2rem 0 .2rem 1.1rem; padding:0; } .marks b { display:block; }
.wide { overflow-x:auto; }
.columns { columns:2 24rem; column-gap:1.6rem; } .columns table { width:100%; margin:0 0 1rem;
  break-inside:avoid; } .columns td:first-child { width:52%; color:var(--soft); }
.columns td { overflow-wrap:anywhere; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.92rem;
  margin:.7rem 0; } caption { text-align:left; color:var(--soft); padding-bottom:.4rem; }
th,td { padding:.34rem .75rem; text-align:left; vertical-align:top; }
thead th { border-bottom:2px solid var(--line); font-weight:600; }
tbody tr { border-bottom:1px solid var(--line); } tbody tr:last-child { border-bottom:0; }
td.number,th.number { text-align:right; } td.number { white-space:nowrap; }
td .soft { display:block; }
tr.group th { background:var(--tint); font-weight:600; color:var(--soft); font-size:.84rem;
  text-transform:uppercase; letter-spacing:.04em; padding-top:.45rem; }
tr.strong td { font-weight:600; } td .soft,td.value .soft { font-weight:400; font-size:.86em; }
figure { margin:1.1rem 0; } figure img { max-width:100%; height:auto; background:#fff;
  border:1px solid var(--line); border-radius:8px; padding:8px; }
figcaption { color:var(--soft); font-size:.9rem; margin-top:.35rem; max-width:82ch; }
details { margin:.8rem 0; } summary { cursor:pointer; color:var(--accent); }
code { font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; overflow-wrap:anywhere; }
.grid { display:grid; gap:.8rem .6rem; align-items:start; margin:.6rem 0 1.2rem; }
.tile { font-size:.78rem; line-height:1.25; color:var(--soft); text-align:center; min-width:0; }
.tile .frame { border:3px solid transparent; border-radius:7px; padding:2px;
  background:var(--tint); }
.tile .frame img,.tile .frame .word { display:block; width:100%; aspect-ratio:1;
  object-fit:contain;  border-radius:3px; background:#fff; }
.tile .frame .word { display:flex; align-items:center; justify-content:center; color:#1a1d21;
  font-size:.85rem; overflow-wrap:anywhere; padding:.2rem; }
.tile.true .frame { border-color:var(--true); } .tile b { color:var(--ink); display:block;
  overflow-wrap:anywhere; font-weight:600; } .tile.true b { color:var(--true); }
.tile.seen { border-right:2px solid var(--line); padding-right:.6rem; }
footer { margin-top:3rem; border-top:1px solid var(--line); padding-top:.8rem; color:var(--soft);
  font-size:.86rem; }
@media print { body { font-size:11pt; } main { max-width:none; padding:0; } nav { display:none; }
  h2 { break-after:avoid; } figure,tr,.tile { break-inside:avoid; } details > * { display:block; } }
"""


def figure_html(
    figure: Figure, caption: str = "", alt: str = "", *, kind: Literal["svg", "png"] = "svg"
) -> str:
    """A figure as an image inside the page.

    Parameters
    ----------
    figure : matplotlib Figure
        What is drawn.
    caption, alt : str
        Text below the figure and text in its place.
    kind : {"svg", "png"}
        Lines, or pixels for figures with pictures in them.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    # A fixed salt and no date make equal figures equal files.
    with mpl.rc_context({"svg.hashsalt": "phosphene", "svg.fonttype": "path"}):
        if kind == "svg":
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        else:
            figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    uri = _uri(buffer.getvalue(), "image/svg+xml" if kind == "svg" else "image/png")
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{uri}" alt="{escape(alt or caption, quote=True)}">{text}</figure>'


def picture_uri(picture: npt.NDArray[np.uint8], size: int = 128) -> str:
    """A picture (height, width, 3) as a JPEG data URI, no side longer than ``size`` pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(small_picture(picture, size)).save(buffer, format="JPEG", quality=85)
    return _uri(buffer.getvalue(), "image/jpeg")


def small_picture(picture: npt.NDArray[np.uint8], size: int = 128) -> npt.NDArray[np.uint8]:
    """A picture (height, width, 3) shrunk so that no side is longer than ``size`` pixels."""
    from PIL import Image

    image = Image.fromarray(np.asarray(picture, dtype=np.uint8)).convert("RGB")
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def table_html(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    numbers: Sequence[str] = (),
    caption: str = "",
    strong: Sequence[int] = (),
) -> str:
    """A table; a cell that is a pair becomes a value with a smaller line below.

    Parameters
    ----------
    rows : sequence of mappings
        Cells by column key: text, or (text, smaller text).
    columns : mapping
        Column key to heading, in order.
    numbers : sequence of str
        Columns to align at the right.
    caption : str
        Text above the table.
    strong : sequence of int
        Rows in bold.
    """
    head = "".join(
        f"<th{_class(key, numbers)}>{escape(label)}</th>" for key, label in columns.items()
    )
    body = []
    for i, row in enumerate(rows):
        cells = "".join(
            f"<td{_class(key, numbers)}>{_cell(row.get(key, ''))}</td>" for key in columns
        )
        mark = ' class="strong"' if i in strong else ""
        body.append(f"<tr{mark}>{cells}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def marks_html(marks: Sequence[str], title: str = "Read these numbers with care") -> str:
    """A prominent box with what a reader must know first; empty for no marks."""
    if not marks:
        return ""
    items = "".join(f"<li>{escape(mark)}</li>" for mark in marks)
    return f'<div class="marks" role="note"><b>{escape(title)}</b><ul>{items}</ul></div>'


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        main, below = value
        return f'{escape(str(main))}<span class="soft">{escape(str(below))}</span>'
    return escape(str(value))


def _class(key: str, numbers: Sequence[str]) -> str:
    return ' class="number"' if key in numbers else ""


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
