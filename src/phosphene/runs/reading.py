"""Recordings from files: folders of our own, epochs of MNE, archives of numpy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from phosphene.data.finding import OWN, Source
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    from phosphene.data.recording import Recording

FORMATS = "a folder of Recording.save, an -epo.fif file of MNE, or an .npz archive"
# Keys of an .npz archive that describe the signals; all other keys are columns of the trials.
ABOUT = ("signals", "times", "sfreq", "channel_names", "modality")


def read_recording(
    source: Any,
    *,
    stimulus: str = "stimulus",
    concept: str | None = None,
    labelled: bool = True,
    ids: Mapping[str, str] | None = None,
    check: bool = True,
) -> Recording:
    """Read a recording.

    Parameters
    ----------
    source : Recording or path
        A saved Recording, an ``-epo.fif`` file, or an ``.npz`` archive with ``signals`` (trials x
        channels x times, or trials x voxels) and, optionally, ``times`` or ``sfreq``,
        ``channel_names``, ``modality`` and one array per column of the trial table.
    stimulus, concept : str
        Columns of the metadata of epochs.
    labelled : bool
        Whether it must say what was seen. If not, trials without a stimulus are numbered.
    ids : mapping, optional
        ``subject`` and ``session`` of epochs and archives that do not say them.
    check : bool
        Refuse NaN, infinite values and flat channels of epochs and archives.

    Raises
    ------
    DataError
        If the file is missing, of an unknown format, unreadable or without labels.
    """
    from phosphene.data.recording import Recording

    if isinstance(source, Recording):
        return source
    path = Path(source)
    if path.is_dir():
        if not (path / "recording.json").is_file():
            raise DataError(
                f"{path} is not a saved recording", found="no recording.json", expected=FORMATS
            )
        return Recording.load(path)
    if not path.exists():
        raise DataError(f"there is no recording {path}", expected=FORMATS)
    if path.name.endswith((".fif", ".fif.gz")):
        return _from_epochs(path, stimulus, concept, labelled, ids or {}, check)
    if path.suffix == ".npz":
        return _from_archive(path, labelled, ids or {}, check)
    raise DataError(
        f"{path} has a format that is not read", found=path.suffix or "no suffix", expected=FORMATS
    )


def read_source(source: Source, *, check: bool = True) -> Recording:
    """Read what `phosphene.data.finding.find_sources` found.

    Parameters
    ----------
    source : Source
        One recording.
    check : bool
        Refuse flat channels and values that are not finite. Readers that always do so still do.
    """
    if source.reader in OWN:
        return read_recording(**source.arguments, check=check)
    import inspect

    from phosphene import _registry

    read = _registry.get("reader", source.reader)
    more = {"check": check} if "check" in inspect.signature(read).parameters else {}
    recording: Recording = read(**{**source.arguments, **more})
    return recording


def _from_epochs(
    path: Path,
    stimulus: str,
    concept: str | None,
    labelled: bool,
    ids: Mapping[str, str],
    check: bool,
) -> Recording:
    import mne

    from phosphene.data.recording import Recording

    try:
        with warnings.catch_warnings():
            # What MNE's own use of pandas is warned of is nothing that a user could mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            epochs = mne.read_epochs(path, preload=True, verbose="ERROR")
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise DataError(f"{path} cannot be read as epochs", found=error) from error
    metadata = epochs.metadata
    said = () if metadata is None else tuple(metadata.columns)
    more: dict[str, Any] = {name: value for name, value in ids.items() if name not in said}
    more |= {"name": path.stem, "check": check}
    if labelled or (metadata is not None and stimulus in metadata):
        return Recording.from_epochs(epochs, stimulus=stimulus, concept=concept, **more)
    epochs.metadata = _numbered(len(epochs), {})
    return Recording.from_epochs(epochs, stimulus="stimulus", concept="concept", **more)


def _from_archive(path: Path, labelled: bool, ids: Mapping[str, str], check: bool) -> Recording:
    import numpy as np

    from phosphene.data.recording import Recording

    try:
        # numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise DataError(f"{path} cannot be read as an .npz archive", found=error) from error
    if "signals" not in arrays:
        raise DataError(
            f"{path} holds no signals",
            found="keys " + (listing(arrays) or "none"),
            expected="the key 'signals': trials x channels x times, or trials x voxels",
        )
    signals = arrays["signals"]
    n = len(signals) if signals.ndim else 0
    columns: dict[str, Any] = {}
    for name in arrays:
        if name in ABOUT:
            continue
        if arrays[name].shape != (n,):
            raise DataError(
                f"{path}: {name!r} is not a column of the trials",
                found=f"shape {arrays[name].shape}",
                expected=f"shape ({n},), or one of the keys {', '.join(ABOUT)}",
            )
        columns[name] = arrays[name]
    if labelled and "stimulus" not in columns:
        raise DataError(
            f"{path} does not say what was seen",
            found="keys " + listing(arrays),
            expected="the key 'stimulus': one id per trial",
        )
    columns |= {name: [value] * n for name, value in ids.items() if name not in columns}
    names = arrays.get("channel_names")
    return Recording.from_arrays(
        signals,
        columns if labelled else _numbered(n, columns),
        times=arrays.get("times"),
        sfreq=float(arrays["sfreq"]) if "sfreq" in arrays else None,
        modality=cast("Any", str(arrays.get("modality", "eeg" if signals.ndim == 3 else "fmri"))),
        channel_names=None if names is None else [str(name) for name in names],
        name=path.stem,
        check=check,
    )


def _numbered(n: int, columns: dict[str, Any]) -> Any:
    """A trial table in which unknown stimuli have a number for a name."""
    import pandas as pd

    table = pd.DataFrame(columns, index=range(n))
    if "stimulus" not in table:
        table["stimulus"] = [f"trial {i}" for i in range(n)]
        table["concept"] = "unknown"
    return table
