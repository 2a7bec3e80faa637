"""What the tests of THINGS-EEG2 share: small miniatures, and files of them that are changed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phosphene.data.readers._things_pickles import open_pickled
from phosphene.data.readers.things_eeg2 import read_things_eeg2
from phosphene.data.recording import Recording
from phosphene.testing.layouts import ThingsMiniature, write_things_eeg2

PREPARED = ("preprocessed", "nice", "ubp", "neurobridge")
FEW = ("P7", "Pz", "P8", "O1", "Oz", "O2")


def write(folder: Path, layout: str, **options: Any) -> ThingsMiniature:
    """A miniature with few channels and samples."""
    options = {"channels": FEW, "samples": None if layout == "raw" else 20, **options}
    return write_things_eeg2(folder, layout, **options)


def read(root: Path, *args: Any, **options: Any) -> Recording:
    """The first subject of a miniature."""
    return read_things_eeg2(root, "01", *args, **{"strict": False, **options})


def the(root: Path, name: str) -> Path:
    """The one file of this name."""
    (path,) = root.rglob(name)
    return path


def edit(root: Path, layout: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the training file of a miniature as a dict of arrays that can be written to."""
    import torch

    names = {"nice": "preprocessed_eeg_training.npy", "ubp": "train.pt"}
    path = the(root, names[layout])
    value = {
        key: np.array(item) if isinstance(item, np.ndarray) else item
        for key, item in open_pickled(path).items()
    }
    change(value)
    if layout == "ubp":
        torch.save(value, path, pickle_protocol=5)
    else:
        path.write_bytes(pickle.dumps(value, 4))
    return path
