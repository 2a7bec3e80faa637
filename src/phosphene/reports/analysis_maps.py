"""Figures of analyses with a colour for every value: heads, confusions, dissimilarities.

Drawn in ``cividis``, which looks the same with any kind of colour blindness and rises in grey.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phosphene.data.sensors import Sensors
from phosphene.errors import DataError
from phosphene.reports.plots import _axes, _finish, panels

_INK = "#1a1d21"
_NOTE = "#b45309"


def topomap(
    values: npt.ArrayLike,
    sensors: Sensors,
    *,
    label: str = "",
    limits: tuple[float, float] | None = None,
    simulated: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Values of channels on the head, by MNE; seen from above, the nose up.

    Parameters
    ----------
    values : array, shape (channels,)
        One per channel.
    sensors : Sensors
        Channels with places; those without one are left out.
    label : str
        Title, such as the time.
    limits : (low, high), optional
        Ends of the colours; by default 0 (or the lowest value, if negative) and the highest.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Raises
    ------
    DataError
        If fewer than four channels have a place.
    """
    from mne.viz import plot_topomap

    data = np.asarray(values, dtype=np.float64)
    if data.shape != (len(sensors),):
        raise DataError(
            "a map needs one value per channel", found=data.shape, expected=len(sensors)
        )
    placed = np.flatnonzero(np.isfinite(sensors.positions()).all(axis=1))
    if sensors.info is None or len(placed) < 4:
        raise DataError(
            "a map needs channels with places",
            found=f"{len(placed)} of {len(sensors)} {sensors.unit_name}",
            fix="use channel names of the 10-05 system (Sensors.eeg); voxels: masking.to_image",
        )
    if ax is None:
        figure = Figure(figsize=(3.2, 3.0), layout="constrained")
        ax = figure.add_subplot()
    low, high = limits or (min(0.0, float(data.min())), float(data.max()))
    image, _ = plot_topomap(
        data[placed], sensors.pick(placed).info, axes=ax, show=False, contours=4, sensors="k.",
        cmap="cividis", vlim=(low, max(high, low + 1e-30)), extrapolate="local",
    )  # fmt: skip
    figure = ax.get_figure(root=True)  # type: ignore[assignment]
    figure.colorbar(image, ax=ax, shrink=0.7)
    ax.set_title(label, fontsize="medium")
    if simulated:
        ax.set_xlabel("simulated data", fontsize="small", color=_NOTE)
    return figure


def topomaps(
    pattern: npt.ArrayLike,
    sensors: Sensors,
    times: npt.ArrayLike,
    *,
    n: int = 5,
    simulated: bool = False,
) -> Figure:
    """Maps of a pattern averaged over ``n`` stretches of time, all on one scale.

    Parameters
    ----------
    pattern : array, shape (channels, times)
        E.g. `phosphene.analysis.patterns.decoder_patterns`.
    sensors : Sensors
        Channels with places.
    times : array, shape (times,)
        Seconds.
    n : int
        Number of maps.
    simulated : bool
        Mark the figure as being of simulated data.
    """
    data, axis = np.asarray(pattern, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if data.shape != (len(sensors), len(axis)):
        raise DataError(
            "pattern, channels and times do not fit", found=data.shape,
            expected=(len(sensors), len(axis)),
        )  # fmt: skip
    parts = [part for part in np.array_split(np.arange(len(axis)), n) if len(part)]
    means = [data[:, part].mean(axis=1) for part in parts]
    limits = (min(0.0, min(m.min() for m in means)), max(m.max() for m in means))
    figure, axes = panels(len(parts), width=2.4, height=2.4)
    for ax, part, mean in zip(axes, parts, means, strict=True):
        label = f"{1000 * axis[part[0]]:.0f} to {1000 * axis[part[-1]]:.0f} ms"
        topomap(mean, sensors, label=label, limits=limits, simulated=simulated, ax=ax)
        if ax is not axes[-1]:
            figure.axes[-1].remove()  # one scale serves all
    return figure


def confusion(matrix: pd.DataFrame, *, simulated: bool = False, ax: Axes | None = None) -> Figure:
    """Confusion matrix: rows are what was seen, columns where the best candidate lies.

    Parameters
    ----------
    matrix : DataFrame
        What `confusion_matrix` gives; chance is written below every column where there is room.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    rows, columns = matrix.shape
    side = float(np.clip(0.5 * columns, 3.2, 9.0))
    figure, axes = _axes(ax, (side + 1.6, side * rows / columns + 1.0))
    values = matrix.to_numpy()
    image = axes.imshow(values, cmap="cividis", vmin=0.0, vmax=max(float(values.max()), 1e-9))
    few = max(rows, columns) <= 40
    chance = matrix.attrs.get("chance", {})
    if few:
        below = [f"{c}\n({100 * chance[c]:.2g} %)" if columns <= 12 and c in chance else str(c)
                 for c in matrix.columns]  # fmt: skip
        axes.set_xticks(range(columns), below, rotation=40, ha="right")
        axes.set_yticks(range(rows), [str(name) for name in matrix.index])
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if max(rows, columns) <= 12:
        for i in range(rows):
            for j in range(columns):
                light = values[i, j] > 0.6 * values.max()
                axes.text(j, i, f"{100 * values[i, j]:.0f}", ha="center", va="center",
                          fontsize="small", color=_INK if light else "white")  # fmt: skip
    axes.set_xlabel("decoded (in brackets: chance)" if few and columns <= 12 else "decoded")
    axes.set_ylabel("seen")
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the row's queries")
    _finish(axes, simulated)
    return figure


def rdm_image(
    matrix: npt.ArrayLike, *, label: str = "", simulated: bool = False, ax: Axes | None = None
) -> Figure:
    """A dissimilarity matrix in ranks of its pairs, from alike (dark) to different (bright).

    Parameters
    ----------
    matrix : array, shape (things, things)
        RDM.
    label : str
        Title.
    simulated : bool
        Mark the figure as being of simulated data.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    return rank_image(matrix, "dissimilarity", label, simulated, ax)


def rank_image(
    matrix: npt.ArrayLike, quantity: str, label: str, simulated: bool, ax: Axes | None
) -> Figure:
    """A symmetric matrix in ranks of its pairs; the diagonal stays empty."""
    from scipy.stats import rankdata

    values = np.asarray(matrix, dtype=np.float64)
    i, j = np.triu_indices(len(values), 1)
    ranks = np.full(values.shape, np.nan)
    ranks[i, j] = ranks[j, i] = (rankdata(values[i, j]) - 1) / max(len(i) - 1, 1)
    figure, axes = _axes(ax, (3.6, 3.2))
    image = axes.imshow(ranks, cmap="cividis", vmin=0.0, vmax=1.0)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(label, loc="left", fontsize="medium")
    figure.colorbar(image, ax=axes, shrink=0.8).set_label(f"{quantity} (rank)")
    if simulated:
        axes.set_xlabel("simulated data", fontsize="small", color=_NOTE)
    return figure
