from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import Similarity
from phosphene.reports.grids import grid_html, grid_rows, retrieval_grid


def ranked(ranks: list[int], n: int = 10) -> Similarity:
    """Query i has the true item at a given rank; a larger lead among equals for smaller i."""
    ids = [f"s{i}" for i in range(n)]
    matrix = np.tile(np.arange(n, dtype=float), (len(ranks), 1))
    for i, rank in enumerate(ranks):
        matrix[i] = np.roll(matrix[i], i)
        above = np.sort(np.delete(matrix[i], i))[::-1]
        matrix[i, i] = above[rank - 1] + 0.5 if rank <= n - 1 else -1
        if rank == 1:
            matrix[i, i] = n + 10 - i
    return Similarity(matrix, pd.DataFrame({"subject": "01", "stimulus": ids[: len(ranks)]}), ids)


def test_best_median_and_worst_are_what_they_say() -> None:
    rows = grid_rows(ranked([1, 5, 2, 10, 1, 3, 7, 9, 4]), 2, k=3)
    assert [row.group for row in rows] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    assert [row.stimulus for row in rows[:2]] == ["s0", "s4"]
    assert [row.rank for row in rows] == [1, 1, 3, 4, 9, 10]
    assert all(len(row.retrieved) == 3 for row in rows)


def test_the_true_item_is_marked_where_it_was_retrieved() -> None:
    rows = grid_rows(ranked([1, 2, 9]), 1, k=3)
    marks = [[candidate.true for candidate in row.retrieved] for row in rows]
    assert marks == [[True, False, False], [False, True, False], [False, False, False]]
    scores = [candidate.score for candidate in rows[0].retrieved]
    assert scores == sorted(scores, reverse=True)


def test_no_query_is_shown_twice() -> None:
    rows = grid_rows(ranked([1, 2, 3, 4]), 3)
    assert len(rows) == len({row.stimulus for row in rows}) == 3
    assert len(grid_rows(ranked([1]), 3)) == 1


def test_no_picture_is_shown_twice_while_there_are_others() -> None:
    scores = ranked([1] * 9)
    twice = Similarity(
        np.concatenate([scores.matrix, scores.matrix]),
        pd.concat([scores.queries, scores.queries.assign(subject="02")]),
        scores.gallery_ids,
    )
    rows = grid_rows(twice, 3)
    assert len({row.stimulus for row in rows}) == 9


def test_a_result_without_scores_cannot_be_shown(results: list[Result]) -> None:
    bare = Result(results[0].table, results[0].protocol, "ridge")
    with pytest.raises(DataError, match="did not keep its scores"):
        grid_rows(bare)


def test_figure_has_a_picture_for_every_place(results: list[Result], pictures: StimulusSet) -> None:
    figure = retrieval_grid(results[0], pictures, n=1, k=4)
    assert len(figure.axes) == 3 * 5
    assert all(len(axes.get_images()) == 1 for axes in figure.axes)
    framed = [ax for ax in figure.axes if ax.spines["left"].get_linewidth() > 2]
    expected = sum(c.true for row in grid_rows(results[0], 1, k=4) for c in row.retrieved)
    assert len(framed) == expected >= 1
    figure.draw_without_rendering()


def test_html_shows_pictures_or_names(results: list[Result], pictures: StimulusSet) -> None:
    rows = grid_rows(results[0], 1, k=3)
    with_pictures = grid_html(rows, pictures)
    assert with_pictures.count("<img") == 3 * 4
    assert with_pictures.count("tile true") == sum(c.true for r in rows for c in r.retrieved)
    names = grid_html(rows, None)
    assert "<img" not in names
    assert names.count("tile") >= 12
    assert grid_html([], None) == ""


def test_names_are_escaped() -> None:
    ids = ["<b>", "x", "y"]
    scores = Similarity(np.eye(3), pd.DataFrame({"stimulus": ids, "subject": "<i>"}), ids)
    text = grid_html(grid_rows(scores, 1), None)
    assert "<b><b>" not in text
    assert "<i>" not in text
