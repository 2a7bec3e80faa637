"""Metrics of reconstructed pictures, with intervals over the pictures.

Our own implementation with a version of its own: the same pair of pictures has another SSIM under
another version of the usual library. Scores are computed on what is shown, that is on 256 levels,
so that they are the same from memory and from PNG files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene._logging import progress as progress_bar
from phosphene.errors import DataError, listing
from phosphene.evaluation._image_sums import correlation, pixcorr, ssim, unit_deviations
from phosphene.evaluation._pictures import as_pictures, query_ids
from phosphene.evaluation.image_networks import (
    METRICS,
    ImageMetric,
    Network,
    encoder_networks,
    features_of,
    offline_networks,
)
from phosphene.evaluation.statistics import N_RESAMPLES, bootstrap_interval

__all__ = [
    "METRICS",
    "VERSION",
    "ImageMetric",
    "ImageScores",
    "Network",
    "correlation_distance",
    "encoder_networks",
    "image_metrics",
    "image_scores",
    "offline_networks",
    "pixcorr",
    "ssim",
    "two_way",
]

VERSION = 1
"""Raised whenever a metric would give the same pictures another number."""
Ties = Literal["half", "strict"]
# Correlations of equal features may differ by rounding; what is nearer than this is a tie.
TOLERANCE = 1e-10
_BOUNDS = {"two_way": (0.0, 1.0), "distance": (0.0, 2.0), "pixcorr": (-1.0, 1.0)}
_CHUNK = 1 << 24  # numbers in a block of features


def two_way(
    features_rec: npt.ArrayLike, features_real: npt.ArrayLike, ties: Ties = "half"
) -> npt.NDArray[np.float64]:
    r"""Two-way identification of every reconstruction among pairs of true pictures.

    The score of reconstruction j is the share of the other pictures i with
    :math:`r(rec_j, real_i) < r(rec_j, real_j)`, Pearson's r over the features; the mean over j is
    that over all ordered pairs. Chance is .5.

    Parameters
    ----------
    features_rec, features_real : array, shape (pictures, ...)
        Features of reconstructions and of true pictures, flattened here.
    ties : {"half", "strict"}
        What equal correlations count: half, so that a network that answers nothing scores .5, or
        nothing, as released code of the field has it, where it then scores 0.

    Returns
    -------
    ndarray, shape (pictures,)
        Between 0 and 1. Constant features correlate with nothing: all of their comparisons tie.

    Examples
    --------
    >>> real = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 1.0]])
    >>> two_way(real, real)
    array([1., 1., 1.])
    >>> two_way(np.ones((3, 3)), real), two_way(np.ones((3, 3)), real, ties="strict")
    (array([0.5, 0.5, 0.5]), array([0., 0., 0.]))
    """
    if ties not in get_args(Ties):
        raise DataError("unknown way to count ties", found=ties, expected="half or strict")
    made, real = _paired(features_rec, features_real)
    if len(real) < 2:
        raise DataError("two-way identification needs two pictures or more", found=len(real))
    r = _correlations(real, made)
    lead = np.diag(r) - r  # of the truth over picture i (row), for reconstruction j (column)
    wins = lead > TOLERANCE
    level = np.abs(lead) <= TOLERANCE
    np.fill_diagonal(level, False)
    half = 0.5 if ties == "half" else 0.0
    return np.asarray((wins.sum(axis=0) + half * level.sum(axis=0)) / (len(real) - 1))


def correlation_distance(
    features_rec: npt.ArrayLike, features_real: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """One less Pearson's r over the features of every pair; lower is better.

    Parameters
    ----------
    features_rec, features_real : array, shape (pictures, ...)
        Features of reconstructions and of true pictures, flattened here.

    Returns
    -------
    ndarray, shape (pictures,)
        From 0 to 2; 1 where features are constant.

    Examples
    --------
    >>> correlation_distance([[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]])
    array([2.])
    """
    return 1 - correlation(*_paired(features_rec, features_real))


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of reconstructions and how they came about.

    Attributes
    ----------
    table : DataFrame
        One row per metric: ``metric``, ``value``, ``low``, ``high``, ``better`` ("higher" or
        "lower"), ``chance`` (.5 for two-way identification; missing for the others, where it
        depends on the pictures, as unrelated ones look alike to a degree), ``measure``,
        ``network``, ``layer``, ``weights``, ``image_size``, ``ties``, ``n_images``,
        ``n_samples``, ``test_set``, ``version``.
    per_image : DataFrame
        Score of every query (index: its id) by metric, the mean over its samples.
    test_set : str
        Which convention the test follows, e.g. "NSD, 982 images"; "" if nobody said.
    version : int
        Of this implementation.
    """

    table: pd.DataFrame
    per_image: pd.DataFrame
    test_set: str = ""
    version: int = field(default=VERSION)

    def order(self, metric: str) -> list[str]:
        """Ids of the queries from best to worst by a metric."""
        rows = self.table.set_index("metric")
        if metric not in rows.index:
            raise DataError("there is no such metric", found=metric,
                            expected=", ".join(rows.index))  # fmt: skip
        lower = str(rows.loc[metric, "better"]) == "lower"
        ranked = self.per_image[metric].sort_values(ascending=lower, kind="stable")
        return [str(name) for name in ranked.index]


