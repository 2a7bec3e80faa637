"""Folds of a cross-validation, given in any of scikit-learn's ways, checked before use."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, KFold, check_cv

from phosphene.errors import DataError

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def folds_of(
    cv: Any, features: NDArray[Any], Y: NDArray[Any], groups: ArrayLike | None
) -> Folds | Literal["loo", "gcv"]:
    """Pairs of training and test rows, or the name of a way that needs none.

    Raises
    ------
    DataError
        For an unknown way, folds that cannot be made of so few samples or groups, groups of
        another length or with a way that does not heed them, and folds with fewer than two
        training rows or with a row on both sides.
    """
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (len(Y),):
            raise DataError(
                "groups are one per sample", found=f"shape {groups.shape}", expected=f"({len(Y)},)"
            )
    if isinstance(cv, str):
        if cv not in ("loo", "gcv"):
            raise DataError(
                "unknown cross-validation",
                found=cv,
                expected="a number of folds, a splitter, 'loo' or 'gcv'",
            )
        if groups is not None:
            raise DataError(
                f"cv={cv!r} leaves out single samples and would not heed the groups",
                fix="give a number of folds",
            )
        return "loo" if cv == "loo" else "gcv"
    try:
        if isinstance(cv, Integral):
            cv = KFold(int(cv)) if groups is None else GroupKFold(int(cv))
        splits = list(check_cv(cv).split(features, Y, groups))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"no folds can be made: {error}",
            fix="give fewer folds, or an iterable of (training rows, test rows)",
        ) from error
    return _checked(splits, len(Y))


def _checked(splits: list[Any], n: int) -> Folds:
    folds = [(np.arange(n)[train], np.arange(n)[test]) for train, test in splits]
    if not folds:
        raise DataError("no folds can be made", found="no pair of training and test rows")
    for number, (train, test) in enumerate(folds):
        if len(np.unique(train)) < 2 or not len(test):
            raise DataError(
                f"fold {number} is too small",
                found=f"{len(train)} training rows, {len(test)} test rows",
                expected="two or more to train, one or more to test",
            )
        if both := len(np.intersect1d(train, test)):
            raise DataError(f"fold {number} tests on {both} of its training rows")
    return folds
