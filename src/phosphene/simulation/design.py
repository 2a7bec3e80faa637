"""The order of an experiment: which picture when, and in which state the person was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from phosphene import _random
from phosphene.simulation.world import World

MAX_SHIFT = 3.0  # latencies are cut at three standard deviations


@dataclass(frozen=True, eq=False)
class Design:
    """Single trials of one subject, in the order in which they were recorded.

    Parameters
    ----------
    table : pandas.DataFrame
        Trial table: stimulus, concept, subject, session, run, repetition, split.
    stimulus : ndarray of int, shape (trials,)
        Row of the stimulus table.
    session : ndarray of int, shape (trials,)
        Session, from 0.
    """

    table: pd.DataFrame
    stimulus: np.ndarray
    session: np.ndarray


@dataclass(frozen=True, eq=False)
class States:
    """State of the person in every trial.

    Parameters
    ----------
    level : ndarray of int, shape (trials,)
        Level of clarity: row of the seen views.
    gain : ndarray, shape (trials,)
        Factor on the response, that of the clarity included.
    shift : ndarray of int, shape (trials,)
        Delay of the response in samples.
    """

    level: np.ndarray
    gain: np.ndarray
    shift: np.ndarray


def make_design(
    world: World,
    stimuli: pd.DataFrame,
    subject: str,
    seed: int,
    train_repetitions: int,
    test_repetitions: int,
) -> Design:
    """Deal repetitions evenly to sessions, and shuffle every session.

    Parameters
    ----------
    world : World
        Number of sessions and runs.
    stimuli : pandas.DataFrame
        Index stimulus id; columns ``concept`` and ``split`` (train or test).
    subject : str
        Name of the subject.
    seed : int
        Seed of the study.
    train_repetitions, test_repetitions : int
        Trials per stimulus.
    """
    count = np.where(stimuli["split"] == "test", test_repetitions, train_repetitions)
    stimulus = np.repeat(np.arange(len(stimuli)), count)
    repetition = np.arange(len(stimulus)) - np.repeat(np.cumsum(count) - count, count)
    # Starting each stimulus in another session keeps sessions even when repetitions are few.
    session = (repetition + stimulus) % world.sessions
    rng = _random.generator(seed, "simulation", "subject", subject, "order")
    order = np.lexsort((rng.random(len(stimulus)), session))
    stimulus, repetition, session = stimulus[order], repetition[order], session[order]
    sizes = np.bincount(session, minlength=world.sessions)
    place = np.concatenate([np.arange(size) / size for size in sizes if size])
    table = pd.DataFrame(
        {
            "stimulus": stimuli.index.to_numpy()[stimulus],
            "concept": stimuli["concept"].to_numpy()[stimulus],
            "subject": subject,
            "session": _names(world.sessions)[session],
            "run": _names(world.runs)[(place * world.runs).astype(int)],
            "repetition": repetition + 1,
            "split": stimuli["split"].to_numpy()[stimulus],
        }
    )
    return Design(table, stimulus, session)


def _names(n: int) -> np.ndarray:
    return np.asarray([str(i + 1) for i in range(n)], dtype=object)


def draw_states(world: World, n_trials: int, subject: str, seed: int) -> States:
    """Clarity, gain and delay of every trial."""
    rng = _random.generator(seed, "simulation", "subject", subject, "states")
    level = rng.choice(len(world.clarity_share), size=n_trials, p=world.clarity_share)
    spread = world.gain_spread
    gain = np.exp(rng.normal(-0.5 * spread**2, spread, n_trials))
    gain *= np.asarray(world.clarity_gain)[level]
    shifts, share = shift_distribution(world)
    return States(level, gain, rng.choice(shifts, size=n_trials, p=share))


def shift_distribution(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Delays in samples that occur, and their probabilities."""
    deviation = world.jitter * world.sfreq
    reach = int(np.floor(MAX_SHIFT * deviation))
    shifts = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (shifts / deviation) ** 2) if deviation > 0 else np.ones(1)
    return shifts, weight / weight.sum()


def expected_states(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean gain by level of clarity, shape (levels,); delays and their probabilities."""
    gain = np.asarray(world.clarity_share) * np.asarray(world.clarity_gain)
    return gain, *shift_distribution(world)
