"""Multivariate noise normalisation: channels whitened with the noise covariance of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._validation import require_columns
from phosphene.data import _store
from phosphene.data.preprocess import _groups
from phosphene.data.preprocess._base import Transform
from phosphene.data.preprocess._shrinkage import Buffers, Shrinkage, check_shrinkage, shrunk_sum
from phosphene.data.preprocess._threads import ordered_map
from phosphene.data.preprocess._trialwise import apply_rows, pieces, require_times
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

# What a thread takes at once, in bytes of float64.
BLOCK = 16 * 2**20
READ = 32 * 2**20
# Smallest eigenvalue of the correlations that counts as one; float32 rounding leaves about 1e-14.
SINGULAR = 1e-10
# Part of the largest variance below which a channel's is rounding of a constant.
FLAT = 1e-18

Samples = tuple[NDArray[Any], NDArray[np.float64]]


class MVNN(Transform):
    """Whiten the channels of each session: ``x <- Sigma^(-1/2) x``.

    Sigma is the mean over conditions of the mean over their repetitions of the shrunk covariance of
    an epoch over its samples (``estimate="epoch"``), or the mean over conditions and samples of the
    shrunk covariance over the repetitions of a condition (``estimate="time"``). It is learned from
    training trials only and applied to all trials of the same session.

    Parameters
    ----------
    shrinkage : {"ledoit_wolf", "oas"} or float
        How each covariance is shrunk towards a multiple of the identity, or by how much.
    estimate : {"epoch", "time"}
        Covariance of every epoch over its samples, or over trials at every sample.
    by : sequence of str
        Trial columns that make up a session; empty for one covariance of all trials.
    condition : str or None
        Trial column of the conditions; None takes all trials of a session as one condition.
    scaled : bool
        Shrink correlations: each channel is brought to variance 1 before each shrinkage and back
        afterwards, as the code behind published THINGS-EEG2 results does.

    Attributes
    ----------
    covariances_ : dict of tuple to ndarray, shape (channels, channels)
        Sigma by the values of ``by``; squared unit of the signals.
    whiteners_ : dict of tuple to ndarray, shape (channels, channels)
        Sigma^(-1/2), symmetric.

    References
    ----------
    Guggenmos, Sterzer and Cichy (2018), doi 10.1016/j.neuroimage.2018.02.044.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> rng = np.random.default_rng(0)
    >>> noise = np.array([[3.0, 0.0], [2.0, 1.0]]) @ rng.standard_normal((40, 2, 500))
    >>> epochs = Recording.from_arrays(noise, {"stimulus": list(range(40))}, sfreq=100)
    >>> white = MVNN().fit_transform(epochs)
    >>> bool(np.allclose(np.cov(np.hstack(white.signals)), np.eye(2), atol=0.1))
    True
    """

    step = "whitening"

    def __init__(
        self,
        *,
        shrinkage: Shrinkage = "ledoit_wolf",
        estimate: Literal["epoch", "time"] = "epoch",
        by: Sequence[str] = ("subject", "session"),
        condition: str | None = "stimulus",
        scaled: bool = True,
    ) -> None:
        self.shrinkage = shrinkage
        self.estimate = estimate
        self.by = by
        self.condition = condition
        self.scaled = scaled

    def _fit(self, recording: Recording) -> None:
        require_times(recording, "MVNN")
        check_shrinkage(self.shrinkage)
        if self.estimate not in ("epoch", "time"):
            raise DataError(
                "there is no such estimate", found=repr(self.estimate), expected='"epoch" or "time"'
            )
        by = _groups.columns(self.by)
        covariances: dict[_groups.Key, NDArray[np.float64]] = {}
        whiteners: dict[_groups.Key, NDArray[np.float64]] = {}
        for key, rows in _groups.group_rows(recording.trials, by).items():
            name = _groups.name_of(by, key)
            conditions = self._conditions(recording, rows)
            blocks = (
                _epochs(recording, rows, conditions, name)
                if self.estimate == "epoch"
                else _instants(recording, rows, conditions, name)
            )
            covariances[key] = self._sum(blocks, len(recording.sensors))
            if not np.isfinite(covariances[key]).all():
                _refuse_not_finite(recording, rows, name)
            whiteners[key] = _inverse_root(covariances[key], recording.sensors.names, name)
        self.covariances_, self.whiteners_ = covariances, whiteners
        self.channels_ = recording.sensors.names

    def _conditions(self, recording: Recording, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the condition of each of the trials, from 0."""
        if self.condition is None:
            return np.zeros(len(rows), dtype=np.int64)
        require_columns(recording.trials, [self.condition], "the trial table")
        codes, _ = pd.factorize(recording.trials[self.condition].iloc[rows], use_na_sentinel=False)
        return codes.astype(np.int64)

    def _sum(self, blocks: Iterator[Samples], n_channels: int) -> NDArray[np.float64]:
        buffers = Buffers()

        def one(block: Samples) -> NDArray[np.float64]:
            return shrunk_sum(*block, self.shrinkage, scaled=self.scaled, buffers=buffers)

        total = np.zeros((n_channels, n_channels))
        with np.errstate(invalid="ignore", over="ignore"):  # named by what follows
            for part in ordered_map(one, blocks):
                total += part
        return (total + total.T) / 2

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        require_times(recording, "MVNN")
        if recording.sensors.names != self.channels_:
            raise DataError(
                "MVNN was fitted on other channels",
                found=listing(recording.sensors.names, 8),
                expected=listing(self.channels_, 8),
                fix="bring them into the same order with match_channels before fit and transform",
            )
        known = list(self.whiteners_)
        codes = _groups.group_codes(recording.trials, _groups.columns(self.by), known, "MVNN")
        matrices = torch.from_numpy(np.stack(list(self.whiteners_.values())))
        buffers = Buffers()

        def whiten(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            # float64, because directions of little noise are differences of large numbers
            x, y = buffers.get("x", *block.shape), buffers.get("y", *block.shape)
            x.numpy()[...] = block
            return torch.bmm(matrices[codes[positions]], x, out=y).numpy()

        return apply_rows(recording, whiten, op, threads=True)


def _epochs(
    recording: Recording, rows: NDArray[np.int64], conditions: NDArray[np.int64], name: str
) -> Iterator[Samples]:
    """Epochs (b, channels, times) with the weight of each in the mean over conditions."""
    counts = np.bincount(conditions)
    weights = 1.0 / (counts[conditions] * len(counts))
    shape = recording.shape[1:]
    if shape[1] < 2:
        raise DataError(
            f"an epoch of {name} has too few samples for a covariance",
            found=f"{shape[1]}",
            fix='use estimate="time"',
        )
    for piece in pieces(len(rows), shape, READ):
        signals = _store.gather(recording.store, recording.rows[rows[piece]])
        for part in pieces(len(signals), shape, BLOCK):
            yield signals[part], weights[piece][part]


def _instants(
    recording: Recording, rows: NDArray[np.int64], conditions: NDArray[np.int64], name: str
) -> Iterator[Samples]:
    """Trials of a condition at one sample (b, channels, trials), with their weights."""
    sizes = np.bincount(conditions)
    n_usable = int((sizes > 1).sum())
    if not n_usable:
        raise DataError(
            f"no condition of {name} has two trials, so they have no covariance at one sample",
            found=f"{len(sizes)} conditions of one trial each",
            fix='use estimate="epoch", or condition="concept" or None',
        )
    if n_usable < len(sizes):
        left_out = len(sizes) - n_usable
        logger.info("%s: %d conditions of a single trial are left out", name, left_out)
    order = np.argsort(conditions, kind="stable")
    starts = np.cumsum(sizes) - sizes
    n_channels, n_times = recording.shape[1:]
    weight = 1.0 / (n_usable * n_times)
    for size in np.unique(sizes[sizes > 1]).tolist():
        same = rows[order[starts[sizes == size, None] + np.arange(size)]]
        # A condition of very many trials is read several times, some samples at each time.
        span = max(1, min(n_times, 8 * READ // (8 * size * n_channels)))
        for piece in pieces(len(same), (size, n_channels, n_times), READ if span == n_times else 1):
            these = recording.rows[same[piece].ravel()]
            for start in range(0, n_times, span):
                x = _window(recording.store, these, slice(start, min(start + span, n_times)))
                x = x.reshape(-1, size, n_channels, x.shape[-1]).transpose(0, 3, 2, 1)
                x = x.reshape(-1, n_channels, size)
                for part in pieces(len(x), (n_channels, size), BLOCK):
                    yield x[part], np.full(len(x[part]), weight)


def _window(store: Any, rows: NDArray[np.int64], window: slice) -> NDArray[Any]:
    """Some samples of some trials, without ever holding all samples of many trials."""
    width = window.stop - window.start
    out = np.empty((len(rows), store.shape[1], width), dtype=store.dtype)
    for part in pieces(len(rows), store.shape[1:]):
        out[part] = _store.gather(store, rows[part])[:, :, window]
    return out


def _refuse_not_finite(recording: Recording, rows: NDArray[np.int64], where: str) -> None:
    """Name the channels and count the trials: in the covariance, one of them spoils all."""
    channels = np.zeros(len(recording.sensors), dtype=bool)
    n_trials = 0
    for part in pieces(len(rows), recording.shape[1:]):
        block = _store.gather(recording.store, recording.rows[rows[part]])
        bad = ~np.isfinite(block).all(axis=2)
        channels |= bad.any(axis=0)
        n_trials += int(bad.any(axis=1).sum())
    names = [recording.sensors.names[i] for i in np.flatnonzero(channels).tolist()]
    raise DataError(
        f"the noise covariance of {where} is not finite",
        found=f"NaN or infinite values in {n_trials} trials, channels {listing(names)}",
        fix="drop or interpolate these trials or channels",
    )


def _inverse_root(
    covariance: NDArray[np.float64], names: Sequence[str], where: str
) -> NDArray[np.float64]:
    """Symmetric inverse square root, or an error that names the channels that prevent it."""
    variance = np.diag(covariance)
    if (flat := np.flatnonzero(variance <= FLAT * variance.max())).size:
        raise DataError(
            f"channels of {where} do not vary: {listing(names[i] for i in flat.tolist())}",
            fix="drop or interpolate them",
        )
    scale = np.sqrt(variance)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    if values[0] < SINGULAR:
        guilty = np.argsort(-np.abs(vectors[:, 0]), kind="stable")
        raise DataError(
            f"the noise covariance of {where} has no inverse",
            found=f"rank {int((values >= SINGULAR).sum())} of {len(values)}; the correlations' "
            f"smallest eigenvalue is {values[0]:.1e}, a combination of "
            f"{listing(names[i] for i in guilty.tolist())}",
            fix='use shrinkage="ledoit_wolf" or "oas" (channels with an average reference or '
            "interpolated ones are combinations of others), or drop such channels",
        )
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = (vectors / np.sqrt(values)) @ vectors.T
    return root
