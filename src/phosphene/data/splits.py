"""Splits: which trials train, which choose and which test, and what the sides share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import _random
from phosphene._logging import get_logger
from phosphene._validation import as_int_index, check_fraction, require_columns
from phosphene.data._trials import natural_key
from phosphene.data.blocks import confounded_blocks, warn_if_confounded
from phosphene.data.heldout import HeldOut
from phosphene.data.overlaps import (
    PARTS,
    overlap_table,
    refuse_shared_signals,
    shared_positions,
)
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing

__all__ = [
    "HeldOut",
    "Kind",
    "Split",
    "confounded_blocks",
    "hold_out_concepts",
    "split_by_column",
    "split_by_concept",
    "split_concept_pairs",
    "split_concepts",
    "split_leave_one_out",
    "split_leave_one_out_zero_shot",
    "warn_if_confounded",
]

logger = get_logger(__name__)

Kind = Literal["trial", "stimulus", "concept", "subject", "session", "run"]
# In these designs the same images come on both sides on purpose.
SHARES_STIMULI = ("trial", "subject", "session", "run")
Amount = int | float | Sequence[str]


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the training, validation and test trials of a recording.

    Parameters
    ----------
    train, validation, test : array-like of int
        Positions of trials; no position may be in two of them.
    kind : {"trial", "stimulus", "concept", "subject", "session", "run"}
        What the sides do not share.
    seed : int, optional
        Seed that drew it.

    Raises
    ------
    LeakError
        If a trial is in two parts.

    Examples
    --------
    >>> Split(train=[0, 1], validation=[], test=[2], kind="trial").test
    array([2])
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    kind: Kind
    seed: int | None = field(default=None)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise DataError(f"there is no kind of split {self.kind!r}", expected=get_args(Kind))
        for name in PARTS:
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.int64).ravel())
        if (found := shared_positions({name: getattr(self, name) for name in PARTS})) is not None:
            one, other, shared = found
            raise LeakError(
                f"{len(shared)} trials are in both {one} and {other}",
                found=f"positions {listing(shared)}",
            )

    def apply(self, recording: Recording) -> tuple[Recording, Recording, Recording]:
        """Training, validation and test recording, with ``split`` set in their trials.

        Returns
        -------
        train, validation, test : Recording
            A part without trials is an empty recording.
        """
        out = []
        for name in PARTS:
            rows = as_int_index(getattr(self, name), recording.n_trials)
            out.append(mark(recording.select(rows), name))
        return out[0], out[1], out[2]

    def overlaps(
        self, recording: Recording, hashes: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """What training and validation share with test.

        Parameters
        ----------
        recording : Recording
            The recording that the positions belong to.
        hashes : mapping of stimulus id to SHA-256, optional
            Content of the images (`StimulusSet.hashes`), to find one image under two names.

        Returns
        -------
        DataFrame
            Columns ``parts`` ("train/test" ...), ``what`` ("stimulus", "image content", "concept",
            "subject", "session", "run"), ``n_shared`` and ``examples`` (at most five).
        """
        return overlap_table(
            recording.trials, {name: getattr(self, name) for name in PARTS}, hashes
        )

    def check(
        self,
        recording: Recording,
        hashes: Mapping[str, str] | None = None,
        *,
        signals: bool = False,
    ) -> None:
        """Raise if the parts share what a split of this kind must not share.

        Parameters
        ----------
        recording : Recording
            The recording that the positions belong to.
        hashes : mapping of stimulus id to SHA-256, optional
            Content of the images; identical content under two names counts as one stimulus.
        signals : bool
            Also look for trials with the same signals in two parts, whatever their names; reads all
            signals once.

        Raises
        ------
        LeakError
            Naming the shared stimuli (kinds "stimulus" and "concept"), concepts ("concept"),
            subjects, sessions or runs (those kinds), or the recordings with the same signals.
        """
        if signals:
            refuse_shared_signals(recording, {name: getattr(self, name) for name in PARTS})
        forbidden: tuple[str, ...] = (self.kind,)
        if self.kind not in SHARES_STIMULI:
            forbidden = ("stimulus", "image content")
            if self.kind == "concept":
                forbidden = ("stimulus", "image content", "concept")
        table = self.overlaps(recording, hashes)
        wrong = table[table["what"].isin(forbidden) & (table["n_shared"] > 0)]
        if len(wrong):
            lines = [
                f"{row.n_shared} x {row.what} in {row.parts}: {row.examples}"
                for row in wrong.itertuples()
            ]
            raise LeakError(
                f"the parts of a split by {self.kind} overlap",
                found="; ".join(lines),
                expected="nothing shared",
            )


def split_by_concept(
    recording: Recording, *, test: Amount, validation: Amount = 0, random_state: int = 0
) -> Split:
    """Split so that no concept is on two sides.

    Parameters
    ----------
    recording : Recording
        Trials with concepts.
    test, validation : int, float or list of str
        Number of concepts, share of the concepts (for ``validation``: of those that are left after
        the test), or their names.
    random_state : int
        Seed; the draw depends on the names of the concepts, not on the order of trials.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If there are not enough concepts, a named one does not occur, or trials have none.
    LeakError
        If an image is shown under concepts of two sides.
    """
    concept = recording.trials["concept"]
    if (concept == "").any():
        raise DataError(
            f"{int((concept == '').sum())} trials have no concept",
            fix="drop them, or give a concept for every stimulus",
        )
    names = sorted(concept.unique())
    chosen = _choose(names, test, "test", random_state)
    left = [name for name in names if name not in chosen]
    held = _choose(left, validation, "validation", random_state)
    if len(held) == len(left):
        raise DataError(
            "no concept is left for training",
            found=f"{len(names)} concepts, {len(chosen)} test, {len(held)} validation",
        )
    in_test, in_validation = concept.isin(chosen).to_numpy(), concept.isin(held).to_numpy()
    split = Split(
        np.flatnonzero(~in_test & ~in_validation),
        np.flatnonzero(in_validation),
        np.flatnonzero(in_test),
        "concept",
        random_state,
    )
    split.check(recording)
    return split


def split_concepts(
    recording: Recording, test: Amount = 50, *, random_state: int = 0
) -> tuple[Recording, HeldOut]:
    """Training recording, and a test of concepts that training never saw.

    Parameters
    ----------
    recording : Recording
        Trials with concepts.
    test : int, float or list of str
        Number of test concepts, their share, or their names.
    random_state : int
        Seed.

    Returns
    -------
    train : Recording
        With ``split`` "train".
    test : HeldOut
        Test trials behind a handle that counts how often it was opened.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(4, 3, 5))
    >>> trials = {"stimulus": ["dog/1.png", "cat/1.png", "cup/1.png", "cat/2.png"]}
    >>> r = Recording.from_arrays(x, trials, sfreq=100)
    >>> train, test = split_concepts(r, test=["cat"])
    >>> train.concepts, test.concepts
    (['dog', 'cup'], ['cat'])
    """
    train, _, held = split_by_concept(recording, test=test, random_state=random_state).apply(
        recording
    )
    return train, HeldOut(held)


def split_by_column(recording: Recording) -> tuple[Recording, HeldOut]:
    """Training recording and test of a data set that comes with its own split.

    Parameters
    ----------
    recording : Recording
        ``trials["split"]`` is "test" for test trials and "train" (or "validation") for others.

    Returns
    -------
    train : Recording
        All trials marked "train" or "validation".
    test : HeldOut

    Raises
    ------
    DataError
        If trials are marked otherwise, or one side is empty.
    LeakError
        If a stimulus is on both sides.
    """
    marks = recording.trials["split"]
    odd = marks[~marks.isin(PARTS)]
    if len(odd):
        raise DataError(
            f"{len(odd)} trials have another split than train, validation or test",
            found=listing(map(repr, odd.unique())),
            fix="use split_concepts to draw a split",
        )
    test = (marks == "test").to_numpy()
    if not test.any() or test.all():
        raise DataError("one side of the split is empty", found=marks.value_counts().to_dict())
    split = Split(np.flatnonzero(~test), [], np.flatnonzero(test), "stimulus")  # type: ignore[arg-type]
    split.check(recording)
    return recording.select(~test), HeldOut(recording.select(test))


def split_leave_one_out(recording: Recording, column: str = "run") -> list[Split]:
    """One split per value of a column, each testing on that value alone.

    Parameters
    ----------
    recording : Recording
        Trials.
    column : str
        A trial column. A number of runs or sessions that recurs (run 1 of every session) is left
        out everywhere at once.

    Returns
    -------
    list of Split
        In natural order of the values.

    Raises
    ------
    DataError
        If the column has fewer than two values.
    """
    require_columns(recording.trials, [column], "the trial table")
    values = recording.trials[column]
    unique = sorted(values.unique(), key=lambda value: natural_key(str(value)))
    if len(unique) < 2:
        raise DataError(
            f"leaving one {column} out needs at least two", found=listing(map(repr, unique))
        )
    kind: Any = column if column in get_args(Kind) else "trial"
    return [
        Split(
            np.flatnonzero((values != value).to_numpy()),
            np.zeros(0, dtype=np.int64),
            np.flatnonzero((values == value).to_numpy()),
            kind,
        )
        for value in unique
    ]


def split_leave_one_out_zero_shot(
    recording: Recording,
    column: str = "subject",
    *,
    test: Amount | None = None,
    random_state: int = 0,
) -> list[Split]:
    """One split per value of a column, testing on that value's trials of concepts never trained on.

    Leaving a person (or session) out does not make a retrieval test: the others have seen the same
    images. Here training has the other values' trials of training concepts, and the test has the
    value's own trials of test concepts; trials that are neither are in no part.

    Parameters
    ----------
    recording : Recording
        Trials with concepts.
    column : str
        A trial column, such as "subject" or "session".
    test : int, float or list of str, optional
        Test concepts, as in `split_by_concept`; by default the trials that the column ``split``
        marks as test.
    random_state : int
        Seed.

    Returns
    -------
    list of Split
        Of kind "concept", in natural order of the values; values without test trials are left out.

    Raises
    ------
    DataError
        If the column has fewer than two values, or no trial is marked as test.
    LeakError
        If a marked test concept or image is among the training trials.

    Examples
    --------
    >>> trials = {"stimulus": ["dog/1", "cat/1"] * 2, "subject": ["01", "01", "02", "02"]}
    >>> r = Recording.from_arrays(np.eye(4, 3), trials, modality="fmri")
    >>> [(s.train.tolist(), s.test.tolist()) for s in
    ...     split_leave_one_out_zero_shot(r, test=["cat"])]
    [([2], [1]), ([0], [3])]
    """
    marks = recording.trials["split"].to_numpy()
    if test is None:
        held, learned = marks == "test", marks != "test"
        if not held.any():
            raise DataError("no trial is marked as test", fix="say how many test concepts to draw")
    else:
        split = split_by_concept(recording, test=test, random_state=random_state)
        held = np.isin(np.arange(recording.n_trials), split.test)
        learned = ~held
    out = []
    for one in split_leave_one_out(recording, column):
        mine = one.test[held[one.test]]
        if len(mine):
            none = np.zeros(0, dtype=np.int64)
            made = Split(one.train[learned[one.train]], none, mine, "concept", random_state)
            made.check(recording)
            out.append(made)
    return out


def split_concept_pairs(recording: Recording) -> list[Split]:
    """One split per pair of concepts, testing on the pair and training on all others.

    Raises
    ------
    DataError
        If there are fewer than three concepts.
    """
    concept = recording.trials["concept"]
    names = sorted(name for name in concept.unique() if name)
    if len(names) < 3:
        raise DataError("pairs need at least three concepts", found=listing(names))
    kept = (concept != "").to_numpy()
    out = []
    for pair in combinations(names, 2):
        held = concept.isin(pair).to_numpy()
        none = np.zeros(0, dtype=np.int64)
        out.append(Split(np.flatnonzero(kept & ~held), none, np.flatnonzero(held), "concept"))
    return out


def hold_out_concepts(trials: pd.DataFrame, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark the trials of a random share of the concepts, for validation.

    Parameters
    ----------
    trials : DataFrame
        With ``concept``.
    fraction : float
        Share of the concepts, between 0 and 1; at least one is taken and one is left.
    seed : int
        Seed; the draw depends on the names, not on the order of trials.

    Returns
    -------
    ndarray of bool, shape (trials,)
        True for held-out trials.

    Raises
    ------
    DataError
        If there are fewer than two concepts.
    """
    check_fraction(fraction, "fraction")
    names = sorted(trials["concept"].unique())
    if len(names) < 2:
        raise DataError("holding out concepts needs at least two", found=listing(names))
    n = min(len(names) - 1, max(1, round(fraction * len(names))))
    order = _random.generator(seed, "hold_out_concepts").permutation(len(names))[:n]
    return trials["concept"].isin([names[i] for i in order]).to_numpy()


