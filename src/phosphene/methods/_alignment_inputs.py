"""What an aligner is fitted on, vectors by category and the brain's RSMs: checked beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._validation import refuse_test_trials, require_unique
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation.rsm import Matrix, Metric, check_rsm, similarity_matrix
from phosphene.stimuli.bank import FeatureBank

LEAST = 20
"""Categories below which an RSM has too few pairs to learn from."""
ONLY = "vectors"
"""Name of the only tower when none is given."""

logger = get_logger(__name__)


def read_towers(
    vectors: Any, categories: Sequence[str] | None
) -> tuple[dict[str, Matrix], list[str] | None, dict[str, str]]:
    """Vectors by tower, the categories of their rows, and the spaces of those from banks.

    Raises
    ------
    DataError
        If categories are missing (listed), values are not finite, towers differ in size, or there
        are fewer than 20 categories.
    """
    given = vectors if isinstance(vectors, Mapping) else {ONLY: vectors}
    if not given:
        raise DataError("an aligner needs vectors", found="none")
    names = None if categories is None else [str(category) for category in categories]
    if names is not None:
        require_unique(names, "category")
    else:
        names = _own_names(next(iter(given.values())))
    towers: dict[str, Matrix] = {}
    spaces: dict[str, str] = {}
    for tower, part in given.items():
        if "." in str(tower):
            raise DataError("names of towers hold no dot", found=tower)
        towers[str(tower)] = _matrix(part, names, str(tower))
        if isinstance(part, FeatureBank):
            spaces[str(tower)] = part.space()
    shapes = {name: tower.shape for name, tower in towers.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            "vectors that are aligned together share categories and width",
            found=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            fix="use a joint model such as CLIP, bring texts into the images' space with "
            "TextBridge, or fit one aligner for each",
        )
    first = next(iter(towers.values()))
    if len(first) < LEAST:
        raise DataError(
            "too few categories to learn a similarity structure from",
            found=len(first),
            expected=f"{LEAST} or more",
        )
    for name, tower in towers.items():
        constant = np.flatnonzero(np.ptp(tower, axis=0) == 0)
        if len(constant) == tower.shape[1]:
            raise DataError(f"the {name} are the same for all categories")
        if constant.size:
            logger.info("%s: units %s are constant and tell nothing", name, listing(constant))
    return towers, names, spaces


def bank_rows(bank: FeatureBank, names: Iterable[str]) -> Matrix:
    """Mean vector of each name, a stimulus or a concept, in a bank's first view and layer.

    Raises
    ------
    DataError
        If names are neither; they are listed.
    """
    view = "original" if "original" in bank.views else bank.views[0]
    everything = bank.vectors(view).astype(np.float64)
    rows = {id: [row] for row, id in enumerate(bank.ids)}
    by_concept = bank.stimuli["concept"].astype(str).to_numpy()
    concepts = pd.Series(np.arange(len(bank))).groupby(by_concept).indices
    wanted = [str(name) for name in names]
    if missing := [name for name in wanted if name not in rows and name not in concepts]:
        raise DataError(
            "categories have no vectors in the bank",
            found=f"{len(missing)} missing: {listing(missing)}",
            fix="extract them, or leave these categories out of the fit",
        )
    return np.stack([everything[rows.get(n, concepts.get(n))].mean(axis=0) for n in wanted])


def _own_names(part: Any) -> list[str] | None:
    if isinstance(part, FeatureBank):
        return part.ids
    return [str(name) for name in part.index] if isinstance(part, pd.DataFrame) else None


def _matrix(part: Any, names: list[str] | None, tower: str) -> Matrix:
    if isinstance(part, FeatureBank):
        return bank_rows(part, names or part.ids)
    if isinstance(part, pd.DataFrame):
        table = part.set_axis(part.index.astype(str))
        if missing := [name for name in names or () if name not in table.index]:
            raise DataError(
                f"categories are missing among the {tower}",
                found=f"{len(missing)} missing: {listing(missing)}",
                fix="leave these categories out of the fit",
            )
        part = table.loc[names].to_numpy() if names else table.to_numpy()
    matrix = np.asarray(part, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"the {tower} are no table", found=f"shape {matrix.shape}")
    if names is not None and len(matrix) != len(names):
        raise DataError(
            f"categories and {tower} disagree in number", found=len(matrix), expected=len(names)
        )
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        raise DataError(
            f"the {tower} hold NaN or infinity, as vectors of words that are missing do",
            found=listing(names[i] for i in bad) if names else f"rows {listing(bad)}",
            fix="leave these categories out of the fit",
        )
    return matrix


def read_brain(
    brain: Any, n: int, categories: Sequence[str] | None, metric: Metric
) -> dict[Any, Matrix]:
    """RSMs by subject (or any key) from RSMs or recordings, checked against the categories."""
    if isinstance(brain, Recording):
        subjects = brain.trials["subject"].astype(str)
        brain = {s: brain.select((subjects == s).to_numpy()) for s in subjects.unique()}
    given = brain if isinstance(brain, Mapping) else {"brain": brain}
    if not given:
        raise DataError("an aligner needs an RSM or a recording", found="none")
    found: dict[Any, Matrix] = {}
    for key, part in given.items():
        if isinstance(part, Recording):
            part = recording_rsm(part, categories, metric)
        found[key] = check_rsm(part, n, f"the RSM of {key!r}")
    return found


def recording_rsm(recording: Recording, categories: Sequence[str] | None, metric: Metric) -> Matrix:
    """RSM of one recording over categories, which are its concepts or its stimuli.

    Trials of a category are averaged; for crossnobis the repetitions of all categories are the
    independent measurements.

    Raises
    ------
    LeakError
        If trials of the test split are among them.
    DataError
        If categories were never shown (listed), or are not given.
    """
    refuse_test_trials(recording.trials, "BrainAligner.fit")
    if categories is None:
        raise DataError(
            "a recording has no order of its own that rows of vectors could be matched with",
            fix="give categories=, or vectors as a FeatureBank or DataFrame",
        )
    patterns = category_patterns(recording, categories)
    if metric != "crossnobis":
        return similarity_matrix(np.stack([p.mean(axis=0) for p in patterns]), metric)
    fewest = min(len(p) for p in patterns)
    if fewest < 2:
        raise DataError(
            "crossnobis needs every category twice or more",
            found=f"{sum(len(p) < 2 for p in patterns)} categories shown once",
            fix='use metric="cosine" or "correlation"',
        )
    return similarity_matrix(np.stack([p[:fewest] for p in patterns], axis=1), metric)


def category_patterns(recording: Recording, categories: Sequence[str]) -> list[NDArray[Any]]:
    """Flattened responses (repetitions, units) to each category, a concept or a stimulus."""
    trials = recording.trials
    wanted = [str(category) for category in categories]
    by = "concept" if set(wanted) <= set(trials["concept"].astype(str)) else "stimulus"
    rows = trials.groupby(trials[by].astype(str).to_numpy()).indices
    if missing := [name for name in wanted if name not in rows]:
        raise DataError(
            f"categories were never shown in {recording.name!r}",
            found=f"{len(missing)} missing: {listing(missing)}",
            fix="leave these categories out of the fit",
        )
    signals = np.asarray(recording.signals, dtype=np.float64).reshape(len(trials), -1)
    return [signals[rows[name]] for name in wanted]


def refuse_test_categories(categories: Sequence[str] | None, test: Iterable[str] | None) -> None:
    """Raise if a test category is among those of the fit.

    Raises
    ------
    LeakError
        Naming them.
    DataError
        If the fit's categories have no names that could be compared.
    """
    if test is None:
        return
    if categories is None:
        raise DataError("test categories cannot be compared without names", fix="give categories=")
    if both := sorted({str(name) for name in test} & set(categories)):
        raise LeakError(
            "test categories are among those that the aligner is fitted on",
            found=f"{len(both)}: {listing(both)}",
            fix="fit on the vectors and rows of the RSM of training categories only",
        )


def without(rsms: Mapping[Any, Matrix], subject: Any) -> dict[Any, Matrix]:
    """RSMs of all but one subject; keys are subjects, or tuples that begin with one."""
    kept = {
        key: rsm
        for key, rsm in rsms.items()
        if key != subject and not (isinstance(key, tuple) and key[0] == subject)
    }
    if len(kept) == len(rsms) or not kept:
        raise DataError(
            f"the subject {subject!r} cannot be left out",
            found=f"subjects {listing(rsms)}",
            expected="one of several",
        )
    return kept


def subjects_of(rsms: Mapping[Any, Matrix]) -> list[Any]:
    """Subjects of RSMs by key, each once."""
    return list(dict.fromkeys(key[0] if isinstance(key, tuple) else key for key in rsms))
