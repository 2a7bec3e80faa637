"""Where and when the features of a reconstruction can be decoded, and where they come from.

Accuracy: the regression of a reconstructor is repeated on the signals of one region, one channel or
one window of time, in folds of whole concepts, and its predictions of the concepts left out are
correlated with the true features, unit by unit. Patterns: the transformed weights of Haufe et al.
(2014), as `phosphene.analysis.patterns` has them, for each group of features of the fitted
reconstructor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupKFold

from phosphene import _random
from phosphene._logging import progress as progress_bar
from phosphene.analysis.patterns import pattern_strength
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.decoding.ridge import RidgeLOO
from phosphene.errors import DataError
from phosphene.methods._reconstructor_checks import canonical, fold_groups

Array = npt.NDArray[np.float64]
By = Literal["roi", "channel", "time"]
UNITS = 200


def reconstruction_maps(
    reconstructor: Any,
    recording: Recording,
    stimuli: StimulusSet,
    *,
    by: By | None = None,
    window: float = 0.1,
    step: float = 0.05,
    folds: int = 5,
    units: int = UNITS,
    random_state: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Cross-validated accuracy of every group of features per region, channel or window of time.

    Parameters
    ----------
    reconstructor : Reconstructor
        Fitted; its groups of features are decoded, the kept units of its layers.
    recording : Recording
        Trials to decode, those of training as a rule; averaged per (subject, stimulus). Nothing of
        the fitted regression is used.
    stimuli : StimulusSet
        The pictures that were shown.
    by : {"roi", "channel", "time"}, optional
        By default regions for fMRI, windows of time otherwise.
    window, step : float
        Length of a window of time, and from one to the next, in seconds.
    folds : int
        Folds of whole concepts (of stimuli, where there are few concepts).
    units : int
        Units per group, drawn at random where there are more; the same for all places.
    random_state : int
        Of the draw.
    progress : bool
        Show a bar when someone is watching.

    Returns
    -------
    DataFrame
        ``group`` (``text``, ``latent``, ``image`` or a layer), ``place`` (region, channel, or start
        of the window in seconds), ``features`` (columns of the regression), ``units``,
        ``accuracy`` (mean correlation over units that vary), ``low`` and ``high`` (the quartiles
        of the units) and ``best`` (the highest of them).

    Raises
    ------
    DataError
        If there are no regions, no time axis, or too few stimuli for the folds.

    Examples
    --------
    >>> from phosphene.methods.linear_reconstructor import LinearReconstructor
    >>> from phosphene.testing import tiny_images, tiny_problem
    >>> problem, pictures = tiny_problem(), tiny_images()
    >>> model = LinearReconstructor(settings={"size": 4}).fit(problem.train, pictures)
    >>> table = reconstruction_maps(model, problem.train, pictures, window=0.4, step=0.4)
    >>> table[["group", "place", "features"]].values.tolist()
    [['latent', 0.0, 680], ['latent', 0.4, 680]]
    """
    queries, truth = _targets(reconstructor, recording, stimuli, units, random_state)
    groups = fold_groups(queries.trials)
    if len(set(groups)) < folds or folds < 2:
        raise DataError("too few stimuli for the folds", found=f"{len(set(groups))} groups",
                        expected=f"{max(folds, 2)} or more")  # fmt: skip
    splits = list(GroupKFold(folds).split(groups, groups=groups))
    signals = np.asarray(queries.signals, np.float32)
    kind = by or ("roi" if queries.modality == "fmri" else "time")
    places = list(_places(queries, kind, window, step))
    rows = []
    for place, chosen in progress_bar(places, total=len(places), desc="maps", enabled=progress):
        X = np.ascontiguousarray(signals[chosen]).reshape(len(signals), -1)
        for group, Y in truth.items():
            r = _correlations(_held_out(X, Y, splits, reconstructor.alphas), Y)
            low, high = np.quantile(r, [0.25, 0.75]) if len(r) else (np.nan, np.nan)
            found = (r.mean(), low, high, r.max()) if len(r) else (np.nan,) * 4
            rows.append((group, place, X.shape[1], len(r), *map(float, found)))
    columns = ["group", "place", "features", "units", "accuracy", "low", "high", "best"]
    return pd.DataFrame(rows, columns=columns)


