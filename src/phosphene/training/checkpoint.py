"""Checkpoints of a training: written atomically, checked when read, tied to their data.

A folder holds ``checkpoint.json`` and the tensor file that it names with its SHA-256. The JSON is
replaced last, so that a kill at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phosphene._logging import get_logger
from phosphene._saving import (
    read_json,
    read_tensors,
    sha256_file,
    write_json,
    write_tensors,
)
from phosphene.errors import ArtefactError, StorageError

logger = get_logger(__name__)

FORMAT = 1
_INDEX = "checkpoint.json"


@dataclass(frozen=True)
class State:
    """What a training needs to go on: tensors by name, and plain values."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


class CheckpointFolder:
    """Where one training keeps its state.

    Parameters
    ----------
    folder : path
        Made when first written.
    fingerprint : str
        Digest of data and configuration; a checkpoint of another training is refused.
    every_seconds : float
        Least time between two writes; a final state is always written.
    """

    def __init__(
        self, folder: str | Path, fingerprint: str, *, every_seconds: float = 15.0
    ) -> None:
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.every_seconds = every_seconds
        self._written = time.monotonic()
        if self.folder.exists() and not self.folder.is_dir():
            raise StorageError(f"{self.folder} is a file", expected="a folder for checkpoints")

    def load(self) -> State | None:
        """The last state, or None when there is none.

        Raises
        ------
        ArtefactError
            If it is damaged, or of another training.
        """
        index_path = self.folder / _INDEX
        if not index_path.exists():
            return None
        index = read_json(index_path)
        if index.get("format") != FORMAT:
            raise ArtefactError(
                f"{index_path}: unknown format", found=index.get("format"), expected=FORMAT
            )
        if index["fingerprint"] != self.fingerprint:
            raise ArtefactError(
                f"the checkpoint in {self.folder} belongs to another training",
                found=f"data and configuration {index['fingerprint'][:16]}",
                expected=self.fingerprint[:16],
                fix="use another folder, or delete this one to start anew",
            )
        path = self.folder / index["file"]
        found = sha256_file(path) if path.exists() else "no such file"
        if found != index["sha256"]:
            raise ArtefactError(
                f"{path} is damaged",
                found=found,
                expected=index["sha256"],
                fix=f"delete {self.folder} to start anew",
            )
        tensors, _ = read_tensors(path)
        threads = torch.get_num_threads()
        if index["threads"] != threads:
            logger.warning(
                "the checkpoint was written with %d threads and goes on with %d: "
                "the result may differ in the last bits",
                index["threads"],
                threads,
            )
        return State(tensors, index["values"])

    def due(self) -> bool:
        """Whether enough time has passed since the last write."""
        return time.monotonic() - self._written >= self.every_seconds

    def save(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Write a state; the previous one is removed after the new one is safe.

        Raises
        ------
        StorageError
            If writing fails; the previous state is intact.
        """
        path = self.folder / f"state-{int(values['epoch']):06d}.safetensors"
        write_tensors(path, tensors)
        index = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "file": path.name,
            "sha256": sha256_file(path),
            "threads": torch.get_num_threads(),
            "values": dict(values),
        }
        write_json(self.folder / _INDEX, index)
        for old in self.folder.glob("state-*.safetensors"):
            if old != path:
                old.unlink(missing_ok=True)
        self._written = time.monotonic()
