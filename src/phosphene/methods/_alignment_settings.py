"""The parameters of an aligner, checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene._registry import did_you_mean
from phosphene.errors import DataError
from phosphene.evaluation.rsm import METRICS
from phosphene.methods._alignment_fits import ACTIVATIONS
from phosphene.methods._alignment_solve import Settings

if TYPE_CHECKING:
    from phosphene.methods.brain_alignment import BrainAligner

WORDS: Mapping[str, tuple[str, ...]] = {
    "variant": ("linear", "autoencoder", "residual"),
    "activation": tuple(ACTIVATIONS),
    "metric": METRICS,
    "weights": ("equal", "reliability"),
    "reduction": ("mean", "sum"),
    "combine": ("procrustes", "common"),
}


def resolve(aligner: BrainAligner, n: int) -> Settings:
    """Settings for a fit on n categories.

    Raises
    ------
    DataError
        Naming the parameter that cannot be used.
    """
    for name, allowed in WORDS.items():
        value = getattr(aligner, name)
        if value not in allowed:
            raise DataError(
                f"unknown {name} of an aligner",
                found=repr(value),
                expected=", ".join(allowed),
                fix=did_you_mean(str(value), allowed),
            )
    alphas = _numbers(aligner.alpha, "alpha", "between 0 and 1", low=0.0, high=1.0)
    penalties = _numbers(aligner.penalty, "penalty", "positive", low=np.nextafter(0, 1))
    for name, least in (("epochs", 1), ("n_seeds", 1), ("n_jobs", 1), ("folds", 2)):
        _whole(getattr(aligner, name), name, least)
    for name in ("width", "batch_size"):
        if getattr(aligner, name) is not None:
            _whole(getattr(aligner, name), name, 2)
    _numbers(aligner.lr, "lr", "positive", low=np.nextafter(0, 1))
    if n // aligner.folds < 4:
        raise DataError(
            "a fold of the cross-validation needs four categories to have pairs",
            found=f"{n} categories in {aligner.folds} folds",
            fix="take fewer folds",
        )
    trained = aligner.variant != "linear"
    full = aligner.batch_size is None or aligner.batch_size >= n
    if aligner.n_seeds > 1 and not trained:
        raise DataError("the linear aligner has no seeds to average", fix="set n_seeds=1")
    if aligner.n_seeds > 1 and aligner.combine == "common" and full:
        raise DataError(
            "seeds with a common initialisation and the full batch are all the same",
            fix='set batch_size, or combine="procrustes"',
        )
    return Settings(
        variant=aligner.variant,
        alphas=alphas,
        penalties=penalties,
        width=aligner.width,
        activation=aligner.activation,
        metric=aligner.metric,
        reduction=aligner.reduction,
        epochs=aligner.epochs,
        lr=aligner.lr,
        batch_size=aligner.batch_size,
        n_seeds=aligner.n_seeds,
        combine=aligner.combine,
        folds=aligner.folds,
        device=aligner.device,
        seed=aligner.random_state,
        jobs=aligner.n_jobs,
    )


def _numbers(
    value: Any, name: str, expected: str, low: float, high: float = np.inf
) -> tuple[float, ...]:
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
        good = numbers.ndim == 1 and numbers.size > 0 and bool(np.isfinite(numbers).all())
        good = good and bool((numbers >= low).all() and (numbers <= high).all())
    except (TypeError, ValueError):
        good = False
    if not good:
        raise DataError(f"{name} of an aligner cannot be used", found=value, expected=expected)
    return tuple(dict.fromkeys(numbers.tolist()))


def _whole(value: Any, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise DataError(
            f"{name} of an aligner cannot be used",
            found=repr(value),
            expected=f"a whole number, {least} or more",
        )
