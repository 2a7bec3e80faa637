"""Folds from the section ``split`` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phosphene.config import (
    ColumnSplit,
    ConceptPairsSplit,
    ConceptSplit,
    LeaveOneOutSplit,
    LeaveOneSubjectOutSplit,
    Recipe,
)
from phosphene.errors import RecipeError, listing
from phosphene.runs.data import Loaded

if TYPE_CHECKING:
    from phosphene.data.recording import Recording
    from phosphene.data.splits import HeldOut


@dataclass(frozen=True, eq=False)
class Fold:
    """Training trials and held-out trials.

    Parameters
    ----------
    label : str
        What is held out, or who.
    train : Recording
        For training.
    test : HeldOut
        For the evaluation, which counts its openings.
    ceiling : dict of str to float
        Noise ceiling by metric, where the truth is known.
    """

    label: str
    train: Recording
    test: HeldOut
    ceiling: Mapping[str, float] = field(default_factory=dict)


def make_folds(recipe: Recipe, loaded: Loaded) -> list[Fold]:
    """Training and held-out trials of every fold."""
    folds = []
    several = len(loaded.recordings) > 1
    for recording in loaded.recordings:
        who = f"subject {listing(sorted(recording.subjects))}"
        for label, train, test in _parts(recipe, recording):
            people = test.subjects
            known = [loaded.ceilings[name] for name in people if name in loaded.ceilings]
            ceiling = known[0] if len(known) == len(people) == 1 else {}
            parts = [who if several or not label else "", label]
            folds.append(Fold(", ".join(filter(None, parts)), train, test, ceiling))
    return folds if recipe.evaluation.subjects is None else _of_subjects(recipe, folds)


def _of_subjects(recipe: Recipe, folds: Sequence[Fold]) -> list[Fold]:
    """The folds that test the people of ``evaluation.subjects`` and nobody else."""
    wanted = set(recipe.evaluation.subjects or ())
    tested = [set(fold.test.trials["subject"].astype(str)) for fold in folds]
    known = sorted(set().union(*tested))
    if missing := sorted(wanted - set(known)):
        raise RecipeError(
            f"evaluation.subjects: nobody is called {listing(missing)}",
            expected="one of " + listing(known, limit=30),
        )
    if mixed := [names for names in tested if names & wanted and not names <= wanted]:
        raise RecipeError(
            "evaluation.subjects: people who are tested together cannot be told apart",
            found=f"one fold of {listing(sorted(mixed[0]))}",
            fix="per_subject: true, or leave evaluation.subjects out",
        )
    return [fold for fold, names in zip(folds, tested, strict=True) if names & wanted]


def _parts(recipe: Recipe, recording: Recording) -> list[tuple[str, Recording, HeldOut]]:
    from phosphene.data import splits

    split = recipe.split
    if isinstance(split, ColumnSplit):
        return [("", *splits.split_by_column(recording))]
    if isinstance(split, ConceptSplit):
        seed = recipe.seed if split.seed is None else split.seed
        return [("", *splits.split_concepts(recording, split.test, random_state=seed))]
    if isinstance(split, LeaveOneOutSplit):
        column, found = split.column, splits.split_leave_one_out(recording, split.column)
    elif isinstance(split, LeaveOneSubjectOutSplit):
        seed = recipe.seed if split.seed is None else split.seed
        column = "subject"
        found = splits.split_leave_one_out_zero_shot(
            recording, column, test=split.test, random_state=seed
        )
    else:
        assert isinstance(split, ConceptPairsSplit)
        column, found = "concept", splits.split_concept_pairs(recording)
    parts = []
    for one in found:
        train, _, test = one.apply(recording)
        names = " / ".join(sorted(set(test.trials[column])))
        label = names if column == "concept" else f"{column} {names}"
        parts.append((label, train, splits.HeldOut(test)))
    return parts


def split_rule(recipe: Recipe) -> str | None:
    """How training and test trials were told apart, where it is not a column of the data."""
    if isinstance(recipe.split, LeaveOneOutSplit):
        return f"leave one {recipe.split.column} out"
    rules = {
        "concept": "concepts drawn at random",
        "leave_one_subject_out": "leave one subject out, test concepts new to training",
        "concept_pairs": "every pair of concepts held out in turn",
    }
    return rules.get(recipe.split.kind)
