"""What a recording holds and what can be read from it; operations are in `recording`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._manifest import row_chunks
from phosphene.data import _store
from phosphene.data.sensors import Modality, Sensors
from phosphene.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class RecordingBase:
    """Signals, trials, sensors and times that fit each other; see `Recording`."""

    store: Any
    _rows: _store.Rows
    _trials: pd.DataFrame
    sensors: Sensors
    times: NDArray[np.float64] | None = None
    name: str = "recording"
    history: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        shape = self.shape
        if len(self._trials) != shape[0]:
            raise DataError(
                "the trial table and the signals differ in length",
                found=f"{len(self._trials)} rows for {shape[0]} trials",
            )
        if len(self.sensors) != shape[1]:
            unit = self.sensors.unit_name
            raise DataError(
                f"the signals of {self.name!r} have another number of {unit} than the sensors",
                found=f"{shape[1]} in signals of shape {shape}",
                expected=f"{len(self.sensors)} {unit}",
            )
        n_times = shape[2] if len(shape) == 3 else None
        if (None if self.times is None else len(self.times)) != n_times:
            raise DataError(
                f"the times of {self.name!r} do not fit the signals",
                found=f"{0 if self.times is None else len(self.times)} times",
                expected=f"{n_times or 0} for signals of shape {shape}",
            )
        if self.times is not None and len(self.times) > 1:
            steps = np.diff(self.times)
            if not (steps > 0).all() or np.ptp(steps) > 1e-3 * steps.mean():
                raise DataError("times are not evenly spaced and rising", found=self.times[:5])
            stated, rate = self.sensors.sfreq, rate_of(self.times)
            if stated and rate and abs(rate - stated) > 1e-3 * stated:
                raise DataError(
                    "times and sensors disagree about the sampling rate",
                    found=f"{rate:g} Hz in times",
                    expected=f"{stated:g} Hz in sensors.info",
                )

    def __len__(self) -> int:
        return self.n_trials

    def __repr__(self) -> str:
        from phosphene.data._html import one_line

        return f"Recording({self.name}: {one_line(self)})"

    def _repr_html_(self) -> str:
        from phosphene.data._html import recording_html

        return recording_html(self)

    @property
    def trials(self) -> pd.DataFrame:
        """The trial table; a copy, so that changing it does not change the recording."""
        return self._trials.copy(deep=False)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each trial in `store`."""
        if isinstance(self._rows, slice):
            return np.arange(self._rows.start, self._rows.stop)
        return self._rows

    @cached_property
    def signals(self) -> NDArray[Any]:
        """All signals; a view where the trials lie together, else gathered once and kept."""
        return _store.gather(self.store, self._rows)

    def take(self, rows: Any) -> NDArray[Any]:
        """Copy of the signals of some trials, read from where they lie without loading the rest.

        Parameters
        ----------
        rows : array-like of int, or slice
            Positions of trials in this recording, in any order, repeats allowed.

        Returns
        -------
        ndarray, shape (n, channels, times) or (n, voxels)
        """
        if isinstance(rows, slice):
            rows = np.arange(self.n_trials)[rows]
        rows = np.asarray(rows, dtype=np.int64)
        if "signals" in self.__dict__:
            return np.array(self.signals[rows])
        return np.array(_store.gather(self.store, self.rows[rows]))

    @property
    def source(self) -> Any:
        """Array-like over exactly the signals of this recording, read only when sliced."""
        return _store.StoreChain([self.store], [self.rows])

    @property
    def in_memory(self) -> bool:
        """Whether the signals are in memory already, rather than in a file."""
        return _store.in_memory(self.store)

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self._trials)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `signals`, known without reading them."""
        rows = self._rows
        n = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        return (int(n), *map(int, self.store.shape[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = self.store.dtype
        return dtype

    @property
    def nbytes(self) -> int:
        """Size of `signals` in bytes, known without reading them."""
        return _store.nbytes(self.store, self.n_trials)

    @property
    def modality(self) -> Modality:
        """One of "eeg", "meg", "ecog", "fmri"."""
        return self.sensors.modality

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels or voxels."""
        return list(self.sensors.names)

    @property
    def sfreq(self) -> float | None:
        """Sampling rate in Hz; None without a time axis."""
        return None if self.times is None else self.sensors.sfreq or rate_of(self.times)

    @property
    def stimuli(self) -> list[str]:
        """Ids of the stimuli, each once, in order of their first trial."""
        return [str(v) for v in self._trials["stimulus"].unique()]

    @property
    def concepts(self) -> list[str]:
        """Concepts, each once, in order of their first trial."""
        return [str(v) for v in self._trials["concept"].unique()]

    @property
    def subjects(self) -> list[str]:
        """Ids of the people, each once, in order of their first trial."""
        return [str(v) for v in self._trials["subject"].unique()]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over signals, times, channel names and trial table (not name or history)."""
        digest = hashlib.sha256(f"{self.shape}{self.dtype.str}".encode())
        for chunk in row_chunks(self.source):
            digest.update(np.ascontiguousarray(chunk).data)
        digest.update(b"" if self.times is None else self.times.tobytes())
        digest.update("\x1f".join(self.sensors.names).encode())
        digest.update(self._trials.to_csv(index=False).encode())
        return digest.hexdigest()


def rate_of(times: NDArray[np.float64] | None) -> float | None:
    if times is None or len(times) < 2:
        return None
    return round((len(times) - 1) / float(times[-1] - times[0]), 6)
