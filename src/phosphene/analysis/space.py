"""Where the information is: ablation of channels, regions and frequency bands.

A part is left out (``drop``) or the only one left (``keep``), and what that does to the score is
measured with its interval, paired over the queries. Two ways say different things:

- ``how="refit"``: the decoder is fitted again on what is left. The score says what can be decoded
  without the part: a part that tells nothing new costs nothing, whatever weight it had.
- ``how="test"``: the decoder is fitted once on everything, and the missing part of the *test*
  signals is replaced by its mean over training trials. The loss says what this decoder relies on;
  it depends on what else it could have used, and is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.analysis._problem import (
    Problem,
    chance_of,
    check_metric,
    intervals,
    per_subject,
    problems_of_folds,
    query_scores,
)
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, listing
from phosphene.evaluation.statistics import paired_difference
from phosphene.methods.ridge import Ridge
from phosphene.stimuli.bank import FeatureBank

Mode = Literal["drop", "keep"]
How = Literal["refit", "test"]
Change = Callable[[Recording], Recording]
Makers = Callable[[], Any] | Sequence[Callable[[], Any]]
#: Usual bands of the electroencephalogram, Hz; None is an open end.
BANDS: Mapping[str, tuple[float | None, float | None]] = {
    "below 4 Hz": (None, 4.0),
    "theta 4-8 Hz": (4.0, 8.0),
    "alpha 8-13 Hz": (8.0, 13.0),
    "beta 13-30 Hz": (13.0, 30.0),
    "gamma above 30 Hz": (30.0, None),
}


def ablate_sensors(
    train: Recording | Sequence[Recording],
    test: Recording | HeldOut | Sequence[Recording | HeldOut],
    bank: FeatureBank,
    groups: Mapping[str, Sequence[Any]] | None = None,
    *,
    mode: Mode = "drop",
    how: How = "refit",
    metric: str = "top1",
    decoder: Makers = Ridge,
    ids: Sequence[str] | None = None,
    zero_shot: bool = True,
    average_train: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Score without each group of channels or voxels, or with it alone.

    Parameters
    ----------
    train, test : Recording
        Training and test trials, shape (trials, channels, times) or (trials, voxels), or sequences
        of them, one per fold, whose queries are pooled. Every person is decoded alone.
    bank : FeatureBank
        Vectors of the stimuli.
    groups : mapping of str to sequence, optional
        Names or positions of the channels of each part; by default the regions of interest of
        voxels (`roi_groups`) and otherwise every channel by itself.
    mode : {"drop", "keep"}
        Leave the part out, or leave out everything else.
    how : {"refit", "test"}
        See the module.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query.
    decoder : callable, or sequence of callables
        Makes an unfitted decoder of `phosphene.methods`; one per fold if they differ.
    ids : sequence of str, optional
        Candidates; by default the distinct stimuli of the test.
    zero_shot : bool
        Refuse test stimuli and concepts that training has seen.
    average_train : bool
        Average the repetitions of a training stimulus before the fit.
    seed : int
        Seed of the intervals.

    Returns
    -------
    DataFrame
        The first row, ``everything``, is the decoder of all channels. Columns ``part``, ``n``
        (channels left), ``mode``, ``how``, ``metric``, ``value``, ``low``, ``high``, ``loss``
        (score of everything less this one), ``loss_low``, ``loss_high`` and ``chance``.

    Raises
    ------
    DataError
        For unknown channels, or a part that leaves nothing.
    LeakError
        If training has seen what is tested.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> p = tiny_problem(snr=0.3)
    >>> halves = {"front": p.train.channel_names[:2], "back": p.train.channel_names[2:]}
    >>> found = ablate_sensors(p.train, p.test, p.bank, halves).set_index("part")
    >>> bool(found.loc["back", "loss"] > found.loc["front", "loss"]), found["n"].tolist()
    (True, [17, 15, 2])
    """
    _check(mode, how)
    first = train if isinstance(train, Recording) else train[0]
    if groups is None:
        groups = roi_groups(first) if first.sensors.rois else _each(first)
    size = len(first.sensors)
    left: dict[str, npt.NDArray[np.int64]] = {}
    for name, members in groups.items():
        rows = first.sensors.index(members)
        kept = np.setdiff1d(np.arange(size), rows) if mode == "drop" else np.sort(rows)
        if not len(kept):
            raise DataError(f"without {name!r} no {first.sensors.unit_name} are left")
        left[name] = kept
    parts = problems_of_folds(
        train, test, bank, ids=ids, zero_shot=zero_shot, average_train=average_train
    )
    variants: dict[str, _Variant] = {}
    for name, kept in left.items():
        variants[name] = _picked(kept) if how == "refit" else _replaced(kept)
    counts = {"everything": size, **{name: len(kept) for name, kept in left.items()}}
    return _table(parts, bank, variants, counts, mode, how, metric, decoder, seed)


