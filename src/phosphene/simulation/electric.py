"""Electrical responses of one simulated person: sources seen by channels, and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.fft

from phosphene.simulation.components import Features, bumps, subject_streams, unit_vectors
from phosphene.simulation.noise import SpectralNoise, one_over_f, oscillation, white
from phosphene.simulation.sensors import Forward
from phosphene.simulation.sources import draw_sources
from phosphene.simulation.world import World

SENSOR_FLOOR = 0.05  # share of sensor noise that the average reference does not reach


@dataclass(frozen=True, eq=False)
class ElectricSubject:
    """Sources of one person, seen by one set of channels.

    Parameters
    ----------
    activity : ndarray, shape (levels, stimuli, units)
        Activity of all units; it is 1 for every stimulus in those of the evoked response.
    topography : ndarray, shape (channels, units)
        Field of each unit at its peak: volts (EEG), tesla and tesla per metre (MEG), or change of
        the logarithm of power (ECoG).
    latency, width : ndarray, shape (units,)
        Course in time, seconds.
    noise : SpectralNoise
        Noise of a single trial.
    times : ndarray, shape (times,)
        Seconds.
    """

    activity: np.ndarray
    topography: np.ndarray
    latency: np.ndarray
    width: np.ndarray
    noise: SpectralNoise
    times: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one response."""
        return len(self.topography), len(self.times)

    def basis(self, shift: int) -> np.ndarray:
        """Response per unit, shape (units, channels * times), delayed by ``shift`` samples."""
        step = self.times[1] - self.times[0]
        course = bumps(self.times - shift * step, self.latency, self.width)
        basis = self.topography.T[:, :, None] * course[:, None, :]
        flat: np.ndarray = basis.reshape(len(course), -1).astype(np.float32)
        return flat


def electric_subject(
    world: World,
    subject: str,
    seed: int,
    features: Mapping[str, Features],
    n_stimuli: int,
    fit_on: np.ndarray,
    forward: Forward,
    channels: np.ndarray,
    eeg: Forward | None = None,
) -> ElectricSubject:
    """Draw a person.

    Parameters
    ----------
    world : World
        Parameters.
    subject : str
        Name; a person depends on it, not on who else is simulated.
    seed : int
        Seed of the study.
    features : mapping of str to Features
        Features of the components ``early``, ``object`` and ``meaning``; any may be missing.
    n_stimuli : int
        Number of stimuli.
    fit_on : ndarray
        Stimuli over which activity has unit variance.
    forward : Forward
        Forward model of all channels.
    channels : ndarray of int
        Channels that are recorded.
    eeg : Forward, optional
        What amplitudes and noise of the world refer to, where ``forward`` is not EEG.
    """
    groups = draw_sources(world, subject, seed, features, n_stimuli, fit_on, eeg or forward)
    noise = make_noise(world, forward, subject_streams(seed, subject, "noise")[1], eeg)
    return ElectricSubject(
        np.concatenate([group.activity for group in groups.values()], axis=-1),
        np.concatenate([group.topography(forward) for group in groups.values()], axis=1)[channels],
        np.concatenate([group.latency for group in groups.values()]),
        np.concatenate([group.width for group in groups.values()]),
        noise.pick(channels),
        np.arange(world.n_times) / world.sfreq,
    )


def noise_circle(world: World) -> tuple[int, np.ndarray]:
    """Samples of the circle that noise is drawn on, and its frequencies in hertz."""
    n_circle = 2 * scipy.fft.next_fast_len(int(np.ceil(0.75 * world.n_times)), real=True)
    return n_circle, np.fft.rfftfreq(n_circle, 1.0 / world.sfreq)


def session_levels(world: World, own: np.random.Generator) -> np.ndarray:
    """Level of the noise in every session; the mean square is 1."""
    level = np.exp(own.normal(0.0, world.session_spread, world.sessions))
    level /= np.sqrt(np.mean(level**2))
    return level


def make_noise(
    world: World, forward: Forward, own: np.random.Generator, eeg: Forward | None = None
) -> SpectralNoise:
    """Noise of one person at all channels: background, alpha rhythm and sensors.

    Background and alpha rhythm come from dipoles; their strength is such that EEG channels have the
    noise of the world. Sensors of EEG add their share of it, those of MEG a noise of their own.
    """
    n_circle, freqs = noise_circle(world)
    power = np.stack(
        [
            one_over_f(freqs, world.noise_exponent, 1.0),
            oscillation(freqs, own.normal(10.2, 0.7), 1.0),
            white(freqs),
        ]
    )
    everywhere = forward.places("background")
    back = everywhere[(forward.directions[everywhere] @ (0.0, -0.9, 0.45)) > 0.6]
    share = (
        1.0 - world.alpha_share - world.sensor_share,
        world.alpha_share,
        world.sensor_share,
    )
    level = session_levels(world, own)
    n = len(forward.names)
    spatial = np.empty((3, world.sessions, n, n))
    for process, places in enumerate((everywhere, back)):
        directions = unit_vectors(len(places), own)
        fields = forward.topography(places, directions)
        reference = fields if eeg is None else eeg.topography(places, directions)
        loud = own.normal(0.0, 0.5, len(places))
        variance = []
        for session in range(world.sessions):
            strength = np.exp(loud + own.normal(0.0, 0.3, len(places)))
            scaled = fields * strength
            spatial[process, session] = scaled @ scaled.T
            seen = spatial[process, session]
            if eeg is not None:
                seen = (reference * strength) @ (reference * strength).T
            variance.append(np.trace(seen) / len(reference))
        spatial[process] *= share[process] / np.mean(variance)
    if forward.noise_unit is None:
        centring = np.eye(n) - 1.0 / n
        spatial[2] = (1.0 - SENSOR_FLOOR) * centring @ centring.T + SENSOR_FLOOR * np.eye(n)
        spatial[2] *= share[2] / np.mean([np.trace(one) / n for one in spatial[2]])
        spatial *= (world.noise * 1e-6 * level[None, :, None, None]) ** 2
    else:
        spatial[:2] *= (world.noise * 1e-6 * level[None, :, None, None]) ** 2
        density = world.meg_noise * forward.noise_unit
        spatial[2] = np.diag(density**2 * (world.sfreq / 2.0))
    return SpectralNoise(power, spatial, world.n_times, n_circle)
