"""Sums over trials that the figures of the quality page are drawn from, read in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phosphene.data._trials import natural_key
from phosphene.data.recording import Recording

PIECE = 256
MAX_NOISE_TRIALS = 400


@dataclass(frozen=True, eq=False)
class SessionMean:
    """Mean response of one session of one part.

    Attributes
    ----------
    part, session : str
        Which trials.
    n : int
        Number of trials.
    mean : ndarray, shape (channels, times)
        In the recording's unit.
    deviation : ndarray, shape (channels, times)
        Standard deviation over trials.
    """

    part: str
    session: str
    n: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def sessions_of(recording: Recording) -> dict[str, NDArray[np.int64]]:
    """Positions of the trials of each session, in natural order of subject and session."""
    trials = recording.trials
    several = trials["subject"].nunique() > 1
    names = trials["session"].to_numpy()
    if several:
        names = (trials["subject"] + "/" + trials["session"]).to_numpy()
    return {
        str(name): np.flatnonzero(names == name)
        for name in sorted(set(names), key=lambda name: natural_key(str(name)))
    }


def session_means(parts: Mapping[str, Recording]) -> list[SessionMean]:
    """Mean response of every session of every part."""
    out = []
    for part, recording in parts.items():
        for session, rows in sessions_of(recording).items():
            total = np.zeros(recording.shape[1:])
            square = np.zeros(recording.shape[1:])
            for start in range(0, len(rows), PIECE):
                values = recording.take(rows[start : start + PIECE]).astype(np.float64)
                total += values.sum(axis=0)
                square += (values**2).sum(axis=0)
            mean = total / len(rows)
            variance = np.maximum(square / len(rows) - mean**2, 0)
            out.append(SessionMean(part, session, len(rows), mean, np.sqrt(variance)))
    return out


def pooled(means: list[SessionMean], part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean response over all sessions of a part, and its standard error over trials."""
    mine = [m for m in means if m.part == part]
    n = sum(m.n for m in mine)
    mean = sum(m.n * m.mean for m in mine) / n
    square = sum(m.n * (m.deviation**2 + m.mean**2) for m in mine) / n
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return np.asarray(mean), np.asarray(deviation) / np.sqrt(n)


def noise_eigenvalues(recording: Recording) -> dict[str, NDArray[np.float64]]:
    """Eigenvalues of each session's noise covariance, largest first.

    The noise of a trial is what is left after the session's mean response; its covariance over
    channels is averaged over samples and over at most 400 trials, spread over the session.
    """
    out = {}
    for session, rows in sessions_of(recording).items():
        if len(rows) < 2:
            continue
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_NOISE_TRIALS)).astype(int)]
        values = recording.take(chosen).astype(np.float64)
        values -= values.mean(axis=0)
        n = values.shape[2] * (len(chosen) - 1)
        covariance = np.einsum("ict,idt->cd", values, values, optimize=True) / n
        out[session] = np.linalg.eigvalsh(covariance)[::-1]
    return out


def occipital(recording: Recording, share: float = 0.15) -> list[int]:
    """Positions of the channels over the back of the head.

    By name where the names are those of the 10-20 system (``O``, ``PO``, ``I``), by place where
    places are known, else all channels.
    """
    names = [name.upper() for name in recording.channel_names]
    named = [i for i, name in enumerate(names) if _is_occipital(name)]
    if named and recording.modality == "eeg":
        return named
    places = recording.sensors.positions()[:, 1]
    known = np.isfinite(places)
    if known.sum() < 4 or recording.modality == "ecog":
        return list(range(len(names)))
    limit = np.quantile(places[known], share)
    return [int(i) for i in np.flatnonzero(known & (places <= limit))]


def _is_occipital(name: str) -> bool:
    for start in ("PO", "O", "I"):
        rest = name.removeprefix(start)
        if rest != name and (rest == "Z" or rest.rstrip("H").isdigit()):
            return True
    return False
