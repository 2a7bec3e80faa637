"""Folds computed by himalaya, which many laboratories use for voxelwise models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene._optional import require
from phosphene.decoding._folds import Folds


def solve_by_himalaya(
    X: torch.Tensor,
    Y: torch.Tensor,
    alphas: torch.Tensor,
    folds: Folds,
    per_target: bool,
    batch: int,
) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]:
    """Chosen penalties, squared errors and weights of many-target ridge regression.

    Parameters
    ----------
    X, Y : Tensor, shapes (n, p) and (n, targets)
        Centred over all samples; himalaya centres again within the folds.
    alphas : Tensor, shape (a,)
        Penalties.
    folds : list of (training rows, test rows)
        As checked by `folds_of`.
    per_target : bool
        Choose for each target, or one for all.
    batch : int
        Targets at a time.

    Returns
    -------
    tuple
        Index into the penalties (targets,), mean over folds of the squared error there (targets,),
        and weights (targets, p).

    Raises
    ------
    MissingExtraError
        If himalaya is not installed.
    """
    require("himalaya", "fmri", 'solver="himalaya"')
    backends = require("himalaya.backend", "fmri")
    kernel = require("himalaya.kernel_ridge", "fmri")
    ridge = require("himalaya.ridge", "fmri")
    options = {
        "alphas": alphas,
        "cv": folds,
        "fit_intercept": True,
        "local_alpha": per_target,
        "n_targets_batch": batch,
        "n_targets_batch_refit": batch,
        "n_alphas_batch": 1,
    }
    before = backends.get_backend()
    try:
        # The backend of himalaya is a global setting of its own; it is left as it was found.
        backends.set_backend("torch_cuda" if X.is_cuda else "torch")
        if X.shape[0] <= X.shape[1]:
            found = kernel.solve_kernel_ridge_cv_eigenvalues(X @ X.T, Y, **options)
            weights = X.T.cpu() @ found[1].cpu()
        else:
            found = ridge.solve_ridge_cv_svd(X, Y, warn=False, **options)
            weights = found[1].cpu()
    finally:
        backends.set_backend(before)
    # It returns the exponential of a logarithm, which is the penalty up to rounding.
    distance = (found[0].log()[:, None] - alphas.log()).abs()
    best: NDArray[np.intp] = distance.argmin(dim=1).cpu().numpy()
    mse = -found[2].reshape(-1).cpu().numpy().astype(np.float64)
    return best, mse, weights.T.numpy()
