"""Analyse an evaluated run: when, where, how much data, which categories, which geometry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene.errors import DataError, listing
from phosphene.runs._analyses import ANALYSES, Subject
from phosphene.runs.fitting import check_unchanged, make_decoder
from phosphene.runs.run import Run
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    from phosphene.reports.analysis_sections import AnalysisPart

logger = get_logger(__name__)
TITLES = {
    "time": "When what is seen can be decoded",
    "space": "Where the information is",
    "curves": "Accuracy against the amount of data",
    "categories": "Accuracy by category",
    "rsa": "Representational similarity",
}


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found and written.

    Attributes
    ----------
    what : str
        Which analysis.
    parts : list of AnalysisPart
        Tables, figures and notes.
    files : list of Path
        Everything that was written.
    """

    what: str
    parts: list[AnalysisPart]
    files: list[Path] = field(default_factory=list)


def analyse(
    run: Run | str | Path,
    what: str,
    out: str | Path,
    *,
    sources: Sources | None = None,
    decoder: str = "ridge",
    metric: str = "top1",
    window: float = 0.05,
    step: float | None = None,
    mode: str = "drop",
    how: str = "refit",
    categories: str | Path | None = None,
    rdm: str = "correlation",
    compare: str = "spearman",
    progress: bool = True,
) -> Analysis:
    """Analyse an evaluated run; writes a table (CSV) and a figure (PNG) per part, and one HTML.

    Parameters
    ----------
    run : Run or path
        What ``fit`` and ``evaluate`` wrote. It is not changed.
    what : {"time", "space", "curves", "categories", "rsa"}
        Which analysis.
    out : path
        Folder for the files; files of the same names in it are replaced.
    sources : Sources, optional
        Data and features of the run's recipe, when they are loaded already.
    decoder : {"ridge", "method"}
        What is fitted anew in windows, without channels and on fewer concepts: ridge regression
        (that of the run where its method is ridge), or the run's own method, as often as it takes.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query.
    window, step : float
        Windows of ``time``, seconds; by default they touch.
    mode : {"drop", "keep"}
        For ``space``: leave a part out, or leave it alone.
    how : {"refit", "test"}
        For ``space``: fit ``decoder`` anew, or let the run's own decoders miss the part at test.
    categories : path, optional
        For ``categories``: CSV with columns ``concept`` and ``category``.
    rdm : {"correlation", "cosine", "euclidean", "crossnobis"}
        For ``rsa``: distances of brain responses (models and decoded vectors: correlation where
        this is crossnobis).
    compare : {"spearman", "kendall", "pearson"}
        For ``rsa``: how two RDMs are compared.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Analysis

    Raises
    ------
    DataError
        If the run is not evaluated, its data are not those of the training, or cannot give what is
        asked for: no time axis, no regions, one trial per stimulus.
    ArtefactError
        If a file of the run is missing, truncated or changed.
    StorageError
        If the files cannot be written.

    Notes
    -----
    Every analysis looks at the test data of a decoder that is fixed. It is refused before the
    evaluation, so that nothing is chosen by it; like an audit it is not counted as an opening.
    """
    from phosphene.analysis._problem import check_metric
    from phosphene.evaluation.result import Result

    run = (run if isinstance(run, Run) else Run.open(run)).retrieving()
    if what not in ANALYSES:
        raise DataError(f"there is no analysis {what!r}", expected="one of " + ", ".join(ANALYSES))
    if decoder not in ("ridge", "method"):
        raise DataError(f"there is no decoder {decoder!r} here", expected="ridge or method")
    check_metric(metric)
    if not run.state["evaluated"]:
        raise DataError(
            f"{run.folder} is not evaluated yet: this would be a first look at its test data",
            fix=f"phosphene evaluate {run.folder}",
        )
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file", expected="a folder")
    sources = sources or load_sources(run.recipe, progress=progress)
    check_unchanged(run, sources)
    result = Result.load(run.folder)
    subject = Subject(
        run=run,
        sources=sources,
        result=result,
        tests=[fold.test.open("analysis") for fold in sources.folds],
        make=_maker(run, decoder),
        decoder_name=run.recipe.method.name if decoder == "method" else "ridge",
        metric=metric,
        window=window,
        step=step,
        mode=mode,
        how=how,
        categories=_categories(categories),
        rdm=rdm,
        compare=compare,
    )
    logger.info("analysing %s of %s", what, run.folder)
    parts = ANALYSES[what](subject)
    return Analysis(what, parts, _write(target, what, parts, result))


def _maker(run: Run, decoder: str) -> Callable[[], Any]:
    """Makes unfitted decoders."""
    recipe = run.recipe
    if decoder == "method" or recipe.method.name == "ridge":
        return lambda: make_decoder(recipe)
    from phosphene.methods.ridge import Ridge

    known = {k: recipe.method.params[k] for k in ("layer", "average_repetitions")
             if k in recipe.method.params}  # fmt: skip
    return lambda: Ridge(**known)


def _categories(path: str | Path | None) -> Mapping[str, str] | None:
    if path is None:
        return None
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table", found=error) from error
    if missing := [name for name in ("concept", "category") if name not in table]:
        raise DataError(
            f"{path} lacks the column {listing(missing)}",
            found="columns " + listing(table.columns),
            expected="columns concept and category",
        )
    return dict(zip(table["concept"], table["category"], strict=True))


def _write(folder: Path, what: str, parts: list[AnalysisPart], result: Any) -> list[Path]:
    from phosphene._saving import atomic_path
    from phosphene.reports.analysis_sections import write_analysis_report

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for part in parts:
        if len(part.table):
            with atomic_path(folder / f"{part.name}.csv") as partial:
                part.table.to_csv(partial, index=False)
            files.append(folder / f"{part.name}.csv")
        if part.figure is not None:
            with atomic_path(folder / f"{part.name}.png") as partial:
                part.figure.savefig(partial, format="png", dpi=150, bbox_inches="tight")
            files.append(folder / f"{part.name}.png")
    page = write_analysis_report(result, parts, folder / f"{what}.html", title=TITLES[what])
    return [*files, page]
