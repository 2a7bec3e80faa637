"""Averages over chosen repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._random import generator
from phosphene.data import _average
from phosphene.data.preprocess._trialwise import PerTrial
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)


class AverageRepetitions(PerTrial):
    """Average the trials of each stimulus over all, the first, random or certain repetitions.

    Repetitions are numbered from 0 within each group in the order of session, run and repetition.
    A group that has fewer than what is asked for is averaged over those it has; ``n_averaged``
    tells.

    Parameters
    ----------
    repetitions : int or sequence of int, optional
        How many, or which. Default: all.
    choose : {"first", "random"}
        Which ones where ``repetitions`` is a number.
    by : sequence of str
        Trial columns that define the groups.
    random_state : int
        Seed of the random choice; what one group draws does not depend on the others.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> x = np.array([[1.0, 5.0], [3.0, 6.0], [8.0, 9.0]])
    >>> trials = Recording.from_arrays(x, {"stimulus": ["a", "a", "a"]}, modality="fmri")
    >>> AverageRepetitions([0, 2]).transform(trials).signals.tolist()
    [[4.5, 7.0]]
    """

    step = "choose_repetitions"

    def __init__(
        self,
        repetitions: int | Sequence[int] | None = None,
        *,
        choose: Literal["first", "random"] = "first",
        by: Sequence[str] = ("subject", "stimulus"),
        random_state: int = 0,
    ) -> None:
        self.repetitions = repetitions
        self.choose = choose
        self.by = by
        self.random_state = random_state

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        by = [self.by] if isinstance(self.by, str) else list(self.by)
        if self.choose not in ("first", "random"):
            raise DataError(
                "there is no such choice",
                found=repr(self.choose),
                expected='"first" or "random"',
            )
        trials = recording.trials
        if not len(trials):
            raise DataError("there are no trials to average", fix="look at what was selected")
        rows, groups = _average.plan(trials, by, None)
        starts = np.flatnonzero(np.r_[True, np.diff(groups) > 0])
        counts = np.diff(np.r_[starts, len(groups)])
        number = np.arange(len(rows)) - np.repeat(starts, counts)
        wanted = _checked(self.repetitions)
        if wanted is None:
            kept = np.ones(len(rows), dtype=bool)
            short = np.zeros(len(counts), dtype=bool)
        elif isinstance(wanted, int):
            if self.choose == "random":
                keys = trials[by].astype(str).agg("\x1f".join, axis=1).to_numpy()[rows[starts]]
                draws = [self._shuffled(k, n) for k, n in zip(keys, counts, strict=True)]
                number = np.concatenate(draws)
            kept, short = number < wanted, counts < wanted
        else:
            kept, short = np.isin(number, wanted), counts <= max(wanted)
        left = np.add.reduceat(kept, starts, dtype=np.int64)
        if (empty := np.flatnonzero(left == 0)).size:
            names = trials["stimulus"].iloc[rows[starts[empty]]]
            raise DataError(
                f"{empty.size} stimuli have none of the repetitions {wanted}",
                found=listing(
                    f"{name} ({counts[i]} in all)" for name, i in zip(names, empty, strict=True)
                ),
                expected="numbers from 0",
            )
        if short.any():
            logger.warning("%d of %d groups have fewer repetitions", int(short.sum()), len(counts))
        chosen = recording.select(np.sort(rows[kept])).with_history(op)
        return chosen.average(by)

    def _shuffled(self, key: str, n: int) -> NDArray[np.int64]:
        return generator(self.random_state, "repetitions", key).permutation(n)


def _checked(repetitions: Any) -> int | list[int] | None:
    """How many, or which, as plain numbers."""
    if repetitions is None:
        return None
    if _is_whole(repetitions):
        if repetitions < 1:
            raise DataError("too few repetitions", found=repetitions, expected="1 or more")
        return int(repetitions)
    which = list(repetitions) if isinstance(repetitions, (Sequence, np.ndarray)) else []
    right = all(_is_whole(i) and i >= 0 for i in which) and len(set(which)) == len(which)
    if not which or not right:
        raise DataError(
            "these are no numbers of repetitions",
            found=repr(repetitions),
            expected="how many (1 or more), or a list of different whole numbers from 0",
        )
    return [int(i) for i in which]


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
