"""Whether reconstructions are copies of training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.evaluation._image_sums import unit_deviations
from phosphene.evaluation._pictures import as_pictures, query_ids, resized, shown
from phosphene.evaluation.image_networks import Network
from phosphene.evaluation.statistics import bootstrap_interval


@dataclass(frozen=True, eq=False)
class Memorisation:
    """The most similar training picture of every reconstruction.

    Attributes
    ----------
    table : DataFrame
        Index: the query. ``nearest`` (training picture most similar to the reconstruction),
        ``similarity`` (of the two), ``to_truth`` (of the reconstruction and its truth),
        ``nearer_to_training`` (the first exceeds the second), ``truth_nearest`` (the truth's own
        similarity to its nearest training picture: how much there was to copy from).
    share : float
        Share of the reconstructions that are nearer to a training picture than to their truth.
    low, high : float
        Its 95 % interval over the queries.
    chance : float
        The share if truth and training pictures were equally near: n / (n + 1) for n training
        pictures. So a high share is no proof of copying; one of 1 with similarities near 1 is.
    n_training : int
        Number of training pictures.
    network, layer, weights : str
        What measured the similarity (Pearson's r over the features).
    """

    table: pd.DataFrame
    share: float
    low: float
    high: float
    chance: float
    n_training: int
    network: str
    layer: str
    weights: str


def nearest_training_pictures(
    reconstructions: npt.ArrayLike,
    truths: npt.ArrayLike,
    training: StimulusSet,
    network: Network,
    *,
    ids: Sequence[str] | None = None,
    training_ids: Sequence[str] | None = None,
    batch: int = 16,
) -> Memorisation:
    """Compare every reconstruction with all training pictures and with its truth.

    Parameters
    ----------
    reconstructions, truths : array, shape (queries, H, W, 3)
        uint8, or floating in [0, 1].
    training : StimulusSet
        Pictures that the decoder or the generator learned from; read one batch at a time.
    network : Network
        What measures similarity.
    ids : sequence of str, optional
        Ids of the queries; their numbers by default.
    training_ids : sequence of str, optional
        Which pictures of ``training``; all by default.
    batch : int
        Pictures that go through the network at once.

    Returns
    -------
    Memorisation

    Raises
    ------
    DataError
        If there is no training picture, a query is among them, or pictures are unfit.
    """
    made, real = as_pictures(reconstructions, "reconstructions"), as_pictures(truths, "truths")
    if len(made) != len(real):
        raise DataError("reconstructions and truths differ in number", found=len(made),
                        expected=len(real))  # fmt: skip
    names = query_ids(ids, len(made))
    learned = training.ids if training_ids is None else [str(i) for i in training_ids]
    if not learned:
        raise DataError("there is no training picture to compare with")
    if ids is not None and (both := sorted(set(names) & set(learned))):
        raise DataError(f"queries are among the training pictures: {listing(both)}",
                        fix="give training_ids without the test pictures")  # fmt: skip
    vectors = [unit_deviations(network.features(values, batch)) for values in (made, real)]
    best = np.full((2, len(made)), -np.inf)
    where = np.zeros(len(made), dtype=np.intp)
    for start in range(0, len(learned), batch):
        some = learned[start : start + batch]
        pictures = [resized(shown(x[None]), network.image_size) for x in training.load_images(some)]
        own = network.features(np.concatenate(pictures), batch)
        r = [part @ unit_deviations(own).T for part in vectors]
        top = r[0].argmax(axis=1)
        value = r[0][np.arange(len(made)), top]
        where = np.where(value > best[0], start + top, where)
        best = np.maximum(best, [value, r[1].max(axis=1)])
    to_truth = np.einsum("nd,nd->n", *vectors)
    nearer = best[0] > to_truth
    table = pd.DataFrame(
        {
            "nearest": [learned[i] for i in where],
            "similarity": best[0],
            "to_truth": to_truth,
            "nearer_to_training": nearer,
            "truth_nearest": best[1],
        },
        index=pd.Index(names, dtype="str", name="query"),
    )
    low, high = bootstrap_interval(nearer.astype(float), bounds=(0.0, 1.0))
    count = len(learned)
    return Memorisation(
        table, float(nearer.mean()), low, high, count / (count + 1), count,
        network.id, network.layer, network.weights,
    )  # fmt: skip
