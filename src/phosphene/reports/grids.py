"""Grids of pictures: what was seen and what was retrieved, for good, middling and bad queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from phosphene.data._ids import concept_text
from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.evaluation.retrieval import score
from phosphene.evaluation.similarity import Similarity
from phosphene.reports._markup import picture_uri, small_picture

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet

GROUPS = ("best", "median", "worst")
Group = Literal["best", "median", "worst"]


@dataclass(frozen=True)
class Candidate:
    """A gallery item as it was ranked for a query."""

    item: str
    label: str
    score: float
    true: bool


@dataclass(frozen=True)
class GridRow:
    """A query with what was retrieved for it."""

    group: Group
    subject: str
    stimulus: str
    label: str
    rank: float
    n_gallery: int
    retrieved: tuple[Candidate, ...]


def grid_rows(source: Result | Similarity, n: int = 3, *, k: int = 5) -> list[GridRow]:
    """The best, the median and the worst queries, ``n`` of each.

    Queries are ordered by the rank of the true candidate, and within a rank by its lead over the
    best wrong one. No picture is shown twice while there are others.

    Parameters
    ----------
    source : Result or Similarity
        A result that kept its scores, or the scores.
    n : int
        Queries per group; fewer if there are not enough.
    k : int
        Retrieved items per query.

    Returns
    -------
    list of GridRow
        In the order best, median, worst.
    """
    similarity = source.scores if isinstance(source, Result) else source
    if similarity is None:
        raise DataError(
            "this result did not keep its scores, so nothing retrieved can be shown",
            fix="evaluate again, or merge only results that share a gallery",
        )
    table = score(similarity)
    columns = similarity.true_columns
    wrong = similarity.matrix.copy()
    wrong[np.arange(len(wrong)), columns] = -np.inf
    lead = table["true_score"].to_numpy() - wrong.max(axis=1)
    order = np.lexsort((np.arange(len(table)), -lead, table["rank"].to_numpy()))
    chosen = _choose(order, table["stimulus"].to_numpy(), n)
    labels = similarity.gallery_concepts or similarity.gallery_ids
    place = {name: i for i, name in enumerate(similarity.gallery_ids)}
    rows = []
    for group, query in chosen:
        item = similarity.gallery_ids[columns[query]]
        top = similarity.select([query]).top(k)
        retrieved = tuple(
            Candidate(name, concept_text(labels[place[name]]), value, name == item)
            for name, value in zip(top["item"].tolist(), top["score"].tolist(), strict=True)
        )
        facts = table.iloc[query]
        rows.append(
            GridRow(
                group,
                str(facts["subject"]),
                str(facts["stimulus"]),
                concept_text(labels[columns[query]]),
                float(facts["rank"]),
                similarity.n_gallery,
                retrieved,
            )
        )
    return rows


def retrieval_grid(
    source: Result | Similarity, stimuli: StimulusSet, n: int = 3, *, k: int = 5
) -> Figure:
    """Figure of the seen picture and the first ``k`` retrieved, the true one framed in green.

    Parameters
    ----------
    source : Result or Similarity
        A result that kept its scores, or the scores.
    stimuli : StimulusSet
        Pictures of the gallery; what is not in it is shown by name.
    n : int
        Queries in each of the groups best, median and worst.
    k : int
        Retrieved pictures per query.

    Returns
    -------
    Figure
    """
    rows = grid_rows(source, n, k=k)
    known = set(stimuli.ids)
    figure = Figure(figsize=(1.35 * (k + 1) + 0.6, 1.6 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), k + 1, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        pictures = [(row.stimulus, row.label, None), *((c.item, c.label, c) for c in row.retrieved)]
        for ax in line:
            ax.set_axis_off()
        for ax, (item, label, candidate) in zip(line, pictures, strict=False):
            ax.set_axis_on()
            ax.set_xticks([])
            ax.set_yticks([])
            if item in known:
                ax.imshow(small_picture(stimuli.image(item)))
            else:
                ax.text(0.5, 0.5, label, ha="center", va="center", wrap=True, fontsize="small")
            frame = candidate is not None and candidate.true
            for spine in ax.spines.values():
                spine.set(color="#009E73" if frame else "#c7ccd3", linewidth=3 if frame else 0.8)
            if candidate is None:
                ax.set_title(f"seen: {label}", fontsize="small", fontweight="bold")
                who = f", subject {row.subject}" if row.subject else ""
                ax.set_ylabel(f"{row.group}\nrank {row.rank:g}{who}", fontsize="x-small")
            else:
                ax.set_title(f"{label} {candidate.score:.2f}", fontsize="small",
                             color="#00684c" if frame else "black")  # fmt: skip
    return figure


def grid_html(rows: Sequence[GridRow], stimuli: StimulusSet | None, *, size: int = 128) -> str:
    """The same grid as HTML; without pictures the names stand in their place."""
    if not rows:
        return ""
    known = set() if stimuli is None else set(stimuli.ids)
    cache: dict[str, str] = {}

    def tile(item: str, label: str, below: str, kind: str) -> str:
        if item not in known or stimuli is None:
            inside = f'<div class="word">{escape(label)}</div>'
        else:
            if item not in cache:
                cache[item] = picture_uri(stimuli.image(item), size)
            inside = f'<img src="{cache[item]}" alt="{escape(label, quote=True)}">'
        return (
            f'<div class="tile {kind}"><div class="frame">{inside}</div>'
            f"<b>{escape(label)}</b>{escape(below)}</div>"
        )

    width = max(len(row.retrieved) for row in rows)
    style = f"grid-template-columns: 1.12fr repeat({width}, 1fr)"
    parts = []
    for group in GROUPS:
        tiles = []
        for row in (row for row in rows if row.group == group):
            who = f"subject {row.subject}, " if row.subject else ""
            tiles.append(
                tile(
                    row.stimulus,
                    row.label,
                    f"seen; {who}rank {row.rank:g} of {row.n_gallery}",
                    "seen",
                )
            )
            for candidate in row.retrieved:
                kind = "true" if candidate.true else ""
                tiles.append(tile(candidate.item, candidate.label, f"{candidate.score:.3f}", kind))
            tiles += ["<div></div>"] * (width - len(row.retrieved))
        if tiles:
            parts.append(f'<h3>{group.capitalize()} queries</h3><div class="grid" style="{style}">'
                         f"{''.join(tiles)}</div>")  # fmt: skip
    return "".join(parts)


def _choose(
    order: npt.NDArray[np.intp], stimuli: npt.NDArray[np.object_], n: int
) -> list[tuple[Group, int]]:
    """Queries of each group: from either end and around the middle, each query once."""
    middle = len(order) // 2
    around = sorted(range(len(order)), key=lambda i: (abs(i - middle), i))
    ways: dict[Group, list[int]] = {
        "best": order.tolist(),
        "worst": order[::-1].tolist(),
        "median": [int(order[i]) for i in around],
    }
    taken: set[int] = set()
    shown: set[str] = set()
    chosen: dict[Group, list[int]] = {"best": [], "median": [], "worst": []}
    quota = max(1, min(n, len(order) // 3))
    for group, queries in ways.items():
        free = [query for query in queries if query not in taken]
        new = [query for query in free if stimuli[query] not in shown]
        for query in new + [query for query in free if stimuli[query] in shown]:
            if len(chosen[group]) == quota:
                break
            if query in taken or (stimuli[query] in shown and query in new):
                continue
            chosen[group].append(query)
            taken.add(query)
            shown.add(str(stimuli[query]))
    place = {int(query): i for i, query in enumerate(order)}
    return [(g, q) for g in chosen for q in sorted(chosen[g], key=place.__getitem__)]
