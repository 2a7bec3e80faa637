"""From raw continuous M/EEG or ECoG to the trials of a recording."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from phosphene._logging import get_logger
from phosphene._validation import as_ids, check_number
from phosphene.data.preprocess._cut import Cutter
from phosphene.data.preprocess._events import event_table
from phosphene.data.preprocess._raw import choose_channels, filter_raw, open_raw, source
from phosphene.data.recording import Recording
from phosphene.data.sensors import Modality, Sensors
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

logger = get_logger(__name__)


class Epoch(BaseEstimator):  # type: ignore[misc]
    """Cut a raw recording into trials: filter, epochs, baseline, resampling, crop.

    MNE does the signal processing. The order is: channels, notch, filter (both on the continuous
    signal, zero phase), epochs, rejection, baseline, interpolation of bad channels, resampling,
    crop. The settings hold no file, so that one object serves all sessions.

    Parameters
    ----------
    tmin, tmax : float
        The epoch in seconds from the event, both ends included.
    highpass, lowpass : float, optional
        Edges of MNE's default FIR filter in Hz.
    notch : float or sequence of float, optional
        Frequencies to remove, in Hz.
    channels : str or sequence of str
        "all" channels of the modality, a named set such as "occipito-parietal-17", or names.
    modality : {"eeg", "meg", "ecog"}, optional
        Needed where the recording has several.
    bads : {"keep", "drop", "interpolate"}
        What is done about the channels that the recording marks as bad. Interpolation uses the
        chosen channels only.
    baseline : pair of float or None, optional
        From and to in seconds, both ends included, None for the end of the epoch; None for no
        baseline correction. The default is the part up to the event.
    baseline_mode : {"mean", "zscore"}
        Subtract the mean of the baseline, or also divide by its standard deviation.
    sfreq : float, optional
        Resample to this rate in Hz, after epoching, by MNE's Fourier method.
    crop : pair of float or None, optional
        Keep only this part in seconds, after resampling.
    drop : sequence of int or str
        Events that are no trials, such as catch trials.
    other : {"error", "ignore"}
        What is done about events that ``stimuli`` does not name.
    outside : {"error", "drop"}
        What is done about epochs that reach beyond the recording.
    reject, flat : float or mapping, optional
        Drop trials in which a channel's peak-to-peak amplitude is above or below this (in the unit
        of the signals, volts or tesla); a mapping by MNE's channel type where there are several.
        Bad channels are not looked at.

    Examples
    --------
    >>> import mne
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> info = mne.create_info(["Oz", "O1"], 100.0, "eeg")
    >>> raw = mne.io.RawArray(1e-6 * rng.standard_normal((2, 1000)), info, verbose="error")
    >>> events = np.array([[100, 0, 1], [300, 0, 2], [500, 0, 99]])
    >>> cut = Epoch(-0.2, 0.5, sfreq=50, crop=(0, None), drop=[99])
    >>> trials = cut.transform(raw, events=events, stimuli={1: "cat/1.png", 2: "dog/1.png"})
    >>> trials.shape, trials.concepts, trials.sfreq
    ((2, 2, 26), ['cat', 'dog'], 50.0)
    """

    def __init__(
        self,
        tmin: float = -0.2,
        tmax: float = 1.0,
        *,
        highpass: float | None = None,
        lowpass: float | None = None,
        notch: float | Sequence[float] | None = None,
        channels: str | Sequence[str] = "all",
        modality: Modality | None = None,
        bads: Literal["keep", "drop", "interpolate"] = "keep",
        baseline: tuple[float | None, float | None] | None = (None, 0.0),
        baseline_mode: Literal["mean", "zscore"] = "mean",
        sfreq: float | None = None,
        crop: tuple[float | None, float | None] | None = None,
        drop: Sequence[int | str] = (),
        other: Literal["error", "ignore"] = "error",
        outside: Literal["error", "drop"] = "error",
        reject: float | Mapping[str, float] | None = None,
        flat: float | Mapping[str, float] | None = None,
    ) -> None:
        self.tmin = tmin
        self.tmax = tmax
        self.highpass = highpass
        self.lowpass = lowpass
        self.notch = notch
        self.channels = channels
        self.modality = modality
        self.bads = bads
        self.baseline = baseline
        self.baseline_mode = baseline_mode
        self.sfreq = sfreq
        self.crop = crop
        self.drop = drop
        self.other = other
        self.outside = outside
        self.reject = reject
        self.flat = flat

    def transform(
        self,
        raw: mne.io.BaseRaw | str | Path,
        *,
        events: Any = None,
        stimuli: Mapping[Any, str] | None = None,
        name: str = "recording",
        **columns: Hashable,
    ) -> Recording:
        """Cut one raw recording.

        Parameters
        ----------
        raw : mne.io.BaseRaw or path
            Left as it is. A path is read by ``mne.io.read_raw``; where nothing is filtered, epochs
            are read from the file and the whole is never in memory.
        events : optional
            None: the stim channel, else the annotations. A name: this channel, or "annotations".
            An array of MNE (n, 3). A DataFrame with ``sample`` (counted as MNE does) or ``onset``
            (seconds from the start of the recording), ``event`` (or ``stimulus``, ``trial_type``,
            ``value``) and any more trial columns.
        stimuli : mapping, optional
            From event (code or name) to stimulus id. Default: the column ``stimulus`` of a table of
            events, else the event itself.
        name : str
            How reports call the recording.
        **columns : str or int
            Values for all trials: ``subject="01"``, ``session="2"``, ``split="train"``.

        Returns
        -------
        Recording
            float32, in MNE's units (volts, tesla) or standard deviations of the baseline. Trial
            columns ``event`` and ``onset`` (seconds from the start of the recording) are added. The
            entry in the history counts the events that were dropped and names the rejected ones.

        Raises
        ------
        DataError
            If events, channels or stimuli are unknown, the rate is too low for the filter, epochs
            reach beyond the recording, or no trial is left.
        """
        self._check()
        opened, owned = open_raw(raw)
        rate = float(opened.info["sfreq"])
        if self.sfreq is not None and not 0 < self.sfreq <= rate:
            raise DataError(
                "epochs cannot be resampled to a higher rate",
                found=f"{rate:g} Hz",
                expected=f"sfreq={self.sfreq:g} Hz or more",
            )
        names, modality = choose_channels(
            opened, self.channels, self.modality, bads=self.bads != "drop"
        )
        table, counts = self._trials(opened, events, stimuli, columns)
        work = filter_raw(
            opened,
            names,
            owned=owned,
            highpass=self.highpass,
            lowpass=self.lowpass,
            notch=self.notch,
        )
        cut = Cutter(self, work, names, modality)
        signals, kept, rejected = cut.all(table["sample"].to_numpy())
        table = table.assign(onset=(table["sample"] - opened.first_samp) / rate)
        counts |= {
            "rejected": [
                f"{table['event'][i]} at {table['onset'][i]:.3f} s: {', '.join(why)}"
                for i, why in rejected.items()
            ],
        }
        if rejected:
            logger.warning("%s: %d of %d trials rejected", name, len(rejected), len(table))
        trials = table.iloc[kept].drop(columns="sample").reset_index(drop=True)
        sensors = Sensors(modality, tuple(cut.info["ch_names"]), cut.info)
        recording = Recording.from_arrays(
            signals, trials, times=cut.times, sensors=sensors, name=name
        )
        settings = {
            k: list(v) if isinstance(v, tuple) else v
            for k, v in self.get_params().items()
            if k != "drop"
        }
        return recording.with_history(
            {"op": "epochs", **settings, "source": source(opened), **counts, "n_trials": len(kept)}
        )

    def _check(self) -> None:
        for what, value, known in (
            ("bads", self.bads, ("keep", "drop", "interpolate")),
            ("baseline_mode", self.baseline_mode, ("mean", "zscore")),
            ("other", self.other, ("error", "ignore")),
            ("outside", self.outside, ("error", "drop")),
        ):
            if value not in known:
                raise DataError(
                    f"there is no {what}={value!r}", expected=" or ".join(map(repr, known))
                )
        for what in ("tmin", "tmax", "highpass", "lowpass", "sfreq", "reject", "flat"):
            limit = getattr(self, what)
            for value in limit.values() if isinstance(limit, Mapping) else (limit,):
                check_number(value, what)
        for what in ("notch", "baseline", "crop"):
            for value in np.asarray(getattr(self, what), dtype=object).ravel():
                check_number(value, what)
        if not self.tmin < self.tmax:
            raise DataError("the epoch is empty", found=f"tmin={self.tmin}, tmax={self.tmax}")
        for what, span in (("baseline", self.baseline), ("crop", self.crop)):
            if span is None:
                continue
            if not isinstance(span, (tuple, list)) or len(span) != 2:
                raise DataError(
                    f"the {what} is no span of time", found=repr(span), expected="(from, to) in s"
                )
            low, high = span
            low = self.tmin if low is None else low
            high = self.tmax if high is None else high
            if not self.tmin <= low < high <= self.tmax:
                raise DataError(
                    f"the {what} does not lie in the epoch",
                    found=f"{low:g} to {high:g} s",
                    expected=f"within {self.tmin:g} to {self.tmax:g} s",
                    fix="begin the epoch before the event, or pass baseline=None"
                    if what == "baseline"
                    else None,
                )

    def _trials(
        self, raw: mne.io.BaseRaw, events: Any, stimuli: Any, columns: Mapping[str, Any]
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The table of trials to cut, and how many events were left out."""
        table = event_table(raw, events)
        counts: dict[str, Any] = {"n_events": len(table)}
        catch = table["event"].isin(as_ids(list(self.drop)).tolist())
        counts["dropped"] = table.loc[catch, "event"].value_counts().to_dict()
        table = table[~catch].reset_index(drop=True)
        if not len(table):
            raise DataError(
                "no trial is left",
                found=f"{len(catch)} events, all of them in drop",
                fix="look at which channel or column of events is read",
            )
        if stimuli is not None:
            by_name = dict(zip(as_ids(list(stimuli)), stimuli.values(), strict=True))
            known = table["event"].isin(list(by_name))
            if (self.other == "error" and not known.all()) or not known.any():
                unknown = table.loc[~known, "event"].value_counts()
                raise DataError(
                    f"events that no stimulus belongs to: {listing(map(repr, unknown.index), 10)}",
                    found=f"{int((~known).sum())} of {len(table)} events",
                    expected=listing(map(repr, by_name), 10),
                    fix="add them to stimuli, list them in drop (catch trials), "
                    'or pass other="ignore"',
                )
            counts["other"] = int((~known).sum())
            table = table[known].reset_index(drop=True)
            table["stimulus"] = [by_name[event] for event in table["event"]]
        elif "stimulus" not in table:
            table["stimulus"] = table["event"]
        sfreq = raw.info["sfreq"]
        first = table["sample"] + round(self.tmin * sfreq)
        last = table["sample"] + round(self.tmax * sfreq)
        beyond = (first < raw.first_samp) | (last > raw.last_samp)
        if beyond.any() and self.outside == "error":
            onset = (table.loc[beyond, "sample"] - raw.first_samp) / sfreq
            raise DataError(
                f"{int(beyond.sum())} epochs of {self.tmin:g} to {self.tmax:g} s reach beyond the "
                "recording",
                found=f"events at {listing(f'{s:.3f}' for s in onset)} s; {source(raw)} ends at "
                f"{raw.times[-1]:.3f} s",
                fix='pass outside="drop", or a shorter epoch',
            )
        counts["outside"] = int(beyond.sum())
        table = table[~beyond].reset_index(drop=True)
        if not len(table):
            raise DataError("no trial is left", found=f"{counts['n_events']} events")
        return table.assign(**columns), counts


