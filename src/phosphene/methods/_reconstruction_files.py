"""The folder of reconstructed pictures: one query after another, so that a call can go on.

A query is finished when its JSON in ``queries/`` is there, which is written last and holds the
checksums of its pictures; what is damaged or half written counts as not done.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phosphene._saving import (
    read_json,
    read_tensors,
    require_replaceable,
    sha256_file,
    verify_folder,
    write_bytes,
    write_json,
    write_manifest,
    write_tensors,
)
from phosphene.errors import ArtefactError, DataError
from phosphene.reconstruction.optimisation import Found

KIND = "reconstruction"
FORMAT = 1
CALL = "call.json"
SUMMARY = "reconstruction.json"
FEATURES = "features.safetensors"
# Largest difference between features of the same call, in deviations of the group.
ROUNDING = 1e-2
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Finished:
    """What was made for one query.

    Parameters
    ----------
    stages : mapping of str to ndarray of uint8, shape (samples, H, W, 3)
        Pictures by stage, in order; the last stage is the result.
    trace : list of dict
        One entry per sample and iteration of an optimisation.
    frames : mapping of int to ndarray of uint8, shape (H, W, 3)
        The first sample's picture at some iterations.
    """

    stages: Mapping[str, Pixels]
    trace: list[dict[str, Any]] = field(default_factory=list)
    frames: Mapping[int, Pixels] = field(default_factory=dict)

    @classmethod
    def of_search(cls, first: Floats, found: Sequence[Found]) -> Self:
        """Pictures of stage 1 (samples, H, W, 3), and what stage 2 made of each."""
        trace = [
            {"sample": sample, "iteration": iteration, "loss": loss}
            for sample, one in enumerate(found)
            for iteration, loss in enumerate(one.trace)
        ]
        stages = {"stage1": pixels(first), "stage2": pixels([one.best for one in found])}
        return cls(stages, trace, {at: pixels(frame) for at, frame in found[0].frames.items()})


def pixels(pictures: Any) -> Pixels:
    """8-bit pixels of pictures in [0, 1], as they are shown, scored and saved."""
    found: Pixels = np.rint(np.clip(np.asarray(pictures, np.float32), 0, 1) * 255).astype(np.uint8)
    return found


class PictureFolder:
    """Finished queries of one call in a folder.

    Parameters
    ----------
    folder : path
        New, empty, or the folder of the very same call.
    call : mapping
        Everything that decides the pictures.

    Raises
    ------
    DataError
        If the folder holds pictures of another call; what differs is named.
    StorageError
        If it holds files that phosphene did not write.
    """

    def __init__(self, folder: Path, call: Mapping[str, Any]) -> None:
        self.folder = folder
        known = folder / CALL
        if not known.is_file():
            require_replaceable(folder)
            write_json(known, call)
            return
        before = read_json(known)
        # Through JSON, as the other was: tuples have become lists.
        differ = [key for key in {**before, **call} if before.get(key) != call.get(key)]
        if differ:
            raise DataError(
                f"{folder} holds pictures of another call",
                found="another " + ", ".join(sorted(differ)),
                expected="a new folder, or that of the same decoder, recording, n and seed",
                fix="choose another folder",
            )

    def features(self, given: Mapping[str, Floats]) -> dict[str, Floats]:
        """The features that the folder's pictures are made of: those of its first call.

        The same decoding gives other last bits where arrays lie elsewhere in memory, and a picture
        should not depend on the call in which it was made.

        Raises
        ------
        DataError
            If the given features are others, by more than rounding.
        """
        path = self.folder / FEATURES
        if not path.is_file():
            write_tensors(path, given)
            return dict(given)
        kept, _ = read_tensors(path, framework="numpy")
        for group, values in given.items():
            known = kept.get(group)
            if known is not None and known.shape == values.shape:
                largest = np.abs(known - values).max()
                if largest <= ROUNDING * max(float(known.std()), 1e-12):
                    continue
            raise DataError(
                f"{self.folder} holds pictures of another call",
                found=f"other features of the group {group!r}",
                expected="a new folder, or that of the same decoder, recording, n and seed",
                fix="choose another folder",
            )
        return kept

    def read(self, row: int) -> Finished | None:
        """What was made for a query; None if it is not finished or damaged."""
        note = self.folder / "queries" / f"{row:05d}.json"
        try:
            known = read_json(note)
            for name, digest in known["files"].items():
                if sha256_file(self.folder / name) != digest:
                    return None
            stages = {
                stage: np.stack([_read(self.folder / name) for name in names])
                for stage, names in known["stages"].items()
            }
            frames = {int(at): _read(self.folder / name) for at, name in known["frames"]}
        except (ArtefactError, OSError, KeyError, TypeError, ValueError):
            return None
        return Finished(stages, known["trace"], frames)

    def write(self, row: int, made: Finished) -> None:
        """Keep what was made for a query."""
        files: dict[str, str] = {}

        def keep(name: str, picture: Pixels) -> str:
            path = self.folder / name
            write_bytes(path, _png(picture))
            files[name] = sha256_file(path)
            return name

        stages = {
            stage: [keep(f"{stage}/{row:05d}_{k}.png", p) for k, p in enumerate(pictures)]
            for stage, pictures in made.stages.items()
        }
        frames = [[at, keep(f"frames/{row:05d}_{at:05d}.png", p)] for at, p in made.frames.items()]
        note = {"stages": stages, "frames": frames, "trace": made.trace, "files": files}
        write_json(self.folder / "queries" / f"{row:05d}.json", note)

    def close(self, summary: Mapping[str, Any]) -> None:
        """Write what is said of the whole, and the manifest."""
        write_json(self.folder / SUMMARY, {"format": FORMAT, **summary})
        write_manifest(self.folder, kind=KIND)


def open_summary(folder: Path) -> dict[str, Any]:
    """What is said of the whole, after the folder was verified."""
    verify_folder(folder, kind=KIND)
    summary: dict[str, Any] = read_json(folder / SUMMARY)
    if summary.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / SUMMARY}: unknown format of a reconstruction",
            found=summary.get("format"),
            expected=FORMAT,
        )
    return summary


def _png(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return buffer.getvalue()


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
