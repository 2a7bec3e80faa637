"""Published scores of reconstructed pictures, as data."""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from phosphene import _registry
from phosphene.errors import UnknownNameError
from phosphene.evaluation.image_networks import METRICS

FILE = "reference_images.csv"
NOTE = (
    "Published scores differ in the subjects, in the test set (982 or 1000 images of NSD) and in "
    "the versions of the networks: they cannot be ranked against one another, nor against scores "
    "by other networks."
)
_FACTS = ["method", "venue", "dataset", "subjects", "notes"]


def published_reconstructions(method: str | None = None) -> pd.DataFrame:
    """Published scores by the eight metrics, one row per method and metric.

    Parameters
    ----------
    method : str, optional
        Only the rows of one method.

    Returns
    -------
    DataFrame
        ``method``, ``venue``, ``dataset``, ``subjects``, ``metric`` (a name of
        `phosphene.evaluation.image_networks.METRICS`), ``value`` (two-way identification between 0
        and 1, as our own; the papers print per cent), ``better``, ``notes``. A metric that a source
        does not report has no row.

    Raises
    ------
    UnknownNameError
        If no score is of the method.

    Examples
    --------
    >>> table = published_reconstructions("mindeye2").set_index("metric")["value"]
    >>> float(table["SSIM"]), float(table["CLIP"])
    (0.431, 0.93)
    """
    whole = _table()
    known = sorted(set(whole["method"]))
    if method is None:
        return whole.copy()
    if method not in known:
        raise UnknownNameError(
            f"no published reconstruction is of a method named {method!r}",
            expected="one of " + ", ".join(known),
            fix=_registry.did_you_mean(method, known),
        )
    return whole[whole["method"] == method].reset_index(drop=True)


@cache
def _table() -> pd.DataFrame:
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    wide = pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(_FACTS, "str"))
    long = wide.melt(_FACTS, list(METRICS), "metric", "value").dropna(subset="value")
    percent = np.array([METRICS[str(name)].measure == "two_way" for name in long["metric"]])
    long["value"] = np.where(percent, (long["value"] / 100).round(6), long["value"])
    long["better"] = [METRICS[str(name)].better for name in long["metric"]]
    order = {name: place for place, name in enumerate(wide["method"])}
    places = long["method"].map(order)
    long = long.assign(place=places).sort_values("place", kind="stable")
    columns = [*_FACTS[:-1], "metric", "value", "better", "notes"]
    return long[columns].reset_index(drop=True)
