"""MEG of the simulated brain: 306 sensors in tesla and tesla per metre.

Names, order and 102 sites are those of the Vectorview (Neuromag) layout that comes with MNE, with a
magnetometer and two planar gradiometers at each site. MNE ships the layout in two dimensions only,
so the helmet is a sphere around the head's. Its radius and how far it reaches down are chosen, as
is the density of the sensors' noise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import mne
import numpy as np

from phosphene.simulation.sensors import Forward, head, solve_forward

HELMET_GAP = 0.020  # metres from the scalp to the coils
HELMET_REACH = np.deg2rad(110.0)  # angle from the top of the head to the layout's rim
FEMTOTESLA = 1e-15
FEMTOTESLA_PER_CM = 1e-13  # tesla per metre


@functools.cache
def _sites() -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the magnetometers, and the direction of every site from the head's centre."""
    layout = mne.channels.read_layout("Vectorview-mag")
    flat = layout.pos[:, :2] + layout.pos[:, 2:4] / 2
    flat = flat - (flat.max(axis=0) + flat.min(axis=0)) / 2
    radius = np.linalg.norm(flat, axis=1)
    angle = HELMET_REACH * radius / radius.max()
    around = flat / np.maximum(radius, 1e-12)[:, None]
    directions = np.column_stack([np.sin(angle)[:, None] * around, np.cos(angle)])
    return tuple(name.replace(" ", "") for name in layout.names), directions


@functools.cache
def _names_and_kinds() -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [site[:-1] + last for site in _sites()[0] for last in "231"]
    return tuple(names), ("grad", "grad", "mag") * (len(names) // 3)


MEG_NAMES: tuple[str, ...] = _names_and_kinds()[0]
"""306 channels, site by site: two planar gradiometers (ending in 2 and 3), a magnetometer (1)."""


def meg_names(kind: str | None = None, *, posterior: bool = False) -> tuple[str, ...]:
    """Names of some of the sensors, for the argument ``channels`` of `simulate`.

    Parameters
    ----------
    kind : {"mag", "grad"}, optional
        Magnetometers or gradiometers only.
    posterior : bool
        Only sensors behind the middle of the head, nearest to visual cortex.

    Examples
    --------
    >>> len(meg_names()), len(meg_names("mag")), len(meg_names("grad"))
    (306, 102, 204)
    >>> 20 < len(meg_names("mag", posterior=True)) < 51
    True
    """
    names, kinds = _names_and_kinds()
    behind = np.repeat(_sites()[1][:, 1] < -0.35, 3)
    return tuple(
        name
        for name, which, back in zip(names, kinds, behind, strict=True)
        if kind in (None, which) and (back or not posterior)
    )


def meg_info(sfreq: float, names: Sequence[str] | None = None) -> mne.Info:
    """Places and orientations of the sensors around the simulated head.

    Parameters
    ----------
    sfreq : float
        Sampling rate in hertz.
    names : sequence of str, optional
        Some of `MEG_NAMES`, in the order wanted.

    Examples
    --------
    >>> info = meg_info(200.0, ["MEG0111", "MEG0112"])
    >>> info.get_channel_types()
    ['mag', 'grad']
    """
    every, kinds = _names_and_kinds()
    info = mne.create_info(list(every), sfreq, list(kinds), verbose="ERROR")
    sphere = head()
    directions = _sites()[1]
    for site, outward in enumerate(directions):
        # Two directions along the helmet; a gradiometer measures along the first axis of its coil.
        first = np.cross((0.0, 1.0, 0.0), outward)
        first /= np.linalg.norm(first)
        second = np.cross(outward, first)
        place = (sphere.radius + HELMET_GAP) * outward
        for offset, axes in enumerate(((first, second), (second, -first), (first, second))):
            info["chs"][3 * site + offset]["loc"][:] = np.concatenate([place, *axes, outward])
    shift = np.eye(4)
    shift[:3, 3] = sphere["r0"]
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", shift)
    if names is None:
        return info
    where = {name: row for row, name in enumerate(every)}
    return mne.pick_info(info, [where[name] for name in names], verbose="ERROR")


@functools.cache
def meg_forward() -> Forward:
    """Forward model of the 306 sensors: MNE's sphere, in which radial dipoles are silent.

    Examples
    --------
    >>> forward = meg_forward()
    >>> forward.gain.shape[0], forward.names[:3]
    (306, ('MEG0112', 'MEG0113', 'MEG0111'))
    """
    gain, area, directions = solve_forward(meg_info(1000.0))
    units = {"mag": FEMTOTESLA, "grad": FEMTOTESLA_PER_CM}
    noise_unit = np.asarray([units[kind] for kind in _names_and_kinds()[1]])
    return Forward(MEG_NAMES, gain, area, directions, noise_unit)
