"""Noise of simulated recordings: Gaussian, with a covariance that is known exactly.

Electrical noise is stationary: every frequency has a spatial covariance of its own, so that a
trial is drawn with one matrix product per frequency and one inverse Fourier transform. It is drawn
on a circle longer than the epoch and cut, so that the end of an epoch knows nothing of its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.fft

from phosphene import _random

BLOCK = 256  # trials per random stream; part of what a seed means
WORKERS = 2


@dataclass(frozen=True, eq=False)
class SpectralNoise:
    """Stationary Gaussian noise, a sum of processes with own spectrum and spatial covariance.

    Parameters
    ----------
    power : ndarray, shape (processes, frequencies)
        Share of the variance at every frequency of the circle of ``n_circle`` samples; the rows sum
        to one.
    spatial : ndarray, shape (processes, sessions, channels, channels)
        Covariance between channels.
    n_times : int
        Samples of an epoch.
    n_circle : int
        Samples of the circle, more than ``n_times``.
    """

    power: np.ndarray
    spatial: np.ndarray
    n_times: int
    n_circle: int

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.spatial.shape[-1])

    def pick(self, channels: np.ndarray) -> SpectralNoise:
        """The same noise at some of the channels."""
        spatial = self.spatial[:, :, channels][:, :, :, channels]
        return SpectralNoise(self.power, spatial, self.n_times, self.n_circle)

    def scaled(self, factor: float) -> SpectralNoise:
        """The same noise with all amplitudes multiplied."""
        return SpectralNoise(self.power, self.spatial * factor**2, self.n_times, self.n_circle)

    def cross_spectrum(self, sessions: np.ndarray) -> np.ndarray:
        """Variance at every frequency, shape (frequencies, channels, channels).

        Parameters
        ----------
        sessions : ndarray, shape (sessions,)
            Weight of every session's covariance: one 1 for a single trial, ``n_s / n**2`` for the
            mean of ``n`` trials.
        """
        spatial = np.einsum("s,kscd->kcd", sessions, self.spatial)
        spectrum: np.ndarray = np.einsum("kf,kcd->fcd", self.power, spatial)
        return spectrum

    def add_to(self, signals: np.ndarray, sessions: np.ndarray, seed: int) -> None:
        """Add a draw to every trial, in place.

        Parameters
        ----------
        signals : ndarray of float32, shape (trials, channels, times)
            Trials, changed in place.
        sessions : ndarray, shape (trials, sessions)
            Weights of the sessions per trial, see `cross_spectrum`.
        seed : int
            Every block of trials draws from its own stream under this seed.
        """
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [
                pool.submit(self._add_block, signals, rows, factor, _random.derive(seed, block))
                for block, (rows, factor) in enumerate(self._blocks(sessions))
            ]
            for job in jobs:
                job.result()

    def _blocks(self, sessions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        patterns, which = np.unique(sessions, axis=0, return_inverse=True)
        which = which.reshape(-1)
        inner = np.full(self.power.shape[1], 2.0)
        inner[0] = 1.0
        if self.n_circle % 2 == 0:
            inner[-1] = 1.0
        for index, pattern in enumerate(patterns):
            factor = _root(self.cross_spectrum(pattern))
            # One-sided coefficient whose inverse transform has the wanted variance.
            factor *= (self.n_circle / inner)[:, None, None]
            rows = np.flatnonzero(which == index)
            for start in range(0, len(rows), BLOCK):
                yield rows[start : start + BLOCK], factor.astype(np.float32)

    def _add_block(
        self, signals: np.ndarray, rows: np.ndarray, factor: np.ndarray, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        n_freqs, n_channels = factor.shape[:2]
        draws = rng.standard_normal((n_freqs, 2 * len(rows), n_channels), dtype=np.float32)
        mixed = (draws @ factor.transpose(0, 2, 1)).reshape(n_freqs, 2, len(rows), n_channels)
        bins = np.empty((len(rows), n_channels, n_freqs), dtype=np.complex64)
        bins.real = mixed[:, 0].transpose(1, 2, 0)
        bins.imag = mixed[:, 1].transpose(1, 2, 0)
        bins[:, :, 0].imag = 0.0
        if self.n_circle % 2 == 0:
            bins[:, :, -1].imag = 0.0
        waves = scipy.fft.irfft(bins, n=self.n_circle, axis=-1, overwrite_x=True)
        signals[rows] += waves[:, :, : self.n_times]

    def covariance(self, sessions: np.ndarray) -> np.ndarray:
        """Dense covariance over (channel, time), shape (channels * times, channels * times)."""
        spectrum = self.cross_spectrum(sessions)
        lags = np.arange(self.n_times)
        angle = 2.0 * np.pi / self.n_circle * np.outer(lags, np.arange(len(spectrum)))
        by_lag = np.einsum("lf,fcd->lcd", np.cos(angle), spectrum)
        distance = np.abs(lags[:, None] - lags[None, :])
        size = self.n_channels * self.n_times
        dense: np.ndarray = by_lag[distance].transpose(2, 0, 3, 1).reshape(size, size)
        return dense

    def solve(
        self, templates: np.ndarray, sessions: np.ndarray, *, tolerance: float = 1e-6
    ) -> np.ndarray:
        """Apply the inverse covariance: the matched filters of the templates.

        Conjugate gradients with products and preconditioner in the Fourier domain, so that 63
        channels cost seconds where the dense matrix would take gigabytes.

        Parameters
        ----------
        templates : ndarray, shape (n, channels, times)
            Expected responses.
        sessions : ndarray, shape (sessions,)
            Weights of the sessions, see `cross_spectrum`.
        tolerance : float
            Largest relative residual.

        Returns
        -------
        ndarray, shape (n, channels, times)
            Filters in double precision.
        """
        spectrum = self.cross_spectrum(sessions)
        scale = np.full(len(spectrum), self.n_circle / 2.0)
        scale[0] = self.n_circle
        if self.n_circle % 2 == 0:
            scale[-1] = self.n_circle
        forward = spectrum * scale[:, None, None]
        inverse = np.linalg.inv(forward)
        target = np.asarray(templates, dtype=np.float64)
        # A template of zeros has filters of zeros, and must not divide by its norm.
        norm = np.maximum(_dot(target, target), np.finfo(np.float64).tiny)
        solution = np.zeros_like(target)
        residual = target.copy()
        step = direction = self._filtered(residual, inverse)
        energy = _dot(residual, step)
        for _ in range(300):
            product = self._filtered(direction, forward)
            curvature = _dot(direction, product)
            length = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
            solution += length * direction
            residual -= length * product
            if float((_dot(residual, residual) / norm).max()) < tolerance**2:
                break
            step = self._filtered(residual, inverse)
            renewed = _dot(residual, step)
            ratio = np.divide(renewed, energy, out=np.zeros_like(energy), where=energy > 0)
            direction, energy = step + ratio * direction, renewed
        return solution

    def _filtered(self, waves: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        bins = scipy.fft.rfft(waves, n=self.n_circle, axis=-1, workers=WORKERS)
        mixed = np.einsum("fcd,ndf->ncf", matrices, bins, optimize=True)
        back: np.ndarray = scipy.fft.irfft(mixed, n=self.n_circle, axis=-1, workers=WORKERS)
        return back[:, :, : self.n_times]


@dataclass(frozen=True, eq=False)
class PatternNoise:
    """Gaussian noise without a time axis (voxels), one covariance per session.

    Parameters
    ----------
    spatial : ndarray, shape (sessions, voxels, voxels)
        Covariance between voxels.
    """

    spatial: np.ndarray

    def add_to(self, signals: np.ndarray, sessions: np.ndarray, seed: int) -> None:
        """Add a draw to every trial (trials, voxels), in place; see `SpectralNoise.add_to`."""
        patterns, which = np.unique(sessions, axis=0, return_inverse=True)
        which = which.reshape(-1)
        for index, pattern in enumerate(patterns):
            factor = _root(self.covariance(pattern)[None])[0].astype(np.float32)
            rows = np.flatnonzero(which == index)
            rng = np.random.default_rng(_random.derive(seed, index))
            draws = rng.standard_normal((len(rows), len(factor)), dtype=np.float32)
            signals[rows] += draws @ factor.T

    def covariance(self, sessions: np.ndarray) -> np.ndarray:
        """Covariance of a mean over sessions, shape (voxels, voxels)."""
        covariance: np.ndarray = np.einsum("s,scd->cd", sessions, self.spatial)
        return covariance

    def solve(self, templates: np.ndarray, sessions: np.ndarray) -> np.ndarray:
        """Apply the inverse covariance to templates (n, voxels)."""
        filters: np.ndarray = np.linalg.solve(
            self.covariance(sessions), np.asarray(templates, dtype=np.float64).T
        ).T
        return filters


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product: np.ndarray = np.einsum("nct,nct->n", a, b)[:, None, None]
    return product


def _root(matrices: np.ndarray) -> np.ndarray:
    """Factors ``F`` with ``F F' = M`` of symmetric matrices that may be singular."""
    values, vectors = np.linalg.eigh(matrices)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return root


def one_over_f(freqs: np.ndarray, exponent: float, corner: float) -> np.ndarray:
    """Power falling as ``1 / f**exponent`` above ``corner`` hertz, flat below; sums to one."""
    power: np.ndarray = 1.0 / np.maximum(freqs, corner) ** exponent
    power /= power.sum()
    return power


def oscillation(freqs: np.ndarray, peak: float, width: float) -> np.ndarray:
    """Power of a rhythm: a Gaussian around ``peak`` hertz; sums to one."""
    power: np.ndarray = np.exp(-0.5 * ((freqs - peak) / width) ** 2)
    power /= power.sum()
    return power


def white(freqs: np.ndarray) -> np.ndarray:
    """The same power at all frequencies of a circle, its two ends counted half; sums to one."""
    power = np.ones_like(freqs)
    power[[0, -1]] = 0.5
    power /= power.sum()
    return power
