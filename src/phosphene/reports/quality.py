"""Figures of the quality page, on which prepared recordings should look like responses.

Each function takes prepared parts ("train", "test") and returns a Figure. Colours can be told apart
by people with colour blindness, and lines differ in style as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from phosphene.data._trials import natural_key
from phosphene.data.preprocess.selection import noise_ceiling, stability
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.reports._quality_sums import noise_eigenvalues, occipital, pooled, session_means
from phosphene.reports.plots import _LINES, COLOURS, _axes, _finish

UNITS = {"eeg": "V", "meg": "T", "ecog": "V"}
MAX_BARS = 24
PART_COLOURS = {"train": COLOURS[0], "test": COLOURS[1], "all": COLOURS[0]}


def evoked_response(parts: Mapping[str, Recording], *, ax: Axes | None = None) -> Figure:
    """Mean response of the channels over the back of the head, with its standard error.

    Parameters
    ----------
    parts : mapping of name to Recording
        Recordings of one person with a time axis.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    times = _require_times(parts)
    figure, axes = _axes(ax, (6.4, 3.4))
    means = session_means(parts)
    first = next(iter(parts.values()))
    chosen = occipital(first)
    scale, unit = _scale(first, [pooled(means, part)[0][chosen] for part in parts])
    for i, part in enumerate(parts):
        mean, error = pooled(means, part)
        line = scale * mean[chosen].mean(axis=0)
        # Channels share much of their noise: the largest error stands for that of their mean.
        reach = scale * error[chosen].max(axis=0)
        colour = PART_COLOURS.get(part, COLOURS[i % len(COLOURS)])
        label = f"{part} ({parts[part].n_trials} trials)"
        axes.plot(times, line, color=colour, ls=_LINES[i % 4], lw=1.8, label=label)
        axes.fill_between(times, line - reach, line + reach, color=colour, alpha=0.18, lw=0)
    n = len(chosen)
    which = "all" if n == len(first.sensors) else "posterior"
    axes.set_ylabel(f"mean of {n} {which} channels{unit}")
    _time_axis(axes)
    _finish(axes, False)
    return figure


def global_field_power(parts: Mapping[str, Recording], *, ax: Axes | None = None) -> Figure:
    """Spread over channels of each session's mean response: peaks are responses of the brain."""
    times = _require_times(parts)
    figure, axes = _axes(ax, (6.4, 3.4))
    means = session_means(parts)
    first = next(iter(parts.values()))
    part = "train" if "train" in parts else next(iter(parts))
    mine = [m for m in means if m.part == part]
    scale, unit = _scale(first, [m.mean.std(axis=0) for m in mine])
    many = len(mine) > len(COLOURS)
    for i, one in enumerate(mine):
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "ls": _LINES[i % 4], "lw": 1.5}
        if many:
            look = {"color": COLOURS[0], "alpha": 0.35, "lw": 0.9}
        label = None if many else f"session {one.session} ({one.n})"
        axes.plot(times, scale * one.mean.std(axis=0), label=label, **look)
    if many:
        both = scale * pooled(means, part)[0].std(axis=0)
        axes.plot(times, both, color="#1a1d21", lw=2, label=f"all {len(mine)} sessions")
    axes.set_ylabel(f"global field power, {part}{unit}")
    axes.set_ylim(bottom=0)
    _time_axis(axes)
    _finish(axes, False)
    return figure


def noise_spectrum(parts: Mapping[str, Recording], *, ax: Axes | None = None) -> Figure:
    """Eigenvalues of each session's noise covariance over channels; flat at 1 after whitening."""
    _require_times(parts)
    figure, axes = _axes(ax, (6.4, 3.4))
    part = "train" if "train" in parts else next(iter(parts))
    spectra = noise_eigenvalues(parts[part])
    if not spectra:
        raise DataError("no session has two trials", fix="a spectrum needs several trials")
    floor = np.finfo(np.float32).eps * max(values.max() for values in spectra.values())
    many = len(spectra) > len(COLOURS)
    for i, (session, values) in enumerate(spectra.items()):
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "ls": _LINES[i % 4], "lw": 1.5}
        if many:
            look = {"color": COLOURS[0], "alpha": 0.35, "lw": 0.9}
        label = None if many and i else ("each session" if many else f"session {session}")
        kept = np.where(values > floor, values, np.nan)
        axes.plot(np.arange(1, len(values) + 1), kept, label=label, **look)
    lost = min(int((values > floor).sum()) for values in spectra.values())
    total = len(next(iter(spectra.values())))
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("component" + (f" ({lost} of {total} above rounding)" if lost < total else ""))
    axes.set_ylabel(f"noise variance, {part}")
    _finish(axes, False)
    return figure


