"""Decoders for `phosphene.methods.alignment_table`: linear regression of every unit of the vectors.

All learn from training categories alone, the selection of voxels included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import DataError
from phosphene.methods.alignment_table import Decode, _rows, ridge_decoder

DecoderName = Literal["ridge", "ols", "pls"]
_BLOCK = 32  # targets at a time: their Gram matrices stay in the caches
DECODERS: tuple[DecoderName, ...] = ("ridge", "ols", "pls")


def linear_decoder(
    responses: Mapping[Any, ArrayLike],
    train: Sequence[int] | slice,
    test: Sequence[int] | slice,
    decoder: DecoderName = "ridge",
    *,
    voxels: int | None = None,
    penalty: float = 100.0,
    components: int = 10,
) -> Decode:
    """A decoder of responses, with or without a selection of voxels.

    Parameters
    ----------
    responses : mapping of subject to array, shape (n, units)
        Rows as those of the table's vectors.
    train, test : sequence of int or slice
        Rows of training and test categories.
    decoder : {"ridge", "ols", "pls"}
        Ridge regression of one penalty, least squares, or partial least squares, per unit of the
        vectors.
    voxels : int, optional
        Responses of largest absolute correlation with the unit over training categories, as many
        as there are at most; all by default.
    penalty : float
        Of ridge, on the sum of squares.
    components : int
        Of partial least squares; fewer where there are fewer categories or voxels.

    Returns
    -------
    callable
        ``decode(subject, targets)`` for `phosphene.methods.alignment_table.alignment_table`.

    Raises
    ------
    DataError
        If the decoder or a number cannot be used.
    """
    if decoder not in DECODERS:
        raise DataError("unknown decoder", found=repr(decoder), expected=", ".join(DECODERS))
    for name, value in (("voxels", voxels), ("components", components)):
        if value is not None and (not isinstance(value, (int, np.integer)) or value < 1):
            raise DataError(f"{name} is a number from 1", found=repr(value))
    if not (np.isfinite(penalty) and penalty > 0):
        raise DataError("a penalty is positive", found=repr(penalty))
    if decoder == "ridge" and voxels is None:
        return ridge_decoder(responses, train, test, penalty=penalty)

    def decode(subject: Any, targets: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(responses[subject], dtype=np.float64)
        learn, ask = _rows(train, len(x)), _rows(test, len(x))
        mean, sd = x[learn].mean(axis=0), x[learn].std(axis=0)
        z = (x - mean) / np.where(sd > 0, sd, 1.0)
        k = min(voxels or x.shape[1], x.shape[1])
        if decoder == "ridge":
            return _selected_ridge(z[learn], z[ask], targets, k, penalty)
        model = _model(decoder, len(learn), k, components)
        return np.asarray(model.fit(z[learn], targets).predict(z[ask]), dtype=np.float64)

    return decode


def _selected_ridge(
    learn: NDArray[Any], ask: NDArray[Any], targets: NDArray[Any], k: int, penalty: float
) -> NDArray[Any]:
    """Ridge regression of every target on its own k units, which are centred; one penalty.

    `phosphene.decoding.selected_ridge.SelectedRidge` chooses penalties, for which it decomposes
    every target's features; one penalty takes a solution of n equations, many times faster.
    """
    from phosphene.decoding.select import TopCorrelation

    chosen = TopCorrelation(k, dtype="float64", device="cpu", progress=False)
    places = torch.as_tensor(chosen.fit(learn, targets).indices_.astype(np.int64))
    centre = targets.mean(axis=0, dtype=np.float64)
    y = torch.as_tensor((targets - centre).T.copy())[..., None]
    units = torch.as_tensor(np.concatenate([learn, ask]).T.copy())
    n, ridge = len(learn), penalty * torch.eye(len(learn), dtype=torch.float64)
    found = np.empty((len(ask), len(places)))
    for start in range(0, len(places), _BLOCK):
        block = slice(start, start + _BLOCK)
        x = units[places[block]]  # (targets, k, rows)
        own = x[..., :n]
        gram = torch.baddbmm(ridge, own.mT, own)
        weights = torch.linalg.solve(gram, y[block], left=True)
        found[:, block] = torch.bmm(x[..., n:].mT, torch.bmm(own, weights))[..., 0].T.numpy()
    predicted: NDArray[Any] = found + centre
    return predicted


def _model(decoder: DecoderName, n: int, k: int, components: int) -> Any:
    from phosphene.decoding.linear import SelectedOLS, SelectedPLS

    if decoder == "ols":
        return SelectedOLS(k, dtype="float64", progress=False)
    return SelectedPLS(min(components, n - 1, k), k=k, dtype="float64", progress=False)