def make_epochs(
    raw: mne.io.BaseRaw | str | Path,
    *,
    events: Any = None,
    stimuli: Mapping[Any, str] | None = None,
    name: str = "recording",
    subject: str | None = None,
    session: str | None = None,
    run: str | None = None,
    split: str | None = None,
    **settings: Any,
) -> Recording:
    """Cut one raw recording into trials: ``Epoch(**settings).transform(raw, ...)``.

    Parameters
    ----------
    raw, events, stimuli, name : optional
        As in `Epoch.transform`.
    subject, session, run, split : str, optional
        Values for all trials; default: the columns of a table of events, else "01", "1", "1", "".
    **settings : optional
        Parameters of `Epoch`.

    Returns
    -------
    Recording

    Examples
    --------
    >>> import mne
    >>> import numpy as np
    >>> info = mne.create_info(["Oz", "O1", "STI"], 100.0, ["eeg", "eeg", "stim"])
    >>> data = np.random.default_rng(0).standard_normal((3, 500))
    >>> data[2] = 0
    >>> data[2, [100, 300]] = 7, 8
    >>> raw = mne.io.RawArray(data, info, verbose="error")
    >>> make_epochs(raw, stimuli={7: "a", 8: "b"}, subject="03", tmin=-0.1, tmax=0.5).shape
    (2, 2, 61)
    """
    given = {"subject": subject, "session": session, "run": run, "split": split}
    columns: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    cut = Epoch(**settings)
    return cut.transform(raw, events=events, stimuli=stimuli, name=name, **columns)
