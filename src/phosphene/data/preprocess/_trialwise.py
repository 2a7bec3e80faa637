"""Steps that change each trial by itself, in pieces, and without loading what lies in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from phosphene.data import _store
from phosphene.data.preprocess._base import Transform
from phosphene.data.preprocess._threads import ordered_map
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError

# Of float64, so that a piece and two copies of it, in each thread, stay far below what a recording
# needs.
PIECE = 8 * 2**20

# From a piece (n, ...) and the positions of its trials in the recording to a piece (n, ...).
OfRows = Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]


class PerTrial(Transform):
    """A step that treats every trial by itself and learns nothing.

    It may be applied to test trials as they are; ``fit`` exists for pipelines and may be left out.
    """

    fitted_on_ = "nothing: each trial by itself"

    def fit(self, recording: Recording) -> Self:
        """Do nothing: every trial is treated by itself."""
        return self


class MappedStore(_store.StoreView):
    """A store whose rows are computed from those of another one when they are read.

    It is a kind of view so that the rest of the library takes it for what it is: signals that are
    cut out of a file when they are needed.
    """

    def __init__(
        self, recording: Recording, function: OfRows, shape: tuple[int, ...], *, threads: bool
    ) -> None:
        self.base = recording.store
        self.positions = recording.rows
        self.function = function
        self.threads = threads
        self.dtype = np.dtype(np.float32)
        self.shape = (recording.n_trials, *shape)
        self.ndim = len(self.shape)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        wanted = np.arange(self.shape[0])[rows]
        out = np.empty((len(wanted), *self.shape[1:]), dtype=np.float32)

        def one(part: slice) -> None:
            block = _store.gather(self.base, self.positions[wanted[part]])
            out[part] = self.function(block, wanted[part])

        parts = pieces(len(wanted), self.base.shape[1:])
        for _ in ordered_map(one, parts) if self.threads and len(parts) > 1 else map(one, parts):
            pass
        return out


def pieces(n: int, shape: tuple[int, ...], size: int | None = None) -> list[slice]:
    """Slices of rows of about ``size`` bytes of float64 each, `PIECE` where none is given."""
    step = max(1, (PIECE if size is None else size) // (8 * max(1, int(np.prod(shape)))))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def apply_rows(
    recording: Recording,
    function: OfRows,
    op: dict[str, Any],
    *,
    shape: tuple[int, ...] | None = None,
    sensors: Sensors | None = None,
    times: NDArray[np.float64] | None = None,
    threads: bool = False,
) -> Recording:
    """Apply a function to the trials, piece by piece.

    Signals in memory give signals in memory. Signals in a file stay there: the function is applied
    when they are read, so that a recording larger than memory can be whitened, averaged and saved.

    Parameters
    ----------
    recording : Recording
        Left as it is.
    function : callable
        From signals (n, ...) and the positions of these trials to new signals (n, ...); it must
        not write into its argument, and what it returns for a trial depends on that trial only.
    op : dict
        Entry for the history.
    shape : tuple of int, optional
        Shape of one trial afterwards, where it changes.
    sensors, times : optional
        New ones where they change.
    threads : bool
        Whether several threads may call the function at once, one piece each; for products of
        matrices, which leave Python to the others.
    """
    store: Any = MappedStore(recording, function, shape or recording.shape[1:], threads=threads)
    if recording.in_memory:
        store = store[:]
    return recording.with_signals(store, sensors=sensors, times=times, op=op, check=False)


def require_times(recording: Recording, who: str) -> float:
    """The sampling rate in Hz of signals that must have a time axis.

    Raises
    ------
    DataError
        If they have none, or only one sample.
    """
    if recording.times is None or not recording.sfreq:
        raise DataError(
            f"{who} needs signals with a time axis",
            found=f"{recording.modality} signals of shape {recording.shape}",
            expected="(trials, channels, times)",
        )
    return float(recording.sfreq)


def at_rate(sensors: Sensors, sfreq: float) -> Sensors:
    """The same sensors, read at another rate in Hz."""
    if sensors.info is None:
        return sensors
    info = sensors.info.copy()
    with info._unlock():
        info["sfreq"] = float(sfreq)
        info["lowpass"] = min(float(info["lowpass"]), sfreq / 2)
        info["highpass"] = min(float(info["highpass"]), info["lowpass"])
    return Sensors(sensors.modality, sensors.names, info, sensors.voxels, sensors.affine)
