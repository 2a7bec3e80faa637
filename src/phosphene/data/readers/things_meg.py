"""THINGS-MEG: the preprocessed epochs of the authors with their tables of images and trials.

Hebart et al. 2023, eLife 12, e82580; OpenNeuro ds004212. Four people saw 22248 images (1854
concepts x 12) once and 200 test images twelve times. The test images are of concepts that have
training images too: those leave the training by default, or it would not be zero-shot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._registry import register
from phosphene.data.datasets import DatasetInfo, get_dataset
from phosphene.data.readers._things_assemble import report
from phosphene.data.readers._things_fif import guarded, opened_epochs
from phosphene.data.readers._things_meg_tables import (
    ATTRIBUTES,
    CONCEPTS,
    PATHS,
    SOURCE,
    find_table,
    read_attributes,
    read_image_ids,
    require_table,
    trials_of,
)
from phosphene.data.readers._things_store import as_signals, cache_of
from phosphene.data.readers._things_verify import verified
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

__all__ = ["read_things_meg"]

NAME = "things_meg"
EPOCHS = "preprocessed_P{}-epo.fif"
FOLDERS = ("derivatives/preprocessed", "preprocessed", "derivatives", ".")
_FILE = re.compile(r"preprocessed_P(\d+)-epo\.fif")


@register("reader", NAME)
def read_things_meg(
    root: str | Path,
    subject: str | int,
    part: Literal["train", "test", "both"] = "both",
    *,
    drop_test_concepts: bool = True,
    tmin: float = 0.0,
    tmax: float = 1.0,
    channels: Sequence[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    images: str | Path | None = None,
    cache: str | Path | bool | None = None,
    strict: bool = True,
    check: bool = True,
    name: str | None = None,
) -> Recording:
    """Read the trials of one person.

    Parameters
    ----------
    root : path
        Folder of the data set, with ``derivatives/preprocessed/preprocessed_P1-epo.fif`` (and its
        parts ``-epo-1.fif``, ``-2``, ``-3``) and ``sourcedata/sample_attributes_P1.csv``.
    subject : str or int
        Such as 1, "01" or "P1".
    part : {"train", "test", "both"}
        Training trials, test trials, or both, told apart by the column ``split``.
    drop_test_concepts : bool
        Leave out the training images of the concepts that the test images show.
    tmin, tmax : float
        Window to keep in seconds from onset, both ends included.
    channels : sequence of str, optional
        Default: all MEG channels.
    dtype : {"float32", "float16"}
        Type of the signals.
    images : path, optional
        Folder with ``image_paths.csv`` and ``image_concept_index.csv``, at most three levels below;
        default ``root``.
    cache : path or True, optional
        Folder in which the converted signals are kept and mapped into memory; True for phosphene's
        cache. Without it they are held in memory: about 6 GB for a person.
    strict : bool
        Refuse other numbers of trials, images, channels and samples than the data set has, and
        tables that disagree; False for miniatures and parts, which then is only logged.
    check : bool
        Refuse NaN, infinite, constant and impossible values.
    name : str, optional
        Name of the recording; default ``things_meg-01``.

    Returns
    -------
    Recording
        Signals (trials, channels, times), as preprocessed by the authors: 200 Hz, in the unit of
        the files. Stimuli are paths relative to the folder of THINGS images
        (``aardvark/aardvark_01b.jpg``), concepts its folders, and ``text`` is the concept in words.
        The history counts what was left out.

    Raises
    ------
    DataError
        If a file or one of its parts is missing or damaged, or tables and epochs do not fit.
    """
    root = Path(root)
    if part not in ("train", "test", "both"):
        raise DataError(f"there is no part {part!r}", expected="train, test, both")
    if dtype not in ("float32", "float16"):
        raise DataError(f"signals are not kept as {dtype!r}", expected="float32 or float16")
    number, path = _find(root, subject)
    info = get_dataset(NAME)
    places = [root] if images is None else [Path(images), root]
    paths = require_table(PATHS, places, SOURCE)
    concepts = find_table(CONCEPTS, places)
    attributes = require_table(ATTRIBUTES.format(number), [root], "OpenNeuro (sourcedata)")
    ids = read_image_ids(paths, concepts)
    with opened_epochs(path) as (epochs, parts):
        files = (*parts, attributes)
        vouched = [verified(info, root, file) for file in files]
        events = epochs.events[:, 2].astype(np.int64)
        shown = read_attributes(attributes, events, parts)
        table = trials_of(events, ids, shown, f"{number:02d}", path, paths, strict)
        kept, dropped = _kept(table, part, drop_test_concepts)
        window = (tmin, tmax)
        source = _EpochsSource(epochs, parts, kept["row"].to_numpy(), channels, window, dtype)
        counts = {"images": len(ids), "trials": len(events), "samples": source.shape[2]}
        _require_counts(table, counts, source, info, str(path), strict, window == (0.0, 1.0))
        store = as_signals(
            source,
            source.names,
            path,
            about={
                "rows": kept["row"].tolist(),
                "channels": source.names,
                "window": source.window,
                "parts": [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in parts],
            },
            cache=cache_of(cache),
            unit="standard deviations or tesla",
            check=check,
            label=f"{path} ({listing((file.name for file in parts), 9)})",
        )
        sensors = source.sensors()
    recording = Recording.from_arrays(
        store,
        kept.drop(columns="row"),
        times=source.times,
        sensors=sensors,
        name=name or f"{NAME}-{number:02d}",
        check=False,  # done already, in the pass that converted
    )
    return recording.with_history(
        {
            "op": "read",
            "dataset": NAME,
            "files": [file.relative_to(root).as_posix() for file in files],
            "images": paths.name,
            "repetitions": "in the order in which they were shown",
            "whitening": "none",
            "verified": all(vouched),
            "left_out": {"catch trials": len(events) - len(table), **dropped},
        }
    )


def _find(root: Path, subject: str | int) -> tuple[int, Path]:
    match = re.fullmatch(r"(?:P|sub-|sub-BIGMEG)?0*(\d+)", str(subject).strip(), re.IGNORECASE)
    if match is None:
        raise DataError(f"there is no subject {subject!r}", expected='such as 1, "01" or "P1"')
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    number = int(match[1])
    there: set[str] = set()
    for folder in FOLDERS:
        path = root / folder / EPOCHS.format(number)
        if path.is_file():
            return number, path
        names = (p.name for p in (root / folder).glob("*.fif"))
        there |= {f"P{found[1]}" for name in names if (found := _FILE.fullmatch(name))}
    raise DataError(
        f"there is no subject P{number} in {root}",
        found=f"subjects {listing(sorted(there))}" if there else "no preprocessed epochs",
        expected=f"{FOLDERS[0]}/{EPOCHS.format(number)}",
        fix="phosphene data download things_meg, or openneuro.org, ds004212",
    )


def _kept(
    table: pd.DataFrame, part: str, drop_test_concepts: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Trials of the part without the training images of test concepts, and what left."""
    test = table["split"] == "test"
    leaks = ~test & table["concept"].isin(table.loc[test, "concept"])
    dropped = {
        "training trials of test concepts": int(leaks.sum()) if drop_test_concepts else 0,
        "training images of test concepts": int(table.loc[leaks, "stimulus"].nunique())
        if drop_test_concepts
        else 0,
    }
    keep = ~leaks if drop_test_concepts else np.ones(len(table), dtype=bool)
    if part != "both":
        keep = keep & (table["split"] == part)
        dropped["trials of the other part"] = int((table["split"] != part).sum())
    kept = table[keep].reset_index(drop=True)
    if not len(kept):
        raise DataError(f"no trials are left of the part {part!r}", found=f"{len(table)} trials")
    return kept, dropped


