"""ECoG of the simulated brain: grids on occipito-temporal cortex, and their high-gamma power.

What a population does shows in the power between 80 and 150 Hz at the electrodes around it, falling
off exponentially with distance. The logarithm of that power over its baseline is

    l_e(t) = log_power * sum_u exp(-d_eu / reach) a_u g_u(t) + response to any picture + noise

with the activity ``a_u`` and the course in time ``g_u`` of the units that EEG and MEG measure as
dipoles. A world with ``ecog_signal="voltage"`` gives volts instead: a broadband carrier whose power
follows exp(l), on top of a slow background that tells nothing.

Places of grids, sizes and noise are chosen, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import mne
import numpy as np

from phosphene import _random
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError
from phosphene.simulation.components import Features, subject_streams
from phosphene.simulation.electric import ElectricSubject, noise_circle, session_levels
from phosphene.simulation.noise import SpectralNoise, one_over_f, white
from phosphene.simulation.sensors import POINTS_PER_AREA, eeg_forward, head, source_places
from phosphene.simulation.sources import EVOKED, draw_sources
from phosphene.simulation.world import World

# Name, rows from below to above, columns from back to front, direction of the centre.
GRIDS: tuple[tuple[str, int, int, tuple[float, float, float]], ...] = (
    ("LAT", 6, 6, (0.55, -0.72, -0.02)),
    ("VEN", 4, 6, (0.40, -0.50, -0.45)),
    ("OCC", 4, 4, (0.18, -0.95, 0.08)),
)
PITCH = 0.008  # metres between electrodes
SURFACE = 0.80  # radius of the brain's surface in head radii
GRID_SPREAD = 0.04  # by how much a person's grids lie elsewhere, in head radii
EVOKED_LOG_POWER = 0.8  # response to any picture in a population right at the electrode

NOISE_EXPONENT = 1.0
NOISE_SHARES = (0.3, 0.2, 0.5)  # slow, of the electrode; slow, common to all; white
BAND = (80.0, 150.0)  # hertz in which baseline power is stated
CARRIER = (60.0, 200.0)  # hertz; wider than the band, so that modulation leaks in as well as out
BASELINE_VOLTS = 4e-6  # root mean square in the band
BACKGROUND_VOLTS = 30e-6
BACKGROUND_EXPONENT = 2.5
BLOCK = 128  # trials at once; part of what a seed means


def electrodes(subject: str, seed: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Electrodes of a person, on one hemisphere.

    Returns
    -------
    names : tuple of str
        Grid and number, e.g. ``LAT01``.
    places : ndarray, shape (electrodes, 3)
        In head radii from the centre of the sphere.
    """
    own = subject_streams(seed, subject, "electrodes")[1]
    side = own.choice((-1.0, 1.0))
    step = PITCH / (SURFACE * float(head().radius))  # radians
    names: list[str] = []
    places: list[np.ndarray] = []
    for grid, rows, columns, towards in GRIDS:
        centre = np.asarray(towards) + own.normal(0.0, GRID_SPREAD, 3)
        centre /= np.linalg.norm(centre)
        forwards = np.cross(centre, (0.0, 0.0, -1.0))
        forwards *= np.sign(forwards[1]) / np.linalg.norm(forwards)
        upwards = np.cross(centre, forwards)
        upwards *= np.sign(upwards[2])
        up, front = np.meshgrid(
            (np.arange(rows) - (rows - 1) / 2) * step,
            (np.arange(columns) - (columns - 1) / 2) * step,
            indexing="ij",
        )
        flat = centre + np.tan(up)[..., None] * upwards + np.tan(front)[..., None] * forwards
        flat = flat.reshape(-1, 3)
        flat *= SURFACE / np.linalg.norm(flat, axis=1, keepdims=True)
        places.append(flat * (side, 1.0, 1.0))
        names += [f"{grid}{number + 1:02d}" for number in range(rows * columns)]
    return tuple(names), np.concatenate(places)


def ecog_sensors(names: tuple[str, ...], places: np.ndarray, sfreq: float) -> Sensors:
    """Sensors at places in head radii; MNE's coordinates of the head."""
    sphere = head()
    metres = sphere["r0"] + float(sphere.radius) * places
    info = mne.create_info(list(names), sfreq, "ecog", verbose="ERROR")
    montage = mne.channels.make_dig_montage(
        dict(zip(names, metres, strict=True)), coord_frame="head"
    )
    info.set_montage(montage, verbose="ERROR")
    return Sensors("ecog", names, info)


