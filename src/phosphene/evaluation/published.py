"""Published accuracies of retrieval methods, as data.

The numbers were reached under different protocols (epoch chosen on the test images, class centres
instead of exact images, other channels and repetitions), so that the columns that say how belong to
the numbers. They are per cent of 200-way retrieval, means over subjects, as their papers print
them; an empty cell is what the source does not say.
"""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files

import pandas as pd

from phosphene import _registry
from phosphene.errors import UnknownNameError

FILE = "published.csv"
NOTE = (
    "Published numbers come from different protocols (selection on test images, gallery, channels, "
    "repetitions): they cannot be ranked against one another."
)
_TEXT = (
    "method",
    "venue",
    "dataset",
    "setting",
    "row",
    "selection",
    "gallery",
    "transductive",
    "uses_test_labels",
    "notes",
)
_COUNTS = ("channels", "train_repetitions", "test_repetitions")
_FLAGS = ("transductive", "uses_test_labels")


def published_results(method: str | None = None, dataset: str | None = None) -> pd.DataFrame:
    """Published numbers with what is known of their protocols.

    Parameters
    ----------
    method, dataset : str, optional
        Only the rows of one method or data set, under their registered names; where a source names
        two methods together (``"sattc, sage"``), either finds it.

    Returns
    -------
    DataFrame
        ``method``, ``venue``, ``dataset``, ``setting`` ("intra": trained and tested on one person;
        "inter": tested on a person left out), ``row`` (of an ablation; "" for the method itself),
        ``top1`` and ``top5`` (per cent), ``selection`` ("test" or "fixed_epoch"), ``gallery``,
        ``channels``, ``train_repetitions``, ``test_repetitions``, ``transductive``,
        ``uses_test_labels`` and ``notes``. What is unknown is "" or missing.

    Raises
    ------
    UnknownNameError
        If no row is of the method or data set; the nearest names are listed.

    Examples
    --------
    >>> table = published_results("ubp", "things_meg")
    >>> table[["setting", "top1", "top5"]]
      setting  top1  top5
    0   intra  26.7  55.2
    1   inter   2.2  10.4
    """
    whole = _table()
    keep = pd.Series(True, index=whole.index)
    for column, wanted in (("method", method), ("dataset", dataset)):
        if wanted is None:
            continue
        groups = {name: name.split(", ") for name in dict.fromkeys(whole[column])}
        chosen = [name for name, single in groups.items() if wanted in (name, *single)]
        if not chosen:
            known = sorted(one for single in groups.values() for one in single)
            raise UnknownNameError(
                f"no published number is of a {column} named {wanted!r}",
                expected="one of " + ", ".join(known),
                fix=_registry.did_you_mean(wanted, known),
            )
        keep &= whole[column].isin(chosen)
    return whole[keep].reset_index(drop=True)


@cache
def _table() -> pd.DataFrame:
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    types = dict.fromkeys(_TEXT, "str") | dict.fromkeys(_COUNTS, "Int64")
    missing = {name: [""] for name in ("top1", "top5", *_COUNTS)}
    table = pd.read_csv(io.StringIO(text), dtype=types, keep_default_na=False, na_values=missing)
    return table.assign(**{name: table[name] == "yes" for name in _FLAGS})
