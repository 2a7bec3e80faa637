"""From a person and a design to signals: single trials, averages, and expected responses."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd

from phosphene.simulation.design import Design, States, expected_states
from phosphene.simulation.world import World


class Noise(Protocol):
    """Gaussian noise with one covariance per session."""

    def add_to(self, signals: np.ndarray, sessions: np.ndarray, seed: int) -> None:
        """Add a draw to every trial, in place."""
        ...

    def covariance(self, sessions: np.ndarray) -> np.ndarray:
        """Dense covariance of one response."""
        ...

    def solve(self, templates: np.ndarray, sessions: np.ndarray) -> np.ndarray:
        """Apply the inverse covariance to responses."""
        ...


class Person(Protocol):
    """What synthesis needs of a simulated person."""

    @property
    def activity(self) -> np.ndarray:
        """Activity of units, shape (levels, stimuli, units)."""
        ...

    @property
    def noise(self) -> Noise:
        """Noise of a single trial."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one response."""
        ...

    def basis(self, shift: int) -> np.ndarray:
        """Response per unit, flattened, delayed by ``shift`` samples."""
        ...


def single_trials(person: Person, design: Design, states: States) -> np.ndarray:
    """Responses of all trials without noise, shape (trials, *response), float32.

    Trials with the same delay share one matrix product.
    """
    signals = np.empty((len(design.stimulus), int(np.prod(person.shape))), dtype=np.float32)
    gain = states.gain.astype(np.float32)[:, None]
    for shift in np.unique(states.shift):
        rows = np.flatnonzero(states.shift == shift)
        activity = person.activity[states.level[rows], design.stimulus[rows]]
        signals[rows] = (gain[rows] * activity) @ person.basis(int(shift))
    return signals.reshape(-1, *person.shape)


def averages(person: Person, design: Design, states: States) -> np.ndarray:
    """Mean responses per stimulus without noise, shape (stimuli, *response), float32.

    Exactly the mean of `single_trials`: the mean is taken over the states first, so that the cost
    does not grow with the number of repetitions.
    """
    levels, n_stimuli = person.activity.shape[:2]
    count = np.maximum(np.bincount(design.stimulus, minlength=n_stimuli), 1)
    signals = np.zeros((n_stimuli, int(np.prod(person.shape))), dtype=np.float32)
    for shift in np.unique(states.shift):
        rows = np.flatnonzero(states.shift == shift)
        cell = states.level[rows] * n_stimuli + design.stimulus[rows]
        total = np.bincount(cell, weights=states.gain[rows], minlength=levels * n_stimuli)
        weight = (total.reshape(levels, n_stimuli) / count).astype(np.float32)
        signals += np.einsum("ln,lnu->nu", weight, person.activity) @ person.basis(int(shift))
    return signals.reshape(-1, *person.shape)


def expected(person: Person, world: World, stimuli: np.ndarray) -> np.ndarray:
    """Expected responses to some of the stimuli over all states, shape (n, *response)."""
    gain, shifts, share = expected_states(world)
    activity = np.einsum("l,lnu->nu", gain, person.activity[:, stimuli])
    signals = np.zeros((len(stimuli), int(np.prod(person.shape))))
    for shift, probability in zip(shifts, share, strict=True):
        signals += probability * (activity @ person.basis(int(shift)))
    return signals.reshape(-1, *person.shape).astype(np.float32)


def session_weights(design: Design, n_stimuli: int, sessions: int) -> np.ndarray:
    """Weight of each session's noise covariance in every stimulus's average.

    The mean of ``n`` trials, ``n_s`` of them from session ``s``, has the noise covariance
    ``sum_s n_s / n**2 C_s``.
    """
    cell = design.stimulus * sessions + design.session
    counts = np.bincount(cell, minlength=n_stimuli * sessions).reshape(n_stimuli, sessions)
    weights: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) ** 2
    return weights


def averaged_table(stimuli: pd.DataFrame, design: Design, subject: str) -> pd.DataFrame:
    """Trial table of averages, as `Recording.average` makes it: one row per stimulus."""
    count = np.bincount(design.stimulus, minlength=len(stimuli))
    return pd.DataFrame(
        {
            "stimulus": stimuli.index.to_numpy(),
            "concept": stimuli["concept"].to_numpy(),
            "subject": subject,
            "session": "",
            "run": "",
            "repetition": 0,
            "split": stimuli["split"].to_numpy(),
            "n_averaged": count,
        }
    )
