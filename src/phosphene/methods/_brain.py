"""What counts as brain data: recordings, epochs, or an array with its trial table."""

from __future__ import annotations

from typing import Any

import numpy as np

from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, LeakError, listing


def as_recording(brain: Any, **like: Any) -> Recording:
    """Turn any accepted kind of brain data into a recording.

    Parameters
    ----------
    brain : Recording, mne.Epochs, (array, trials) or (array, trials, sfreq)
        Epochs need a metadata column ``stimulus``; the array is (trials, channels, times) or
        (trials, voxels), the trials a DataFrame or a dictionary of columns.
    **like
        What `Recording.from_arrays` is told about arrays: a fitted decoder knows their sampling
        rate and channel names.

    Raises
    ------
    LeakError
        For held-out data, which is read through ``Decoder.evaluate`` only.
    DataError
        For anything else.
    """
    if isinstance(brain, Recording):
        return brain
    if isinstance(brain, HeldOut):
        raise LeakError(
            "held-out data was handed over where any use of it would go uncounted",
            expected="a Recording of training data",
            fix="pass held-out data to evaluate(), or open it with .open(purpose)",
        )
    if isinstance(brain, tuple) and len(brain) in (2, 3):
        if len(brain) == 3:
            like["sfreq"] = float(brain[2])
        return Recording.from_arrays(brain[0], brain[1], **like)
    if type(brain).__module__.partition(".")[0] == "mne":
        return Recording.from_epochs(brain)
    raise DataError(
        "this is no brain data that phosphene can read",
        found=type(brain).__name__,
        expected="a Recording, mne.Epochs, (array, trials) or (array, trials, sfreq)",
    )


def read_as_fitted(
    brain: Any, names: tuple[str, ...], sfreq: float | None, modality: str
) -> Recording:
    """Brain data for something fitted on channels ``names``, from which an array gets its names.

    An array of another number of channels keeps none, so that `align` says what is wrong.
    """
    shape = np.shape(brain[0]) if isinstance(brain, tuple) else ()
    named = len(shape) > 1 and shape[1] == len(names)
    return as_recording(
        brain, sfreq=sfreq, modality=modality, channel_names=names if named else None
    )


def align(recording: Recording, names: tuple[str, ...]) -> Recording:
    """The recording with the channels (or voxels) ``names``, in that order.

    Raises
    ------
    DataError
        If one is missing, named; or if there are channels that the decoder never saw.
    """
    found = tuple(recording.sensors.names)
    if found == names:
        return recording
    known = set(found)
    if missing := [name for name in names if name not in known]:
        raise DataError(
            f"the recording lacks channels of the decoder: {listing(missing)}",
            found=f"{len(found)} channels: {listing(found)}",
            expected=f"{len(names)} channels: {listing(names)}",
            fix="record or pick the channels that the decoder was trained on",
        )
    if len(found) != len(names):
        wanted = set(names)
        raise DataError(
            f"the recording has channels that the decoder never saw: "
            f"{listing(n for n in found if n not in wanted)}",
            found=f"{len(found)} channels",
            expected=f"{len(names)} channels",
            fix="recording.pick(decoder.channel_names_)",
        )
    return recording.pick(list(names))


def check_times(recording: Recording, n_times: int | None, sfreq: float | None) -> None:
    """Raise unless the recording has the time axis of training.

    Raises
    ------
    DataError
        If the number of samples or the sampling rate differs.
    """
    found = int(recording.shape[2]) if len(recording.shape) == 3 else None
    if found != n_times:
        raise DataError(
            "the recording's time axis differs from that of training",
            found=f"{found} samples",
            expected=f"{n_times} samples",
            fix="crop or resample as the training data were",
        )
    if sfreq and recording.sfreq and not np.isclose(sfreq, recording.sfreq, rtol=1e-4):
        raise DataError(
            "the recording's sampling rate differs from that of training",
            found=f"{recording.sfreq:g} Hz",
            expected=f"{sfreq:g} Hz",
            fix="resample the recording",
        )


def repeats(recording: Recording) -> bool:
    """Whether a (subject, stimulus) pair has more than one trial."""
    return bool(recording.trials.duplicated(["subject", "stimulus"]).any())
