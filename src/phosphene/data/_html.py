"""How recordings and stimulus sets look in a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phosphene.data._base import RecordingBase
    from phosphene.data.stimuli import StimulusSet


def count(n: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun.

    Examples
    --------
    >>> count(1, "trial"), count(3, "stimulus", "stimuli")
    ('1 trial', '3 stimuli')
    """
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def one_line(recording: RecordingBase) -> str:
    """Size and content of a recording in one line."""
    shape = recording.shape
    parts = [f"{shape[0]} trials", f"{shape[1]} {recording.sensors.unit_name}"]
    if len(shape) == 3:
        parts.append(f"{shape[2]} times")
    return ", ".join(
        [
            " x ".join(parts),
            recording.modality,
            count(len(recording.stimuli), "stimulus", "stimuli"),
            count(len(recording.subjects), "subject"),
        ]
    )


def table_html(title: str, rows: Sequence[tuple[str, Any]]) -> str:
    """A small two-column table."""
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for label, value in rows
    )
    return f"<table><caption><b>{escape(title)}</b></caption><tbody>{body}</tbody></table>"


def recording_html(recording: RecordingBase) -> str:
    """HTML of `Recording`."""
    trials = recording.trials
    rows: list[tuple[str, Any]] = [
        ("signals", " x ".join(map(str, recording.shape)) + f", {recording.dtype}"),
        (
            "modality",
            f"{recording.modality}, {len(recording.sensors)} {recording.sensors.unit_name}",
        ),
    ]
    if recording.times is not None:
        first, last = recording.times[0], recording.times[-1]
        rows.append(("times", f"{first:.3f} to {last:.3f} s at {recording.sfreq or 0:g} Hz"))
    if recording.sensors.rois:
        rows.append(("regions", ", ".join(recording.sensors.rois)))
    rows += [
        ("subjects", _some(recording.subjects)),
        ("sessions", trials[["subject", "session"]].drop_duplicates().shape[0]),
        ("stimuli", f"{len(recording.stimuli)} of {len(recording.concepts)} concepts"),
    ]
    if len(trials):
        per = trials.groupby(["subject", "stimulus"]).size()
        low, high = int(per.min()), int(per.max())
        rows.append(("trials per stimulus", str(low) if low == high else f"{low} to {high}"))
        if "n_averaged" in trials:
            mean = float(trials["n_averaged"].mean())
            rows.append(("trials averaged", f"{mean:.3g} on average"))
        splits = trials["split"].value_counts()
        named = [f"{name or 'none'}: {n}" for name, n in splits.items()]
        rows.append(("split", ", ".join(named)))
    rows.append(("history", ", ".join(str(step.get("op")) for step in recording.history) or "raw"))
    return table_html(f"Recording {recording.name}", rows)


def stimuli_html(stimuli: StimulusSet, n: int = 12, size: int = 80) -> str:
    """HTML of `StimulusSet`, with thumbnails of the first images."""
    figures = []
    for name in stimuli.ids[:n]:
        caption = escape(str(stimuli.table.loc[name, "concept"]) or name)
        figures.append(
            "<figure style='display:inline-block;margin:2px;text-align:center'>"
            f"<img alt='{caption}' src='{thumbnail(stimuli.image(name), size)}'>"
            f"<figcaption style='font-size:small'>{caption}</figcaption></figure>"
        )
    head = f"<b>StimulusSet</b>: {count(len(stimuli), 'image')}"
    return f"<div>{head} of {count(stimuli.concepts.nunique(), 'concept')}</div>" + "".join(figures)


def thumbnail(image: Any, size: int) -> str:
    """A small JPEG of an RGB image as a data URI."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _some(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
