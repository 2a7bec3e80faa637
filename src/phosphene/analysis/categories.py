"""Which categories are decoded, and which are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from phosphene.analysis._problem import chance_of, check_metric, intervals
from phosphene.errors import DataError, listing
from phosphene.evaluation.similarity import Similarity

COLUMNS = {"top1": "top1", "top5": "top5", "mrr": "reciprocal_rank", "two_way": "two_way"}


def category_accuracy(
    table: pd.DataFrame,
    categories: Mapping[str, str] | None = None,
    *,
    metric: str = "top1",
    seed: int = 0,
) -> pd.DataFrame:
    """Score of the queries of every category, with its interval.

    Parameters
    ----------
    table : DataFrame
        Per-query table of a result (`phosphene.evaluation.retrieval.score`).
    categories : mapping of str to str, optional
        Concept to category; by default every concept is a category of its own.
    metric : {"top1", "top5", "mrr", "two_way"}
        Score of a query among the whole gallery.
    seed : int
        Seed of the intervals.

    Returns
    -------
    DataFrame
        Columns ``category``, ``queries``, ``stimuli``, ``value`` (mean over people), ``low``,
        ``high`` and ``chance``, the best category first. The interval is a bootstrap over the
        category's stimuli, crossed with people where there are several; NaN for one stimulus.
        It says nothing of other categories: among many, some are high by chance.

    Raises
    ------
    DataError
        If a concept has no category.

    Examples
    --------
    >>> table = pd.DataFrame({"subject": "01", "stimulus": ["a", "b", "c"],
    ...                       "concept": ["cat", "dog", "car"], "top1": [1.0, 0.0, 1.0],
    ...                       "n_gallery": 3})
    >>> kinds = {"cat": "animal", "dog": "animal", "car": "vehicle"}
    >>> category_accuracy(table, kinds)[["category", "queries", "value"]]
      category  queries  value
    0  vehicle        1    1.0
    1   animal        2    0.5
    """
    check_metric(metric)
    if table.empty:
        raise DataError("there are no queries to sort into categories")
    known = _categories(table["concept"].astype(str).tolist(), categories)
    rows = []
    for name, part in table.groupby(np.asarray(known), sort=True):
        scores = part[COLUMNS[metric]].to_numpy(dtype=float)[None]
        who, what = part["subject"].astype(str), part["stimulus"].astype(str)
        low, high = intervals(scores, who.tolist(), what.tolist(), metric, seed=seed)[0]
        value = part.groupby(who)[COLUMNS[metric]].mean().mean()
        chance = np.mean([chance_of(metric, int(n)) for n in part["n_gallery"]])
        rows.append((str(name), len(part), what.nunique(), float(value), low, high, float(chance)))
    columns = ["category", "queries", "stimuli", "value", "low", "high", "chance"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(["value", "category"], ascending=[False, True]).reset_index(drop=True)


def confusion_matrix(
    similarity: Similarity, categories: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """How often a query of one category has its best candidate in another.

    Parameters
    ----------
    similarity : Similarity
        Scores with the concepts of queries and candidates.
    categories : mapping of str to str, optional
        Concept to category; by default every concept is a category of its own.

    Returns
    -------
    DataFrame
        Rows: category that was seen; columns: category of the best candidate; values: share of the
        row's queries, so that rows sum to 1. Candidates that tie for the first place share it.
        Chance of a column is its category's share of the gallery: ``.attrs["chance"]``.

    Raises
    ------
    DataError
        If concepts are unknown or have no category.

    Examples
    --------
    >>> queries = pd.DataFrame({"stimulus": ["a", "b"], "concept": ["cat", "car"]})
    >>> scores = Similarity([[0.9, 0.1], [0.5, 0.5]], queries, ["a", "b"], ["cat", "car"])
    >>> confusion_matrix(scores)
    decoded  car  cat
    seen
    car      0.5  0.5
    cat      0.0  1.0
    """
    if similarity.gallery_concepts is None or "concept" not in similarity.queries:
        raise DataError(
            "a confusion matrix needs the concepts of queries and candidates",
            found="no concepts" if similarity.gallery_concepts is None else "queries without",
            fix="use a bank with concepts, or Similarity(..., gallery_concepts=...)",
        )
    seen = _categories(similarity.queries["concept"].astype(str).tolist(), categories)
    offered = _categories(list(similarity.gallery_concepts), categories)
    names = sorted({*seen, *offered})
    place = {name: i for i, name in enumerate(names)}
    first = similarity.matrix == similarity.matrix.max(axis=1, keepdims=True)
    share = first / first.sum(axis=1, keepdims=True)
    into = np.zeros((len(offered), len(names)))
    into[np.arange(len(offered)), [place[name] for name in offered]] = 1.0
    total = np.zeros((len(names), len(names)))
    np.add.at(total, [place[name] for name in seen], share @ into)
    count = np.bincount([place[name] for name in seen], minlength=len(names))
    kept = count > 0
    found = pd.DataFrame(
        total[kept] / count[kept][:, None],
        index=pd.Index(np.asarray(names)[kept], name="seen"),
        columns=pd.Index(names, name="decoded"),
    )
    found.attrs["chance"] = dict(
        zip(names, (into.sum(axis=0) / len(offered)).tolist(), strict=True)
    )
    return found


def _categories(concepts: Sequence[str], categories: Mapping[str, str] | None) -> list[str]:
    if categories is None:
        if any(not name for name in concepts):
            raise DataError("there are queries or candidates without a concept")
        return list(concepts)
    if missing := sorted({name for name in concepts if name not in categories}):
        raise DataError(
            f"{len(missing)} concepts have no category: {listing(missing)}",
            expected="every concept of queries and gallery",
        )
    return [str(categories[name]) for name in concepts]
