"""The design of the Natural Scenes Dataset: which image each trial of each person showed.

In ``nsd_expdesign`` everything counts from 1. ``masterordering`` (1, 30000) gives for every trial a
position among a person's 10000 images, ``subjectim`` (8, 10000) the number among all 73000 of the
image there. The first 1000 positions hold the images that all people share: the test.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._registry import did_you_mean
from phosphene.data.datasets import NSD_SESSIONS
from phosphene.data.readers._mat5 import read_mat5
from phosphene.errors import DataError, PhospheneError, listing

KEYS = ("masterordering", "subjectim", "sharedix")
TRIALS_PER_SESSION = 750
# Sessions of each person that the first release lacked.
HELD_BACK = 3
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class NsdDesign:
    """The design, counted from 0.

    Attributes
    ----------
    ordering : ndarray of int, shape (trials,)
        Position of each trial's image among the person's images.
    images : ndarray of int, shape (people, positions)
        Number of the image among all.
    n_shared : int
        Positions from the start that all people share.
    """

    ordering: NDArray[np.int64]
    images: NDArray[np.int64]
    n_shared: int

    def trials(self, subject: int, number: NDArray[np.int64], per_session: int) -> pd.DataFrame:
        """One row per trial, given by their numbers over all sessions, from 0.

        Columns ``stimulus``, ``nsd_id`` (row of ``imgBrick``, from 0), ``session``, ``run``,
        ``trial`` (the number) and ``shared``.
        """
        if len(number) and number.max() >= len(self.ordering):
            raise DataError(
                f"the design has no session {int(number.max()) // per_session + 1} of "
                f"{per_session} trials",
                found=f"{len(self.ordering)} trials",
                expected=f"{int(number.max()) + 1} or more",
            )
        if subject > len(self.images):
            raise DataError(
                f"the design has no person {subject}", found=f"{len(self.images)} people"
            )
        position = self.ordering[number]
        table = trial_table(self.images[subject - 1][position], number, per_session)
        return table.assign(shared=position < self.n_shared)

    def seen_by_all(self, per_session: int) -> NDArray[np.int64]:
        """Shared images that every person saw three times, as numbers among all.

        The order of trials is the same for all people, so that the shortest recording decides.
        """
        common = sessions_of(None, per_session, len(self.ordering)) * per_session
        counts = np.bincount(self.ordering[:common], minlength=self.n_shared)[: self.n_shared]
        shared: NDArray[np.int64] = self.images[0][: self.n_shared][counts == 3]
        return shared


def sessions_of(subject: int | None, per_session: int, n_trials: int) -> int:
    """Sessions that a person has (the fewest of all for None); of a miniature, all there are."""
    if per_session != TRIALS_PER_SESSION:
        return n_trials // per_session
    return min(NSD_SESSIONS) if subject is None else NSD_SESSIONS[subject - 1]


def trial_table(
    images: NDArray[np.int64], number: NDArray[np.int64], per_session: int
) -> pd.DataFrame:
    """Table of trials from their images and their numbers over all sessions, both from 0."""
    session, place = number // per_session, number % per_session
    # Runs of 63 and 62 trials take turns, six of each a session.
    run = place // 125 * 2 + (place % 125 >= 63) if per_session == TRIALS_PER_SESSION else 0 * place
    return pd.DataFrame(
        {
            "stimulus": [stimulus_id(image) for image in images.tolist()],
            "nsd_id": images,
            "session": (session + 1).astype(str),
            "run": (run + 1).astype(str),
            "trial": number,
        }
    )


def stimulus_id(image: int) -> str:
    """Id of an image by its row of ``imgBrick``, from 0: ``nsd-00042``."""
    return f"nsd-{image:05d}"


def read_design(path: Path) -> NsdDesign:
    """Read ``nsd_expdesign.mat`` or an ``.npz`` with the same keys.

    Raises
    ------
    DataError
        If the file is missing or damaged, lacks a key, or holds numbers that cannot be.
    """
    if not path.is_file():
        raise DataError(f"there is no design {path}", expected="nsd_expdesign.mat or .npz")
    try:
        content = _npz(path) if path.suffix == ".npz" else read_mat5(path, KEYS, MAX_BYTES)
    except PhospheneError:
        raise
    except Exception as error:  # a damaged file makes the readers raise anything
        raise DataError(
            f"{path} is truncated, damaged or no design",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            fix="copy or download the file again",
        ) from error
    known = list(content)
    for key in KEYS[:2]:
        if key not in content:
            raise DataError(
                f"{path} has no {key!r}", found=listing(known, 20), fix=did_you_mean(key, known)
            )
    ordering = _numbers(content["masterordering"], path, "masterordering").ravel()
    images = _numbers(content["subjectim"], path, "subjectim")
    n_shared = 1000
    if "sharedix" in content:
        shared = _numbers(content["sharedix"], path, "sharedix").ravel()
        n_shared = len(shared)
    if images.ndim != 2 or ordering.max() > images.shape[1] or n_shared > images.shape[1]:
        raise DataError(
            f"{path}: masterordering, subjectim and sharedix do not fit each other",
            found=f"positions up to {ordering.max()}, {n_shared} shared, for subjectim of shape "
            f"{images.shape}",
        )
    if (images[:, :n_shared] != images[:1, :n_shared]).any() or (
        "sharedix" in content and not np.array_equal(np.sort(shared), np.sort(images[0, :n_shared]))
    ):
        raise DataError(f"{path}: the first {n_shared} images of subjectim are not shared by all")
    return NsdDesign(ordering - 1, images - 1, n_shared)


def _npz(path: Path) -> dict[str, Any]:
    out = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > MAX_BYTES:
                raise DataError(f"{path}: {member.filename} is too large for a design")
            key = member.filename.removesuffix(".npy")
            if key in KEYS:
                out[key] = np.load(io.BytesIO(archive.read(member)), allow_pickle=False)
    return out


def _numbers(values: Any, path: Path, key: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or not array.size:
        raise DataError(
            f"{path}: {key} holds no numbers", found=f"{array.dtype}, shape {array.shape}"
        )
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    if (whole != array).any() or whole.min() < 1 or whole.max() > 10_000_000:
        raise DataError(
            f"{path}: {key} holds other things than numbers that count from 1",
            found=f"{array.min()} to {array.max()}",
        )
    return whole
