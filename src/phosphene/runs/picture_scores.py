"""Scores of reconstructed pictures, row by row of a table: stages, baselines and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._random import generator
from phosphene.errors import DataError
from phosphene.evaluation.image_metrics import image_scores
from phosphene.evaluation.image_networks import Network, offline_networks
from phosphene.evaluation.statistics import group_interval, paired_difference
from phosphene.runs.object_layout import LayoutReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phosphene.data.stimuli import StimulusSet

KEYS = ("modality", "subject", "row", "stimulus", "metric")
FACTS = ("better", "chance", "measure", "network", "layer", "weights", "version")
_BOUNDS = {"two_way": (0.0, 1.0), "distance": (0.0, 2.0), "pixcorr": (-1.0, 1.0)}
# How the lower bound pairs pictures: nothing is generated for it.
SHUFFLED = "shuffled brains"
TRUE = "true features"


@dataclass(frozen=True, eq=False)
class PictureScores:
    """Scores of every picture of every row.

    Attributes
    ----------
    per_image : DataFrame
        ``modality``, ``subject``, ``row``, ``stimulus``, ``metric``, ``value``.
    facts : DataFrame
        Index: the metric. ``better``, ``chance``, ``measure``, ``network``, ``layer``,
        ``weights``, ``version``.
    """

    per_image: pd.DataFrame
    facts: pd.DataFrame

    @classmethod
    def join(cls, parts: Sequence[PictureScores]) -> PictureScores:
        """Scores of several people or modalities."""
        if not parts:
            raise DataError("there are no scores to join")
        return cls(pd.concat([p.per_image for p in parts], ignore_index=True), parts[0].facts)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in order."""
        return [str(name) for name in self.facts.index]

    def table(self, n_resamples: int = 10_000) -> pd.DataFrame:
        """Mean and 95 % interval of every row and metric.

        Over people and pictures where a modality has several people, else over pictures.
        """
        lines = []
        grouped = self.per_image.groupby(["modality", "row", "metric"], sort=False)
        for (modality, row, metric), part in grouped:
            about = self.facts.loc[str(metric)]
            low, high = group_interval(
                part, "value", bounds=_BOUNDS.get(str(about["measure"])), n=n_resamples
            )
            lines.append(
                {
                    "modality": modality, "row": row, "metric": metric,
                    "value": part.groupby("subject")["value"].mean().mean(),
                    "low": low, "high": high,
                    "n_subjects": part["subject"].nunique(),
                    "n_images": part["stimulus"].nunique(),
                    **{name: about[name] for name in FACTS},
                }
            )  # fmt: skip
        return pd.DataFrame(lines)

    def gains(self, first: str, second: str, modality: str) -> pd.DataFrame:
        """By how much one row is better than another on the same pictures, by metric.

        ``gain`` is positive where ``first`` is better, whichever direction that is; ``low`` and
        ``high`` are its 95 % interval.
        """
        own = self.per_image[self.per_image["modality"] == modality]
        lines = []
        for metric in self.metrics:
            here = own[own["metric"] == metric]
            mine, other = here[here["row"] == first], here[here["row"] == second]
            if mine.empty or other.empty:
                raise DataError("there is no such row", found=f"{first}, {second}",
                                expected=", ".join(dict.fromkeys(own["row"])))  # fmt: skip
            found = paired_difference(mine, other, "value")
            ends = (found.low, found.high)
            if np.isnan(ends[0]):
                ends = _one_person(mine, other)
            sign = -1.0 if self.facts.loc[metric, "better"] == "lower" else 1.0
            low, high = sorted(sign * end for end in ends)
            lines.append({"modality": modality, "metric": metric, "over": second, "row": first,
                          "gain": sign * found.value, "low": low, "high": high})  # fmt: skip
        return pd.DataFrame(lines)


def _one_person(first: pd.DataFrame, second: pd.DataFrame) -> tuple[float, float]:
    from phosphene.evaluation.statistics import bootstrap_interval

    mine = first.set_index("stimulus")["value"]
    other = second.set_index("stimulus")["value"]
    low, high = bootstrap_interval((mine - other.loc[mine.index]).to_numpy())
    return low, high


def score_pictures(
    rows: Mapping[str, NDArray[Any]],
    truths: NDArray[Any],
    ids: Sequence[str],
    *,
    modality: str,
    subject: str,
    networks: Mapping[str, Network] | None = None,
    layout: tuple[LayoutReader, StimulusSet] | None = None,
    shuffled: str | None = None,
    progress: bool = False,
) -> PictureScores:
    """Score the pictures of several rows against the same truths.

    Parameters
    ----------
    rows : mapping of str to ndarray, shape (queries, samples, H, W, 3)
        Pictures in [0, 1] by the row's name.
    truths : ndarray of uint8, shape (queries, H', W', 3)
        What was seen.
    ids : sequence of str
        Stimulus ids of the queries.
    modality, subject : str
        Where the brain data are from.
    networks : mapping of str to Network, optional
        Networks that compare; by default those that come with pip.
    layout : (LayoutReader, StimulusSet), optional
        Compare position and size of the object with those that the set's table holds.
    shuffled : str, optional
        Row whose pictures are also scored against the truths of other queries, as lower bound.
    progress : bool
        Show bars when someone is watching.
    """
    known = dict(_offline() if networks is None else networks)
    parts, facts = [], {}
    wanted = {name: (pictures, np.arange(len(ids))) for name, pictures in rows.items()}
    if shuffled is not None:
        wanted[SHUFFLED] = (rows[shuffled], derangement(len(ids)))
    for row, (pictures, order) in wanted.items():
        found = image_scores(
            np.asarray(pictures)[order], truths, known, ids=ids, n_resamples=2, progress=progress
        )
        per_image = found.per_image
        for line in found.table.to_dict("records"):
            facts[str(line["metric"])] = {name: line[name] for name in FACTS}
        if layout is not None:
            reader, stimuli = layout
            errors = reader.errors(np.asarray(pictures)[order], stimuli, ids)
            per_image = per_image.assign(**errors)
            facts |= dict.fromkeys(errors, reader.facts)
        long = per_image.reset_index(names="stimulus").melt(
            id_vars="stimulus", var_name="metric", value_name="value"
        )
        parts.append(long.assign(modality=modality, subject=subject, row=row))
    table = pd.concat(parts, ignore_index=True)[[*KEYS, "value"]]
    return PictureScores(table, pd.DataFrame.from_dict(facts, orient="index")[list(FACTS)])


def _offline() -> dict[str, Network]:
    """The networks that come with pip, under short names."""
    named = {name.partition(" ")[2]: one for name, one in offline_networks().items()}
    return {name.removesuffix(" map"): one for name, one in named.items()}


def derangement(n: int) -> NDArray[np.intp]:
    """A random order in which no query keeps its place."""
    if n < 2:
        raise DataError("a shuffled control needs two queries or more", found=n)
    order = generator(0, "shuffled brains").permutation(n)
    shift = np.empty(n, dtype=np.intp)
    shift[order] = np.roll(order, 1)
    return shift