def mark(recording: Recording, split: str) -> Recording:
    """The recording with ``split`` set for all of its trials."""
    trials = recording.trials
    trials["split"] = pd.Series([split] * len(trials), dtype="str")
    return recording.with_trials(trials)


def _choose(names: list[str], amount: Amount, what: str, seed: int) -> list[str]:
    if isinstance(amount, (bool, str)):
        raise DataError(f"{what} is a number, a share or a list of concepts", found=repr(amount))
    if isinstance(amount, (int, np.integer, float, np.floating)):
        if isinstance(amount, (float, np.floating)) and amount != 0:
            amount = max(1, round(check_fraction(float(amount), what) * len(names)))
        if not 0 <= amount < len(names) or (what == "test" and amount == 0):
            raise DataError(
                f"there are not enough concepts for {what}",
                found=f"{int(amount)} wanted of {len(names)}",
                expected=f"1 to {len(names) - 1}",
            )
        order = _random.generator(seed, "split_by_concept", what).permutation(len(names))
        return [names[i] for i in sorted(order[: int(amount)])]
    chosen = [str(name) for name in amount]
    if absent := [name for name in chosen if name not in names]:
        raise DataError(
            f"{what} concepts that do not occur: {listing(map(repr, absent))}",
            found=f"{len(names)} concepts such as {listing(names, 3)}",
        )
    if what == "test" and (not chosen or len(set(chosen)) == len(names)):
        raise DataError("one side of the split is empty", found=f"{len(chosen)} test concepts")
    return chosen