def trials_per_block(
    parts: Mapping[str, Recording], level: str = "session", *, ax: Axes | None = None
) -> Figure:
    """Trials of each session (or run), training and test on one another.

    Parameters
    ----------
    parts : mapping of name to Recording
        Recordings of one person.
    level : {"session", "run"}
        What a bar stands for; a run is that of its session. More than 24 blocks become a histogram.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    figure, axes = _axes(ax, (6.4, 3.4))
    counts = pd.DataFrame({name: _counts(part, level) for name, part in parts.items()}).fillna(0)
    counts = counts.loc[sorted(counts.index, key=natural_key)]
    names = list(parts)
    colours = [PART_COLOURS.get(n, COLOURS[i % len(COLOURS)]) for i, n in enumerate(names)]
    if len(counts) > MAX_BARS:
        columns = [counts[name].to_numpy() for name in names]
        axes.hist(columns, bins=12, color=colours, label=names, edgecolor="white")
        axes.set_xlabel(f"trials in a {level}")
        axes.set_ylabel(f"{level}s ({len(counts)} in all)")
    else:
        below = np.zeros(len(counts))
        for name, colour, hatch in zip(names, colours, ("", "//", ".."), strict=False):
            column = counts[name].to_numpy(dtype=float)
            axes.bar(range(len(counts)), column, bottom=below, color=colour, hatch=hatch,
                     edgecolor="white", lw=0, width=0.72, label=name)  # fmt: skip
            below += column
        labels = [str(name) for name in counts.index]
        crowded = len(labels) > 12 or sum(map(len, labels)) > 50
        look: dict[str, Any] = {"rotation": 40, "ha": "right"} if crowded else {}
        axes.set_xticks(range(len(labels)), labels, **look)
        axes.set_xlabel(level)
        axes.set_ylabel("trials")
        axes.set_ylim(top=1.06 * max(float(below.max()), 1.0))
        axes.set_xlim(-0.6, max(len(labels), 3) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="x", visible=False)
    # Bars may reach anywhere within the axes.
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names), frameon=False,
                fontsize="small")  # fmt: skip
    return figure


def reliability(
    parts: Mapping[str, Recording], measure: str = "stability", *, ax: Axes | None = None
) -> Figure:
    """Histogram over voxels of how well they repeat, from the repetitions of the training images.

    Where training images were shown once, the test images' repetitions are used: for looking at,
    not for choosing voxels.

    Parameters
    ----------
    parts : mapping of name to Recording
        Recordings of one person without a time axis.
    measure : {"stability", "noise_ceiling"}
        Correlation of repetitions, or explainable share of a single trial's variance.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Raises
    ------
    DataError
        If nothing was shown twice.
    """
    measured: Any = {"stability": stability, "noise_ceiling": noise_ceiling}[measure]
    problem: DataError | None = None
    for name, part in parts.items():
        if name == "imagery":
            continue
        try:
            values = np.asarray(measured(part), dtype=np.float64)
        except DataError as error:
            problem = error
            continue
        return _histogram(values, name, measure, part, ax)
    raise problem or DataError("there is nothing to measure", found="no parts")


def _histogram(values: Any, name: str, measure: str, part: Recording, ax: Axes | None) -> Figure:
    figure, axes = _axes(ax, (6.4, 3.4))
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise DataError(f"no voxel of {part.name} varies")
    axes.hist(finite, bins=min(40, max(8, len(finite) // 4)), color=COLOURS[2], edgecolor="white",
              lw=0.5)  # fmt: skip
    middle = float(np.median(finite))
    axes.axvline(middle, color="#1a1d21", lw=1.5, ls="--", label=f"median {middle:.3f}")
    axes.axvline(0, color="#6b7280", lw=1.2, ls=":", label="no signal")
    words = {"stability": "correlation of repetitions", "noise_ceiling": "noise ceiling"}
    axes.set_xlabel(f"{words[measure]}, {name} images")
    axes.set_ylabel(f"{part.sensors.unit_name} ({len(finite)} in all)")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    _finish(axes, False)
    return figure


def quality_figures(parts: Mapping[str, Recording]) -> dict[str, tuple[Figure, str]]:
    """All figures that fit the recordings of one person, with a caption each.

    Parameters
    ----------
    parts : mapping of name to Recording
        Prepared parts.

    Returns
    -------
    dict of str to (Figure, str)
        By file name without suffix.
    """
    out: dict[str, tuple[Figure, str]] = {}
    first = next(iter(parts.values()))
    if first.times is not None:
        before = "Before 0 s it should stay near zero; a" if first.times[0] < 0 else "A"
        out["evoked"] = (
            evoked_response(parts),
            f"Evoked response. {before} response to pictures begins after 50 to 100 ms. The band "
            "is one standard error.",
        )
        out["field_power"] = (
            global_field_power(parts),
            "Global field power of each session. Sessions should peak at the same times.",
        )
        out["noise"] = (
            noise_spectrum(parts),
            "Spectrum of the noise covariance. Whitened data are flat near 1; components that fall "
            "to zero were removed before, by a reference or by interpolation.",
        )
    else:
        for measure, caption in (
            ("stability", "How well voxels repeat: mean correlation of repetitions."),
            ("noise_ceiling", "Share of a single trial's variance that the picture explains."),
        ):
            try:
                out[measure] = (reliability(parts, measure), caption)
            except DataError:
                continue  # nothing was shown twice
    for level in ("session", "run"):
        if level == "session" or first.modality == "fmri":
            out[f"trials_per_{level}"] = (
                trials_per_block(parts, level),
                f"Trials of each {level}. Missing ones were rejected, or their files are missing.",
            )
    return out


def _require_times(parts: Mapping[str, Recording]) -> NDArray[np.float64]:
    times = next((part.times for part in parts.values()), None)
    if times is None or any(part.times is None for part in parts.values()):
        raise DataError(
            "this figure needs responses over time",
            found="no parts" if not parts else "signals without a time axis",
        )
    return times


def _scale(recording: Recording, curves: list[Any]) -> tuple[float, str]:
    """Factor and unit: micro-, femto- and so on, or none where signals were standardised."""
    ops = {str(entry.get("op", "")) for entry in recording.history}
    top = max((float(np.abs(curve).max()) for curve in curves), default=0.0)
    standard = ops & {"whitening", "baseline_zscore", "standardise", "zscore"}
    if standard or not 0 < top < 1e-2:
        return 1.0, " (a.u.)" if not standard else " (s.d.)"
    unit = UNITS.get(recording.modality, "")
    factor, prefix = next(
        (f, p) for f, p in ((1e3, "m"), (1e6, "µ"), (1e9, "n"), (1e12, "p"), (1e15, "f"))
        if top * f >= 0.1 or p == "f"
    )  # fmt: skip
    return factor, f" ({prefix}{unit})"


def _time_axis(axes: Axes) -> None:
    axes.axvline(0, color="#6b7280", lw=1, ls=":")
    axes.set_xlabel("time from onset (s)")
    axes.margins(x=0.01)


def _counts(part: Recording, level: str) -> pd.Series[int]:
    trials = part.trials
    names = trials["session"]
    if level == "run":
        names = names + "/" + trials["run"]
    if len(part.subjects) > 1:
        names = trials["subject"] + "/" + names
    weights = trials["n_averaged"] if "n_averaged" in trials else pd.Series(1, trials.index)
    counts: pd.Series[int] = weights.groupby(names.to_numpy()).sum()
    return counts
