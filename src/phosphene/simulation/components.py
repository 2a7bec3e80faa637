"""From features of what is seen to the activity of neural populations, and its course in time.

A component (early, object, meaning) is a set of features and a population of units. Units mix the
features linearly, are normalised by the activity of the population (divisive normalisation), and
some of them rectify; so activity is not linear in the features, and features are not linear in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phosphene import _random


@dataclass(frozen=True, eq=False)
class Features:
    """Standardised principal scores of one kind of features.

    Parameters
    ----------
    scores : ndarray, shape (levels, stimuli, dims)
        What is seen at each level of clarity; one level where clarity makes no difference.
    """

    scores: np.ndarray

    @property
    def n_levels(self) -> int:
        """Number of levels of clarity that differ."""
        return len(self.scores)


def reduce_features(raw: np.ndarray, fit_on: np.ndarray, dims: int, whitening: float) -> Features:
    """Standardise features, keep their leading principal components and even out their spread.

    Parameters
    ----------
    raw : ndarray, shape (levels, stimuli, width)
        Features.
    fit_on : ndarray of bool or int
        Stimuli that mean, deviation and components come from.
    dims : int
        Components kept, at most as many as there are.
    whitening : float
        0 keeps the components' variances, 1 makes them equal; in between, powers.
    """
    sample = raw[:, fit_on].reshape(-1, raw.shape[-1]).astype(np.float64)
    mean, spread = sample.mean(axis=0), sample.std(axis=0)
    # Features that never vary (a dead unit, an empty region) carry nothing.
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-8)
    sample = (sample - mean) * scale
    values, vectors = np.linalg.eigh(sample.T @ sample / len(sample))
    keep = np.argsort(values)[::-1][:dims]
    keep = keep[values[keep] > 1e-8 * values.max()]
    values, vectors = values[keep], vectors[:, keep]
    # An eigenvector's sign is arbitrary; fix it, so that seeds mean the same on every machine.
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(keep))])
    weights = values ** (-0.5 * whitening)
    weights /= np.sqrt(np.mean(values * weights**2))
    scores = ((raw - mean) * scale) @ (vectors * weights)
    return Features(scores.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Population:
    """Units of one component: how they mix features and respond.

    Parameters
    ----------
    mixing : ndarray, shape (dims, units)
        Weights of the features.
    rectified : ndarray of bool, shape (units,)
        Units that answer to one direction only.
    normalisation : float
        Strength of divisive normalisation, from 0 (none) to 1.
    """

    mixing: np.ndarray
    rectified: np.ndarray
    normalisation: float

    @classmethod
    def draw(
        cls,
        dims: int,
        units: int,
        *,
        similarity: float,
        rectified: float,
        normalisation: float,
        common: np.random.Generator,
        own: np.random.Generator,
    ) -> Population:
        """Draw a subject's population.

        Parameters
        ----------
        dims, units : int
            Number of features and of units.
        similarity : float
            Share of the mixing weights' variance that all subjects have in common.
        rectified : float
            Share of units that rectify.
        normalisation : float
            See the class.
        common, own : numpy.random.Generator
            Streams of all subjects together and of this one.
        """
        shared = common.standard_normal((dims, units))
        single = own.standard_normal((dims, units))
        mixing = np.sqrt(similarity) * shared + np.sqrt(1.0 - similarity) * single
        return cls(mixing / np.sqrt(dims), own.random(units) < rectified, normalisation)

    def respond(self, features: Features, fit_on: np.ndarray) -> np.ndarray:
        """Activity of the units, zero mean and unit variance over ``fit_on``.

        Returns
        -------
        ndarray of float32, shape (levels, stimuli, units)
        """
        drive = features.scores.astype(np.float64) @ self.mixing
        power = np.mean(drive**2, axis=-1, keepdims=True)
        typical = power[:, fit_on].mean()
        strength = self.normalisation
        drive = drive / np.sqrt((1.0 - strength) * typical + strength * power)
        drive[..., self.rectified] = np.maximum(drive[..., self.rectified], 0.0)
        sample = drive[:, fit_on].reshape(-1, drive.shape[-1])
        activity: np.ndarray = (drive - sample.mean(axis=0)) / np.maximum(sample.std(axis=0), 1e-8)
        return activity.astype(np.float32)


def stratified(low: float, high: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` values spread evenly over an interval, each drawn within its own part of it."""
    edges = np.linspace(low, high, n + 1)
    values: np.ndarray = rng.uniform(edges[:-1], edges[1:])
    return values


def bumps(times: np.ndarray, latency: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Courses in time: a fast rise and a slower fall around each latency, peak 1.

    Parameters
    ----------
    times : ndarray, shape (times,)
        Seconds.
    latency, width : ndarray, shape (n,)
        Time of the peak and rise time, seconds; the fall takes 1.5 times as long.

    Returns
    -------
    ndarray, shape (n, times)
    """
    delay = times[None, :] - latency[:, None]
    spread = np.where(delay < 0.0, 1.0, 1.5) * width[:, None]
    course: np.ndarray = np.exp(-0.5 * (delay / spread) ** 2)
    return course


def unit_vectors(n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` directions in space, evenly distributed, shape (n, 3)."""
    vectors = rng.standard_normal((n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def subject_streams(
    seed: int, subject: str, *names: str
) -> tuple[np.random.Generator, np.random.Generator]:
    """The common stream and the subject's own one for a named part of the world."""
    common = _random.generator(seed, "simulation", "common", *names)
    own = _random.generator(seed, "simulation", "subject", subject, *names)
    return common, own
