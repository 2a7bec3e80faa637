"""Between recordings and MNE epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._validation import require_columns
from phosphene.data._trials import complete_trials
from phosphene.data.recording import Recording
from phosphene.data.sensors import CHANNEL_TYPES, Modality, Sensors
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne


def from_epochs(
    epochs: mne.BaseEpochs,
    *,
    stimulus: str,
    concept: str | None,
    subject: str | None,
    session: str | None,
    split: str | None,
    name: str,
    check: bool,
) -> Recording:
    """See `Recording.from_epochs`."""
    import mne

    picks, modality = _data_channels(epochs)
    signals = epochs.get_data(picks=picks, verbose=False)
    info = mne.pick_info(epochs.info, picks, copy=True, verbose=False)
    sensors = Sensors(modality, tuple(info["ch_names"]), info)
    trials = _trials(epochs, stimulus, concept, split)
    for column, value in (("subject", subject), ("session", session)):
        if value is not None:
            trials[column] = str(value)
    return Recording.from_arrays(
        signals, trials, times=epochs.times, sensors=sensors, name=name, check=check
    )


def to_epochs(recording: Recording) -> mne.EpochsArray:
    """See `Recording.to_epochs`."""
    import mne

    if recording.times is None or recording.modality == "fmri":
        raise DataError(
            "only channels with a time axis become epochs",
            found=f"{recording.modality}, shape {recording.shape}",
        )
    info = recording.sensors.info
    if info is None:
        kind = CHANNEL_TYPES[recording.modality][0]
        info = mne.create_info(recording.channel_names, recording.sfreq, kind, verbose=False)
    codes, stimuli = pd.factorize(recording.trials["stimulus"])
    n = recording.n_trials
    events = np.stack([np.arange(n), np.zeros(n, int), codes + 1], axis=1)
    epochs = mne.EpochsArray(
        recording.signals.astype(np.float64),
        info.copy(),
        events=events,
        event_id={str(stimulus): code + 1 for code, stimulus in enumerate(stimuli)},
        tmin=float(recording.times[0]),
        metadata=recording.trials,
        baseline=None,
        proj=False,
        verbose=False,
    )
    if not np.array_equal(epochs.times, recording.times):
        # Decimated epochs start between the samples that MNE would count from zero.
        epochs.shift_time(float(recording.times[0]), relative=False)
    return epochs


def _data_channels(epochs: mne.BaseEpochs) -> tuple[list[int], Modality]:
    types = epochs.get_channel_types()
    present: dict[Modality, list[int]] = {}
    for modality, kinds in CHANNEL_TYPES.items():
        if picks := [i for i, kind in enumerate(types) if kind in kinds]:
            present[modality] = picks  # type: ignore[index]
    if len(present) != 1:
        raise DataError(
            "the epochs hold no EEG, MEG or intracranial channels"
            if not present
            else "the epochs mix modalities",
            found=", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(types)),
            fix='choose one with epochs.pick("eeg"), epochs.pick("meg") or epochs.pick("ecog")',
        )
    modality, picks = next(iter(present.items()))
    return picks, modality


def _trials(
    epochs: mne.BaseEpochs, stimulus: str, concept: str | None, split: str | None
) -> dict[str, Any]:
    metadata = epochs.metadata
    table = pd.DataFrame(index=range(len(epochs.events))) if metadata is None else metadata.copy()
    table = table.reset_index(drop=True)
    if stimulus == "event" and "event" not in table:
        names = {code: event for event, code in epochs.event_id.items()}
        table["event"] = [names[code] for code in epochs.events[:, 2]]
    if stimulus not in table and metadata is None:
        raise DataError(
            "the epochs have no metadata that say which image was shown",
            found=f"events {listing(epochs.event_id)}",
            expected=f"metadata with a column {stimulus!r}",
            fix='set epochs.metadata, or pass stimulus="event" to use the events\' names',
        )
    require_columns(table, [stimulus], "the epochs' metadata")
    table["stimulus"] = table[stimulus]
    if concept is not None:
        require_columns(table, [concept], "the epochs' metadata")
        table["concept"] = table[concept]
    if split is not None:
        if split not in table and split not in ("train", "validation", "test"):
            require_columns(table, [split], "the epochs' metadata")
        table["split"] = table.get(split, split)
    trials: dict[str, Any] = {str(column): table[column] for column in table.columns}
    return dict(complete_trials(trials, len(table)).items())  # type: ignore[arg-type]
