"""Raw recordings before epochs are cut: opened, reduced to channels, filtered."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene.data.preprocess.channels import channel_set, find_channels
from phosphene.data.sensors import CHANNEL_TYPES, Modality
from phosphene.errors import DataError, PhospheneError, listing

if TYPE_CHECKING:
    import mne


def open_raw(raw: Any) -> tuple[mne.io.BaseRaw, bool]:
    """The recording, and whether we opened it (so that nobody else sees it change).

    Raises
    ------
    DataError
        If MNE cannot read the file.
    """
    import mne

    if isinstance(raw, mne.io.BaseRaw):
        return raw, False
    if not isinstance(raw, (str, Path)):
        raise DataError(
            "this is no raw recording",
            found=type(raw).__name__,
            expected="an mne.io.BaseRaw or the path of a file that mne.io.read_raw reads",
        )
    path = Path(raw)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    with mne_errors(f"MNE cannot read {path}", "take a format of mne.io.read_raw, the whole file"):
        return mne.io.read_raw(path, preload=False, verbose="error"), True


def source(raw: mne.io.BaseRaw) -> str:
    """The name of the recording's file."""
    names = [Path(str(f)).name for f in raw.filenames if f is not None]
    return listing(names) or "the recording"


@contextmanager
def mne_errors(what: str, fix: str) -> Iterator[None]:
    """Whatever MNE raises, as an error of ours; each of its formats has errors of its own.

    Raises
    ------
    DataError
        Instead of any other error.
    """
    try:
        yield
    except PhospheneError:
        raise
    except Exception as error:
        raise DataError(what, found=f"{type(error).__name__}: {error}", fix=fix) from error


def choose_channels(
    raw: mne.io.BaseRaw, channels: str | Sequence[str], modality: Modality | None, *, bads: bool
) -> tuple[list[str], Modality]:
    """Names in the recording of the channels to keep, in the order wanted.

    Raises
    ------
    DataError
        If the modality is not clear, or channels are missing.
    """
    kinds = raw.get_channel_types()
    present: dict[Modality, list[str]] = {}
    for name, types in CHANNEL_TYPES.items():
        if found := [n for n, kind in zip(raw.ch_names, kinds, strict=True) if kind in types]:
            present[name] = found  # type: ignore[index]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    if modality is None and len(present) != 1:
        raise DataError(
            "the recording mixes modalities" if present else "there are no channels of a brain",
            found=counts,
            fix=f"pass modality={next(iter(present))!r}"
            if present
            else "set the channel types with raw.set_channel_types",
        )
    kind_of = next(iter(present)) if modality is None else modality
    names = present.get(kind_of)
    if not names:
        raise DataError(f"there are no {kind_of} channels", found=counts)
    if not bads:
        names = [name for name in names if name not in raw.info["bads"]]
    if isinstance(channels, str) and channels == "all":
        return names, kind_of
    wanted = channel_set(channels)
    where = find_channels(names, wanted)
    if absent := [name for i, name in zip(where, wanted, strict=True) if i is None]:
        raise DataError(
            f"the recording lacks {len(absent)} channels: {listing(absent, 20)}",
            found=f"{counts}: {listing(names, 80)}",
            fix='take channels="all" and match_channels, which renames and interpolates',
        )
    return [names[i] for i in where if i is not None], kind_of


def filter_raw(
    raw: mne.io.BaseRaw,
    names: list[str],
    *,
    owned: bool,
    highpass: float | None,
    lowpass: float | None,
    notch: float | Sequence[float] | None,
) -> mne.io.BaseRaw:
    """A copy with these channels only, filtered; the recording itself where nothing is to be done.

    Raises
    ------
    DataError
        If the sampling rate is too low for the filter, or the recording too short.
    """
    import mne

    lines = [] if notch is None else [float(f) for f in np.atleast_1d(notch)]
    if highpass is None and lowpass is None and not lines:
        return raw
    sfreq = float(raw.info["sfreq"])
    for what, edge in (
        ("highpass", highpass),
        ("lowpass", lowpass),
        *(("notch", f) for f in lines),
    ):
        if edge is not None and not 0 < edge < sfreq / 2:
            raise DataError(
                f"the sampling rate is too low for a {what} at {edge:g} Hz"
                if edge > 0
                else f"a {what} at {edge:g} Hz is no filter",
                found=f"{sfreq:g} Hz, so nothing above {sfreq / 2:g} Hz",
                expected=f"more than 0 and less than {sfreq / 2:g} Hz",
            )
    if highpass is not None and lowpass is not None and highpass >= lowpass:
        raise DataError("nothing passes the filter", found=f"{highpass:g} to {lowpass:g} Hz")
    if highpass is not None or lowpass is not None:
        taps = len(mne.filter.create_filter(None, sfreq, highpass, lowpass, verbose="error"))
        if taps > raw.n_times:
            raise DataError(
                "the recording is too short for the filter",
                found=f"{raw.n_times / sfreq:.1f} s",
                expected=f"{taps / sfreq:.1f} s or more for {highpass} to {lowpass} Hz",
                fix="raise the highpass, or leave it out",
            )
    work = raw if owned else raw.copy()
    with mne_errors(f"{source(raw)} cannot be read to its end", "copy it again from its source"):
        work.pick(names, verbose="error").load_data(verbose="error")
    if lines:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            work.notch_filter(lines, picks="all", verbose="warning")
        if short := [w for w in said if "longer than the signal" in str(w.message)]:
            raise DataError(
                "the recording is too short for the notch filter",
                found=f"{work.n_times / sfreq:.1f} s; {short[0].message}",
                fix="cut it out of a longer recording, or leave the notch out",
            )
    if highpass is not None or lowpass is not None:
        work.filter(highpass, lowpass, picks="all", verbose="error")
    return work
