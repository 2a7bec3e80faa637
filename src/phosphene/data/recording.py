"""Recording: the measured trials with what was seen in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._validation import check_signals
from phosphene.data import _average, _store
from phosphene.data._base import RecordingBase, rate_of
from phosphene.data._ids import concept_of, concept_text
from phosphene.data._trials import complete_trials, select_rows
from phosphene.data.sensors import Modality, Sensors
from phosphene.errors import DataError

if TYPE_CHECKING:
    import mne

__all__ = ["Modality", "Recording", "Sensors", "concept_of", "concept_text"]


@dataclass(frozen=True, eq=False, repr=False)
class Recording(RecordingBase):
    """Trials of one or more people, in memory or in a file, with the table of what was seen.

    Make one with `from_arrays`, `from_epochs`, `from_bids` or `load`. Every operation returns a new
    recording that shares the signals where it can; nothing is changed in place.

    Attributes
    ----------
    signals : ndarray, shape (trials, channels, times) or (trials, voxels)
        float32 or float16, in the unit they were given in.
    trials : DataFrame
        One row per trial: ``stimulus``, ``concept``, ``subject``, ``session``, ``run``, ``split``
        (all text), ``repetition`` (integer) and any more.
    sensors : Sensors
        Channels or voxels.
    times : ndarray or None
        Seconds from stimulus onset; None when there is no time axis.
    name : str
        How reports call it.
    history : tuple of dict
        What was done to the signals, in order.
    store : array-like, shape (n, channels, times) or (n, voxels)
        What the signals are read from; may be a memory map and may hold more trials than the
        recording has. ``store[rows]`` reads rows given as a slice or an array of integers.
    rows : ndarray of int, shape (trials,)
        Row of each trial in ``store``.
    """

    @classmethod
    def from_arrays(
        cls,
        signals: Any,
        trials: pd.DataFrame | Mapping[str, Any],
        *,
        times: Any = None,
        sfreq: float | None = None,
        sensors: Sensors | None = None,
        modality: Modality = "eeg",
        channel_names: Sequence[str] | None = None,
        name: str = "recording",
        check: bool = True,
    ) -> Recording:
        """Build a recording from arrays.

        Parameters
        ----------
        signals : array-like, shape (trials, channels, times) or (trials, voxels)
            May be memory-mapped. float32 and float16 are kept, other numbers become float32.
        trials : DataFrame or mapping
            Needs ``stimulus``; other columns have defaults (concept from the stimulus id, subject
            "01", session "1", run "1", repetitions counted).
        times : array-like, shape (times,), optional
            Seconds from stimulus onset; default from 0 at ``sfreq``.
        sfreq : float, optional
            Sampling rate in Hz, needed if neither ``times`` nor ``sensors.info`` is given.
        sensors : Sensors, optional
            Default: built from ``modality`` and ``channel_names``.
        modality : {"eeg", "meg", "ecog", "fmri"}
            Used when there are no ``sensors``.
        channel_names : sequence of str, optional
            Used when there are no ``sensors``.
        name : str
            How reports call the recording.
        check : bool
            Refuse NaN, infinite values and flat channels; reads all signals once, in pieces.

        Raises
        ------
        DataError
            If shapes disagree, two trials have the same key, or values are NaN, infinite or
            constant; channels and keys are named.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(2, 3, 5))
        >>> trials = {"stimulus": ["dog/dog_01.png", "cat/cat_01.png"]}
        >>> r = Recording.from_arrays(x, trials, sfreq=100)
        >>> r
        Recording(recording: 2 trials x 3 channels x 5 times, eeg, 2 stimuli, 1 subject)
        >>> r.trials["concept"].tolist()
        ['dog', 'cat']
        """
        store = _store.as_store(signals)
        n_channels = int(store.shape[1])
        if times is not None:
            times = np.array(times, dtype=np.float64)
        elif store.ndim == 3:
            rate = sfreq if sfreq is not None else (sensors.sfreq if sensors else None)
            if not rate:
                raise DataError("the time axis has no scale", fix="give times or sfreq")
            times = np.arange(store.shape[2]) / rate
        if sensors is None:
            rate = sfreq or rate_of(times)
            if channel_names is None:
                unit = "voxel_" if modality == "fmri" else "ch"
                channel_names = [f"{unit}{i}" for i in range(n_channels)]
            if modality == "fmri":
                sensors = Sensors.fmri(pd.DataFrame(index=pd.Index(list(channel_names))))
            else:
                sensors = Sensors.channels(channel_names, rate, modality)
        table = complete_trials(trials, int(store.shape[0]))
        out = cls(store, slice(0, int(store.shape[0])), table, sensors, times, str(name))
        if check:
            check_signals(store, sensors.names, f"the signals of {out.name!r}")
        return out

    @classmethod
    def from_epochs(
        cls,
        epochs: mne.BaseEpochs,
        *,
        stimulus: str = "stimulus",
        concept: str | None = None,
        subject: str | None = None,
        session: str | None = None,
        split: str | None = None,
        name: str = "recording",
        check: bool = True,
    ) -> Recording:
        """Take over MNE epochs; signals keep MNE's units (volts, tesla), in float32.

        All EEG channels, all MEG channels or all intracranial channels are taken, bad ones too
        (drop them before if they are not wanted); other channels are left out.

        Parameters
        ----------
        epochs : mne.BaseEpochs
            With metadata.
        stimulus : str
            Metadata column with the image path, or "event" for the names of the events.
        concept : str, optional
            Metadata column with the concept; default: taken from the image path.
        subject, session : str, optional
            Ids for all trials; default: the metadata columns of these names, else "01" and "1".
        split : str, optional
            Metadata column with "train" and "test", or one of these for all trials.
        name : str
            How reports call the recording.
        check : bool
            Refuse NaN, infinite values and flat channels.

        Raises
        ------
        DataError
            If the metadata lack a column, or the epochs mix EEG with MEG.
        """
        from phosphene.data import _epochs

        return _epochs.from_epochs(
            epochs,
            stimulus=stimulus,
            concept=concept,
            subject=subject,
            session=session,
            split=split,
            name=name,
            check=check,
        )

    @classmethod
    def from_bids(
        cls,
        root: str | Path,
        task: str,
        *,
        subjects: str | Sequence[str] | None = None,
        sessions: str | Sequence[str] | None = None,
        stim_column: str = "stim_file",
        tmin: float = -0.2,
        tmax: float = 1.0,
        **options: Any,
    ) -> Recording:
        """Cut the trials out of EEG, MEG or iEEG in a BIDS folder, through mne-bids.

        Parameters
        ----------
        root : path
            The BIDS folder.
        task : str
            Entity ``task`` of the files.
        subjects, sessions : str or sequence of str, optional
            Which; all by default.
        stim_column : str
            Column of ``events.tsv`` with the image, such as ``stim_file`` or ``stimulus_id``.
        tmin, tmax : float
            Window around the onsets in seconds.
        **options
            ``runs``, ``concept_column``, ``baseline``, ``datatype``, ``picks``, ``bads``,
            ``highpass``, ``lowpass``, ``notch``, ``sfreq``, ``reject``, ``name``: see
            `phosphene.data.readers.bids.read_bids`.

        Raises
        ------
        DataError
            If there is no such task, subject or column, no event names an image, or a file cannot
            be read; it says what there is.
        MissingExtraError
            If mne-bids is not installed.
        """
        from phosphene.data.readers.bids import read_bids

        return read_bids(
            root,
            task,
            subjects=subjects,
            sessions=sessions,
            stim_column=stim_column,
            tmin=tmin,
            tmax=tmax,
            **options,
        )

    def to_epochs(self) -> mne.EpochsArray:
        """MNE epochs with the trial table as metadata; `from_epochs` gives the recording back."""
        from phosphene.data import _epochs

        return _epochs.to_epochs(self)

    def select(self, where: Any = None, **equals: Any) -> Recording:
        """Some of the trials; shares the signals.

        Parameters
        ----------
        where : str, mask or positions, optional
            A pandas query string, a boolean mask or integer positions (the order is kept).
        **equals : value or list of values
            Trial columns with the values they must have.

        Raises
        ------
        DataError
            If a column or value does not occur.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(4, 3, 5))
        >>> trials = {"stimulus": ["a", "b", "a", "b"], "session": [1, 1, 2, 2]}
        >>> r = Recording.from_arrays(x, trials, sfreq=100)
        >>> r.select(session="2", stimulus=["a"]).n_trials, r.select("repetition == 0").n_trials
        (1, 2)
        """
        return self._subset(select_rows(self._trials, where, equals))

    def _subset(self, positions: NDArray[np.int64]) -> Recording:
        trials = self._trials.iloc[positions].reset_index(drop=True)
        rows = _store.contiguous(self.rows[positions])
        return replace(self, _rows=rows, _trials=trials)

    def average(
        self, by: Sequence[str] = ("subject", "stimulus"), *, max_repetitions: int | None = None
    ) -> Recording:
        """Average the trials that agree in some columns.

        Columns that are constant within a group are kept; elsewhere text becomes "" and numbers
        become missing. ``n_averaged`` counts the trials; averages of averages are weighted by it,
        so that averaging in two steps equals averaging at once.

        Parameters
        ----------
        by : sequence of str
            Trial columns that define the groups; the result is in order of their first trial.
        max_repetitions : int, optional
            Take only the first so many trials of each group, in order of session, run, repetition.

        Raises
        ------
        LeakError
            If an average would mix test trials with others.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.array([[1.0, 5.0], [3.0, 6.0], [8.0, 9.0]])
        >>> r = Recording.from_arrays(x, {"stimulus": ["a", "a", "b"]}, modality="fmri")
        >>> r.average().signals.tolist(), r.average().trials["n_averaged"].tolist()
        ([[2.0, 5.5], [8.0, 9.0]], [2, 1])
        """
        by = [by] if isinstance(by, str) else list(by)
        rows, groups = _average.plan(self._trials, by, max_repetitions)
        weights = np.ones(len(rows), dtype=np.int64)
        if "n_averaged" in self._trials:
            weights = self._trials["n_averaged"].to_numpy(dtype=np.int64)[rows]
        trials = _average.group_table(self._trials, rows, groups, weights)
        means = _average.group_means(self.take, self.shape[1:], rows, groups, weights)
        done = {"op": "average", "by": by, "max_repetitions": max_repetitions}
        return self._with(means, trials, done)

    def crop(self, tmin: float | None = None, tmax: float | None = None) -> Recording:
        """A window of time, both ends included; shares the signals.

        Parameters
        ----------
        tmin, tmax : float, optional
            Seconds from stimulus onset.

        Raises
        ------
        DataError
            If there is no time axis, or nothing lies in the window.
        """
        if self.times is None:
            raise DataError("crop needs a time axis", found=f"signals of shape {self.shape}")
        half = 0.5 / (self.sfreq or 1.0)
        low = self.times[0] if tmin is None else tmin
        high = self.times[-1] if tmax is None else tmax
        # A small tolerance, because 0.3 is not a multiple of 0.004 in floating point.
        kept = np.flatnonzero(
            (self.times >= low - 1e-3 * half) & (self.times <= high + 1e-3 * half)
        )
        if kept.size == 0:
            raise DataError(
                f"no sample lies between {low} and {high} s",
                found=f"times from {self.times[0]:g} to {self.times[-1]:g} s",
            )
        window = slice(int(kept[0]), int(kept[-1]) + 1)
        return replace(
            self,
            store=_store.cut(self.store, slice(None), window),
            times=self.times[window],
            history=(*self.history, {"op": "crop", "tmin": float(low), "tmax": float(high)}),
        )

    def pick(self, names: Any = None, *, roi: str | Sequence[str] | None = None) -> Recording:
        """Some of the channels or voxels; shares the signals.

        Parameters
        ----------
        names : str, sequence of str or int, or mask, optional
            Which, in the order given.
        roi : str or sequence of str, optional
            Voxels that lie in any of these regions.

        Raises
        ------
        DataError
            If a name or region is unknown, or none or both are given.
        """
        if (names is None) == (roi is None):
            raise DataError("pick needs either names or roi")
        index = self.sensors.index(names) if roi is None else np.flatnonzero(self.sensors.roi(roi))
        if len(index) == 0:
            raise DataError(f"no {self.sensors.unit_name} are left")
        return replace(
            self,
            store=_store.cut(self.store, _store.contiguous(index), None),
            sensors=self.sensors.pick(index),
            history=(*self.history, {"op": "pick", "n": len(index), "roi": roi}),
        )

    def with_signals(
        self,
        signals: Any,
        *,
        sensors: Sensors | None = None,
        times: Any = None,
        op: Mapping[str, Any] | None = None,
        check: bool = True,
    ) -> Recording:
        """The same trials with other signals.

        Parameters
        ----------
        signals : array-like, shape (trials, ...)
            As many trials as there are.
        sensors, times : optional
            New ones when those axes change; signals with two axes drop the times.
        op : mapping, optional
            Entry for `history`, such as ``{"op": "whitening", "fitted_on": fingerprint}``.
        check : bool
            Refuse NaN, infinite values and flat channels.
        """
        store = _store.as_store(signals)
        kept = None if store.ndim == 2 else self.times
        out = Recording(
            store,
            slice(0, int(store.shape[0])),
            self._trials,
            sensors or self.sensors,
            kept if times is None else np.array(times, dtype=np.float64),
            self.name,
            (*self.history, dict(op)) if op else self.history,
        )
        if check:
            check_signals(store, out.sensors.names, f"the signals of {out.name!r}")
        return out

    def with_trials(self, trials: pd.DataFrame | Mapping[str, Any]) -> Recording:
        """The same signals with another trial table of the same length."""
        return replace(self, _trials=complete_trials(trials, self.n_trials))

    def with_history(self, op: Mapping[str, Any]) -> Recording:
        """The same recording with one more entry in its history."""
        return replace(self, history=(*self.history, dict(op)))

    def _with(self, signals: Any, trials: pd.DataFrame, op: Mapping[str, Any]) -> Recording:
        return replace(
            self,
            store=signals,
            _rows=slice(0, len(signals)),
            _trials=trials,
            history=(*self.history, dict(op)),
        )

    @classmethod
    def concat(cls, recordings: Sequence[Recording], *, name: str | None = None) -> Recording:
        """Put the trials of several recordings behind one another.

        Signals that are in files are not loaded. The history kept is the part that all share.

        Raises
        ------
        DataError
            If channels or times differ, or two trials have the same key.
        """
        from phosphene.data import _concat

        return _concat.concat(recordings, name)

    def save(self, path: str | Path) -> Path:
        """Write the recording to a folder: npy, CSV and JSON with a manifest; no pickle.

        Raises
        ------
        StorageError
            If writing fails; a folder that was there before is untouched.
        """
        from phosphene.data import _files

        return _files.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, mmap: bool = True) -> Recording:
        """Read a folder that `save` wrote, after a check of all its files.

        Parameters
        ----------
        path : path
            The folder.
        mmap : bool
            Leave the signals in the file until they are needed. Files above 256 MB are then checked
            block by block as they are read.

        Raises
        ------
        ArtefactError
            If a file is missing, truncated or changed.
        """
        from phosphene.data import _files

        return _files.load(Path(path), mmap=mmap)
