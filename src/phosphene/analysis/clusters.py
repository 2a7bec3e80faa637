"""Cluster-based permutation test against chance, over people.

At every point (a window, or a pair of windows) the people's scores are compared with chance by a t
value; neighbouring points above a threshold form clusters, and the largest sum of t values in a
cluster is compared with that under random signs of the people's differences. The p-value belongs to
a cluster as a whole: it says that there is an effect, not where exactly it begins (Maris &
Oostenveld 2007, doi:10.1016/j.jneumeth.2007.03.024; Sassenhagen & Draschkow 2019,
doi:10.1111/psyp.13335). The test is MNE-Python's ``permutation_cluster_1samp_test``.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

from phosphene.errors import DataError


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """Clusters of points above chance.

    Attributes
    ----------
    t : ndarray, shape (points,) or (rows, columns)
        t value of every point.
    masks : tuple of ndarray of bool, each of that shape
        Clusters, in order of their p-values.
    p_values : ndarray, shape (clusters,)
        Of each.
    alpha : float
        Level of the test.
    n_subjects, n_permutations : int
        People, and sign patterns that were counted.
    """

    t: npt.NDArray[np.float64]
    masks: tuple[npt.NDArray[np.bool_], ...]
    p_values: npt.NDArray[np.float64]
    alpha: float
    n_subjects: int
    n_permutations: int

    @property
    def significant(self) -> npt.NDArray[np.bool_]:
        """Points that lie in a cluster with a p-value of at most ``alpha``."""
        kept = [m for m, p in zip(self.masks, self.p_values, strict=True) if p <= self.alpha]
        none: npt.NDArray[np.bool_] = np.zeros(self.t.shape, dtype=bool)
        together: npt.NDArray[np.bool_] = np.logical_or.reduce([none, *kept])
        return together

    def table(self, times: npt.ArrayLike) -> pd.DataFrame:
        """Clusters as rows: ``start``, ``stop`` (seconds), ``points``, ``sum_t`` and ``p_value``.

        Parameters
        ----------
        times : array, shape (points,)
            Seconds; in two dimensions the extent is that of the training times.
        """
        axis = np.asarray(times, dtype=np.float64)
        rows = []
        for mask, p in zip(self.masks, self.p_values, strict=True):
            where = axis[mask.any(axis=tuple(range(1, mask.ndim)))]
            rows.append((where.min(), where.max(), int(mask.sum()), self.t[mask].sum(), p))
        return pd.DataFrame(rows, columns=["start", "stop", "points", "sum_t", "p_value"])


def cluster_test(
    values: npt.ArrayLike,
    chance: float,
    *,
    alpha: float = 0.05,
    n_permutations: int = 1024,
    random_state: int = 0,
) -> ClusterTest:
    """Test people's scores against chance, clusters of neighbouring points at a time.

    Parameters
    ----------
    values : array, shape (subjects, points) or (subjects, rows, columns)
        Scores of every person, e.g. ``TimeCurve.by_subject``.
    chance : float
        Chance level. Scores above it are looked for (one-sided), as none are expected below.
    alpha : float
        Level; also that of the t value from which a point enters a cluster.
    n_permutations : int
        Sign patterns; if there are no more than that in all, each is counted once.
    random_state : int
        Seed of the draws.

    Returns
    -------
    ClusterTest

    Raises
    ------
    DataError
        If values are not finite, or so few people cannot reach ``alpha``: with S of them no
        p-value lies below 2 / 2^S (MNE counts the observed signs twice), so that .05 needs six.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = 0.05 + 0.01 * rng.standard_normal((8, 30))
    >>> scores[:, 10:15] += 0.05
    >>> cluster_test(scores, 0.05).significant.nonzero()[0].tolist()
    [10, 11, 12, 13, 14]
    """
    from mne.stats import permutation_cluster_1samp_test, ttest_1samp_no_p

    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in (2, 3) or 0 in scores.shape or not np.isfinite(scores).all():
        raise DataError(
            "the cluster test needs finite scores of people",
            found=f"shape {scores.shape}",
            expected="(subjects, windows) or (subjects, windows, windows)",
        )
    people = len(scores)
    if people < people_needed(alpha):
        raise DataError(
            f"{people} people cannot reach a level of {alpha:g}",
            found=f"no p-value lies below 2/2^{people} = {0.5 ** (people - 1):.3g}",
            expected=f"at least {people_needed(alpha)} people",
            fix="report the intervals over stimuli of every person instead",
        )
    difference = scores - chance
    if not difference.any():
        return ClusterTest(np.zeros(scores.shape[1:]), (), np.zeros(0), alpha, people, 0)
    # Where all people agree by chance the plain t value is infinite; the variance is therefore
    # raised by a small share of the largest one (Ridgway et al. 2012).
    statistic = functools.partial(ttest_1samp_no_p, sigma=1e-3)
    threshold = float(student.ppf(1 - alpha, people - 1))
    # MNE 1.13 renamed the argument and says so whenever the older name is used.
    known = inspect.signature(permutation_cluster_1samp_test).parameters
    t, masks, p_values, null = permutation_cluster_1samp_test(
        difference, threshold=threshold, n_permutations=n_permutations, tail=1,
        stat_fun=statistic, out_type="mask", verbose="error",
        **{"rng" if "rng" in known else "seed": random_state},
    )  # fmt: skip
    order = np.argsort(p_values, kind="stable")
    return ClusterTest(
        np.asarray(t).reshape(scores.shape[1:]),
        tuple(_mask(masks[i], scores.shape[1:]) for i in order),
        np.asarray(p_values, dtype=np.float64)[order],
        alpha,
        people,
        len(null),
    )


def people_needed(alpha: float = 0.05) -> int:
    """The smallest number of people whose signs can reach a level.

    Examples
    --------
    >>> people_needed(0.05), people_needed(0.01)
    (6, 8)
    """
    return int(np.ceil(1 - np.log2(alpha)))


def _mask(found: object, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """A cluster as a mask; MNE gives slices where points lie in a row."""
    mask = np.zeros(shape, dtype=bool)
    if isinstance(found, tuple):
        mask[found] = True
        return mask
    return np.asarray(found, dtype=bool).reshape(shape)