def ecog_subject(
    world: World,
    subject: str,
    seed: int,
    features: Mapping[str, Features],
    n_stimuli: int,
    fit_on: np.ndarray,
    places: np.ndarray,
) -> ElectricSubject:
    """Draw a person; parameters as in `electric.electric_subject`, ``places`` those of electrodes.

    The topography of the result is in units of log power.
    """
    groups = draw_sources(world, subject, seed, features, n_stimuli, fit_on, eeg_forward())
    own = subject_streams(seed, subject, "populations")[1]
    where, _ = source_places()
    radius = 1e3 * float(head().radius)  # millimetres
    size = world.ecog_log_power * world.signal
    size *= np.exp(subject_streams(seed, subject, "size")[1].normal(0.0, world.subject_spread))
    topography = []
    for name, group in groups.items():
        # Units of an area are populations beside each other, where a dipole sums them up.
        place = group.place // POINTS_PER_AREA * POINTS_PER_AREA
        place = place + own.integers(POINTS_PER_AREA, size=place.shape)
        gap = np.linalg.norm(places[:, None, None] - where[place], axis=-1) * radius
        reached = np.exp(-gap / world.ecog_reach).sum(axis=1)
        if name == "evoked":
            # Power rises in every area that responds, whichever way its currents flow; where the
            # dipoles are off, so is this.
            loud = np.asarray([abs(sign) * relative for _, sign, _, _, relative in EVOKED])
            topography.append(reached * loud * EVOKED_LOG_POWER * (world.evoked_uv > 0))
        else:
            topography.append(reached * size)
    return ElectricSubject(
        np.concatenate([group.activity for group in groups.values()], axis=-1),
        np.concatenate(topography, axis=1),
        np.concatenate([group.latency for group in groups.values()]),
        np.concatenate([group.width for group in groups.values()]),
        _noise(world, len(places), subject_streams(seed, subject, "noise")[1]),
        np.arange(world.n_times) / world.sfreq,
    )


def _noise(world: World, n: int, own: np.random.Generator) -> SpectralNoise:
    """Noise of log power; volts bring the white part themselves, as power has to be estimated."""
    n_circle, freqs = noise_circle(world)
    slow = one_over_f(freqs, NOISE_EXPONENT, 1.0)
    power = np.stack([slow, slow, white(freqs)])
    single, common, fast = NOISE_SHARES
    kinds = [single * np.eye(n), np.full((n, n), common), fast * np.eye(n)]
    if world.ecog_signal == "voltage":
        power, kinds = power[:2], kinds[:2]
    level = session_levels(world, own)
    spatial = np.stack(kinds)[:, None] * (world.noise * level[None, :, None, None]) ** 2
    return SpectralNoise(power, spatial, world.n_times, n_circle)


def require_rate(world: World) -> None:
    """Refuse worlds whose volts could not hold the carrier."""
    if world.ecog_signal == "voltage" and world.sfreq < 2 * CARRIER[1]:
        raise DataError(
            f"world {world.name!r}: the sampling rate is too low for high-gamma in volts",
            found=f"{world.sfreq:g} Hz",
            expected=f"{2 * CARRIER[1]:g} Hz or more",
        )


def voltages(log_power: np.ndarray, sfreq: float, seed: int) -> np.ndarray:
    """Volts with a given course of high-gamma power.

    Parameters
    ----------
    log_power : ndarray, shape (trials, electrodes, times)
        Logarithm of the power between 80 and 150 Hz over its baseline.
    sfreq : float
        Samples per second.
    seed : int
        Seed of carrier and background.

    Returns
    -------
    ndarray of float32, shape (trials, electrodes, times)
        At ``log_power`` 0 the power in the band is that of the baseline, 16 square microvolts.

    Examples
    --------
    >>> volts = voltages(np.zeros((2, 3, 500)), 500.0, seed=0)
    >>> volts.shape, bool(2e-5 < volts.std() < 5e-5)
    ((2, 3, 500), True)
    """
    volts = np.empty(log_power.shape, dtype=np.float32)
    n_times = log_power.shape[-1]
    n_circle = 2 * n_times
    freqs = np.fft.rfftfreq(n_circle, 1.0 / sfreq)
    carrier = ((freqs >= CARRIER[0]) & (freqs <= CARRIER[1])).astype(float)
    carrier /= carrier.sum()
    baseline = BASELINE_VOLTS * np.sqrt((CARRIER[1] - CARRIER[0]) / (BAND[1] - BAND[0]))
    background = one_over_f(freqs, BACKGROUND_EXPONENT, 1.0)
    for block, start in enumerate(range(0, len(volts), BLOCK)):
        rows = slice(start, start + BLOCK)
        rng = np.random.default_rng(_random.derive(seed, block))
        shape = volts[rows].shape
        fast = _coloured(carrier, shape, n_circle, rng)
        slow = _coloured(background, shape, n_circle, rng)
        everywhere = _coloured(background, (shape[0], 1, n_times), n_circle, rng)
        volts[rows] = baseline * np.exp(0.5 * log_power[rows]) * fast
        volts[rows] += BACKGROUND_VOLTS * np.sqrt(0.5) * (slow + everywhere)
    return volts


def _coloured(
    power: np.ndarray, shape: tuple[int, ...], n_circle: int, rng: np.random.Generator
) -> np.ndarray:
    """Stationary noise of unit variance with the given one-sided spectrum."""
    bins = rng.standard_normal((*shape[:-1], len(power))) * (1.0 + 0.0j)
    bins.imag = rng.standard_normal(bins.shape)
    bins[..., 0] = bins[..., 0].real * np.sqrt(2.0)
    bins[..., -1] = bins[..., -1].real * np.sqrt(2.0)
    scale = np.full(len(power), n_circle / 2.0)
    scale[[0, -1]] = n_circle / np.sqrt(2.0)
    wave: np.ndarray = np.fft.irfft(bins * np.sqrt(power) * scale, n=n_circle, axis=-1)
    return wave[..., : shape[-1]]
