"""Compare finished runs: those of one method become one result, then results stand side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._saving import sha256_json
from phosphene.errors import ArtefactError, DataError, NotFittedError, listing
from phosphene.runs.run import STATE, Run

if TYPE_CHECKING:
    from phosphene.evaluation.comparison import Comparison, Test
    from phosphene.evaluation.result import Result

_RESULT = "result.json"


def compare(
    runs: Iterable[str | Path],
    *,
    metrics: Sequence[str] = ("top1", "top5"),
    baseline: str | None = None,
    test: Test = "sign-flip",
) -> Comparison:
    """Put evaluated runs side by side; see `phosphene.evaluation.comparison.compare`.

    Parameters
    ----------
    runs : iterable of path
        Run folders that were evaluated, or folders that ``Result.save`` wrote.
    metrics, baseline, test
        As there; a label is a method's name, followed by the folder's where several differ in
        their parameters.

    Returns
    -------
    Comparison

    Raises
    ------
    ArtefactError
        If a folder is no run, or a file in it is missing or changed.
    NotFittedError
        If a run was not evaluated.
    DataError
        If the protocols do not allow a comparison.
    """
    from phosphene.evaluation.comparison import compare as compare_results

    labelled = collect(runs)
    _require_same_people(labelled)
    return compare_results(labelled, metrics=metrics, baseline=baseline, test=test)


def collect(runs: Iterable[str | Path]) -> dict[str, Result]:
    """Results of run folders by label, the subjects and seeds of one method merged.

    Runs belong together when their recipes differ in their name, the seed of the training and the
    subjects only.

    Parameters
    ----------
    runs : iterable of path
        As for :func:`compare`.

    Returns
    -------
    dict of str to Result
        In the order of the folders.
    """
    from phosphene.evaluation.result import Result

    folders = [Path(folder) for folder in runs]
    if not folders:
        raise DataError("there is no run to compare", fix="name the folders of some runs")
    if twice := sorted({str(f) for f in folders if folders.count(f) > 1}):
        raise DataError(f"runs are named twice: {listing(twice)}")
    groups: dict[str, list[tuple[Path, Result]]] = {}
    for folder in folders:
        result, key = _load(folder)
        groups.setdefault(key, []).append((folder, result))
    # Parts whose protocols differ stay apart, so that the comparison says how.
    parts = [part for members in groups.values() for part in _mergeable(members)]
    names = [part[0][1].name for part in parts]
    labelled: dict[str, Result] = {}
    for members, name in zip(parts, names, strict=True):
        label = name if names.count(name) == 1 else f"{name} ({_short(members[0][0], folders)})"
        results = [result for _, result in members]
        merged = results[0] if len(results) == 1 else Result.merge(results)
        if files := sorted({name for result in results for name in _unnamed_files(result)}):
            merged = replace(merged, protocol=merged.protocol.replace(dataset=", ".join(files)))
        labelled[label] = merged
    return labelled


def _load(folder: Path) -> tuple[Result, str]:
    """The result of a folder, and what all runs of the same method have in common."""
    from phosphene.evaluation.result import Result

    if (folder / STATE).is_file():
        run = Run.open(folder).retrieving()
        if not run.state.get("evaluated"):
            raise NotFittedError(
                f"the run in {folder} was not evaluated", fix=f"phosphene evaluate {folder}"
            )
        result = Result.load(folder, verify=False)  # verified as a run just now
    elif (folder / _RESULT).is_file():
        result = Result.load(folder)
    else:
        raise ArtefactError(
            f"{folder} is neither a run nor a result",
            found="no such folder" if not folder.exists() else f"no {STATE} or {_RESULT} in it",
            expected="a folder that `phosphene fit` and `phosphene evaluate` wrote",
        )
    if result.protocol.dataset is not None and result.protocol.dataset == result.config.get("name"):
        # A recording without a reader is named after the recipe, which says nothing of the data.
        result = replace(result, protocol=result.protocol.replace(dataset=None))
    return result, sha256_json([result.name, _common(result.config)])


def _unnamed_files(result: Result) -> list[str]:
    """Files of the recordings of a run whose protocol names no dataset."""
    data = result.config.get("data")
    if result.protocol.dataset is not None or not isinstance(data, Mapping):
        return []
    files = data.get("path", data.get("bold")) or []
    return [str(name) for name in (files if isinstance(files, list) else [files])]


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its name, subjects and seed of training."""
    kept = {key: value for key, value in config.items() if key != "name"}
    for section in ("data", "evaluation"):
        if isinstance(kept.get(section), Mapping):
            kept[section] = {k: v for k, v in kept[section].items() if k != "subjects"}
    # The recipe's seed also draws simulated people and held-out concepts, unless these have a seed
    # of their own: subject 01 of another seed is somebody else.
    if not _draws_from_seed(config):
        kept.pop("seed", None)
    return kept


def _draws_from_seed(config: Mapping[str, Any]) -> bool:
    """Whether people or the test set are drawn from the seed of the recipe itself."""
    drawn = (("data", "simulated"), ("split", "concept"))
    sections = [(config.get(name), kind) for name, kind in drawn]
    return any(
        isinstance(section, Mapping) and section.get("kind") == kind and section.get("seed") is None
        for section, kind in sections
    )


def _require_same_people(labelled: Mapping[str, Result]) -> None:
    """Raise where simulated people of the same name were drawn from different seeds."""
    seeds: dict[str, Any] = {}
    for label, result in labelled.items():
        data = result.config.get("data")
        if isinstance(data, Mapping) and data.get("kind") == "simulated":
            own = data.get("seed")
            seeds[label] = result.config.get("seed") if own is None else own
    if len(set(seeds.values())) > 1:
        raise DataError(
            "these runs simulate different people under the same names",
            found="seed of the data: " + "; ".join(f"{k} {v}" for k, v in seeds.items()),
            fix="give all recipes the same data.seed and vary the seed of the training only",
        )


def _mergeable(members: Sequence[tuple[Path, Result]]) -> list[list[tuple[Path, Result]]]:
    """The members as one part, or one part each where their protocols differ."""
    first = members[0][1].protocol
    alike = all(not first.differences(result.protocol) for _, result in members)
    return [list(members)] if alike else [[member] for member in members]


def _short(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name, or its path where others are called the same."""
    same = sum(other.resolve().name == folder.resolve().name for other in folders)
    return folder.resolve().name if same == 1 else str(folder)
