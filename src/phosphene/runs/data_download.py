"""What ``phosphene data download`` does: a plan first, then the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phosphene.data.datasets import get_dataset
from phosphene.data.download import (
    DownloadPlan,
    Fetched,
    download,
    plan_download,
    read_url_list,
)

__all__ = ["DownloadPlan", "Fetched", "fetch_dataset", "plan_dataset"]


def plan_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    subjects: Sequence[str] | None = None,
    url_list: str | Path | None = None,
    ask_sizes: bool = True,
) -> DownloadPlan:
    """What downloading a data set would take.

    Parameters
    ----------
    name : str
        Registered name.
    root : path, optional
        Folder; by default one of the data set's name in the current folder.
    subjects : sequence of str, optional
        Whose files.
    url_list : path, optional
        CSV list of files in place of the known ones.
    ask_sizes : bool
        Ask the server for sizes that are not known.

    Raises
    ------
    UnknownNameError
        If there is no such data set.
    DataError
        If it cannot be downloaded here; says what to do instead.
    """
    files = None if url_list is None else read_url_list(url_list)
    info = get_dataset(name)
    return plan_download(info, root or name, subjects=subjects, files=files, ask_sizes=ask_sizes)


def fetch_dataset(plan: DownloadPlan, *, unpack: bool = True, show: bool = True) -> list[Fetched]:
    """Carry out a plan; see `phosphene.data.download.download`."""
    return download(plan, extract=unpack, show=show)
