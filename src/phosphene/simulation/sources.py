"""Sources of one simulated person: what is active where and when, whatever measures it.

The strength of a component is given by what 63 EEG channels would see of it. Every other modality
measures the same dipoles, so that the fields of one person agree between modalities.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phosphene.simulation.components import (
    Features,
    Population,
    bumps,
    stratified,
    subject_streams,
    unit_vectors,
)
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
LATENCY_SPREAD = 0.006  # seconds, between subjects


@dataclass(frozen=True, eq=False)
class Group:
    """Units of one component, or of the evoked response.

    Parameters
    ----------
    activity : ndarray, shape (levels, stimuli, units)
        Activity; it is 1 for every stimulus in the units of the evoked response.
    latency, width : ndarray, shape (units,)
        Course in time, seconds.
    place : ndarray of int, shape (dipoles, units)
        Places of the dipoles of every unit.
    direction : ndarray, shape (dipoles, units, 3)
        Their orientations, unit vectors.
    share : ndarray, shape (units,)
        Sizes of the units relative to each other; the sign is part of it.
    moment : float
        Moment in nAm of a dipole whose share is 1.
    """

    activity: np.ndarray
    latency: np.ndarray
    width: np.ndarray
    place: np.ndarray
    direction: np.ndarray
    share: np.ndarray
    moment: float

    def topography(self, forward: Forward) -> np.ndarray:
        """Field of every unit at its peak, shape (channels, units)."""
        field: np.ndarray = _shape(forward, self.place, self.direction) * self.share * self.moment
        return field


def _shape(forward: Forward, place: np.ndarray, direction: np.ndarray) -> np.ndarray:
    field = forward.topography(place[0], direction[0])
    for more, towards in zip(place[1:], direction[1:], strict=True):
        field = field + forward.topography(more, towards)
    return field


def draw_sources(
    world: World,
    subject: str,
    seed: int,
    features: Mapping[str, Features],
    n_stimuli: int,
    fit_on: np.ndarray,
    eeg: Forward,
) -> dict[str, Group]:
    """Draw the sources of a person; the evoked response is the last.

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
    eeg : Forward
        What the amplitudes of the world refer to.
    """
    levels = len(world.seen)
    stream = functools.partial(subject_streams, seed, subject)
    times = np.arange(world.n_times) / world.sfreq
    size = np.exp(stream("size")[1].normal(0.0, world.subject_spread)) * world.signal
    groups: dict[str, Group] = {}
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
        source = np.concatenate([_one_per_hemisphere(eeg, area, own) for area in kind.areas])
        towards = _directions(len(source), world.similarity, common, own)
        peak = np.concatenate([stratified(*kind.window, per_source, common) for _ in source])
        peak += own.normal(0.0, LATENCY_SPREAD)
        rise = common.uniform(*kind.width, n_units)
        place = np.repeat(source, per_source)[None]
        direction = np.repeat(towards, per_source, axis=0)[None]
        # Loudest moment, before noise: there the components have the amplitudes of the world.
        course = bumps(times, peak, rise)
        shape = _shape(eeg, place, direction)
        loudness = np.sqrt(np.mean(shape**2 @ course**2, axis=0).max())
        groups[name] = Group(
            np.broadcast_to(response, (levels, *response.shape[1:])),
            peak,
            rise,
            place,
            direction,
            np.ones(n_units),
            amplitude / loudness,
        )
    groups["evoked"] = _evoked(world, eeg, stream("evoked")[1], times, n_stimuli)
    return groups


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
    world: World, eeg: Forward, own: np.random.Generator, times: np.ndarray, n_stimuli: int
) -> Group:
    delay = own.normal(0.0, 0.5 * LATENCY_SPREAD)
    places, directions = [], []
    for area, *_ in EVOKED:
        place = _one_per_hemisphere(eeg, area, own)
        tilt = 0.2 * own.standard_normal((2, 3))
        direction = eeg.directions[place] + tilt
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        places.append(place)
        directions.append(direction)
    place, direction = np.stack(places, axis=1), np.stack(directions, axis=1)
    late = np.asarray([peak + delay for _, _, peak, _, _ in EVOKED])
    wide = np.asarray([rise for *_, rise, _ in EVOKED])
    shape = _shape(eeg, place, direction)
    wanted = np.asarray([sign * size for _, sign, _, _, size in EVOKED])
    share = wanted / np.sqrt(np.mean(shape**2, axis=0))
    course = np.sqrt(np.mean((shape * share @ bumps(times, late, wide)) ** 2, axis=0)).max()
    activity = np.ones((len(world.seen), n_stimuli, len(late)), dtype=np.float32)
    moment = float(world.evoked_uv * 1e-6 / course)
    return Group(activity, late, wide, place, direction, share, moment)