def image_scores(
    reconstructions: npt.ArrayLike,
    truths: npt.ArrayLike,
    networks: Mapping[str, Network] | None = None,
    *,
    ids: Sequence[str] | None = None,
    ties: Ties = "half",
    n_resamples: int = N_RESAMPLES,
    level: float = 0.95,
    random_state: int = 0,
    test_set: str = "",
    batch: int = 16,
    progress: bool = True,
) -> ImageScores:
    """PixCorr, SSIM and what the networks see, each with its interval over the pictures.

    Parameters
    ----------
    reconstructions : array, shape (queries, H, W, 3) or (queries, samples, H, W, 3)
        uint8, or floating in [0, 1]. Every sample is scored and the scores of a query are
        averaged: never the best of several.
    truths : array, shape (queries, H', W', 3)
        The pictures that were shown.
    networks : mapping of str to Network, optional
        By the name of the metric; none by default. `offline_networks` gives those that need no
        hub.
    ids : sequence of str, optional
        Ids of the queries; their numbers by default. Queries of one id are drawn together.
    ties : {"half", "strict"}
        As for `two_way`.
    n_resamples, level, random_state
        Of the bootstrap over pictures. The score of a picture in two-way identification is its
        mean over the others; these scores are resampled, the pictures it was told from stay.
    test_set : str
        Convention of the test. NSD's tests of 982 and of 1000 images are different tests: say
        which.
    batch : int
        Pictures that go through a network at once.
    progress : bool
        Show a bar when someone is watching.

    Returns
    -------
    ImageScores

    Raises
    ------
    DataError
        For pictures of a wrong shape or range, other numbers of pictures, or fewer than two.
    """
    made = as_pictures(reconstructions, "reconstructions", samples=True)
    real = as_pictures(truths, "truths")
    if len(made) != len(real):
        raise DataError("reconstructions and truths differ in number", found=len(made),
                        expected=len(real))  # fmt: skip
    if len(real) < 2:
        raise DataError("scores need two pictures or more", found=len(real))
    names = query_ids(ids, len(real))
    known = dict(networks or {})
    if clash := sorted(set(known) & {"PixCorr", "SSIM"}):
        raise DataError(f"a network must not be named {listing(clash)}",
                        expected="a name that no pixel metric has")  # fmt: skip
    true_features = features_of(known, real, batch)
    n_samples = made.shape[1]
    total: dict[str, npt.NDArray[np.float64]] = {}
    for sample in progress_bar(range(n_samples), total=n_samples, desc="metrics", unit="sample",
                               enabled=progress):  # fmt: skip
        scores = {"PixCorr": pixcorr(made[:, sample], real), "SSIM": ssim(made[:, sample], real)}
        found = features_of(known, made[:, sample], batch)
        for name, network in known.items():
            pair = found.pop(name), true_features[name]
            scores[name] = (
                two_way(*pair, ties=ties)
                if network.measure == "two_way"
                else correlation_distance(*pair)
            )
        for name, values in scores.items():
            total[name] = total.get(name, 0.0) + values / n_samples
    per_image = pd.DataFrame(total, index=pd.Index(names, dtype="str", name="query"))
    rows = []
    for name, values in total.items():
        about = _about_network(known[name]) if name in known else _about_pixels(METRICS[name])
        low, high = bootstrap_interval(
            values, names, level=level, n=n_resamples, random_state=random_state,
            bounds=_BOUNDS.get(about["measure"]),
        )  # fmt: skip
        rows.append({
            "metric": name, "value": float(values.mean()), "low": low, "high": high, **about,
            "ties": ties if about["measure"] == "two_way" else "", "n_images": len(real),
            "n_samples": n_samples, "test_set": test_set, "version": VERSION,
        })  # fmt: skip
    return ImageScores(pd.DataFrame(rows), per_image, test_set)


def image_metrics(
    reconstructions: npt.ArrayLike,
    truths: npt.ArrayLike,
    networks: Mapping[str, Network] | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    **more: Any,
) -> pd.DataFrame:
    """The table of `image_scores`, which see for the parameters.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truths = rng.random((4, 16, 16, 3))
    >>> table = image_metrics(truths, truths, progress=False)
    >>> table[["metric", "value", "better"]]
        metric  value  better
    0  PixCorr    1.0  higher
    1     SSIM    1.0  higher
    """
    return image_scores(reconstructions, truths, networks, n_resamples=n_resamples, **more).table


def _about_network(network: Network) -> dict[str, Any]:
    chance = 0.5 if network.measure == "two_way" else np.nan
    return {"better": network.better, "chance": chance, "measure": network.measure,
            "network": network.id, "layer": network.layer, "weights": network.weights,
            "image_size": network.image_size}  # fmt: skip


def _about_pixels(metric: ImageMetric) -> dict[str, Any]:
    return {"better": metric.better, "chance": np.nan, "measure": metric.measure, "network": "",
            "layer": "", "weights": "", "image_size": metric.size}  # fmt: skip


def _paired(
    features_rec: npt.ArrayLike, features_real: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    made, real = (np.asarray(values) for values in (features_rec, features_real))
    made, real = (values.reshape(len(values), -1) for values in (made, real))
    if made.shape != real.shape or 0 in made.shape:
        raise DataError("features of reconstructions and of truths disagree", found=made.shape,
                        expected=real.shape)  # fmt: skip
    for values, what in ((made, "reconstructions"), (real, "truths")):
        if bad := np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
            raise DataError(f"features of {what} hold NaN or infinity",
                            found=f"pictures {listing(bad)}")  # fmt: skip
    return made, real


def _correlations(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Pearson's r of all rows of one table with all rows of another, (rows, rows).

    Rows are taken in blocks, so that only a part is held in double precision.
    """
    step = max(1, _CHUNK // max(first.shape[1], 1))
    starts = [range(0, len(table), step) for table in (first, second)]
    r = np.empty((len(first), len(second)))
    for j in starts[1]:
        right = unit_deviations(second[j : j + step])
        for i in starts[0]:
            r[i : i + step, j : j + step] = unit_deviations(first[i : i + step]) @ right.T
    return r
