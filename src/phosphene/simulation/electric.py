"""Electrical responses of one simulated person: sources, their courses in time, and noise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.fft

from phosphene.simulation.components import (
    Features,
    Population,
    bumps,
    stratified,
    subject_streams,
    unit_vectors,
)
from phosphene.simulation.noise import SpectralNoise, one_over_f, oscillation, white
from phosphene.simulation.sensors import POINTS_PER_AREA, Forward
from phosphene.simulation.world import World


@dataclass(frozen=True)
class _Kind:
    areas: tuple[str, ...]
    window: tuple[float, float]  # seconds, of the peaks
    width: tuple[float, float]  # seconds, rise times


KINDS: dict[str, _Kind] = {
    "early": _Kind(("V1", "V2", "V3"), (0.080, 0.150), (0.012, 0.020)),
    "object": _Kind(("V4", "LOC", "FFA", "PPA"), (0.150, 0.400), (0.020, 0.035)),
    "meaning": _Kind(("ATL", "FFA", "LOC"), (0.300, 0.500), (0.030, 0.045)),
}

# The response to any picture: area, sign, peak, rise time, size. It points outwards, so that the
# first peak is a positivity over occipital channels (P1), the second a lateral negativity (N1).
EVOKED: tuple[tuple[str, float, float, float, float], ...] = (
    ("V1", 1.0, 0.100, 0.020, 1.0),
    ("V2", 1.0, 0.102, 0.020, 0.8),
    ("LOC", -1.0, 0.170, 0.025, 0.7),
    ("V3", 1.0, 0.235, 0.040, 0.5),
    ("PPA", 1.0, 0.380, 0.080, 0.5),
)
SENSOR_FLOOR = 0.05  # share of sensor noise that the average reference does not reach
LATENCY_SPREAD = 0.006  # seconds, between subjects


@dataclass(frozen=True, eq=False)
class ElectricSubject:
    """Sources of one person, seen by one set of channels.

    Parameters
    ----------
    activity : ndarray, shape (levels, stimuli, units)
        Activity of all units; it is 1 for every stimulus in those of the evoked response.
    topography : ndarray, shape (channels, units)
        Field of each unit at its peak, volts.
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
    """
    levels = len(world.seen)
    stream = functools.partial(subject_streams, seed, subject)
    times = np.arange(world.n_times) / world.sfreq
    size = np.exp(stream("size")[1].normal(0.0, world.subject_spread)) * world.signal
    activity, field, latency, width = [], [], [], []
    for name, kind in KINDS.items():
        amplitude = getattr(world, f"{name}_uv") * 1e-6 * size
        if name not in features or amplitude == 0:
            continue
        common, own = stream(name)
        per_source = getattr(world, f"{name}_units")
        n_units = 2 * len(kind.areas) * per_source
        population = Population.draw(
            features[name].scores.shape[-1],
            n_units,
            similarity=world.similarity,
            rectified=world.rectified,
            normalisation=world.normalisation,
            common=common,
            own=own,
        )
        response = population.respond(features[name], fit_on)
        activity.append(np.broadcast_to(response, (levels, *response.shape[1:])))
        place = np.concatenate([_one_per_hemisphere(forward, area, own) for area in kind.areas])
        direction = _directions(len(place), world.similarity, common, own)
        topography = np.repeat(forward.topography(place, direction), per_source, axis=1)
        peak = np.concatenate([stratified(*kind.window, per_source, common) for _ in place])
        peak += own.normal(0.0, LATENCY_SPREAD)
        rise = common.uniform(*kind.width, n_units)
        # Loudest moment, before noise: there the components have the amplitudes of the world.
        course = bumps(times, peak, rise)
        loudness = np.sqrt(np.mean(topography**2 @ course**2, axis=0).max())
        field.append(topography * (amplitude / loudness))
        latency.append(peak)
        width.append(rise)
    evoked, peak, rise = _evoked(world, forward, stream("evoked")[1], times)
    activity.append(np.ones((levels, n_stimuli, len(peak)), dtype=np.float32))
    field.append(evoked)
    latency.append(peak)
    width.append(rise)
    noise = make_noise(world, forward, stream("noise")[1])
    return ElectricSubject(
        np.concatenate(activity, axis=-1),
        np.concatenate(field, axis=1)[channels],
        np.concatenate(latency),
        np.concatenate(width),
        noise.pick(channels),
        times,
    )


def _one_per_hemisphere(forward: Forward, area: str, own: np.random.Generator) -> np.ndarray:
    places = forward.places(area).reshape(2, POINTS_PER_AREA)
    return places[np.arange(2), own.integers(POINTS_PER_AREA, size=2)]


def _directions(
    n: int, similarity: float, common: np.random.Generator, own: np.random.Generator
) -> np.ndarray:
    shared, single = unit_vectors(n, common), unit_vectors(n, own)
    mixed: np.ndarray = np.sqrt(similarity) * shared + np.sqrt(1.0 - similarity) * single
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return mixed


def _evoked(
    world: World, forward: Forward, own: np.random.Generator, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    delay = own.normal(0.0, 0.5 * LATENCY_SPREAD)
    field, latency, width = [], [], []
    for area, sign, peak, rise, size in EVOKED:
        place = _one_per_hemisphere(forward, area, own)
        tilt = 0.2 * own.standard_normal((2, 3))
        direction = forward.directions[place] + tilt
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        both = forward.topography(place, direction).sum(axis=1)
        both *= sign * size / np.sqrt(np.mean(both**2))
        field.append(both)
        latency.append(peak + delay)
        width.append(rise)
    topography, late, wide = np.stack(field, axis=1), np.asarray(latency), np.asarray(width)
    course = np.sqrt(np.mean((topography @ bumps(times, late, wide)) ** 2, axis=0)).max()
    return topography * (world.evoked_uv * 1e-6 / course), late, wide


def make_noise(world: World, forward: Forward, own: np.random.Generator) -> SpectralNoise:
    """Noise of one person at all channels: background, alpha rhythm and sensors."""
    n_circle = 2 * scipy.fft.next_fast_len(int(np.ceil(0.75 * world.n_times)), real=True)
    freqs = np.fft.rfftfreq(n_circle, 1.0 / world.sfreq)
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
    level = np.exp(own.normal(0.0, world.session_spread, world.sessions))
    level /= np.sqrt(np.mean(level**2))
    n = len(forward.names)
    centring = np.eye(n) - 1.0 / n
    spatial = np.empty((3, world.sessions, n, n))
    for process, places in enumerate((everywhere, back)):
        fields = forward.topography(places, unit_vectors(len(places), own))
        loud = own.normal(0.0, 0.5, len(places))
        for session in range(world.sessions):
            drift = own.normal(0.0, 0.3, len(places))
            scaled = fields * np.exp(loud + drift)
            spatial[process, session] = scaled @ scaled.T
    spatial[2] = (1.0 - SENSOR_FLOOR) * centring @ centring.T + SENSOR_FLOOR * np.eye(n)
    for process in range(3):
        mean = np.mean([np.trace(one) / n for one in spatial[process]])
        spatial[process] *= share[process] / mean
    spatial *= (world.noise * 1e-6 * level[None, :, None, None]) ** 2
    return SpectralNoise(power, spatial, world.n_times, n_circle)