def ablate_bands(
    train: Recording | Sequence[Recording],
    test: Recording | HeldOut | Sequence[Recording | HeldOut],
    bank: FeatureBank,
    bands: Mapping[str, tuple[float | None, float | None]] | None = None,
    *,
    mode: Mode = "drop",
    how: How = "refit",
    metric: str = "top1",
    decoder: Makers = Ridge,
    ids: Sequence[str] | None = None,
    zero_shot: bool = True,
    average_train: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Score without each frequency band, or with it alone.

    Signals are filtered by MNE (Butterworth, order 4, forwards and backwards, reflected at the
    ends of every epoch). A filter reaches beyond its band and smears in time by about one period;
    bands of which no period fits into an epoch are refused.

    Parameters
    ----------
    train, test, bank
        As for :func:`ablate_sensors`, with a time axis.
    bands : mapping of str to (low, high), optional
        Hz, None for an open end; by default those of `BANDS` that the recording can tell apart.
    mode, how, metric, decoder, ids, zero_shot, average_train, seed
        As for :func:`ablate_sensors`. ``how="test"`` filters the test signals only.

    Returns
    -------
    DataFrame
        As of :func:`ablate_sensors`; ``n`` counts all channels.

    Raises
    ------
    DataError
        Without a time axis, or for bands beyond half the sampling rate or below one period.

    Examples
    --------
    >>> from phosphene.testing import tiny_problem
    >>> p = tiny_problem(snr=0.3)
    >>> ablate_bands(p.train, p.test, p.bank, {"alpha": (8, 13)})["part"].tolist()
    ['everything', 'alpha']
    """
    _check(mode, how)
    first = train if isinstance(train, Recording) else train[0]
    bands = usable_bands(first) if bands is None else bands
    for name, band in bands.items():
        _check_band(first, name, band)
    parts = problems_of_folds(
        train, test, bank, ids=ids, zero_shot=zero_shot, average_train=average_train
    )
    variants: dict[str, _Variant] = {}
    for name, band in bands.items():
        change = _filtered(band, mode)
        variants[name] = _both(change) if how == "refit" else _test_only(change)
    counts = dict.fromkeys(["everything", *bands], len(first.sensors))
    return _table(parts, bank, variants, counts, mode, how, metric, decoder, seed)


def roi_groups(recording: Recording) -> dict[str, list[int]]:
    """Positions of the voxels of every region of interest; regions may overlap.

    Raises
    ------
    DataError
        If the recording has no regions.
    """
    names = recording.sensors.rois
    if not names:
        raise DataError(
            f"{recording.name!r} has no regions of interest",
            found=repr(recording.sensors),
            fix="add them with phosphene.data.preprocess.masking.add_atlas, or pass groups",
        )
    return {name: np.flatnonzero(recording.sensors.roi(name)).tolist() for name in names}


def usable_bands(recording: Recording) -> dict[str, tuple[float | None, float | None]]:
    """The bands of `BANDS` that fit into the recording's epochs and sampling rate."""
    if recording.times is None or recording.sfreq is None:
        _no_time(recording)
    kept = {}
    for name, band in BANDS.items():
        # Little is left of an open band that begins just below half the sampling rate.
        if band[0] is not None and band[0] > 0.375 * recording.sfreq:
            continue
        try:
            _check_band(recording, name, band)
        except DataError:
            continue
        kept[name] = band
    return kept


# From one person's problem to training and test recordings, and the mean that hides what is missing
_Variant = Callable[[Problem], "tuple[Recording | None, Recording]"]


def _picked(kept: npt.NDArray[np.int64]) -> _Variant:
    return lambda part: (part.train.pick(kept), part.test.pick(kept))


def _replaced(kept: npt.NDArray[np.int64]) -> _Variant:
    def variant(part: Problem) -> tuple[None, Recording]:
        signals = np.array(part.test.signals, dtype=np.float32)
        gone = np.setdiff1d(np.arange(signals.shape[1]), kept)
        signals[:, gone] = part.train.signals[:, gone].mean(axis=0, dtype=np.float64)
        return None, part.test.with_signals(signals, check=False)

    return variant


def _both(change: Change) -> _Variant:
    return lambda part: (change(part.train), change(part.test))


def _test_only(change: Change) -> _Variant:
    return lambda part: (None, change(part.test))


def _filtered(band: tuple[float | None, float | None], mode: Mode) -> Change:
    low, high = band

    def change(recording: Recording) -> Recording:
        from mne.filter import filter_data

        # MNE reads a lower edge above the upper one as a band to be stopped.
        edges = (low, high) if mode == "keep" else (high, low)
        signals = filter_data(
            np.asarray(recording.signals, dtype=np.float64), float(recording.sfreq or 0.0), *edges,
            method="iir", iir_params={"order": 4, "ftype": "butter", "output": "sos"},
            verbose="error",
        )  # fmt: skip
        return recording.with_signals(signals.astype(np.float32), check=False)

    return change


def _table(
    parts: Sequence[Problem],
    bank: FeatureBank,
    variants: Mapping[str, _Variant],
    counts: Mapping[str, int],
    mode: str,
    how: str,
    metric: str,
    decoder: Makers,
    seed: int,
) -> pd.DataFrame:
    check_metric(metric)
    columns = []
    for part in parts:
        make = decoder if callable(decoder) else decoder[part.fold]
        fitted = make().fit(part.train, bank, progress=False)
        rows = [_scores(fitted, part.test, part, bank, metric)]
        for variant in variants.values():
            train, test = variant(part)
            own = fitted if train is None else make().fit(train, bank, progress=False)
            rows.append(_scores(own, test, part, bank, metric))
        columns.append(np.stack(rows))
    scores = np.concatenate(columns, axis=1)
    queries = pd.concat([part.queries("answer") for part in parts], ignore_index=True)
    who, what = queries["subject"].tolist(), queries["stimulus"].tolist()
    ends = intervals(scores, who, what, metric, seed=seed)
    values = per_subject(scores, who)[1].mean(axis=0)
    whole = queries.assign(score=scores[0])
    losses = [(0.0, 0.0, 0.0)]
    for row in scores[1:]:
        found = paired_difference(whole, queries.assign(score=row), "score", random_state=seed)
        losses.append((found.value, found.low, found.high))
    names = ["everything", *variants]
    return pd.DataFrame(
        {
            "part": names,
            "n": [counts[name] for name in names],
            "mode": mode,
            "how": how,
            "metric": metric,
            "value": values,
            "low": ends[:, 0],
            "high": ends[:, 1],
            "loss": [loss[0] for loss in losses],
            "loss_low": [loss[1] for loss in losses],
            "loss_high": [loss[2] for loss in losses],
            "chance": float(np.mean([chance_of(metric, len(part.ids)) for part in parts])),
        }
    )


def _scores(
    fitted: Any, test: Recording, part: Problem, bank: FeatureBank, metric: str
) -> npt.NDArray[np.float64]:
    matrix = fitted.similarity(test, bank, ids=part.ids).matrix
    return query_scores(matrix, part.true, metric)


def _each(recording: Recording) -> dict[str, list[int]]:
    names = recording.channel_names
    if recording.times is None:
        raise DataError(
            "there are too many voxels to leave each out by itself",
            found=f"{len(names)} voxels without regions",
            fix="pass groups, e.g. regions of an atlas (add_atlas)",
        )
    if len(names) < 2:
        raise DataError("one channel cannot be left out: nothing would be left")
    return {name: [i] for i, name in enumerate(names)}


def _check(mode: str, how: str) -> None:
    if mode not in ("drop", "keep"):
        raise DataError(f"there is no mode {mode!r}", expected="drop or keep")
    if how not in ("refit", "test"):
        raise DataError(f"there is no how={how!r}", expected="refit or test")


def _check_band(recording: Recording, name: str, band: tuple[float | None, float | None]) -> None:
    if recording.times is None or recording.sfreq is None:
        _no_time(recording)
    low, high = band
    if low is None and high is None:
        raise DataError(f"band {name!r} has no edge")
    if low is not None and high is not None and low >= high:
        raise DataError(f"the edges of band {name!r} are not rising", found=band)
    length = len(recording.times) / recording.sfreq
    top = recording.sfreq / 2
    if any(edge is not None and edge >= top for edge in band):
        raise DataError(
            f"band {name!r} reaches beyond half the sampling rate",
            found=listing(f"{edge:g} Hz" for edge in band if edge is not None),
            expected=f"edges below {top:g} Hz",
        )
    if any(edge is not None and edge * length < 1 for edge in band):
        raise DataError(
            f"no period of the edges of band {name!r} fits into an epoch",
            found=f"epochs of {length:g} s",
            expected=f"edges of at least {1 / length:.3g} Hz",
        )


def _no_time(recording: Recording) -> NoReturn:
    raise DataError(
        "frequency bands need a time axis",
        found=f"{recording.modality} signals of shape {recording.shape}",
        fix="ablate regions of interest instead",
    )
