r"""Patterns of linear decoders: where a decoded signal comes from.

The weights of a decoder (its filter) say how the signal is extracted, not where it is: a channel
that holds noise alone gets weight when it helps to cancel noise elsewhere. The pattern that belongs
to filters W with outputs :math:`\hat y = W^\top x` is

.. math::
    A = \operatorname{Cov}(x)\, W\, \operatorname{Cov}(\hat y)^{-1}

(Haufe et al. 2014, doi:10.1016/j.neuroimage.2013.10.067); column k is how the signals look when
output k is 1. As :math:`\operatorname{Cov}(x) W = \operatorname{Cov}(x, \hat y)`, patterns are
computed from the outputs, of any decoder; those of decoders that are not linear describe the linear
part.

Decoded vectors have hundreds of dimensions, whose choice of axes means nothing. What does not
depend on it is how much of every channel the decoded vector accounts for,

.. math::
    s = \sqrt{\operatorname{diag}\left(A \operatorname{Cov}(\hat y) A^\top\right)},

in units of the signal: `pattern_strength`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from phosphene.data.recording import Recording
from phosphene.errors import DataError

Array = npt.NDArray[np.float64]
# Directions of the outputs below this share of the largest singular value are rounding.
_RANK = 1e-6


def haufe_patterns(X: npt.ArrayLike, outputs: npt.ArrayLike) -> Array:
    """Patterns that belong to the outputs of a decoder.

    Parameters
    ----------
    X : array, shape (trials, features)
        Signals that the decoder was given.
    outputs : array, shape (trials, dimensions)
        What it gave; ``X @ W`` for filters W.

    Returns
    -------
    ndarray, shape (features, dimensions)
        ``Cov(X) W Cov(X W)^-1``; a pseudo-inverse where outputs depend on one another.

    Raises
    ------
    DataError
        If lengths differ, values are not finite, there are fewer than two trials, or the outputs
        do not vary.

    Examples
    --------
    The second channel holds noise only. The filter needs it, the pattern does not show it.

    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.standard_normal((2, 5000))
    >>> X = np.stack([signal + noise, noise], axis=1)
    >>> W = np.array([[1.0], [-1.0]])
    >>> haufe_patterns(X, X @ W).round(1) + 0.0
    array([[1.],
           [0.]])
    """
    x, (U, S, Vt), _ = _parts(X, outputs)
    # Cov(x, y) pinv(Cov(y)) = X' U S^-1 V' with the outputs' singular value decomposition.
    found: Array = (x.T @ U) / S @ Vt
    return found


def pattern_strength(
    X: npt.ArrayLike, outputs: npt.ArrayLike, n_components: int | None = None
) -> Array:
    """Standard deviation of every feature that a decoder's outputs account for.

    Parameters
    ----------
    X : array, shape (trials, features)
        Signals that the decoder was given.
    outputs : array, shape (trials, dimensions)
        What it gave. An invertible map of them changes nothing where all directions count.
    n_components : int, optional
        Count only so many directions in which the outputs vary most. By chance r directions account
        for r / (trials - 1) of the variance of any signal, so that few are better than all.

    Returns
    -------
    ndarray, shape (features,)
        In units of the signals.

    Raises
    ------
    DataError
        As for :func:`haufe_patterns`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.standard_normal((2, 5000))
    >>> X = np.stack([3 * signal + noise, noise], axis=1)
    >>> pattern_strength(X, signal[:, None]).round(1)
    array([3., 0.])
    """
    x, (U, _, _), n = _parts(X, outputs, n_components)
    strength: Array = np.sqrt(np.square(x.T @ U).sum(axis=1) / (n - 1))
    return strength


def decoder_patterns(decoder: Any, recording: Recording, *, n_components: int = 10) -> Array:
    """`pattern_strength` of a fitted decoder on a recording, in the shape of a trial.

    Parameters
    ----------
    decoder : Decoder
        Fitted; its outputs are the vectors of ``decoder.embed``.
    recording : Recording
        Trials to describe, with the decoder's channels. Those of training are the usual choice:
        nothing is scored. Many more trials than components are needed, as otherwise the outputs
        account for any signal.
    n_components : int
        As for :func:`pattern_strength`.

    Returns
    -------
    ndarray, shape (channels, times) or (voxels,)
        In units of the recording.

    Raises
    ------
    DataError
        If there are not ten trials per component.

    Examples
    --------
    >>> import phosphene as ph
    >>> from phosphene.testing import tiny_problem
    >>> problem = tiny_problem()
    >>> decoder = ph.Ridge().fit(problem.train, problem.bank)
    >>> decoder_patterns(decoder, problem.train).shape
    (17, 80)
    """
    picked = recording.pick(list(decoder.channel_names_))
    outputs = np.asarray(decoder.embed(picked).vectors, dtype=np.float64)
    flat = np.asarray(picked.signals, dtype=np.float64).reshape(len(outputs), -1)
    if len(flat) < 10 * n_components:
        raise DataError(
            "there are too few trials for patterns",
            found=f"{len(flat)} trials for {n_components} components",
            expected=f"{10 * n_components} trials at least",
            fix="pass more trials, such as single ones instead of averages, or fewer components",
        )
    return pattern_strength(flat, outputs, n_components).reshape(picked.shape[1:])


def _parts(
    X: npt.ArrayLike, outputs: npt.ArrayLike, n_components: int | None = None
) -> tuple[Array, Any, int]:
    """Centred signals, the outputs' decomposition without what is rounding, number of trials."""
    x, y = _centred(X), _centred(outputs)
    if len(x) != len(y) or len(x) < 2:
        raise DataError(
            "patterns need signals and outputs of the same trials, two at least",
            found=f"{len(x)} and {len(y)} trials",
        )
    U, S, Vt = np.linalg.svd(y, full_matrices=False)
    kept = np.flatnonzero(S / max(S[0], 1e-300) > _RANK)[:n_components]
    if S[0] <= 1e-12 * max(float(np.abs(np.asarray(outputs)).max()), 1e-300):
        raise DataError("the outputs do not vary: there is no pattern")
    return x, (U[:, kept], S[kept], Vt[kept]), len(x)


def _centred(values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise DataError("a table of finite numbers is needed", found=f"shape {array.shape}")
    centred: Array = array - array.mean(axis=0)
    return centred