def _require_counts(
    table: pd.DataFrame,
    counts: dict[str, int],
    source: _EpochsSource,
    info: DatasetInfo,
    where: str,
    strict: bool,
    usual_window: bool,
) -> None:
    test = table[table["split"] == "test"]
    train = table[(table["split"] == "train") & ~table["concept"].isin(test["concept"])]
    found = {
        **counts,
        "channels": source.n_channels,
        "test_images": test["stimulus"].nunique(),
        "test_repetitions": int(test.groupby("stimulus").size().min()) if len(test) else 0,
        "train_images": train["stimulus"].nunique(),
    }
    if not usual_window:
        found.pop("samples")
    pairs = {what.replace("_", " "): (n, info.expected[what]) for what, n in found.items()}
    report(where, pairs, info.title, strict)


class _EpochsSource:
    """Epochs in files as an array-like that reads, cuts and converts what is asked for."""

    def __init__(
        self,
        epochs: mne.BaseEpochs,
        parts: list[Path],
        rows: NDArray[np.int64],
        channels: Sequence[str] | None,
        window: tuple[float, float],
        dtype: str,
    ) -> None:
        import mne

        self._epochs, self._parts, self._rows = epochs, parts, rows
        path = parts[0]
        there = mne.pick_types(epochs.info, meg=True, ref_meg=False, exclude=())
        names = [epochs.ch_names[i] for i in there]
        self.n_channels = len(names)
        if not names:
            raise DataError(f"{path} holds no MEG channels", found=listing(epochs.ch_names))
        if channels is not None:
            if missing := [channel for channel in channels if channel not in names]:
                raise DataError(
                    f"{path} has no channels {listing(map(repr, missing))}", found=listing(names)
                )
            names = list(channels)
        self.names = names
        self._picks = np.array([epochs.ch_names.index(channel) for channel in names])
        times = np.asarray(epochs.times, dtype=np.float64)
        half = 0.5 / float(epochs.info["sfreq"])
        inside = np.flatnonzero((times > window[0] - half) & (times < window[1] + half))
        if not inside.size:
            raise DataError(
                f"no sample of {path} lies between {window[0]:g} and {window[1]:g} s",
                found=f"{times[0]:g} to {times[-1]:g} s",
            )
        self._window = slice(int(inside[0]), int(inside[-1]) + 1)
        self.window = (self._window.start, self._window.stop)
        self.times = times[self._window]
        self.dtype = np.dtype(dtype)
        self.shape = (len(rows), len(names), len(self.times))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with guarded(self._parts):
            block = self._epochs.get_data(
                picks=self._picks, item=self._rows[rows], copy=False, verbose="critical"
            )
        if len(block) != len(self._rows[rows]):
            raise DataError(f"{self._parts[0]} or a part of it lacks trials that it lists")
        with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are named by the check
            return np.asarray(block[:, :, self._window], dtype=self.dtype)

    def as_it_is(self) -> None:
        """None: epochs in files are always converted."""

    def sensors(self) -> Sensors:
        """Channels with their places."""
        import mne

        info = mne.pick_info(self._epochs.info, self._picks, copy=True, verbose=False)
        return Sensors("meg", tuple(self.names), info)
