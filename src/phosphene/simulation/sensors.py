"""What measures the simulated brain: source places and the forward model of each modality.

Places are given once, for all electrical modalities, in head radii from the centre of the sphere
(x right, y front, z up). A modality adds a function that returns a `Forward` for them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mne
import numpy as np

from phosphene import _random
from phosphene.data import sensors as _sensors

EEG_NAMES: tuple[str, ...] = (
    "Fp1", "F3", "F7", "FT9", "FC5", "FC1", "C3", "T7", "TP9", "CP5", "CP1", "Pz", "P3", "P7",
    "O1", "Oz", "O2", "P4", "P8", "TP10", "CP6", "CP2", "Cz", "C4", "T8", "FT10", "FC6", "FC2",
    "F4", "F8", "Fp2", "AF7", "AF3", "AFz", "F1", "F5", "FT7", "FC3", "FCz", "C1", "C5", "TP7",
    "CP3", "P1", "P5", "PO7", "PO3", "POz", "PO4", "PO8", "P6", "P2", "CPz", "CP4", "TP8", "C6",
    "C2", "FC4", "FT8", "F6", "F2", "AF4", "AF8",
)  # fmt: skip
"""63 channels of the standard 10-10 set: the common 64-channel cap without its reference Fz."""

OCCIPITO_PARIETAL: tuple[str, ...] = _sensors.OCCIPITO_PARIETAL
"""The 17 channels over visual cortex that most retrieval studies use."""

AREAS: dict[str, tuple[float, float, float]] = {
    "V1": (0.09, -0.74, 0.02),
    "V2": (0.16, -0.71, 0.08),
    "V3": (0.24, -0.67, 0.14),
    "V4": (0.33, -0.62, -0.10),
    "LOC": (0.47, -0.55, -0.06),
    "FFA": (0.42, -0.42, -0.34),
    "PPA": (0.29, -0.32, -0.36),
    "ATL": (0.56, -0.04, -0.34),
}
"""Centres of the right-hemisphere areas; the left ones are their mirror images."""

POINTS_PER_AREA = 12
AREA_SPREAD = 0.05
BACKGROUND_POINTS = 240
BACKGROUND_RADIUS = 0.74


@dataclass(frozen=True, eq=False)
class Forward:
    """What one modality measures of dipoles at fixed places.

    Parameters
    ----------
    names : tuple of str
        Channel names.
    gain : ndarray, shape (channels, places, 3)
        Measured value per nAm along x, y and z: volts against the average reference (EEG), tesla
        and tesla per metre (MEG).
    area : ndarray of str, shape (places,)
        Area of every place; ``"background"`` for those that only make noise.
    directions : ndarray, shape (places, 3)
        Outward (radial) unit vector of every place.
    noise_unit : ndarray, shape (channels,), optional
        Where sensors have a noise of their own: one femtotesla (magnetometers) or one femtotesla
        per centimetre (gradiometers), in tesla and tesla per metre.
    """

    names: tuple[str, ...]
    gain: np.ndarray
    area: np.ndarray
    directions: np.ndarray
    noise_unit: np.ndarray | None = None

    def places(self, *areas: str) -> np.ndarray:
        """Indices of the places in the given areas."""
        return np.flatnonzero(np.isin(self.area, areas))

    def topography(self, places: np.ndarray, orientations: np.ndarray) -> np.ndarray:
        """Field of unit dipoles, shape (channels, n).

        Parameters
        ----------
        places : ndarray of int, shape (n,)
            Indices of places.
        orientations : ndarray, shape (n, 3)
            Unit vectors.
        """
        field: np.ndarray = np.einsum("cpx,px->cp", self.gain[:, places], orientations)
        return field


@functools.cache
def source_places() -> tuple[np.ndarray, np.ndarray]:
    """Places of all dipoles in head radii, shape (places, 3), with the area of each."""
    rng = _random.generator(0, "simulation", "places")
    points: list[np.ndarray] = []
    area: list[str] = []
    for name, centre in AREAS.items():
        scatter = rng.normal(0.0, AREA_SPREAD, (POINTS_PER_AREA, 3))
        right = np.asarray(centre) + scatter
        for sign in (1.0, -1.0):
            points.append(right * (sign, 1.0, 1.0))
            area += [name] * POINTS_PER_AREA
    golden = np.pi * (3.0 - np.sqrt(5.0))
    index = np.arange(BACKGROUND_POINTS)
    height = 1.0 - 1.45 * (index + 0.5) / BACKGROUND_POINTS  # none below the brain
    ring = np.sqrt(1.0 - height**2)
    shell = np.stack([ring * np.cos(golden * index), ring * np.sin(golden * index), height], axis=1)
    points.append(BACKGROUND_RADIUS * shell)
    area += ["background"] * BACKGROUND_POINTS
    return np.concatenate(points), np.asarray(area)


@functools.cache
def head() -> mne.bem.ConductorModel:
    """Three-layer sphere fitted to MNE's ``standard_1005`` montage; it needs no file."""
    info = _eeg_info()
    return mne.make_sphere_model("auto", "auto", info, verbose="ERROR")


def _eeg_info() -> mne.Info:
    info = mne.create_info(list(EEG_NAMES), 1000.0, "eeg", verbose="ERROR")
    info.set_montage("standard_1005", verbose="ERROR")
    return info


def solve_forward(info: mne.Info) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain of all channels of ``info`` for all places, their areas and outward directions.

    Returns
    -------
    gain : ndarray, shape (channels, places, 3)
        Measured value per nAm.
    area : ndarray of str, shape (places,)
    directions : ndarray, shape (places, 3)
    """
    sphere = head()
    points, area = source_places()
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    space = mne.setup_volume_source_space(
        pos={"rr": sphere["r0"] + sphere.radius * points, "nn": directions}, verbose="ERROR"
    )
    electric = "eeg" in info.get_channel_types(unique=True)
    solution = mne.make_forward_solution(
        info, trans=None, src=space, bem=sphere, meg=not electric, eeg=electric, verbose="ERROR"
    )
    if solution["nsource"] != len(points):  # pragma: no cover - places are inside by construction
        raise RuntimeError(f"{len(points) - solution['nsource']} dipoles lie outside the brain")
    gain = solution["sol"]["data"].reshape(len(info["ch_names"]), len(points), 3) * 1e-9
    return gain, area, directions


@functools.cache
def eeg_forward() -> Forward:
    """Forward model of the 63 EEG channels: MNE's three-layer sphere, average reference.

    It needs no file: the montage is MNE's ``standard_1005``, and the sphere is fitted to it.

    Examples
    --------
    >>> forward = eeg_forward()
    >>> forward.gain.shape[0], bool(abs(forward.gain.mean(axis=0)).max() < 1e-12)
    (63, True)
    """
    gain, area, directions = solve_forward(_eeg_info())
    gain = gain - gain.mean(axis=0)
    return Forward(EEG_NAMES, gain, area, directions)