def reconstruction_patterns(
    reconstructor: Any, recording: Recording, *, n_components: int = 10
) -> dict[str, Array]:
    """`pattern_strength` of every group of features, in the shape of a trial.

    Parameters
    ----------
    reconstructor : Reconstructor
        Fitted.
    recording : Recording
        Trials to describe, those of training as a rule; nothing is scored.
    n_components : int
        Directions of a group's decoded features that count; at least ten trials each are needed.

    Returns
    -------
    dict of str to ndarray, shape (channels, times) or (voxels,)
        In units of the recording: how much of every signal the decoded features account for. A
        group whose decoded features do not vary, because nothing can be decoded, has zeros.

    Raises
    ------
    DataError
        If there are not ten trials per component.
    """
    picked = recording.pick(list(reconstructor.channel_names_))
    if picked.n_trials < 10 * n_components:
        raise DataError(
            "there are too few trials for patterns",
            found=f"{picked.n_trials} trials for {n_components} components",
            expected=f"{10 * n_components} trials at least",
            fix="pass more trials, such as single ones instead of averages, or fewer components",
        )
    flat = np.asarray(picked.signals, np.float64).reshape(picked.n_trials, -1)
    found: dict[str, Array] = {}
    for group, values in reconstructor.decode(picked).items():
        outputs = values.reshape(len(values), -1).astype(np.float64)
        outputs = outputs[:, np.ptp(outputs, axis=0) > 1e-6 * np.abs(outputs).max()]
        shape = picked.shape[1:]
        found[group] = (
            pattern_strength(flat, outputs, n_components).reshape(shape)
            if outputs.shape[1]
            else np.zeros(shape)
        )
    return found


def _targets(
    reconstructor: Any, recording: Recording, stimuli: StimulusSet, units: int, seed: int
) -> tuple[Recording, dict[str, Array]]:
    """Averaged trials, and true features (trials, units) of every group for each of them."""
    queries = canonical(recording, stimuli).average(by=("subject", "stimulus"))
    shown = queries.trials["stimulus"].astype(str)
    ids = list(dict.fromkeys(shown))
    place = {stimulus: row for row, stimulus in enumerate(ids)}
    rows = [place[stimulus] for stimulus in shown]
    truth = {}
    for group, values in reconstructor.encode(stimuli, ids).items():
        flat = values.reshape(len(values), -1)
        if flat.shape[1] > units:
            stream = _random.generator(seed, "reconstruction maps", group)
            flat = flat[:, np.sort(stream.permutation(flat.shape[1])[:units])]
        truth[group] = flat[rows].astype(np.float64)
    return queries, truth


def _places(
    queries: Recording, by: str, window: float, step: float
) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Names of places, with the index that takes their signals."""
    everything = slice(None)
    if by == "channel":
        for number, name in enumerate(queries.channel_names):
            yield name, (everything, [number])
    elif by == "roi":
        if not queries.sensors.rois:
            raise DataError("the recording has no regions", fix="by='channel'")
        for name in queries.sensors.rois:
            yield name, (everything, np.flatnonzero(queries.sensors.roi(name)))
    elif by == "time":
        times = queries.times
        if times is None:
            raise DataError("the recording has no time axis", fix="by='roi' or by='channel'")
        if not (window > 0 and step > 0):
            raise DataError("windows of time", found=f"{window} s every {step} s",
                            expected="more than 0")  # fmt: skip
        # Half a sample, because .3 is not a multiple of .004 in floating point.
        half = float(np.diff(times).min()) / 2 if len(times) > 1 else 0.0
        starts = np.arange(times[0], times[-1] + 2 * half - window + half, step)
        for start in starts:
            inside = (times >= start - half) & (times < start + window - half)
            yield round(float(start), 6), (everything, everything, np.flatnonzero(inside))
    else:
        raise DataError("maps are by roi, channel or time", found=by)


def _held_out(X: Any, Y: Array, splits: list[Any], alphas: Any) -> Array:
    """Predictions of every trial by the regression on the folds without it."""
    predicted = np.empty_like(Y)
    for train, test in splits:
        mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
        deviation[deviation == 0] = 1
        model = RidgeLOO(alphas, progress=False).fit((X[train] - mean) / deviation, Y[train])
        predicted[test] = model.predict((X[test] - mean) / deviation)
        # Folds have other means: left in, they would correlate negatively with what was left out.
        predicted[test] -= Y[train].mean(axis=0)
    return predicted


def _correlations(predicted: Array, true: Array) -> Array:
    """Correlation of every unit that varies; 0 where the prediction does not."""
    p, t = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    varies = np.ptp(true, axis=0) > 0
    p, t = p[:, varies], t[:, varies]
    lengths = np.sqrt(np.square(p).sum(axis=0) * np.square(t).sum(axis=0))
    found: Array = np.divide(
        (p * t).sum(axis=0), lengths, out=np.zeros(len(lengths)), where=lengths > 0
    )
    return found
