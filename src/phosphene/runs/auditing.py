"""Audit a run folder, or any callable, for leaks."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene.errors import DataError, NotFittedError, listing
from phosphene.runs.fitting import check_unchanged
from phosphene.runs.run import STATE, Run
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    from phosphene.evaluation.audit import Audit, Verdict
    from phosphene.evaluation.protocol import Protocol

logger = get_logger(__name__)

# Arrays of the archive that a function of two arrays is audited with.
ARRAYS = ("queries", "gallery", "answers")


def audit_run(
    run: Run | str | Path, *, sources: Sources | None = None, progress: bool = True
) -> Audit:
    """Audit every fold of a run: its data, its decoder and the protocol of its result.

    Parameters
    ----------
    run : Run or path
        What ``fit`` wrote; evaluated or not.
    sources : Sources, optional
        Data and features of the run's recipe, when they are loaded already.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Audit
        One verdict per check: over several folds, the most serious one.

    Raises
    ------
    ArtefactError
        If a file of the run is missing, truncated or changed.
    DataError
        If the data are not those that the run was trained with.

    Notes
    -----
    Nothing is written. Before the run is evaluated, checks that show an accuracy on the test data
    are left out, so that an audit is no look at them.
    """
    from phosphene.evaluation.audit import Audit, audit, merge

    run = (run if isinstance(run, Run) else Run.open(run)).retrieving()
    recipe = run.recipe
    evaluated = bool(run.state["evaluated"])
    protocol = _protocol(run)
    sources = sources or load_sources(recipe, progress=progress)
    check_unchanged(run, sources)
    found: dict[str, list[Verdict]] = {}
    for (name, label), fold in zip(run.folds.items(), sources.folds, strict=True):
        logger.info("auditing %s", label)
        parts = audit(
            run.decoder(name),
            fold.test.open("audit"),
            sources.bank,
            train=fold.train,
            protocol=protocol,
            zero_shot=recipe.evaluation.zero_shot,
            accuracy=evaluated,
            seed=recipe.seed,
        )
        found[label] = list(parts)
    verdicts = [v for v in merge(found) if v.check not in _OF_THE_RUN]
    # What the protocol says holds for the whole run, whichever fold it was read for.
    whole = [v for v in next(iter(found.values())) if v.check in _OF_THE_RUN]
    return Audit(
        [*verdicts, *whole, _scores(run, sources, protocol if evaluated else None)], str(run.folder)
    )


_OF_THE_RUN = ("selection", "transductive steps", "test labels in the score", "test openings")


def _protocol(run: Run) -> Protocol:
    from phosphene._saving import read_json
    from phosphene.evaluation.protocol import Protocol

    protocol = Protocol()
    if run.state["evaluated"]:
        protocol = Protocol.from_dict(read_json(run.folder / "protocol.json"))
    return protocol.replace(test_openings=int(run.state["opened"]))


def _scores(run: Run, sources: Sources, protocol: Protocol | None) -> Verdict:
    """Whether the scores on file are what the decoders give without any step on top."""
    import numpy as np

    from phosphene.evaluation.audit import Verdict
    from phosphene.evaluation.result import Result

    check = "scores on file"
    stored = Result.load(run.folder).scores if protocol is not None else None
    if protocol is None or stored is None:
        why = (
            "the run is not evaluated" if protocol is None else "folds with galleries of their own"
        )
        return Verdict(check, "not checkable", why, "provenance")
    limit = run.recipe.evaluation.repetitions
    parts = []
    for name, fold in zip(run.folds, sources.folds, strict=True):
        queries = fold.test.open("audit").average(
            by=("subject", "stimulus"), max_repetitions=None if limit == "all" else int(limit)
        )
        decoder = run.decoder(name)
        parts.append(decoder.similarity(queries, sources.bank, ids=list(stored.gallery_ids)).matrix)
    again = np.concatenate(parts)
    if again.shape != stored.matrix.shape:
        evidence = f"{len(stored.matrix)} queries on file, {len(again)} in the data"
        return Verdict(check, "fail", evidence, "provenance", "evaluate the run again")
    change = float(np.abs(again - stored.matrix).max() / (again.std() or 1.0))
    numbers = {"change": change}
    evidence = f"they differ from the decoder's own scores by {change:.2g} of their spread"
    if change <= 1e-2:
        return Verdict(check, "pass", evidence, "provenance", numbers=numbers)
    if protocol.transductive or protocol.uses_test_labels:
        evidence += "; the protocol names a step"
        return Verdict(check, "pass", evidence, "provenance", numbers=numbers)
    fix = "something changed the scores and is not on record: report them as they were computed"
    return Verdict(check, "fail", evidence, "provenance", fix, numbers)


def audit_callable(target: str, data: str | Path | None = None) -> Audit:
    """Audit what ``module:name`` names.

    Parameters
    ----------
    target : str
        A function of two arrays, ``f(queries, gallery) -> scores``; or a function without
        arguments that returns an `Audit`, or the arguments of `phosphene.evaluation.audit.audit`
        (with ``decoder``) or of ``audit_pipeline`` (with ``pipeline``) as a mapping. Modules are
        looked for in the current folder first.
    data : path, optional
        For a function of two arrays: an ``.npz`` archive with ``queries``, ``gallery`` and, where
        known, ``answers`` (position of every query's true candidate).

    Raises
    ------
    DataError
        If the module, the name or the data are missing.
    """
    from phosphene.evaluation.audit import Audit, audit, audit_pipeline

    found = _resolve(target)
    needed = [
        p
        for p in inspect.signature(found).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if needed:
        if data is None:
            raise DataError(
                f"{target} takes {listing([p.name for p in needed])}: it needs data to be audited",
                fix="--data ARRAYS.npz with queries, gallery and answers; or name a function "
                "without arguments that returns what to audit",
            )
        return audit(found, **_arrays(Path(data)), name=target)
    made = found()
    if isinstance(made, Audit):
        return made
    if isinstance(made, Mapping):
        for key, check in (("pipeline", audit_pipeline), ("decoder", audit)):
            if key in made:
                return check(**{"name": target, **made})
    raise DataError(
        f"{target}() does not say what to audit",
        found=listing(made) if isinstance(made, Mapping) else type(made).__name__,
        expected="an Audit, or a mapping with decoder or pipeline and their arguments",
    )


def audit_target(target: str, data: str | Path | None = None) -> Audit:
    """Audit a run folder, or ``module:name`` where there is no such folder."""
    folder = Path(target)
    if (folder / STATE).is_file() or ":" not in target:
        if folder.is_dir() and (folder / STATE).is_file():
            try:
                return audit_run(folder)
            except NotFittedError as error:
                raise DataError(
                    f"{folder} cannot be audited yet", found=error.what, fix=error.fix
                ) from error
        raise DataError(
            f"{target} is neither a run folder nor module:name",
            found="no such folder" if not folder.exists() else f"no {STATE} in it",
            expected="what `phosphene fit` wrote, or mymodule:my_decoder",
        )
    return audit_callable(target, data)


def _resolve(target: str) -> Callable[..., Any]:
    module_name, _, name = target.partition(":")
    with _current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise DataError(f"cannot import {module_name!r}", found=error) from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise DataError(
            f"{module_name} has no callable {name!r}", found=listing(known) or "no callables"
        )
    made: Callable[..., Any] = found
    return made


@contextmanager
def _current_folder_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise DataError(f"{path} cannot be read as an .npz archive", found=error) from error
    if missing := [name for name in ARRAYS[:2] if name not in arrays]:
        raise DataError(
            f"{path} lacks {listing(missing)}",
            found="keys " + (listing(arrays) or "none"),
            expected="keys " + listing(ARRAYS),
        )
    return {
        "test": arrays["queries"],
        "gallery": arrays["gallery"],
        "answers": arrays.get("answers"),
    }
