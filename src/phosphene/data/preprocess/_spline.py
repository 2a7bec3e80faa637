"""Missing EEG channels from the others, by MNE's spherical splines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phosphene.data.sensors import Sensors
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

# Centre of the head in head coordinates, metres: a sphere fitted to few channels at the back of the
# head would lie anywhere, and the splines use directions from it only.
CENTRE = (0.0, 0.0, 0.04)
FEWEST = 4


def spline_weights(
    present: Sensors, absent: Sequence[str], target: Sensors | None
) -> tuple[NDArray[np.float64], Sensors]:
    """What each present channel contributes to each absent one.

    Parameters
    ----------
    present : Sensors
        The channels that are there, under their wanted names.
    absent : sequence of str
        Those to compute.
    target : Sensors, optional
        May know the places of the absent ones.

    Returns
    -------
    weights : ndarray, shape (absent, present)
        0 for bad channels.
    sensors : Sensors
        The present ones, then the absent ones.

    Raises
    ------
    DataError
        If too few channels are good, or a place is unknown.
    """
    import mne

    names = [*present.names, *absent]
    bads = [] if present.info is None else list(present.info["bads"])
    n_good = len(present) - len(bads)
    if n_good < FEWEST:
        raise DataError(
            f"too few channels to interpolate {listing(absent)} from",
            found=f"{n_good} good channels",
            expected=f"{FEWEST} or more",
        )
    info = _placed(present, absent, target)
    raw = mne.io.RawArray(np.eye(len(names))[:, : len(present)], info, verbose="error")
    raw.info["bads"] = [*bads, *absent]
    # MNE's interpolation is linear, so what it makes of unit signals is its matrix.
    raw.interpolate_bads(origin=CENTRE, method={"eeg": "spline"}, verbose="error")
    weights: NDArray[np.float64] = raw.get_data()[len(present) :]
    if present.info is None:
        return weights, Sensors("eeg", tuple(names))
    with info._unlock():
        for field in ("highpass", "lowpass", "line_freq", "custom_ref_applied"):
            info[field] = present.info[field]
    info["bads"] = bads
    return weights, Sensors("eeg", tuple(names), info)


def _placed(present: Sensors, absent: Sequence[str], target: Sensors | None) -> mne.Info:
    """Info of all channels with their places in head coordinates."""
    import mne

    names = [*present.names, *absent]
    own = present.positions()
    known: dict[str, NDArray[np.float64]] = {}
    if np.isfinite(own).all():
        known = dict(zip(present.names, own, strict=True))
        if target is not None:
            places = dict(zip(target.names, target.positions(), strict=True))
            known |= {n: places[n] for n in absent if np.isfinite(places[n]).all()}
    rest = [name for name in names if name not in known]
    if rest:
        try:
            known |= dict(zip(rest, Sensors.eeg(rest, 100.0).positions(), strict=True))
        except DataError as error:
            raise DataError(
                "the places of some channels are unknown, so nothing can be interpolated",
                found=error.what,
                fix="give the recording a montage (mne.Info.set_montage), or rename the channels "
                "to names of the 10-05 system",
            ) from error
    info = mne.create_info(names, present.sfreq or 100.0, "eeg", verbose="error")
    montage = mne.channels.make_dig_montage(ch_pos=known, coord_frame="head")
    info.set_montage(montage, verbose="error")
    return info
