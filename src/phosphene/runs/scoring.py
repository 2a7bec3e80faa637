"""Score the test data of a run; every opening of them is counted in the run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phosphene._logging import get_logger
from phosphene.runs.fitting import check_unchanged
from phosphene.runs.run import Run
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    from phosphene.evaluation.result import Result

logger = get_logger(__name__)


def evaluate(
    run: Run | str | Path, *, sources: Sources | None = None, progress: bool = True
) -> Result:
    """Score every fold of a run on its held-out trials and write the result into the run folder.

    Parameters
    ----------
    run : Run or path
        What ``fit`` wrote; a path is opened and its checksums verified.
    sources : Sources, optional
        Data and features of the run's recipe, when they are loaded already.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Result
        Its table has a column ``fold`` where the run has several. ``protocol.test_openings``
        counts how often the test data of this run were opened, interrupted attempts included.

    Raises
    ------
    ArtefactError
        If a file of the run is missing, truncated or changed.
    DataError
        If the data are not those that the run was trained with.
    """
    run = (run if isinstance(run, Run) else Run.open(run)).retrieving()
    recipe = run.recipe
    with run.changing():
        sources = sources or load_sources(recipe, progress=progress)
        check_unchanged(run, sources)
        # Counted before the first look: an interrupted evaluation was a look too.
        run.update(opened=int(run.state["opened"]) + 1)
        results = []
        for (name, label), fold in zip(run.folds.items(), sources.folds, strict=True):
            result = run.decoder(name).evaluate(
                fold.test,
                sources.bank,
                repetitions=recipe.evaluation.repetitions,
                zero_shot=recipe.evaluation.zero_shot,
                transductive=recipe.evaluation.transductive,
                name=recipe.method.name,
            )
            if fold.ceiling:
                result = dataclasses.replace(result, ceiling=dict(fold.ceiling))
            logger.info("%s: top-1 %.4f of %d queries", label, result.top1, len(result.table))
            results.append(result)
        result = _together(results, list(run.folds.values()))
        facts = dict(sources.facts)
        if rule := facts.pop("split_rule", None):
            facts["split_rule"] = "; ".join(filter(None, [result.protocol.split_rule, rule]))
        if recipe.evaluation.shuffle_labels is not None:
            facts["notes"] = (
                *result.protocol.notes,
                f"control: training labels shuffled with seed {recipe.evaluation.shuffle_labels}",
            )
        result = dataclasses.replace(
            result,
            protocol=result.protocol.replace(test_openings=run.state["opened"], **facts),
            config=recipe.to_dict(),
        )
        result.save(run.folder, manifest=False)
        run.update(evaluated=True)
    return result


def _together(results: Sequence[Result], labels: Sequence[str]) -> Result:
    """Merge the results of folds, with a column that says which query came from which."""
    from phosphene.evaluation.result import Result

    if len(results) == 1:
        return results[0]
    parts = []
    n_queries = 0
    for result, label in zip(results, labels, strict=True):
        # Folds may hold the same stimulus of the same subject; the number tells them apart.
        table = result.table.assign(query=result.table["query"] + n_queries)
        table.insert(0, "fold", label)
        n_queries += len(table)
        tables = {key: more.assign(fold=label) for key, more in result.tables.items()}
        parts.append(dataclasses.replace(result, table=table, tables=tables))
    return Result.merge(parts)


def summary_rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read: one row per subject, and their mean.

    Scores that are not inductive say so in a column of their own.
    """
    from phosphene.evaluation.result import show

    columns = ["subject", "queries", "gallery", "top-1", "95 % interval", "top-5", "median rank"]
    columns += ["two-way", "chance", "ceiling"]
    scoring = result.protocol.scoring
    marked = [] if scoring == "inductive" else [scoring]
    columns += ["scoring"] * len(marked)
    parts = result.split("subject") if len(result.subjects) > 1 else []
    rows = []
    for name, part in [*zip(result.subjects, parts, strict=False), ("", result)]:
        facts = part.summary()
        rows.append(
            [
                name or ("mean" if parts else facts["subject"]),
                str(facts["n_queries"]),
                str(facts["n_gallery"]),
                show("top1", facts["top1"]),
                f"{show('top1', facts['top1_low'])} to {show('top1', facts['top1_high'])}",
                show("top5", facts["top5"]),
                show("median_rank", facts["median_rank"]),
                show("two_way", facts["two_way"]),
                show("top1", facts["chance"]),
                show("top1", facts["ceiling"]),
                *marked,
            ]
        )
    return columns, rows
