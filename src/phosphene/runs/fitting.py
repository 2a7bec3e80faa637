"""Train what a recipe describes, into a run folder; an interrupted training continues."""

from __future__ import annotations

import inspect
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _random
from phosphene._logging import get_logger
from phosphene._manifest import MANIFEST
from phosphene._saving import verify_folder
from phosphene.config import Recipe, method_class, reconstructs
from phosphene.errors import DataError, RecipeError
from phosphene.runs.features import method_views
from phosphene.runs.run import CHECKPOINTS, Run
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.data.recording import Recording

logger = get_logger(__name__)


def fit(
    recipe: Recipe, out: str | Path, *, sources: Sources | None = None, progress: bool = True
) -> Run:
    """Train the method of a recipe on every fold of its data.

    The test data are never touched. A run folder of the same recipe is taken up where it was
    left; a finished one is returned as it is.

    Parameters
    ----------
    recipe : Recipe
        What to train; see `phosphene.config.load_recipe`.
    out : path
        Run folder: new, empty, or of the same recipe.
    sources : Sources, optional
        Data and features of this recipe, when they are loaded already.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Run

    Raises
    ------
    RecipeError
        If the folder holds a run of another recipe.
    DataError
        If the data changed since the interrupted run began.
    """
    run = Run.claim(out, recipe)
    if run.fitted:
        logger.info("%s is fitted already", run.folder)
        return run
    with run.changing():
        sources = sources or load_sources(recipe, progress=progress)
        check_unchanged(run, sources)
        names = fold_names(len(sources.folds))
        pictures = reconstructs(recipe.method.name)
        for fold in () if pictures else sources.folds:  # what cannot be evaluated is not trained
            make_decoder(recipe).check_subjects(
                _subjects(fold.test.trials), train=_subjects(fold.train.trials)
            )
        run.update(
            data=sources.fingerprint,
            folds={n: f.label for n, f in zip(names, sources.folds, strict=True)},
        )
        for name, fold in zip(names, sources.folds, strict=True):
            folder = run.model_folder(name)
            if (folder / MANIFEST).exists():
                verify_folder(folder)
                logger.info("fold %s (%s): fitted already", name or "1 of 1", fold.label)
                continue
            started = time.perf_counter()
            train = fold.train
            if recipe.evaluation.shuffle_labels is not None:
                train = shuffle_labels(train, recipe.evaluation.shuffle_labels)
            decoder = make_decoder(recipe)
            if pictures:
                decoder.fit(train, sources.stimuli, sources.bank, progress=progress)
            else:
                checkpoints = run.folder / CHECKPOINTS / (name or "model")
                decoder.fit(train, sources.bank, checkpoint=checkpoints, progress=progress)
            decoder.save_pretrained(folder)
            logger.info(
                "fitted %s on %s (%d trials) in %.1f s",
                recipe.method.name,
                fold.label,
                train.n_trials,
                time.perf_counter() - started,
            )
        run.update(fitted=True)
        shutil.rmtree(run.folder / CHECKPOINTS, ignore_errors=True)
    return run


def make_decoder(recipe: Recipe) -> Any:
    """Construct the method of a recipe; seed and views follow the recipe unless it sets them.

    Raises
    ------
    RecipeError
        If the constructor does not accept a parameter's value.
    """
    constructor = method_class(recipe.method.name)
    known = inspect.signature(constructor).parameters
    params = dict(recipe.method.params)
    if "random_state" in known:
        params.setdefault("random_state", recipe.seed)
    if "views" in known and (views := method_views(recipe)) is not None:
        params.setdefault("views", views)
    try:
        return constructor(**params)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{recipe.method.name} does not accept these parameters (method.params)",
            found=error,
            expected="parameters as in " + f"{recipe.method.name}{inspect.signature(constructor)}",
        ) from error


def check_unchanged(run: Run, sources: Sources) -> None:
    """Compare the data with those that the run began with.

    Raises
    ------
    DataError
        If recording, split or features are others now.
    """
    before = run.state["data"]
    if before is None or before == sources.fingerprint:
        return
    changed = [name for name, value in sources.fingerprint.items() if before.get(name) != value]
    raise DataError(
        f"the data of {run.folder} are not those that the run began with: "
        f"{', '.join(changed)} changed",
        found=", ".join(sources.fingerprint[name][:16] for name in changed),
        expected=", ".join(str(before.get(name))[:16] for name in changed),
        fix="restore the data, or fit the recipe into a new folder",
    )


def fold_names(n: int) -> list[str]:
    """Folder names of the folds; a single one needs none.

    Examples
    --------
    >>> fold_names(1), fold_names(2)
    ([''], ['fold-01', 'fold-02'])
    """
    width = max(2, len(str(n)))
    return [""] if n == 1 else [f"fold-{i:0{width}d}" for i in range(1, n + 1)]


def _subjects(trials: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(trials["subject"].astype(str)))


def shuffle_labels(recording: Recording, seed: int) -> Recording:
    """Assign the stimuli (with their concepts) of a subject's trials at random to its trials.

    A control: what is learnt from such data must score at chance.
    """
    import numpy as np

    trials = recording.trials.copy()
    labels = [name for name in ("stimulus", "concept") if name in trials]
    order = np.arange(len(trials))
    for subject, rows in trials.groupby("subject", sort=True).indices.items():
        draw = _random.generator(seed, "shuffle labels", subject)
        order[rows] = draw.permutation(rows)
    trials[labels] = trials[labels].to_numpy()[order]
    # A repetition number belongs to the stimulus: it is counted anew.
    return recording.with_trials(trials.drop(columns="repetition", errors="ignore"))
