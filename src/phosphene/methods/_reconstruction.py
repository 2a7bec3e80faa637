"""Reconstructed pictures with what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._saving import atomic_folder
from phosphene.errors import ArtefactError
from phosphene.evaluation.protocol import Protocol
from phosphene.methods._reconstruction_files import Finished, PictureFolder, open_summary, pixels

Pictures = NDArray[np.float32]
TRACE = ("query", "sample", "iteration", "loss")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Pictures made from brain recordings, in 8-bit steps, as they are shown and saved.

    Parameters
    ----------
    queries : DataFrame
        ``subject``, ``stimulus`` (what was seen) and ``concept``, one row per query.
    stages : mapping of str to ndarray, shape (queries, samples, H, W, 3)
        Pictures in [0, 1] after each stage, in order; ``stage1`` and ``stage2`` of MindDiffuser,
        ``images`` where there is one stage.
    protocol : Protocol
        How they came about.
    traces : DataFrame
        ``query``, ``sample``, ``iteration`` and ``loss``, the structural loss of an optimisation;
        empty without one.
    frames : mapping of int to mapping of int to ndarray, shape (H, W, 3)
        By query and iteration, the first sample's picture on its way.

    Examples
    --------
    >>> queries = pd.DataFrame({"subject": ["01"], "stimulus": ["cat/1.png"], "concept": ["cat"]})
    >>> made = Reconstruction(queries, {"images": np.zeros((1, 2, 8, 8, 3))}, Protocol())
    >>> made.ids, made.images.shape
    (['cat/1.png'], (1, 2, 8, 8, 3))
    """

    queries: pd.DataFrame
    stages: Mapping[str, Pictures]
    protocol: Protocol
    traces: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TRACE)))
    frames: Mapping[int, Mapping[int, Pictures]] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """Ids of the stimuli that were seen, one per query."""
        return [str(stimulus) for stimulus in self.queries["stimulus"]]

    @property
    def images(self) -> Pictures:
        """The pictures of the last stage, shape (queries, samples, H, W, 3)."""
        return list(self.stages.values())[-1]

    def __len__(self) -> int:
        return len(self.queries)

    def __repr__(self) -> str:
        n, size = self.images.shape[1], self.images.shape[2]
        return (
            f"Reconstruction({len(self)} queries x {n} samples, {size} x {size}, "
            f"stages: {', '.join(self.stages)})"
        )

    def save(self, folder: str | Path) -> Path:
        """Write PNG files, a JSON per query and a manifest; an older one of ours is replaced."""
        with atomic_folder(folder) as partial:
            kept = PictureFolder(partial, {"saved": True})
            for row in range(len(self)):
                kept.write(row, self._finished(row))
            kept.close(summary(self.queries, self.protocol))
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Reconstruction:
        """Read what :meth:`save` or a finished call of ``reconstruct`` wrote.

        Raises
        ------
        ArtefactError
            If a file is missing or changed, or the call was interrupted before its end.
        """
        path = Path(folder)
        found = open_summary(path)
        queries = pd.DataFrame(found["queries"], dtype="str")
        kept = PictureFolder.__new__(PictureFolder)
        kept.folder = path
        parts = [kept.read(row) for row in range(len(queries))]
        if missing := [row for row, part in enumerate(parts) if part is None]:
            raise ArtefactError(f"queries are missing in {path}", found=f"rows {missing[:5]}")
        done = [part for part in parts if part is not None]
        return assemble(queries, done, Protocol.from_dict(found["protocol"]))

    def _finished(self, row: int) -> Finished:
        own = self.traces[self.traces["query"] == row]
        entries = own.drop(columns="query").to_dict("records")
        return Finished(
            {stage: pixels(pictures[row]) for stage, pictures in self.stages.items()},
            [{str(k): v for k, v in entry.items()} for entry in entries],
            {at: pixels(frame) for at, frame in self.frames.get(row, {}).items()},
        )


def summary(queries: pd.DataFrame, protocol: Protocol) -> dict[str, Any]:
    """What ``reconstruction.json`` says."""
    return {"queries": queries.to_dict("list"), "protocol": protocol.to_dict()}


def assemble(queries: pd.DataFrame, done: list[Finished], protocol: Protocol) -> Reconstruction:
    """One reconstruction of the finished queries."""
    stages = {
        stage: np.stack([part.stages[stage] for part in done]).astype(np.float32) / np.float32(255)
        for stage in done[0].stages
    }
    rows = [{"query": row, **entry} for row, part in enumerate(done) for entry in part.trace]
    traces = pd.DataFrame(rows, columns=list(TRACE))
    frames = {
        row: {at: frame.astype(np.float32) / np.float32(255) for at, frame in part.frames.items()}
        for row, part in enumerate(done)
        if part.frames
    }
    return Reconstruction(queries, stages, protocol, traces, frames)
