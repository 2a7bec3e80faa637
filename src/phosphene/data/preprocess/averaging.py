"""Averages of fMRI: of the volumes of a block, and of the betas of a stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from phosphene.data._average import group_means, group_table
from phosphene.data.preprocess._base import Transform, WithinRun
from phosphene.data.preprocess._runs import runs
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing


class BlockAverage(WithinRun):
    """One trial per block: the mean of consecutive volumes with the same label.

    Within each run the labels are moved ``shift_trs`` volumes later, because the blood response
    follows what is seen by some seconds. The first ``shift_trs`` volumes of a run then have no
    label and are left out, as are blocks labelled with one of ``drop``. What the shift pushes
    beyond the end of the run is lost: a block there has fewer volumes (``n_averaged`` says how
    many) or none. Two blocks of the same label with nothing between them count as one.

    Parameters
    ----------
    shift_trs : int
        Delay in volumes.
    drop : sequence of str
        Labels that are no stimulus.
    column : str
        Trial column that holds the label.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> labels = ["rest", "cat", "cat", "rest", "dog", "rest"]
    >>> volumes = Recording.from_arrays(
    ...     np.arange(12, dtype="float32").reshape(6, 2), {"stimulus": labels}, modality="fmri")
    >>> blocks = BlockAverage(shift_trs=1).transform(volumes)
    >>> blocks.trials["stimulus"].tolist(), blocks.signals[:, 0].tolist()
    (['cat', 'dog'], [5.0, 10.0])
    """

    step = "block_average"

    def __init__(
        self, shift_trs: int = 2, drop: Sequence[str] = ("rest",), column: str = "stimulus"
    ) -> None:
        self.shift_trs = shift_trs
        self.drop = drop
        self.column = column

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        trials = recording.trials
        if self.column not in trials:
            raise DataError(
                f"there is no trial column {self.column!r} with the labels of the volumes",
                found=listing(trials.columns, limit=12),
            )
        if self.shift_trs < 0:
            raise DataError("a delay cannot be negative", found=f"shift_trs={self.shift_trs}")
        labels = trials[self.column].astype(str).to_numpy()
        if unknown := [name for name in self.drop if name not in labels]:
            raise DataError(
                f"no volume has the label {listing(map(repr, unknown))} that is to be dropped",
                found=listing(sorted(set(labels)), limit=12),
            )
        sources, targets, groups = [], [], []
        n_groups = 0
        for name, rows, volumes in runs(recording):
            if (np.diff(volumes) != 1).any():
                raise DataError(
                    f"volumes of {name} are missing, so that labels cannot be moved",
                    found=f"{len(rows)} volumes from {volumes[0]} to {volumes[-1]}",
                    expected=f"{volumes[-1] - volumes[0] + 1}",
                    fix="average the blocks before selecting trials",
                )
            source, target = rows[: len(rows) - self.shift_trs], rows[self.shift_trs :]
            if not len(source):
                continue
            seen = labels[source]
            block = np.cumsum(np.r_[False, seen[1:] != seen[:-1]])
            kept = ~np.isin(seen, list(self.drop))
            _, numbers = np.unique(block[kept], return_inverse=True)
            sources.append(source[kept])
            targets.append(target[kept])
            groups.append(numbers + n_groups)
            n_groups += int(numbers.max(initial=-1)) + 1
        if not n_groups:
            raise DataError("no block is left to average", fix="check shift_trs and drop")
        rows, group = np.concatenate(targets), np.concatenate(groups).astype(np.int64)
        weights = np.ones(len(rows), dtype=np.int64)
        signals = group_means(recording.take, recording.shape[1:], rows, group, weights)
        # The volume number would be that of the label, not of what was averaged.
        table = group_table(trials, np.concatenate(sources), group, weights)
        table = table.drop(columns=["volume", "onset"], errors="ignore")
        return recording._with(signals, table, op)


class AverageBetas(Transform):
    """One trial per stimulus: the mean of its betas.

    Nothing is learned, so that it may be applied to test trials; an average never mixes them with
    others. Trials that stand for several (``n_averaged``) count so often.

    Parameters
    ----------
    by : sequence of str
        Trial columns that an average has in common.
    max_repetitions : int, optional
        Average only the first so many, in order of session, run and repetition: how well a decoder
        does depends on the number, so that tests of different numbers are different tests.
    min_repetitions : int
        Leave out what was seen less often.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> recording = Recording.from_arrays(x, {"stimulus": ["a", "a", "b"]}, modality="fmri")
    >>> AverageBetas(min_repetitions=2).transform(recording).signals.tolist()
    [[2.0]]
    """

    step = "average_betas"
    fitted_on_ = "nothing: a trial is averaged with those of its own stimulus"

    def __init__(
        self,
        by: Sequence[str] = ("subject", "stimulus"),
        *,
        max_repetitions: int | None = None,
        min_repetitions: int = 1,
    ) -> None:
        self.by = by
        self.max_repetitions = max_repetitions
        self.min_repetitions = min_repetitions

    def fit(self, recording: Recording) -> Self:
        """Do nothing: there is nothing to learn."""
        return self

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        most = self.max_repetitions
        if self.min_repetitions < 1 or (most is not None and most < self.min_repetitions):
            raise DataError(
                "min_repetitions is 1 or more and not above max_repetitions",
                found=f"{self.min_repetitions} and {most}",
            )
        averaged = recording.average(self.by, max_repetitions=most)
        count = averaged.trials["n_averaged"].to_numpy()
        enough = np.flatnonzero(count >= self.min_repetitions)
        if not len(enough):
            raise DataError(
                f"nothing was seen {self.min_repetitions} times",
                found=f"at most {count.max()} repetitions",
            )
        if len(enough) < len(count):
            averaged = averaged.select(enough)
        return averaged.with_history(op | {"left_out": len(count) - len(enough)})
