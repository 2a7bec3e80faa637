r"""Ridge regression in many windows of time at once.

All windows of one person have the same trials and targets, so what they need is computed once and
cut out for each: with the centred signals :math:`x_t` (trials x channels) of sample t, targets Y,

.. math::
    x_t^\top Y \quad\text{for every } t, \qquad
    x_t^\top x_{t+l} \quad\text{for every } t \text{ and lag } l < \text{width},

from which :math:`X_w^\top X_w` and :math:`X_w^\top Y` of every window are put together. One
eigendecomposition per window gives the leave-one-out error of all penalties (Allen 1974,
doi:10.1080/00401706.1974.10489157) without a prediction: with :math:`X_w^\top X_w = V \Lambda
V^\top`, :math:`Z = X_w V`, :math:`A = V^\top X_w^\top Y` and :math:`D = (\Lambda + a)^{-1}`,

.. math::
    \sum_i \frac{|y_i|^2 - 2\,(Z D A y_i)_i + |(Z D A)_i|^2}{(1 - 1/n - (Z D Z^\top)_{ii})^2}.

Scores of a query q against candidates C (centred, unit length) are :math:`q^\top V D A C^\top`: the
regression is carried out for the candidates alone, never for all dimensions of the targets. They
differ from the cosine by a factor per query, which no rank depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from phosphene.analysis._problem import Array, Problem
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.training.scaling import ChannelScaler

# Features of a window from which on an eigendecomposition takes minutes.
MAX_FEATURES = 6000


@dataclass(frozen=True)
class Windows:
    """Windows of a time axis.

    Parameters
    ----------
    starts : tuple of int
        First sample of each.
    width : int
        Samples in each.
    times : tuple of float
        Middle of each, seconds.
    """

    starts: tuple[int, ...]
    width: int
    times: tuple[float, ...]

    @classmethod
    def of(cls, recording: Recording, window: float, step: float | None) -> Self:
        """Windows of ``window`` seconds every ``step`` seconds (by default every window).

        Raises
        ------
        DataError
            If there is no time axis, or no window fits into it.
        """
        times = recording.times
        if times is None or recording.sfreq is None:
            raise DataError(
                f"{recording.name!r} has no time axis",
                found=f"{recording.modality} signals of shape {recording.shape}",
                expected="trials x channels x times",
                fix="analyse space, categories or representations instead",
            )
        step = window if step is None else step
        if not window > 0 or not step > 0:
            raise DataError(
                "windows and steps are longer than 0 s", found=f"window {window}, step {step}"
            )
        width = max(1, round(window * recording.sfreq))
        hop = max(1, round(step * recording.sfreq))
        if width > len(times):
            raise DataError(
                "the window is longer than the recording's epochs",
                found=f"{window:g} s",
                expected=f"at most {len(times) / recording.sfreq:g} s",
            )
        starts = tuple(range(0, len(times) - width + 1, hop))
        return cls(starts, width, tuple(float(times[s : s + width].mean()) for s in starts))


class WindowRidge:
    """Ridge regression of one person in every window, scored against the candidates.

    Signals are standardised per channel with the training data's statistics over the whole epoch;
    every sample is then centred with its own training mean, so that the response to any picture
    plays no part, also where a decoder meets another time than its own. One penalty serves all
    dimensions of the targets.

    Parameters
    ----------
    problem : Problem
        Training data and queries.
    windows : Windows
        Where to fit.
    alphas : sequence of float
        Penalties to choose from, by exact leave-one-out.

    Attributes
    ----------
    alpha_ : ndarray, shape (windows,)
        Chosen penalties.
    """

    def __init__(self, problem: Problem, windows: Windows, alphas: tuple[float, ...]) -> None:
        self.windows = windows
        grid = np.asarray(alphas, dtype=np.float64)
        if grid.ndim != 1 or not len(grid) or not (np.isfinite(grid) & (grid > 0)).all():
            raise DataError("penalties are positive numbers", found=list(alphas))
        scaler = ChannelScaler.fit(problem.train, names=problem.train.channel_names)
        # Samples first, so that a window is a slice.
        signals = [
            np.swapaxes(scaler.apply(part.signals), 1, 2).astype(np.float64)
            for part in (problem.train, problem.test)
        ]
        mean = signals[0].mean(axis=0)
        n, n_times, self._n_channels = signals[0].shape
        if windows.width * self._n_channels > MAX_FEATURES:
            raise DataError(
                "the windows are too wide for the closed form",
                found=f"{windows.width} samples x {self._n_channels} channels",
                expected=f"at most {MAX_FEATURES} values",
                fix="take shorter windows or fewer channels, or give a decoder",
            )
        train, self._test = ((x - mean).reshape(len(x), -1) for x in signals)
        centre = problem.targets.mean(axis=0)
        Y, C = problem.targets - centre, problem.candidates - centre
        length = np.linalg.norm(C, axis=1, keepdims=True)
        if (length == 0).any():
            raise DataError("a candidate equals the mean of the training targets: it has no cosine")
        C = C / length
        cross = train.T @ Y
        lagged = _lagged(train.reshape(n, n_times, -1), windows.width)
        power = np.square(Y).sum(axis=1)
        self._weights = np.empty((len(windows.starts), windows.width * self._n_channels, len(C)))
        self.alpha_ = np.empty(len(windows.starts))
        for w, start in enumerate(windows.starts):
            cut = self._cut(start)
            values, vectors = np.linalg.eigh(_gram(lagged, start, windows.width))
            values = np.maximum(values, 0.0)
            A = vectors.T @ cross[cut]
            Z = train[:, cut] @ vectors
            if len(grid) > 1:
                self.alpha_[w] = grid[_leave_one_out(Z, values, A, Y, power, grid).argmin()]
            else:
                self.alpha_[w] = grid[0]
            self._weights[w] = vectors @ ((A @ C.T) / (values + self.alpha_[w])[:, None])

    def _cut(self, start: int) -> slice:
        return slice(start * self._n_channels, (start + self.windows.width) * self._n_channels)

    def scores(self, window: int) -> Array:
        """Scores of all queries in the window that was trained on, shape (queries, gallery)."""
        cut = self._cut(self.windows.starts[window])
        scores: Array = self._test[:, cut] @ self._weights[window]
        return scores

    def generalised(self, window: int) -> Array:
        """Scores of the decoder of one window in all windows, shape (windows, queries, gallery)."""
        parts = np.stack([self._test[:, self._cut(start)] for start in self.windows.starts])
        scores: Array = parts @ self._weights[window]
        return scores


def _lagged(x: Array, width: int) -> list[Array]:
    """``x_t' x_(t+lag)`` for every lag below ``width``, each of shape (times - lag, c, c)."""
    by_time = np.ascontiguousarray(x.transpose(1, 0, 2))
    turned = np.ascontiguousarray(x.transpose(1, 2, 0))
    return [turned[: len(turned) - lag] @ by_time[lag:] for lag in range(width)]


def _gram(lagged: list[Array], start: int, width: int) -> Array:
    c = lagged[0].shape[1]
    gram = np.empty((width, c, width, c))
    for lag, products in enumerate(lagged):
        for i in range(width - lag):
            gram[i, :, i + lag] = products[start + i]
            gram[i + lag, :, i] = products[start + i].T
    return gram.reshape(width * c, width * c)


def _leave_one_out(
    Z: Array, values: Array, A: Array, Y: Array, power: Array, alphas: Array
) -> Array:
    """Sum over trials and targets of the squared leave-one-out errors, by penalty."""
    n = len(Z)
    squares = np.square(Z)
    mixed = Z * (Y @ A.T)
    inner = A @ A.T
    errors = np.empty(len(alphas))
    for k, alpha in enumerate(alphas):
        shrink = 1 / (values + alpha)
        shrunk = Z * shrink
        left = np.maximum(1 - 1 / n - squares @ shrink, np.finfo(np.float64).eps)
        fitted = np.einsum("ij,ij->i", shrunk @ inner, shrunk)
        errors[k] = ((power - 2 * mixed @ shrink + fitted) / left**2).sum()
    return errors
